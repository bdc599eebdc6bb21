"""Builds the one compiled extension; everything declarative stands in pyproject.toml."""

import os
import sys
import tempfile
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

# Developers and CI set FASTWS_STRICT=1; a user's newer compiler must not fail an install over a new warning.
strict = os.environ.get("FASTWS_STRICT") == "1"
Options.warning_errors = strict


class BuildExt(build_ext):
    def build_extensions(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "zlib.c"
            source.write_text("#include <zlib.h>\n")
            try:
                self.compiler.compile([str(source)], output_dir=folder)
            except CompileError:
                sys.exit("fastws: zlib.h is missing: on Debian and Ubuntu, apt-get install zlib1g-dev")
        super().build_extensions()


extension = Extension(
    "fastws._speedups",
    ["fastws/_speedups.pyx"],
    depends=[*glob("fastws/core/*/*"), *glob("fastws/_simd/*.h"), "fastws/_speedups.pxd"],
    include_dirs=["fastws/core/io", "fastws/core/connection", "fastws/_simd"],
    libraries=["z"],
    extra_compile_args=["-O3", "-fvisibility=hidden", "-Wall"] + (["-Werror"] if strict else []),
)

setup(ext_modules=cythonize([extension], build_dir="build/cython"), cmdclass={"build_ext": BuildExt})
