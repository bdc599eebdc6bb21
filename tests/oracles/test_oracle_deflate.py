"""The reader of DEFLATE against zlib: without it, what it says of distances would be worth nothing."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles.deflate import DYNAMIC, FIXED, STORED, BadDeflate, Block, Match, read

STRATEGIES = [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]


def texts(size: int) -> bytes:
    words = [b"price", b"amount", b"symbol", b"true", b"0.12345", b'":{"', b"\r\n", b"\xe2\x82\xac"]
    chosen = random.Random(size)
    return b"".join(chosen.choice(words) for _ in range(size // 4))[:size]


@given(
    pieces=st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 5000).map(texts)), max_size=6),
    level=st.integers(0, 9),
    window=st.integers(9, 15),
    memory=st.integers(1, 9),
    strategy=st.sampled_from(STRATEGIES),
    finish=st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH]),
)
def test_what_zlib_writes(
    *, pieces: list[bytes], level: int, window: int, memory: int, strategy: int, finish: int
) -> None:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -window, memory, strategy)
    before, stream = b"", b""
    for piece in pieces:
        part = deflater.compress(piece) + deflater.flush(zlib.Z_SYNC_FLUSH)
        reading = read(part, before)
        assert reading.output == piece
        assert reading.used == len(part)
        assert reading.farthest <= 1 << window
        assert sum(block.size for block in reading.blocks) == len(piece)
        before += piece
        stream += part
    stream += deflater.flush(finish)
    whole = read(stream)
    assert whole.output == before
    assert [block.final for block in whole.blocks].count(True) == (finish == zlib.Z_FINISH)


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 5, 100, 250, 256, 257, 262, 511, 512, 8191, 16_384, 32_500])
def test_a_distance(distance: int) -> None:
    """Of twelve bytes that come again after nothing alike."""
    between = bytes(max(distance - 12, 0))
    again = b"twelve bytes"[: min(distance, 12)]
    data = again + between + (again * 12)[:12]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    matches = read(deflater.compress(data) + deflater.flush()).matches
    assert max(match.distance for match in matches) == distance


def test_by_hand() -> None:
    assert read(bytes.fromhex("f248cdc9c907000000ffff")).output == b"Hello"  # RFC 7692 section 7.2.3.1
    again = read(bytes.fromhex("f2001100000000ffff"), b"Hello")  # and the same again, section 7.2.3.2
    assert again == (b"Hello", [Match(4, 5)], [Block(FIXED, False, 5), Block(STORED, False, 0)], 9, 0)
    assert read(bytes.fromhex("000000ffff")) == (b"", [], [Block(STORED, False, 0)], 5, 0)
    assert read(bytes.fromhex("030000"))[3:] == (2, 6)  # what comes after the final block is not its
    assert DYNAMIC in {block.kind for block in read(zlib.compress(texts(5000))[2:-4]).blocks}


@pytest.mark.parametrize(
    "wrong",
    ["06", "0100", "010500", "0105000000aa", "f248cd", "7a", "f2001100000000ffff", "05e081", "ffffffff"],
    ids=[
        "type 3",
        "no size",
        "half a size",
        "complement",
        "ends early",
        "one byte",
        "before the start",
        "codes",
        "all",
    ],
)
def test_what_is_wrong(wrong: str) -> None:
    with pytest.raises(BadDeflate):
        read(bytes.fromhex(wrong))


@given(st.binary(max_size=60), st.booleans())
def test_it_refuses_what_zlib_refuses(data: bytes, as_dynamic: bool) -> None:
    """Or reads what zlib does: zlib refuses some codes that section 3.2 only implies are wrong."""
    data = bytes([data[0] & 0xF8 | 5, *data[1:]]) if as_dynamic and data else data
    inflater = zlib.decompressobj(-15)
    try:
        output = inflater.decompress(data)
    except zlib.error:
        return
    if inflater.eof:
        assert read(data)[0] == output
