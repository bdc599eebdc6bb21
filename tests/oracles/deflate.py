"""Raw DEFLATE (RFC 1951) read by the letter: what a compressor did, not only what comes out. And what may become of a
compressed message (RFC 7692). Slow oracles."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import NamedTuple

STORED, FIXED, DYNAMIC = range(3)
LONGEST_DISTANCE = 1 << 15
TAIL = b"\0\0\xff\xff"  # RFC 7692 section 7.2.1: what a sync flush ends with, and a message leaves out
FINAL = b"\1\0\0\xff\xff"  # an empty stored block that ends a stream, where the block before it has ended

# Section 3.2.5: (extra bits, the least value) of each symbol.
LENGTHS = [(0, 3 + number) for number in range(8)]
LENGTHS += [(extra, 3 + (4 + step << extra)) for extra in range(1, 6) for step in range(4)]
LENGTHS[-1:] = [(5, 227), (0, 258)]
DISTANCES = [(0, 1 + number) for number in range(4)]
DISTANCES += [(extra, 1 + (2 + step << extra)) for extra in range(1, 14) for step in range(2)]
ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]  # section 3.2.7
FIXED_LENGTHS = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8  # section 3.2.6


class BadDeflate(ValueError):
    """Not a stream that section 3.2 allows."""


class Match(NamedTuple):
    length: int
    distance: int


class Block(NamedTuple):
    kind: int
    final: bool
    size: int  # bytes that come out of it


class Reading(NamedTuple):
    output: bytes
    matches: list[Match]
    blocks: list[Block]
    used: int  # bytes of the input, the last of them perhaps in part
    spare: int  # bits of that last byte

    @property
    def farthest(self) -> int:
        return max((match.distance for match in self.matches), default=0)


class _Bits:
    """The least significant bit of each byte comes first (section 3.1.1)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0  # byte
        self._held = 0
        self._count = 0

    def _hold(self, count: int) -> None:
        while self._count < count:
            byte = self._data[self._next] if self._next < len(self._data) else 0
            self._held |= byte << self._count
            self._count += 8
            self._next += 1

    def take(self, count: int) -> int:
        self._hold(count)
        value = self._held & ((1 << count) - 1)
        self._drop(count)
        return value

    def _drop(self, count: int) -> None:
        self._held >>= count
        self._count -= count
        if self._next - self._count // 8 > len(self._data):
            raise BadDeflate("the stream ends early")

    def symbol(self, table: _Table) -> int:
        self._hold(table.width)
        symbol, length = table.entries[self._held & ((1 << table.width) - 1)]
        if not length:
            raise BadDeflate("a code that no symbol has")
        self._drop(length)
        return symbol

    def bytes(self, count: int) -> bytes:
        """From the next whole byte on."""
        self._drop(self._count % 8)
        start = self.position
        if start + count > len(self._data):
            raise BadDeflate("the stream ends early")
        self._held = self._count = 0
        self._next = start + count
        return self._data[start : start + count]

    @property
    def position(self) -> int:
        """The first byte of which nothing was taken."""
        return self._next - self._count // 8

    @property
    def spare(self) -> int:
        """Bits of the byte before that."""
        return self._count % 8

    @property
    def is_at_the_end(self) -> bool:
        """No whole byte is left."""
        return self.position >= len(self._data)


