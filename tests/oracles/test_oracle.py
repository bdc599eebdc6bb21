"""The slow reference itself: against hand-written expectations, CPython's UTF-8 decoder and another implementation."""

from __future__ import annotations

from itertools import product

import pytest

from oracles.corpus import CASES, Case, close, cut_in_two, events_of, feed_all, fragments, one_by_one
from oracles.protocol import (
    BINARY,
    CLOSE,
    CLOSE_CODES,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Event,
    Reader,
    Utf8,
    apply_mask,
    build_frame,
    client_frame,
)

ENDING = {"close", "fail"}

# websockets takes a close frame within a message for an error; sections 5.4 and 5.5.1 let every control
# frame in.
APART = {"f9_close_within_a_message", "f13_reason_apart_from_an_unfinished_text"}
VALID = [case for case in CASES if case.events and case.events[-1][0] != "fail" and case.name not in APART]


@pytest.mark.parametrize("case", CASES, ids=str)
class TestCorpus:
    def test_whole(self, case: Case) -> None:
        assert events_of(Reader(**case.options), [case.stream]) == case.events

    def test_one_byte_at_a_time(self, case: Case) -> None:
        events = feed_all(Reader(**case.options), one_by_one(case.stream))
        assert [event for piece in events for event in piece] == case.events
        # The last event comes with the byte that makes it due, not sooner and not later.
        due = len(case.stream) - case.ignored
        if case.events:
            assert events[due - 1][-1] == case.events[-1]

    def test_cut_in_two(self, case: Case) -> None:
        for pieces in cut_in_two(case.stream):
            assert events_of(Reader(**case.options), pieces) == case.events, len(pieces[0])


class TestCorpusItself:
    def test_names_are_unique(self) -> None:
        names = [case.name for case in CASES]
        assert len(set(names)) == len(names)

    def test_every_row_is_there(self) -> None:
        rows = {case.name.split("_")[0] for case in CASES}
        assert rows == {f"f{row}" for row in range(1, 16)} | {"m1", "m2"}

    def test_every_code_of_a_failure_is_there(self) -> None:
        codes = {event[1] for case in CASES for event in case.events if event[0] == "fail"}
        assert codes == {1002, 1007, 1008, 1009}

    def test_bytes_are_ignored_only_after_the_end(self) -> None:
        for case in CASES:
            assert not case.ignored or case.events[-1][0] in ENDING, case.name
            assert all(event[0] not in ENDING for event in case.events[:-1]), case.name


