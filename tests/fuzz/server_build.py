"""Builds a copy of the checkout under AddressSanitizer and UBSan, for the fuzzing of whole servers, and their soak."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "fuzz-server"
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
PARTS = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "fastws", "tests")


def build() -> Path:
    """Where the copy is; what has not changed is not built again."""
    built = shutil.ignore_patterns("*.so", "_speedups.c", "__pycache__", "node_modules")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, TREE / part, ignore=built, dirs_exist_ok=True)
        else:
            TREE.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / part, TREE)
    cflags = f"{SANITIZE} -fno-omit-frame-pointer -O1 -g -DCYTHON_USE_FREELISTS=0"  # they hide a use after free
    flags = {"CFLAGS": cflags, "LDFLAGS": SANITIZE}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=TREE, env=os.environ | flags, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return TREE


def environment() -> dict[str, str]:
    """For a process that loads what was built. Python's own allocator would hide a use after free."""
    libraries = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
