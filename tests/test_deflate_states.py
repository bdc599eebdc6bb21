"""Compression whatever the state: tests/fuzz/states.py, some 20,000 messages of it; it plays as many as are wanted.

And the slow reference of compression, tests/oracle_compression.py.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from typing import Any

import pytest
from conftest import warm_up
from fuzz import states
from fuzz.states import Failed, play
from oracle_compression import TAIL, Agreed, Receiver, Sender, agreed, random_offer

PARTS = 4  # for several workers
WORLDS = 28
SIZE = 750  # messages of each


@pytest.fixture(autouse=True)
def warm_loop() -> None:
    warm_up("uvloop")


@pytest.mark.parametrize("part", range(PARTS))
def test_every_message_arrives(part: int, no_leaked_fds: None) -> None:
    """In either direction, whatever was sent before it, to whom, and how."""
    counts: Counter[str] = Counter()
    for number in range(part, WORLDS, PARTS):
        counts += play(6, number, SIZE)
    for what in ("in", "out", "compressed out", "inflations", "published", "dropped", "raised", "broken off"):
        assert counts[what] > 0, counts


def test_histories_are_given_up(no_leaked_fds: None) -> None:
    """The messages after that arrive, too."""
    counts: Counter[str] = Counter()
    for number in range(4, 8):
        counts += play(7, number, SIZE, idles=True)
    assert counts["given up"] > 0, counts


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

    def __init__(self, agreed: Agreed) -> None:
        super().__init__(Agreed(agreed.server_takeover, agreed.client_takeover, 8, agreed.client_bits))
        self.step = 16


@pytest.mark.parametrize("wrong", [Forgets, Misses, Narrow])
def test_what_is_wrong_is_seen(wrong: type[Receiver], monkeypatch: pytest.MonkeyPatch, no_leaked_fds: None) -> None:
    monkeypatch.setattr(states, "Receiver", wrong)
    with pytest.raises(Failed):
        for number in range(20):
            play(8, number, SIZE)


# The reference


def inflated(wire: bytes, bits: int, known: bytes = b"") -> bytes:
    """As section 7.2.2 says, where blocks with BFINAL may be refered to as others may."""
    data, rest = b"", wire + TAIL
    while rest:
        stream = zlib.decompressobj(-bits, (known + data)[-(1 << bits) :])
        data += stream.decompress(rest)
        rest = stream.unused_data
    return data


@pytest.mark.parametrize("seed", range(20))
def test_what_clients_send_is_right(seed: int) -> None:
    rng = random.Random(seed)
    speech = states.Speech(rng)
    how = Agreed(client_takeover=rng.random() < 0.5, client_bits=rng.randrange(9, 16))
    sender = Sender(how, rng)
    known = b""
    for _ in range(50):
        message: Any = speech.say()
        data = message.encode() if isinstance(message, str) else message
        assert inflated(sender.message(data), how.client_bits, known) == data
        if how.client_takeover:
            known += data


def deflated(data: bytes, bits: int = 15) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)


def test_a_client_inflates_what_is_right() -> None:
    data = random.Random(1).randbytes(400) * 2
    for takeover in (True, False):
        receiver = Receiver(Agreed(takeover, server_bits=9))
        for _ in range(3):
            assert receiver.message(deflated(data, 9).removesuffix(TAIL)) == data


def test_a_client_keeps_no_more_than_its_window() -> None:
    data = random.Random(1).randbytes(1000) * 2
    wire = deflated(data).removesuffix(TAIL)
    assert Receiver(Agreed(server_bits=10)).message(wire) == data
    with pytest.raises(zlib.error):
        Receiver(Agreed(server_bits=9)).message(wire)


@pytest.mark.parametrize(
    "wire",
    [
        deflated(b"hello hello hello"),  # whose tail is not left out: then the one that is added is more
        deflated(b"hello hello hello").removesuffix(TAIL)[:-2],
        zlib.compress(b"hello")[2:-4] + b"\0",
        b"\xff",
    ],
    ids=["with its tail", "cut short", "BFINAL", "corrupt"],
)
def test_a_client_does_not_inflate_what_is_wrong(wire: bytes) -> None:
    with pytest.raises((AssertionError, zlib.error)):
        Receiver(Agreed(server_takeover=False)).message(wire)


@pytest.mark.parametrize(
    ("answer", "offer"),
    [
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits"),
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=11", "permessage-deflate; server_max_window_bits=10"),
        ("permessage-deflate", "permessage-deflate; server_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=7", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", "permessage-deflate"),
        ("permessage-deflate; unknown", "permessage-deflate"),
        ("x-webkit-deflate-frame", "permessage-deflate"),
    ],
)
def test_answers_that_are_wrong(answer: str, offer: str) -> None:
    with pytest.raises(AssertionError):
        agreed(answer, offer)


def test_answers_that_are_right() -> None:
    offer = "permessage-deflate; client_max_window_bits; server_max_window_bits=12"
    answer = "permessage-deflate; server_no_context_takeover; client_max_window_bits=10; server_max_window_bits=9"
    assert agreed(answer, offer) == Agreed(False, True, 9, 10)
    assert agreed("permessage-deflate", "permessage-deflate; client_no_context_takeover") == Agreed(True, False, 15, 15)
    assert len({random_offer(random.Random(seed)) for seed in range(100)}) > 30
