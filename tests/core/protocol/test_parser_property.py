"""Streams that nobody thought of: FrameParser and its slow reference agree on each, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from harness.frames import build
from hypothesis import given
from hypothesis import strategies as st
from oracles import frame_parser as oracle_frames
from oracles.protocol import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

from fastws.speedups import Frame, FrameParser, ProtocolError

from .test_protocol_property import any_stream, blobs, cuts, examples, masks, opcodes, small_blobs, stream_cuts

# Some of the edges of the forms, so that frames are as often over the limit as within it.
options = st.fixed_dictionaries(
    {"masked": st.booleans()},
    optional={
        "max_frame_size": st.integers(0, 200) | st.sampled_from([125, 126, 1 << 16, 1 << 31, 1 << 32, 2**63 - 1]),
        "allow_rsv": st.integers(0, 7),
    },
)
keys = st.none() | masks
some_frame = st.builds(
    build,
    opcodes | st.integers(0, 15),
    small_blobs,
    fin=st.booleans(),
    mask=keys,
    rsv=st.sampled_from([0] * 6 + [1, 2, 4, 7]),
    length_form=st.sampled_from([None] * 6 + [16, 64]),
)


@st.composite
def right_streams(draw: st.DrawFn, allow_rsv: int, masked: bool) -> tuple[list[Frame], bytes]:
    """The frames of a peer that does all as it should, and what it sends."""
    frames = []
    bits = st.integers(0, 7).map(lambda rsv: rsv & allow_rsv)
    for blob in draw(st.lists(blobs, max_size=4)):
        pieces = draw(st.just([blob]) | cuts(blob, most=4))
        for index, piece in enumerate(pieces):
            for opcode in draw(st.lists(st.sampled_from([PING, PONG]), max_size=2)):
                frames.append(Frame(True, opcode, draw(small_blobs), draw(bits)))
            opcode = CONTINUATION if index else draw(st.sampled_from([TEXT, BINARY]))
            frames.append(Frame(index == len(pieces) - 1, opcode, piece, draw(bits)))
    if draw(st.booleans()):
        frames.append(Frame(True, CLOSE, draw(st.sampled_from([b"", b"\x03\xe8", b"\x0b\xb8why"])), draw(bits)))
    stream = [
        build(opcode, payload, fin=fin, rsv=rsv, mask=draw(masks) if masked else None)
        for fin, opcode, payload, rsv in frames
    ]
    return frames, b"".join(stream)


def fed(parser: FrameParser, data: bytes) -> tuple[list[Frame], int | None]:
    """What the reference's feed() gives."""
    try:
        return parser.feed(data), None
    except ProtocolError as error:
        return error.frames, error.code


def results(parser: Any, pieces: Iterable[bytes]) -> list[tuple[list[Any], int | None]]:
    if isinstance(parser, FrameParser):
        return [fed(parser, piece) for piece in pieces]
    return [parser.feed(piece) for piece in pieces]


def joined(found: list[tuple[list[Any], int | None]]) -> tuple[list[Any], int | None]:
    return [frame for frames, _ in found for frame in frames], found[-1][1]


@pytest.mark.parametrize("side", [oracle_frames.FrameReader, FrameParser], ids=["reference", "compiled"])
@examples(200)
@given(st.data(), st.booleans(), st.integers(0, 7))
def test_what_is_right_arrives(side: Any, data: st.DataObject, masked: bool, allow_rsv: int) -> None:
    frames, stream = data.draw(right_streams(allow_rsv, masked))
    for pieces in ([stream], data.draw(stream_cuts(stream)) or [b""]):
        parser = side(masked=masked, allow_rsv=allow_rsv)
        assert joined(results(parser, pieces)) == (frames, None)
        if side is FrameParser:
            assert parser.buffered == 0


@examples(600)
@given(any_stream | st.lists(some_frame, max_size=8).map(b"".join), options, st.data())
def test_both_say_the_same(stream: bytes, options: dict[str, Any], data: st.DataObject) -> None:
    pieces = data.draw(stream_cuts(stream)) or [b""]
    whole = oracle_frames.FrameReader(**options).feed(stream)
    assert fed(FrameParser(**options), stream) == whole
    found = results(FrameParser(**options), pieces)
    assert found == results(oracle_frames.FrameReader(**options), pieces)
    assert joined(found) == whole


@examples(250)
@given(any_stream | st.lists(some_frame, max_size=8).map(b"".join), options, st.data())
def test_an_error_does_not_depend_on_the_cuts(stream: bytes, options: dict[str, Any], data: st.DataObject) -> None:
    """Its words neither."""

    def error(pieces: Iterable[bytes]) -> str | None:
        parser = FrameParser(**options)
        try:
            for piece in pieces:
                parser.feed(piece)
        except ProtocolError as error:
            return str(error)
        return None

    assert error(data.draw(stream_cuts(stream))) == error([stream])
