"""Streams that nobody thought of: the compiled protocol half and the slow reference agree on each, piece by piece."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import protocol as oracle
from oracles.corpus import events_of, feed_all, one_by_one
from oracles.protocol import BINARY, CLOSE, CLOSE_CODES, CONTINUATION, PING, PONG, TEXT, Event, client_frame

from core.protocol import _protocol as protocol

from .test_protocol import utf8_results

Test = TypeVar("Test", bound=Callable[..., None])


def examples(number: int) -> Callable[[Test], Test]:
    """The same examples in every run of CI, new ones at every developer's; EXAMPLES is a factor, and `make fuzz` looks
    for more."""
    number = int(number * float(os.environ.get("EXAMPLES", "1")))
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    derandomize = os.environ.get("CI") == "true"
    chosen = settings(max_examples=number, derandomize=derandomize, deadline=None, suppress_health_check=slow)
    return lambda test: pytest.mark.sampled(chosen(test))


masks = st.sampled_from([bytes(4), b"\xff\xff\xff\xff", b"\xa1\x5c\x0f\xe3"]) | st.binary(min_size=4, max_size=4)
# Repeated, so that all length forms but the longest and the seams of blocks are common.
repeats = st.sampled_from([1, 1, 1, 2, 5, 13, 40])
texts = st.builds(lambda text, times: text * times, st.text(max_size=12) | st.text("aé€🙂", max_size=12), repeats)
blobs = st.builds(lambda blob, times: blob * times, st.binary(max_size=30), repeats)
small_blobs = st.binary(max_size=125)
reasons = st.text(max_size=30)

# Characters, parts of them, and what is next to right: overlongs, surrogates, beyond U+10FFFF.
right = ["a", "a" * 20, "\x7f", "é", "€", "🙂", "\ud7ff", "\ue000", "\U0010ffff"]
wrong = ["80", "bf", "c1", "c3", "e0", "e09f", "e0a0", "e282", "ed9f", "eda0", "f0", "f08f", "f090", "f09f99", "f48f"]
wrong += ["f490", "f5", "ff"]
pieces_of_text = [*(text.encode() for text in right), *map(bytes.fromhex, wrong)]
almost_utf8 = st.lists(st.sampled_from(pieces_of_text), max_size=12).map(b"".join)

opcodes = st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
almost_legal_frame = st.builds(
    client_frame,
    opcodes | st.integers(0, 15),
    st.binary(max_size=20) | almost_utf8.map(lambda data: data[:125]),
    fin=st.booleans(),
    mask=masks,
    rsv=st.sampled_from([0] * 12 + [1, 2, 4, 7]),
    declared=st.sampled_from([None] * 12 + [0, 1, 125, 126]),
    masked=st.sampled_from([True] * 12 + [False]),
)
# The edges of each form, the declared length seldom there.
edges_16 = [0, 5, 124, 125, 126, 127, 65535]
edges_64 = [*edges_16, 65534, 65536, 65537, 2**31, 2**32 - 1, 2**32, 2**63 - 2, 2**63 - 1, 2**63, 2**64 - 4, 2**64 - 1]
frame_of_16 = st.builds(client_frame, opcodes, length_form=st.just(16), declared=st.sampled_from(edges_16))
frame_of_64 = st.builds(client_frame, opcodes, length_form=st.just(64), declared=st.sampled_from(edges_64))
any_frame = almost_legal_frame | frame_of_16 | frame_of_64
# What a client may say about its end, and what it may not.
any_close = st.builds(
    lambda code, reason: client_frame(CLOSE, (code.to_bytes(2, "big") + reason)[:125]),
    st.sampled_from([0, 999, *range(1000, 1017), 2999, 3000, 4999, 5000, 65535]),
    almost_utf8,
)

limits = st.fixed_dictionaries(
    {},
    optional={
        "max_message_size": st.integers(0, 200) | st.sampled_from([125, 126, 1 << 16, 1 << 31, 1 << 32, 2**63 - 1]),
        "max_fragments": st.integers(1, 6),
    },
)


def split(data: bytes, places: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *sorted(places), len(data)])]


@st.composite
def cuts(draw: st.DrawFn, data: bytes, most: int = 8) -> list[bytes]:
    return split(data, draw(st.lists(st.integers(0, len(data)), max_size=most)))


def stream_cuts(stream: bytes) -> st.SearchStrategy[list[bytes]]:
    return st.just(one_by_one(stream)) | cuts(stream)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[Event]]:
    """The frames of a client that does all as it should, and the events that a server makes of them."""
    frames: list[bytes] = []
    events: list[Event] = []

    def add(opcode: int, payload: bytes, fin: bool = True) -> None:
        frames.append(client_frame(opcode, payload, fin=fin, mask=draw(masks)))

    for text in draw(st.lists(texts | blobs, max_size=4)):
        payload = text.encode() if isinstance(text, str) else text
        opcode = TEXT if isinstance(text, str) else BINARY
        pieces = draw(st.just([payload]) | cuts(payload, most=4))
        for index, piece in enumerate(pieces):
            for name, body in draw(st.lists(st.tuples(st.sampled_from(["ping", "pong"]), small_blobs), max_size=2)):
                add(PING if name == "ping" else PONG, body)
                events.append((name, body))
            add(CONTINUATION if index else opcode, piece, fin=index == len(pieces) - 1)
        events.append(("text", text) if isinstance(text, str) else ("binary", text))
    ending = draw(st.sampled_from(["open", "empty close", "close"]))
    if ending == "empty close":
        add(CLOSE, b"")
        events.append(("close", 1005, ""))
    elif ending == "close":
        code, reason = draw(st.sampled_from(sorted(CLOSE_CODES))), draw(reasons)
        add(CLOSE, code.to_bytes(2, "big") + reason.encode())
        events.append(("close", code, reason))
    return frames, events


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A conversation with things wrong in it: frames that should not be there or are gone, bits, garbage, an end."""
    frames, _ = draw(conversations())
    frames = list(frames)
    for frame in draw(st.lists(any_frame | any_close, max_size=2)):
        frames.insert(draw(st.integers(0, len(frames))), frame)
    if len(frames) > 0 and draw(st.booleans()):
        del frames[draw(st.integers(0, len(frames) - 1))]
    stream = bytearray(b"".join(frames))
    if stream and draw(st.booleans()):
        # Nearly all rules are about the first bytes of a frame.
        start = len(b"".join(frames[: draw(st.integers(0, len(frames) - 1))]))
        place = min(start + draw(st.sampled_from([0, 0, 1, 1, 2, 3, 6, 7, 8, 20])), len(stream) - 1)
        stream[place] ^= 1 << draw(st.integers(0, 7))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(stream)))
        stream[place:place] = draw(st.binary(max_size=12))
    if draw(st.booleans()):
        del stream[draw(st.integers(0, len(stream))) :]
    return bytes(stream)