def expected_utf8(data: bytes) -> tuple[int, bool]:
    """What CPython's decoder says: the first byte that cannot be right, and whether nothing is pending."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # `start` and `end` bound the part that was right so far, or the single byte that starts no character.
        if error.reason == "unexpected end of data":
            return -1, False
        return (error.start if error.reason == "invalid start byte" else error.end), False
    return -1, True


def check_utf8(data: bytes) -> None:
    index, complete = expected_utf8(data)
    utf8 = Utf8()
    assert utf8.feed(data) == index, data
    if index < 0:
        assert utf8.complete() == complete, data


class TestUtf8:
    def test_every_byte(self) -> None:
        check_utf8(b"")
        for first in range(256):
            check_utf8(bytes([first]))

    def test_every_pair(self) -> None:
        for pair in product(range(256), repeat=2):
            check_utf8(bytes(pair))

    @pytest.mark.parametrize("first", range(0xE0, 0xF5), ids=hex)
    def test_every_triple(self, first: int) -> None:
        """A triple with another first byte is a shorter sequence and the next one."""
        for second, third in product(range(256), repeat=2):
            check_utf8(bytes((first, second, third)))

    def test_edges_of_four(self) -> None:
        edges = (0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xFF)
        for first in range(0xEF, 0x100):
            for rest in product(edges, repeat=3):
                check_utf8(bytes((first, *rest)))

    def test_every_character(self) -> None:
        utf8 = Utf8()
        for point in [*range(0xD800), *range(0xE000, 0x110000, 7), 0x10FFFF]:
            assert utf8.feed(chr(point).encode()) == -1
            assert utf8.complete()

    def test_index_is_that_of_the_piece(self) -> None:
        utf8 = Utf8()
        assert utf8.feed(b"ab\xe2") == -1
        assert not utf8.complete()
        assert utf8.feed(b"\x82") == -1
        assert utf8.feed(b"\xac!\xff") == 2


class TestFrames:
    """The examples of RFC 6455 section 5.7."""

    def test_server_frames(self) -> None:
        assert build_frame(TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
        assert build_frame(TEXT, b"Hel", fin=False) == bytes.fromhex("010348656c")
        assert build_frame(CONTINUATION, b"lo") == bytes.fromhex("80026c6f")
        assert build_frame(PING, b"Hello") == bytes.fromhex("890548656c6c6f")
        assert build_frame(BINARY, bytes(256))[:4] == bytes.fromhex("827e0100")
        assert build_frame(BINARY, bytes(65536))[:10] == bytes.fromhex("827f0000000000010000")

    def test_client_frames(self) -> None:
        mask = bytes.fromhex("37fa213d")
        assert client_frame(TEXT, b"Hello", mask=mask) == bytes.fromhex("818537fa213d7f9f4d5158")
        assert client_frame(PONG, b"Hello", mask=mask) == bytes.fromhex("8a8537fa213d7f9f4d5158")
        assert client_frame(TEXT, b"Hello", masked=False) == bytes.fromhex("810548656c6c6f")

    def test_illegal_client_frames(self) -> None:
        assert client_frame(TEXT, b"", rsv=4)[0] == 0b1100_0001
        assert client_frame(TEXT, b"", rsv=1, fin=False)[0] == 0b0001_0001
        assert client_frame(BINARY, b"x", length_form=16, masked=False) == b"\x82\x7e\x00\x01x"
        assert client_frame(BINARY, b"x", length_form=64, masked=False) == b"\x82\x7f" + bytes(7) + b"\x01x"
        assert client_frame(BINARY, b"x", declared=2**64 - 1, masked=False) == b"\x82\x7f" + b"\xff" * 8 + b"x"

    def test_mask_undoes_itself(self) -> None:
        data = bytes(range(256))
        assert apply_mask(data[:5], b"\x01\x02\x03\x04") == b"\x01\x03\x01\x07\x05"
        assert apply_mask(apply_mask(data, b"\xa1\x5c\x0f\xe3"), b"\xa1\x5c\x0f\xe3") == data


def test_default_limits() -> None:
    at_limit = client_frame(BINARY, declared=1 << 20)
    assert Reader().feed(at_limit) == []
    over = client_frame(BINARY, declared=(1 << 20) + 1)
    assert events_of(Reader(), [over[:10]]) == [("fail", 1009)]
    assert Reader().feed(fragments(TEXT, *[b""] * 16384)) == [("text", "")]
    assert events_of(Reader(), [fragments(TEXT, *[b""] * 16385)]) == [("fail", 1008)]


class TestAgainstWebsockets:
    """Another implementation, of other people, gives the same for what is valid."""

    @pytest.mark.parametrize("case", VALID, ids=str)
    def test_valid_streams(self, case: Case) -> None:
        assert self.events(case.stream) == case.events

    def test_every_close_code(self) -> None:
        for code in range(65536):
            frame = close(code)
            ours = events_of(Reader(), [frame])
            assert ours == ([("close", code, "")] if code in CLOSE_CODES else [("fail", 1002)])
            assert self.events(frame) == (ours if code in CLOSE_CODES else []), code

    def events(self, stream: bytes) -> list[Event]:
        from websockets.frames import Close, Frame
        from websockets.protocol import OPEN
        from websockets.server import ServerProtocol

        protocol = ServerProtocol(state=OPEN, max_size=None)
        protocol.receive_data(stream)
        events: list[Event] = []
        opcode, message = 0, b""
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode in {PING, PONG}:
                events.append(("ping" if frame.opcode == PING else "pong", bytes(frame.data)))
            elif frame.opcode == CLOSE:
                received = Close.parse(frame.data)
                events.append(("close", received.code, received.reason))
            else:
                opcode, message = frame.opcode or opcode, message + frame.data
                if frame.fin:
                    events.append(("text", message.decode()) if opcode == TEXT else ("binary", message))
                    message = b""
        return events
