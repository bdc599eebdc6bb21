"""What the clients of the soak say, and what an echo must answer to the byte."""

from __future__ import annotations

import random
import zlib
from typing import NamedTuple

from harness import BINARY, PING, PONG, TEXT, build, build_close
from harness.deflating import Params, Sender
from harness.frames import in_fragments
from oracles.corpus import CASES


class Talk(NamedTuple):
    wire: bytes
    answer: bytes


def frame(opcode: int, payload: bytes) -> bytes:
    """As a server sends it."""
    return build(opcode, payload, mask=None)


def echoed(messages: list[tuple[int, bytes]]) -> Talk:
    wire = b"".join(build(opcode, payload) for opcode, payload in messages)
    return Talk(wire, b"".join(frame(opcode, payload) for opcode, payload in messages))


def fragmented(payload: bytes, pieces: int, pings: bool = False) -> Talk:
    """The Pongs are sent while the message is still coming."""
    sizes = [len(payload) // pieces + 1] * (pieces - 1)  # of which the last are empty
    bodies = [b"%d" % at for at in range(pieces - 1)] if pings else []
    wire = in_fragments(BINARY, payload, sizes, between=[build(PING, body) for body in bodies])
    return Talk(wire, b"".join([*(frame(PONG, body) for body in bodies), frame(BINARY, payload)]))


_rng = random.Random("talks")
_WORDS = ["".join(_rng.choices("abcdefghi", k=_rng.randrange(2, 9))) for _ in range(200)]
_TEXT = "".join(_rng.choices("aé漢🙂 bcdefgh", k=20_000))


def _message(size: int) -> tuple[int, bytes]:
    if _rng.random() < 0.5:
        start = _rng.randrange(1000)
        return TEXT, (_TEXT * (size // len(_TEXT) + 2))[start : start + size].encode()
    return BINARY, _rng.randbytes(size)


#: Of compression; the server's side of each has two sizes of tables, for small messages and for large ones.
OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
]
#: For clients that compress: of a few words or random, so that some shrink and some do not.
MESSAGES = [
    [_message(_rng.randrange(200)) for _ in range(pieces)]
    + [(TEXT, " ".join(_rng.choices(_WORDS, k=_rng.randrange(100))).encode()) for _ in range(pieces)]
    for pieces in (1, 1, 2, 5, 20)
] + [[_message(50_000), (TEXT, " ".join(_rng.choices(_WORDS, k=20_000)).encode()), (BINARY, bytes(500_000))]]
#: Small and pipelined, of some kilobytes, large; for routes that answer at once in order.
TALKS = [
    *[echoed([_message(_rng.randrange(100))]) for _ in range(20)],
    *[echoed([_message(_rng.randrange(130)) for _ in range(200)]) for _ in range(20)],
    *[echoed([_message(_rng.randrange(5000)) for _ in range(10)]) for _ in range(10)],
    *[echoed([_message(_rng.randrange(60_000, 70_000))]) for _ in range(3)],
    echoed([_message(100_000)]),
    echoed([(BINARY, _rng.randbytes(500_000))]),
    *[fragmented(_rng.randbytes(3000), pieces) for pieces in (2, 10, 100)],
]
TALKS_WITH_PINGS = [fragmented(_rng.randbytes(3000), pieces, pings=True) for pieces in (2, 10, 50)]
#: Thousands of frames that a few reads bring.
BURSTS = [
    echoed([_message(_rng.randrange(3)) for _ in range(5000)]),
    echoed([(BINARY, b"")] * 10_000),
    fragmented(_rng.randbytes(5000), 5000),
]
BACKLOG = echoed([(BINARY, _rng.randbytes(50_000))] * 5)
PUBLISHED = [build(*_message(size)) for size in (10, 100, 100, 1000, 5000)]
#: Each ends the connection.
BAD = [case.stream for case in CASES if not case.options and case.events and case.events[-1][0] == "fail"]
#: Compressed: 32 MiB, and nothing that could be inflated.
BOMBS = [zlib.compress(bytes(1 << 25))[2:-4] + b"\0", b"\xff" * 100]


def _hollow(blocks: int) -> bytes:
    """A compressed message of so many blocks with Huffman tables of their own (RFC 1951 section 3.2.7) and no data: 11
    bytes each for nothing at all."""
    lengths = ["000"] * 18
    lengths[2] = lengths[17] = "100"  # code lengths 18 and 1 are written as 1 and 0
    zeros = ["1" + f"{count - 11:07b}"[::-1] for count in (138, 118)]  # for all literals
    block = "".join(["0", "01", "00000", "00000", "0111", *lengths, *zeros, "0", "0", "0"])
    bits = block * blocks + "000"  # the rest of a block that is stored and empty is not sent (RFC 7692 section 7.2.1)
    bits += "0" * (-len(bits) % 8)
    stream = int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")
    assert zlib.decompressobj(-15).decompress(stream + b"\0\0\xff\xff") == b""
    return stream


#: Compressed messages that inflate to nothing; the last are near the server's max_message_size.
HOLLOW = [b"", b"\0", b"\0\0\0\xff\xff" * 3 + b"\0", _hollow(1), b"\0\0\0\xff\xff" * 100_000 + b"\0", _hollow(44_000)]
FAREWELL = _rng.randbytes(900_000)
HALF = build(BINARY, bytes(1000))[:500]
PINGS = build(PING, b"?") * 300
#: Has the server compress a message of each size, and inflate one.
EACH_SIZE = b"".join([build(TEXT, MESSAGES[-1][1][1]), build(TEXT, Sender(Params()).message(b"hello " * 50), rsv=4)])
DEEP = 5000  # brackets, more than there may be calls in one another
BRACKETS = build(TEXT, b"(" * DEEP)
BYE = build(TEXT, b"bye")
CLOSE = build_close(1000)
EMPTY_PONG = build(PONG)
EMPTY_PING = frame(PING, b"")
