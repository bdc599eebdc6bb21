"""What the clients of the soak say, and what an echo must answer to the byte."""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

from corpus import CASES
from harness import BINARY, CONT, PING, PONG, TEXT, build


class Talk(NamedTuple):
    wire: bytes
    answer: bytes


def frame(opcode: int, payload: bytes) -> bytes:
    """As a server sends it."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    if size < 0x10000:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


def echoed(messages: list[tuple[int, bytes]]) -> Talk:
    wire = b"".join(build(opcode, payload) for opcode, payload in messages)
    return Talk(wire, b"".join(frame(opcode, payload) for opcode, payload in messages))


def in_fragments(payload: bytes, pieces: int, ping: bool) -> Talk:
    """The Pongs are sent while the message is still coming."""
    step = len(payload) // pieces + 1
    wire, answer = b"", b""
    for at in range(pieces):
        part = payload[at * step : (at + 1) * step]
        wire += build(CONT if at else BINARY, part, fin=at == pieces - 1)
        if ping and at < pieces - 1:
            wire += build(PING, b"%d" % at)
            answer += frame(PONG, b"%d" % at)
    return Talk(wire, answer + frame(BINARY, payload))


_rng = random.Random("talks")
_TEXT = "".join(_rng.choices("aé漢🙂 bcdefgh", k=20_000))


def _message(size: int) -> tuple[int, bytes]:
    if _rng.random() < 0.5:
        start = _rng.randrange(1000)
        return TEXT, (_TEXT * (size // len(_TEXT) + 2))[start : start + size].encode()
    return BINARY, _rng.randbytes(size)


#: Small and pipelined, of some kilobytes, large; for routes that answer at once in order.
TALKS = [
    *[echoed([_message(_rng.randrange(100))]) for _ in range(20)],
    *[echoed([_message(_rng.randrange(130)) for _ in range(200)]) for _ in range(20)],
    *[echoed([_message(_rng.randrange(5000)) for _ in range(10)]) for _ in range(10)],
    *[echoed([_message(_rng.randrange(60_000, 70_000))]) for _ in range(3)],
    echoed([_message(100_000)]),
    echoed([(BINARY, _rng.randbytes(500_000))]),
    *[in_fragments(_rng.randbytes(3000), pieces, False) for pieces in (2, 10, 100)],
]
TALKS_WITH_PINGS = [in_fragments(_rng.randbytes(3000), pieces, True) for pieces in (2, 10, 50)]
BACKLOG = echoed([(BINARY, _rng.randbytes(50_000))] * 5)
PUBLISHED = [build(*_message(size)) for size in (10, 100, 100, 1000, 5000)]
#: Each ends the connection.
BAD = [case.stream for case in CASES if not case.options and case.events and case.events[-1][0] == "fail"]
HALF = build(BINARY, bytes(1000))[:500]
PINGS = build(PING, b"?") * 300
BYE = build(TEXT, b"bye")
EMPTY_PONG = build(PONG)
EMPTY_PING = frame(PING, b"")
