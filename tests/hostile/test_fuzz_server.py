"""A few rounds of whole-server fuzzing; `make fuzz` plays more."""

from __future__ import annotations

from collections import Counter

import pytest
from conftest import warm_up
from fuzz.server_round import play

PARTS = 4  # for several workers


@pytest.mark.parametrize("part", range(PARTS))
def test_rounds(part: int) -> None:
    """Whatever peers and callbacks do: see tests/fuzz/server_round.py for what is checked."""
    warm_up("uvloop")
    counts: Counter[str] = Counter()
    for number in range(part, 30, PARTS):
        counts += play(5, number).counts
    for what in ("message", "heard", "published to", "complete", "upgrade", "answered"):
        assert counts[what] > 0, counts


@pytest.mark.parametrize("number", [0, 1, 6, 7])
def test_a_round_can_be_played_again(number: int) -> None:
    """With the server's clock held, so that a busy machine changes nothing; or a failure could not be looked into."""
    warm_up("uvloop")
    first, second = play(6, number, clock_held=True), play(6, number, clock_held=True)
    assert first.counts["open"] > 0
    assert first.digest() == second.digest()
