"""Damaged texts: every variant judges, decodes and encodes them as CPython does. SIMD_MUTATIONS says how many."""

from __future__ import annotations

import os

import pytest

from simd._variants import agree

MUTATIONS = int(os.environ.get("SIMD_MUTATIONS", "300000"))
PARTS = 4  # for the workers


@pytest.mark.parametrize("part", range(PARTS))
def test_as_cpython(part: int) -> None:
    count = -(-MUTATIONS // PARTS)
    valid = agree(seed=6455 + part, count=count)
    assert count // 5 < valid < count * 4 // 5, "nearly all are of one kind"