@st.composite
def fragmented_text(draw: st.DrawFn) -> bytes:
    """One text, seldom right, in fragments with control frames in between."""
    pieces = draw(almost_utf8.flatmap(cuts))
    frames = []
    for index, piece in enumerate(pieces):
        frames.append(client_frame(CONTINUATION if index else TEXT, piece, fin=index == len(pieces) - 1))
        frames += draw(st.lists(st.just(client_frame(PING, b"\xe2\x82")), max_size=1))
    return b"".join(frames)


# Few bytes before what matters, for what long streams seldom come to.
starts = st.sampled_from([b"", client_frame(TEXT, b"", fin=False), client_frame(BINARY, b"abc", fin=False)])
short_closes = st.binary(max_size=3).map(lambda body: client_frame(CLOSE, body))
short_streams = st.builds(bytes.__add__, starts, any_close | short_closes | frame_of_16 | frame_of_64)

any_stream = damaged() | fragmented_text() | st.lists(any_frame, max_size=8).map(b"".join) | st.binary(max_size=60)
any_stream |= short_streams
any_stream_cut = any_stream.flatmap(lambda stream: st.tuples(st.just(stream), stream_cuts(stream)))
conversation_cut = conversations().flatmap(
    lambda made: st.tuples(st.just(made[1]), st.just(b"".join(made[0])), stream_cuts(b"".join(made[0])))
)


@pytest.mark.parametrize("side", [oracle, protocol], ids=["reference", "compiled"])
@examples(300)
@given(conversation_cut)
def test_what_is_valid_arrives(side: Any, made: tuple[list[Event], bytes, list[bytes]]) -> None:
    events, stream, pieces = made
    assert events_of(side.Reader(), [stream]) == events
    assert events_of(side.Reader(), pieces) == events


@examples(1200)
@given(any_stream_cut, limits)
def test_both_say_the_same(made: tuple[bytes, list[bytes]], options: dict[str, int]) -> None:
    stream, pieces = made
    whole = events_of(oracle.Reader(**options), [stream])
    assert events_of(protocol.Reader(**options), [stream]) == whole
    found = feed_all(protocol.Reader(**options), pieces)
    assert found == feed_all(oracle.Reader(**options), pieces)
    assert [event for events in found for event in events] == whole


@examples(600)
@given(st.tuples(st.integers(0, 70), almost_utf8, st.integers(0, 70)), st.data())
def test_utf8(parts: tuple[int, bytes, int], data: st.DataObject) -> None:
    text = b"a" * parts[0] + parts[1] + b"b" * parts[2]
    for pieces in ([text], data.draw(cuts(text))):
        assert list(utf8_results(protocol.Utf8(), *pieces)) == list(utf8_results(oracle.Utf8(), *pieces))


@examples(500)
@given(blobs, masks)
def test_mask(data: bytes, key: bytes) -> None:
    assert protocol.apply_mask(data, key) == oracle.apply_mask(data, key)
