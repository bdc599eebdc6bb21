"""The soak in small: it passes, and fails for every kind of leak. `make soak` is the real one."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from soak.figures import LEAST_SAMPLES, Sample, slope, trend

RUN = Path(__file__).resolve().parent / "run.py"
MIB = 1024 * 1024


def soak(*leaks: str) -> tuple[int, str]:
    """Too short for a slope, so that no figure of time or memory decides: what is there at the end does."""
    command = [sys.executable, str(RUN), "--minutes", "0.05", "--count", "200", "--churn", "200", "--budget", "0.3"]
    command += ["--least", "600", "--leak", *leaks]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, done.stdout + done.stderr


def test_passes() -> None:
    status, told = soak()
    assert status == 0, told
    assert told.endswith("passed\n")


@pytest.mark.slow
def test_notices_leaks() -> None:
    status, told = soak("connections", "bytes", "descriptors")
    assert status == 1, told
    for what in ("blocks are allocated than", "bytes are allocated than", "descriptors are open, before there were"):
        assert what in told, told


def samples(seconds: int, rise: float = 0.0, noise: float = 0.0, warm_up: float = 0.0) -> list[Sample]:
    """Of a server with 20 MiB that grows by `rise` bytes a second, after a start that has nothing to say."""
    rng = random.Random(seconds)
    found = []
    for at in range(seconds):
        size = 20 * MIB + rise * at + noise * rng.random() + warm_up * min(at, seconds // 3)
        found.append(Sample(at, 0, 0.0, {"memory": {"private": int(size)}}))
    return found


@pytest.mark.parametrize("seconds", [60, 1200])
def test_a_level_is_no_slope(seconds: int) -> None:
    found = trend(samples(seconds, noise=MIB, warm_up=100_000))
    assert found is not None
    assert not found, found


@pytest.mark.parametrize(("seconds", "rise"), [(60, 40_000), (1200, 1000)])
def test_a_slope_is_noticed(seconds: int, rise: float) -> None:
    found = trend(samples(seconds, rise=rise, noise=MIB))
    assert found, found
    assert found is not None
    assert found.per_second == pytest.approx(rise, rel=0.2)


def test_peaks_are_no_slope() -> None:
    peaks = samples(60)
    for at in (40, 57, 58, 59):
        peaks[at].stats["memory"]["private"] += 50 * MIB
    assert not trend(peaks)


def test_too_few_samples_tell_nothing() -> None:
    assert trend(samples(2 * LEAST_SAMPLES - 2)) is None
    assert trend(samples(2 * LEAST_SAMPLES)) is not None


def test_slope() -> None:
    assert slope([(0, 1), (1, 3), (3, 7)]) == 2
    assert slope([(at, 5 * at) for at in range(10_000)]) == 5
