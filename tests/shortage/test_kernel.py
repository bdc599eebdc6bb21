"""System calls fail, or take one byte, in the middle of every situation, in processes of their own: see kernel.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .test_memory import run_program

PARTS = 4


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    built = str(tmp_path_factory.mktemp("shortage") / "kernel.so")
    source = str(Path(__file__).with_name("kernel.c"))
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", source, "-o", built]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return built


@pytest.mark.parametrize("part", range(PARTS))
def test_system_calls_fail(loop_kind: str, part: int, library: str) -> None:
    # What a sanitizer preloads comes first.
    preloaded = " ".join((os.environ.get("LD_PRELOAD", ""), library)).strip()
    run_program("shortage.kernel", loop_kind, str(part), str(PARTS), LD_PRELOAD=preloaded)
