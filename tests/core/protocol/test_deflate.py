"""Inflation in parts, without a socket: where it is interrupted makes no difference."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from harness.deflating import NOTHING, deflate
from hostile.deflated import CASES, LIMIT

import fastws
from core.protocol import _protocol as protocol
from fastws.compression import Agreement

SHARES = [(size, 1 << 40) for size in (1, 2, 3, 7, 50)] + [(1 << 40, size) for size in (1, 2, 3, 258, 399, 400, 401)]
SHARES += [(1, 1), (5, 3), (40, 40)]


def deflation(takeover: bool) -> Any:
    return protocol.Deflation(Agreement("", 15, False, 15, takeover))


def damaged() -> list[bytes]:
    rng = random.Random(9)
    text = b"".join(b'{"number": %f, "name": "%s"}' % (rng.random(), rng.choice([b"a", b"bc"]) * 9) for _ in range(30))
    found = []
    for number in range(400):
        data = bytearray(deflate(text[: rng.randrange(9, 900)], level=rng.choice([1, 9])))
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
    payloads += [(NOTHING * 3 + b"\0", True), (NOTHING[:150], False), (deflate(bytes(LIMIT * 3)) + NOTHING, False)]
    first, outcomes = b"as before, and more of it", Counter[str]()
    for payload, is_text in payloads:
        found = []
        for share in [(1 << 40, 1 << 40), *SHARES]:
            source = deflation(takeover)
            how = {"max_message_size": LIMIT, "is_text": is_text, "input": share[0], "output": share[1]}
            one: list[Any] = []
            if takeover:
                one.append(codec.decompress(source, deflate(first), **how))
            one.append(codec.decompress(source, payload, **how))
            if takeover and not isinstance(one[-1], tuple):
                known = first + (one[-1].encode() if is_text else one[-1])
                one.append(codec.decompress(source, deflate(first, before=known), **{**how, "is_text": False}))
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
        assert codec.begin(source, deflate(message), input=400) is None
        state, held = protocol.kept_for(source)
        assert state > 32_768 and len(deflate(message)) - 400 <= held <= 4 * len(message)
    assert codec.decompress(deflation(False), deflate(b"in between")) == b"in between"
    idle = codec.counts[2]
    assert protocol.end_deflation(sources.pop()) > 32_768
    data.pop()
    found: list[Any] = [None] * 4
    while None in found:
        for number, source in enumerate(sources):
            if found[number] is None:
                found[number] = codec.go_on(source, input=100)
                assert codec.decompress(deflation(False), deflate(b"in between")) == b"in between"
    assert found == data
    assert [protocol.kept_for(source) for source in sources] == [(0, 0)] * 4
    assert codec.counts[2] == idle


def test_a_message_that_is_given_up_is_freed() -> None:
    for takeover in (False, True):
        codec = protocol.Compression(fastws.Deflate(), 100)
        source = deflation(takeover)
        assert codec.begin(source, deflate(bytes(50_000)), output=30_000) is None
        assert protocol.kept_for(source)[1] > 30_000
        protocol.end_deflation(source)
        assert protocol.kept_for(source) == (0, 0)
