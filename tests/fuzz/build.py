"""Builds the instrumented extension beside this file, with clang; prints one line where that cannot be had."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PARTS = [ROOT / "fastws" / "core" / "protocol", ROOT / "tests" / "core" / "protocol"]
SANITIZE = ["-fsanitize=address,undefined,fuzzer-no-link", "-fno-sanitize-recover=all", "-shared-libasan"]


def runtime(name: str) -> str:
    """Where clang has a library of its own."""

    def ask(option: str) -> str:
        return subprocess.run(["clang", option], capture_output=True, text=True, check=True).stdout.strip()

    found = ask(f"-print-file-name=libclang_rt.{name}")
    if not os.path.isabs(found):
        package = f"libclang-rt-{ask('-dumpversion').partition('.')[0]}-dev"
        sys.exit(f"fuzz: clang is here without libclang_rt.{name}: on Debian and Ubuntu, apt-get install {package}")
    return found


def nearer() -> str:
    """A folder with a copy of the core's message.pyx that receives pieces of 64 bytes straight into the message, not of
    64 KiB: the fuzzer's streams are short, and all that depends on this size should happen in them."""
    text = (ROOT / "fastws" / "core" / "protocol" / "message.pyx").read_text()
    changed = re.sub(r"DIRECT_FROM = 65536\b", "DIRECT_FROM = 64", text)
    assert changed != text, "message.pyx has no DIRECT_FROM of 65536 any more"
    copy = ROOT / "build" / "fuzz" / "core" / "message.pyx"
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists() or copy.read_text() != changed:
        copy.write_text(changed)
    return str(copy.parent)


def build() -> None:
    include_path = [nearer(), *map(str, PARTS)]
    machine = os.uname().machine
    os.chdir(ROOT)
    os.environ |= {"CC": "clang", "LDSHARED": "clang -shared"}
    Options.warning_errors = True
    extension = Extension(
        "fuzz._guided",
        ["tests/fuzz/_guided.pyx"],
        include_dirs=["fastws/_simd", "tests/fuzz"],
        libraries=["z"],
        depends=[
            str(path.relative_to(ROOT))
            for folder in [*PARTS, ROOT / "fastws" / "_simd", HERE]
            for path in sorted(folder.glob("*.[hp]*"))
        ],
        extra_compile_args=["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZE],
        # libFuzzer lies in the extension; without -Bsymbolic the sanitizer's runtime would take its calls.
        extra_link_args=[*SANITIZE, runtime(f"fuzzer_no_main-{machine}.a"), "-lstdc++", "-lm", "-Wl,-Bsymbolic"],
    )
    setup(
        name="fastws-fuzz",
        ext_modules=cythonize([extension], build_dir="build/cython", include_path=include_path, emit_linenums=True),
        package_dir={"fuzz": "tests/fuzz"},
        packages=["fuzz"],
        script_args=["-q", "build_ext", "--inplace", "--build-temp", "build/fuzz/objects"],
    )


if __name__ == "__main__":
    if shutil.which("clang") is None:
        sys.exit("fuzz: there is no clang: on Debian and Ubuntu, apt-get install clang")
    build()
