"""Rows A2 and A5 without a plan: some random worlds of whole servers; `make fuzz` plays more."""

from __future__ import annotations

import pytest
from conftest import warm_up
from fuzz import worlds
from fuzz.server_round import play

PARTS = 4  # for several workers


@pytest.mark.parametrize("part", range(PARTS))
def test_a02_a05_whatever_callbacks_and_peers_do(part: int) -> None:
    """Each hears what it is owed, once, in order and unharmed; `close` comes once and last; stopping takes its time and
    no longer; nothing stays behind. tests/fuzz/server_round.py has what else is checked."""
    warm_up("uvloop")
    counts = worlds.play("server", 5, range(part, 60, PARTS))
    for what in ("message", "heard", "published to", "complete", "upgrade", "answered", "stop"):
        assert counts[what] > 0, counts


@pytest.mark.parametrize("number", [0, 1, 6, 7])
def test_a_world_can_be_played_again(number: int) -> None:
    """With the server's clock held, so that a busy machine changes nothing; or a failure could not be looked into."""
    warm_up("uvloop")
    first, second = play(6, number, clock_held=True), play(6, number, clock_held=True)
    assert first.counts["open"] > 0
    assert first.digest() == second.digest()


def test_a_failure_says_how_to_play_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worlds.WORLDS, "server", lambda seed, number: 1 / (number - 3))
    with pytest.raises(AssertionError, match=r"worlds\.py server --seed 5 --world 3\n"):
        worlds.play("server", 5, [3])
