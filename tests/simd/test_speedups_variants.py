"""fastws.speedups with each variant that FASTWS_SIMD can name, and with names that it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastws import speedups
from simd._variants import variants

ALL = ["avx512", "avx2", "sse", "neon", "scalar"]
PRINT = "from fastws import speedups; print(speedups.SIMD)"


def python(*arguments: str, variant: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "FASTWS_SIMD"}
    environment["PYTHONPATH"] = str(Path(speedups.__file__).parent.parent)  # the fastws that is tested here
    if variant is not None:
        environment["FASTWS_SIMD"] = variant
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("variant", variants())
def test_as_cpython(variant: str) -> None:
    done = python(str(Path(__file__).with_name("agree.py")), variant=variant)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{variant}: ")
    assert "try_apply_mask: " in done.stdout


@pytest.mark.parametrize("variant", [None, "", *variants()])
def test_named_or_the_best(variant: str | None) -> None:
    done = python("-c", PRINT, variant=variant)
    assert done.stdout.strip() == (variant or variants()[0]), done.stderr


def test_the_best_is_the_first() -> None:
    if not os.environ.get("FASTWS_SIMD"):
        assert variants()[0] == speedups.SIMD
    assert set(variants()) <= set(ALL)
    assert variants()[-1] == "scalar"


@pytest.mark.parametrize("name", ["none", "AVX2", "scalar ", *(name for name in ALL if name not in variants())])
def test_a_name_that_this_processor_has_not(name: str) -> None:
    done = python("-c", PRINT, variant=name)
    assert done.returncode == 1
    (last,) = done.stderr.splitlines()[-1:]
    assert last.startswith(f"ImportError: FASTWS_SIMD={name}: ")
    for there in variants():
        assert there in last
