"""Compression whatever the state: some worlds of tests/fuzz/states.py; tests/fuzz/worlds.py plays more."""

from __future__ import annotations

import dataclasses
import zlib

import pytest
from conftest import warm_up
from fuzz import worlds
from fuzz.states import IDLES, Failed, play
from harness import peer
from harness.deflating import Params, Receiver

PARTS = 4  # for several workers
WORLDS = 28


@pytest.fixture(autouse=True)
def warm_loop() -> None:
    warm_up("uvloop")


@pytest.mark.parametrize("part", range(PARTS))
def test_every_message_arrives(part: int, no_leaked_fds: None) -> None:
    """In either direction, whatever was sent before it, to whom, and how."""
    counts = worlds.play("states", 6, range(part, WORLDS, PARTS))
    for what in ("in", "out", "compressed out", "inflations", "published", "dropped", "raised", "broken off"):
        assert counts[what] > 0, counts


def test_histories_are_given_up(no_leaked_fds: None) -> None:
    """The messages after that arrive, too."""
    assert worlds.play("states", 7, range(IDLES, 40, 10))["given up"] > 0


# What is wrong is seen


class Forgets(Receiver):
    """Has not the window that the server refers to: as a client sees a server with another's history."""

    def message(self, payload: bytes) -> bytes:
        self.stream = zlib.decompressobj(-self.bits)
        return super().message(payload)


class Misses(Receiver):
    """Has not seen one message: as a client sees a server whose history lacks what was broadcast."""

    heard = 0

    def message(self, payload: bytes) -> bytes:
        self.heard += 1
        if self.heard != 10:
            return super().message(payload)
        before = self.stream.copy()
        data = super().message(payload)
        self.stream = before
        return data


class Narrow(Receiver):
    """Keeps less than was agreed: as a client sees a server that does not respect its window."""

    def __init__(self, agreed: Params) -> None:
        super().__init__(dataclasses.replace(agreed, server_max_window_bits=8))
        self.step = 16


@pytest.mark.parametrize("wrong", [Forgets, Misses, Narrow])
def test_what_is_wrong_is_seen(wrong: type[Receiver], monkeypatch: pytest.MonkeyPatch, no_leaked_fds: None) -> None:
    monkeypatch.setattr(peer, "Receiver", wrong)
    with pytest.raises(Failed):
        for number in range(20):
            play(8, number)
