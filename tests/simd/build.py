"""Builds the test-only extension beside this file."""

import os
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PARTS = [ROOT / "fastws" / "core" / "protocol", ROOT / "tests" / "core" / "protocol"]
SOURCES = [*PARTS, ROOT / "fastws" / "_simd", HERE]

os.chdir(ROOT)
Options.warning_errors = True
extension = Extension(
    "simd._variants",
    ["tests/simd/_variants.pyx"],
    include_dirs=["fastws/_simd", "tests/simd"],
    libraries=["z"],
    depends=[str(path.relative_to(ROOT)) for folder in SOURCES for path in sorted(folder.glob("*.[hp]*"))],
    extra_compile_args=["-O2", "-Wall", "-Werror"],
)
setup(
    name="fastws-simd-tests",
    ext_modules=cythonize([extension], build_dir="build/cython", include_path=[str(path) for path in PARTS]),
    package_dir={"simd": "tests/simd"},
    packages=["simd"],
    script_args=["build_ext", "--inplace"],
)
