"""Compression whatever the state: tests/fuzz/states.py, some 20,000 messages of it; it plays as many as are wanted.

And the slow reference of compression, tests/oracles/compression.py.
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
from harness.deflating import NOTHING
from harness.deflating import deflate as payload_of
from hostile.deflated import CASES, LIMIT
from oracles.compression import TAIL, Agreed, Receiver, Sender, agreed, random_offer

import fastws
from core.protocol import _protocol as protocol
from fastws.compression import Agreement

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


# Inflation in parts

SHARES = [(size, 1 << 40) for size in (1, 2, 3, 7, 50)] + [(1 << 40, size) for size in (1, 2, 3, 258, 399, 400, 401)]
SHARES += [(1, 1), (5, 3), (40, 40)]


def deflation(takeover: bool) -> Any:
    return protocol.Deflation(Agreement("", 15, False, 15, takeover))


def damaged() -> list[bytes]:
    rng = random.Random(9)
    text = b"".join(b'{"number": %f, "name": "%s"}' % (rng.random(), rng.choice([b"a", b"bc"]) * 9) for _ in range(30))
    found = []
    for number in range(400):
        data = bytearray(payload_of(text[: rng.randrange(9, 900)], level=rng.choice([1, 9])))
        for _ in range(number % 4):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if number % 3 == 0:
            del data[rng.randrange(len(data)) :]
        found.append(bytes(data))
    return found


@pytest.mark.parametrize("room", [1, 64, 65536])
@pytest.mark.parametrize("takeover", [False, True])
def test_where_an_inflation_is_interrupted_makes_no_difference(takeover: bool, room: int) -> None:
    """Neither to what comes of a message, nor to what the next one may refer to."""
    codec = protocol.Compression(fastws.Deflate(), room)
    payloads = [(case.payload, case.opcode == 1) for case in CASES]
    payloads += [(payload, False) for payload in damaged()]
    payloads += [(NOTHING * 3 + b"\0", True), (NOTHING[:150], False), (payload_of(bytes(LIMIT * 3)) + NOTHING, False)]
    first, outcomes = b"as before, and more of it", Counter[str]()
    for payload, is_text in payloads:
        found = []
        for share in [(1 << 40, 1 << 40), *SHARES]:
            source = deflation(takeover)
            how = {"max_message_size": LIMIT, "is_text": is_text, "input": share[0], "output": share[1]}
            one: list[Any] = []
            if takeover:
                one.append(codec.decompress(source, payload_of(first), **how))
            one.append(codec.decompress(source, payload, **how))
            if takeover and not isinstance(one[-1], tuple):
                known = first + (one[-1].encode() if is_text else one[-1])
                one.append(codec.decompress(source, payload_of(first, before=known), **{**how, "is_text": False}))
                assert one[-1] == first
            found.append(one)
            assert protocol.kept_for(source)[1] == 0
        assert all(one == found[0] for one in found), (payload, found)
        outcomes[str(found[0][-1][2]) if isinstance(found[0][-1], tuple) else "message"] += 1
    assert min(outcomes.values()) > 3 and len(outcomes) == 4, outcomes


def test_messages_of_several_connections_are_inflated_by_turns() -> None:
    """What one has begun no other one disturbs, however it ends; one inflater is kept for all, and no more."""
    codec = protocol.Compression(fastws.Deflate(), 100)
    data = [bytes([number]) * 300 + random.Random(number).randbytes(900) for number in range(5)]
    sources = [deflation(takeover=number == 4) for number in range(5)]
    for source, message in zip(sources, data, strict=True):
        assert codec.begin(source, payload_of(message), input=400) is None
        state, held = protocol.kept_for(source)
        assert state > 32_768 and len(payload_of(message)) - 400 <= held <= 4 * len(message)
    assert codec.decompress(deflation(False), payload_of(b"in between")) == b"in between"
    idle = codec.counts[2]
    assert protocol.end_deflation(sources.pop()) > 32_768
    data.pop()
    found: list[Any] = [None] * 4
    while None in found:
        for number, source in enumerate(sources):
            if found[number] is None:
                found[number] = codec.go_on(source, input=100)
                assert codec.decompress(deflation(False), payload_of(b"in between")) == b"in between"
    assert found == data
    assert [protocol.kept_for(source) for source in sources] == [(0, 0)] * 4
    assert codec.counts[2] == idle


def test_a_message_that_is_given_up_is_freed() -> None:
    for takeover in (False, True):
        codec = protocol.Compression(fastws.Deflate(), 100)
        source = deflation(takeover)
        assert codec.begin(source, payload_of(bytes(50_000)), output=30_000) is None
        assert protocol.kept_for(source)[1] > 30_000
        protocol.end_deflation(source)
        assert protocol.kept_for(source) == (0, 0)
