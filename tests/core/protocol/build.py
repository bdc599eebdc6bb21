"""Builds the test-only extension beside this file."""

import os
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CORE = ROOT / "fastws" / "core" / "protocol"
SIMD = ROOT / "fastws" / "_simd"

os.chdir(ROOT)
Options.warning_errors = True
extension = Extension(
    "core.protocol._protocol",
    [str(HERE.relative_to(ROOT) / "_protocol.pyx")],
    include_dirs=["fastws/_simd"],
    libraries=["z"],
    depends=[str(path.relative_to(ROOT)) for path in sorted([*CORE.iterdir(), *SIMD.iterdir()])],
    extra_compile_args=["-O2", "-Wall", "-Werror"],
)
setup(
    name="fastws-protocol-tests",
    ext_modules=cythonize([extension], build_dir="build/cython", include_path=[str(CORE)]),
    package_dir={"core.protocol": "tests/core/protocol"},
    packages=["core.protocol"],
    script_args=["build_ext", "--inplace"],
)
