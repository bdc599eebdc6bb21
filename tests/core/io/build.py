"""Builds the test-only extension beside this file."""

import os
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CORE = ROOT / "fastws" / "core" / "io"

os.chdir(ROOT)
Options.warning_errors = True
extension = Extension(
    "core.io._toy",
    [str(HERE.relative_to(ROOT) / "_toy.pyx")],
    include_dirs=["fastws/core/io"],
    depends=[str(path.relative_to(ROOT)) for path in sorted(CORE.iterdir())],
    # What only the connection calls is unused here.
    extra_compile_args=["-O2", "-Wall", "-Werror", "-Wno-unused-function"],
)
setup(
    name="fastws-toy-tests",
    ext_modules=cythonize([extension], build_dir="build/cython", include_path=[str(CORE)]),
    package_dir={"core.io": "tests/core/io"},
    packages=["core.io"],
    script_args=["build_ext", "--inplace"],
)
