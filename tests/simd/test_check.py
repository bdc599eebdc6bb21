"""check.c, every variant: as the extension is compiled, and under AddressSanitizer and UBSan."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from simd._variants import variants

HERE = Path(__file__).resolve().parent
COMPILE = ["gcc", "-Wall", "-Wextra", "-Werror", f"-I{HERE.parent.parent / 'fastws' / '_simd'}", str(HERE / "check.c")]
SANITIZE = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def run(*command: str) -> str:
    # What test-asan preloads is for Python; gcc and check.c do without.
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def built(tmp_path_factory: pytest.TempPathFactory, name: str, *flags: str) -> str:
    """The program, compiled once for all workers of a run."""
    folder = tmp_path_factory.getbasetemp()
    program = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / name
    with open(f"{program}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            run(*COMPILE, *flags, "-o", str(program))
    return str(program)


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory, "check", "-O3")


@pytest.fixture(scope="session")
def check_sanitized(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory, "check-sanitized", *SANITIZE)


def test_the_variants_are_those_of_the_extension(check: str) -> None:
    assert run(check, "--list").split() == variants()


@pytest.mark.parametrize("variant", variants())
def test_on_guarded_memory(check: str, variant: str) -> None:
    assert f"{variant}: " in run(check, "--quick", "--mutations", "20000", variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", variants())
def test_under_sanitizers(check_sanitized: str, variant: str) -> None:
    assert f"{variant}: " in run(check_sanitized, "--quick", "--mutations", "5000", variant)


def test_a_variant_that_is_not_here(check: str) -> None:
    done = subprocess.run([check, "none"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has not all of the variants" in done.stderr
