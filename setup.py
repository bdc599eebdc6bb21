"""Builds the one compiled extension; everything declarative stands in pyproject.toml."""

import os
from glob import glob

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

# Developers and CI set FASTWS_STRICT=1; a user's newer compiler must not fail an install over a new warning.
strict = os.environ.get("FASTWS_STRICT") == "1"
Options.warning_errors = strict

extension = Extension(
    "fastws._speedups",
    ["fastws/_speedups.pyx"],
    depends=[*glob("fastws/core/*"), *glob("fastws/_simd/*.h"), "fastws/_speedups.pxd"],
    include_dirs=["fastws/core", "fastws/_simd"],
    extra_compile_args=["-O3", "-fvisibility=hidden", "-Wall"] + (["-Werror"] if strict else []),
)

setup(ext_modules=cythonize([extension], build_dir="build/cython"))