class _Table:
    """A Huffman code, given by its lengths (section 3.2.2): what the next `width` bits begin with."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.width = max(lengths, default=0)
        self.entries = [(0, 0)] * (1 << self.width)
        code = 0
        for length in range(1, self.width + 1):
            for symbol in (symbol for symbol, own in enumerate(lengths) if own == length):
                if code >> length:
                    raise BadDeflate("more codes than there can be")
                start = int(f"{code:0{length}b}"[::-1], 2)  # the most significant bit of a code comes first
                for at in range(start, 1 << self.width, 1 << length):
                    self.entries[at] = (symbol, length)
                code += 1
            code <<= 1


def _dynamic(bits: _Bits) -> tuple[_Table, _Table]:
    """Section 3.2.7."""
    literals, distances, codes = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    lengths = [0] * len(ORDER)
    for symbol in ORDER[:codes]:
        lengths[symbol] = bits.take(3)
    table = _Table(lengths)
    found: list[int] = []
    while len(found) < literals + distances:
        symbol = bits.symbol(table)
        if symbol < 16:
            found.append(symbol)
        elif symbol == 16:
            if not found:
                raise BadDeflate("nothing to repeat")
            found += found[-1:] * (3 + bits.take(2))
        else:
            found += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    if len(found) > literals + distances:
        raise BadDeflate("a repeat past the end of the lengths")
    return _Table(found[:literals]), _Table(found[literals:])


def _inflate(bits: _Bits, literals: _Table, distances: _Table, window: bytearray, matches: list[Match]) -> None:
    while (symbol := bits.symbol(literals)) != 256:
        if symbol < 256:
            window.append(symbol)
            continue
        if symbol - 257 >= len(LENGTHS):
            raise BadDeflate(f"length symbol {symbol}")
        extra, least = LENGTHS[symbol - 257]
        length = least + bits.take(extra)
        symbol = bits.symbol(distances)
        if symbol >= len(DISTANCES):
            raise BadDeflate(f"distance symbol {symbol}")
        extra, least = DISTANCES[symbol]
        distance = least + bits.take(extra)
        if distance > len(window):
            raise BadDeflate(f"distance {distance} with {len(window)} bytes before it")
        matches.append(Match(length, distance))
        piece = window[len(window) - distance :]
        window += bytes(itertools.islice(itertools.cycle(piece), length)) if distance < length else piece[:length]


def read(data: bytes, before: bytes = b"") -> Reading:
    """The blocks of `data` up to its end or the final one, after `before` was put out. BadDeflate."""
    window = bytearray(before[-LONGEST_DISTANCE:])
    start = len(window)
    bits = _Bits(data)
    matches: list[Match] = []
    blocks: list[Block] = []
    while not bits.is_at_the_end and not (blocks and blocks[-1].final):
        final, kind, had = bool(bits.take(1)), bits.take(2), len(window)
        if kind == STORED:
            sizes = bits.bytes(4)
            size = int.from_bytes(sizes[:2], "little")
            if size ^ 0xFFFF != int.from_bytes(sizes[2:], "little"):
                raise BadDeflate("a stored block's size is not what its complement says")
            window += bits.bytes(size)
        elif kind == FIXED:
            _inflate(bits, _Table(FIXED_LENGTHS), _Table([5] * 30), window, matches)
        elif kind == DYNAMIC:
            _inflate(bits, *_dynamic(bits), window, matches)
        else:
            raise BadDeflate("block type 3")
        blocks.append(Block(kind, final, len(window) - had))
    return Reading(bytes(window[start:]), matches, blocks, bits.position, bits.spare)


def outcomes(payload: bytes, limit: int, bits: int = 15, known: bytes = b"") -> set[bytes | int]:
    """What may become of a compressed message (RFC 7692 section 7.2.2) where no more than `limit` bytes are wanted:
    itself, or a close code, 1007 or 1009. `known` is what the sender may refer to.

    There are several where it is for the receiver to choose: whether it notices a distance that is more than the
    window, and what it says of a message that is too large and corrupt."""
    if not payload:
        return {b""}
    if bits == 15:
        return _outcomes(payload, limit, bits, known, 1 << bits - 2)
    # A byte at a time zlib notices every such distance.
    return _outcomes(payload, limit, bits, known, 1) | _outcomes(payload, limit, 15, known, LONGEST_DISTANCE)


def _outcomes(payload: bytes, limit: int, bits: int, known: bytes, step: int) -> set[bytes | int]:
    data, rest = b"", payload + TAIL
    stream = zlib.decompressobj(-bits, known[-(1 << bits) :])
    try:
        while True:
            piece = stream.decompress(rest, min(step, limit + 1 - len(data)))
            data += piece
            if len(data) > limit:
                return {1009}
            rest = stream.unconsumed_tail
            if stream.eof:  # section 7.2.3.4: others may follow
                rest = stream.unused_data
                if not rest:
                    return {data}
                stream = zlib.decompressobj(-bits, (known + data)[-(1 << bits) :])
            elif not rest and not piece:
                break
    except zlib.error:
        if step > 1:  # how much came before the error, only single bytes tell
            return _outcomes(payload, limit, bits, known, 1)
        return {1007} if len(data) < limit else {1007, 1009}
    try:
        more = stream.decompress(FINAL)
    except zlib.error:
        return {1007}
    return {data} if stream.eof and not more and not stream.unused_data else {1007}
