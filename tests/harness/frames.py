"""RFC 6455 section 5 from a client: frames built as wrong as a test wants, and read as strictly as the RFC says."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"

# Codes that an endpoint may put on the wire: RFC 6455 section 7.4 and the registry of section 11.7.
WIRE_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]


class Frame(NamedTuple):
    fin: bool
    opcode: int
    payload: bytes


class BadFrame(AssertionError):
    """The server put something on the wire that section 5 forbids it."""


def apply_mask(data: bytes, key: bytes) -> bytes:
    """XORs `data` with the four bytes of `key` in turn (section 5.3)."""
    n = len(data)
    repeated = (key * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(n, "big")


def build(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    mask: bytes | None = MASK,
    rsv: int = 0,
    length: int | None = None,
    length_form: int | None = None,
) -> bytes:
    """One frame. `rsv` is three bits (4 = RSV1); `mask=None` leaves it unmasked; `length` declares another length than
    the payload's; `length_form` is 7, 16 or 64 bits instead of the shortest that fits."""
    declared = len(payload) if length is None else length
    form = length_form or (7 if declared < 126 else 16 if declared < 0x10000 else 64)
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    second = 0x80 if mask is not None else 0
    if form == 7:
        head = struct.pack("!BB", first, second | declared)
    elif form == 16:
        head = struct.pack("!BBH", first, second | 126, declared)
    else:
        head = struct.pack("!BBQ", first, second | 127, declared)
    if mask is None:
        return head + payload
    return head + mask + apply_mask(payload, mask)


def in_fragments(
    opcode: int,
    payload: bytes,
    sizes: Sequence[int] = (),
    *,
    between: Sequence[bytes] = (),
    mask: bytes | None = MASK,
    rsv: int = 0,
) -> bytes:
    """One message: fragments of these sizes and one of the rest, with these other frames between them. `rsv` is that of
    the first."""
    cuts = [0, *itertools.accumulate(sizes), len(payload)]
    others = iter(between)
    stream = b""
    for number, (start, end) in enumerate(itertools.pairwise(cuts)):
        last = number == len(sizes)
        stream += build(CONT if number else opcode, payload[start:end], fin=last, mask=mask, rsv=0 if number else rsv)
        stream += next(others, b"")
    return stream


def random_sizes(rng: random.Random, total: int, cuts: int) -> list[int]:
    """For in_fragments(): `total` bytes are cut in so many places."""
    places = sorted(rng.randrange(total + 1) for _ in range(cuts))
    return [end - start for start, end in itertools.pairwise([0, *places])]


def build_close(code: int | None, reason: bytes = b"") -> bytes:
    """A masked Close frame; no code gives an empty one."""
    return build(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def parse(buffer: bytes | bytearray) -> tuple[Frame, int] | None:
    """The first frame of `buffer` and its size on the wire, or None while it is incomplete. A frame that a server must
    not send (masked, RSV set, unknown opcode, length not minimal, bad control frame) raises BadFrame."""
    if len(buffer) < 2:
        return None
    first, second = buffer[0], buffer[1]
    fin, opcode = bool(first & 0x80), first & 0x0F
    if first & 0x70:
        raise BadFrame(f"RSV bits set: {bytes(buffer[:2])!r}")
    if opcode not in (CONT, TEXT, BINARY, CLOSE, PING, PONG):
        raise BadFrame(f"reserved opcode {opcode}")
    if second & 0x80:
        raise BadFrame("a server must not mask (section 5.1)")
    length, at = second, 2
    if length == 126:
        if len(buffer) < 4:
            return None
        (length,) = struct.unpack_from("!H", buffer, 2)
        at, least = 4, 126
    elif length == 127:
        if len(buffer) < 10:
            return None
        (length,) = struct.unpack_from("!Q", buffer, 2)
        at, least = 10, 0x10000
    else:
        least = 0
    if length < least or length >> 63:
        raise BadFrame(f"length {length} in the wrong form (section 5.2)")
    if opcode >= 8 and (length > 125 or not fin):
        raise BadFrame("a control frame that is fragmented or over 125 bytes (section 5.5)")
    if len(buffer) < at + length:
        return None
    return Frame(fin, opcode, bytes(buffer[at : at + length])), at + length


def frames(buffer: bytearray) -> Iterator[Frame]:
    """Takes off `buffer` what frames have come whole."""
    while found := parse(buffer):
        frame, size = found
        del buffer[:size]
        yield frame


def deflated_frames(buffer: bytearray) -> Iterator[tuple[Frame, bool]]:
    """As above where permessage-deflate was agreed on: with each, whether RSV1 says that a compressed message begins
    (RFC 7692 section 6)."""
    while buffer:
        rsv1 = buffer[0] & 0x40
        if rsv1 and buffer[0] & 0x0F not in (TEXT, BINARY):
            raise BadFrame(f"RSV1 set: {bytes(buffer[:2])!r}")
        buffer[0] ^= rsv1
        frame = next(frames(buffer), None)
        if frame is None:
            buffer[0] |= rsv1
            return
        yield frame, rsv1 > 0


def close_code(payload: bytes) -> int | None:
    """The code in a Close frame's payload, None for an empty one."""
    if not payload:
        return None
    if len(payload) < 2:
        raise BadFrame("a Close frame of one byte (section 5.5.1)")
    (code,) = struct.unpack_from("!H", payload)
    payload[2:].decode("utf-8")  # the reason is UTF-8
    return int(code)
