"""The compiled protocol half, alone, against the corpus and the slow reference."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from random import Random
from typing import Any

import pytest
from oracles import protocol as oracle
from oracles.corpus import CASES, Case, close, cut_in_two, events_of, feed_all, fragments, one_by_one, plain
from oracles.protocol import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Event, client_frame

from core.protocol import _protocol as protocol
from fastws import speedups
from fastws.speedups import FrameParser

KEYS = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xa1\x5c\x0f\xe3", b"\x00\x80\x01\x7f")
# Runs longer than any kernel's block, characters of every width across every alignment.
MIXED = ("plain " * 14 + "é€🙂" * 8 + "x" * 33 + "🙂é" * 9 + "€" * 23 + "z" * 70).encode()


@pytest.mark.parametrize("case", CASES, ids=str)
class TestCorpus:
    def test_whole(self, case: Case) -> None:
        assert events_of(protocol.Reader(**case.options), [case.stream]) == case.events

    def test_one_byte_at_a_time(self, case: Case) -> None:
        pieces = one_by_one(case.stream)
        events = feed_all(protocol.Reader(**case.options), pieces)
        assert [event for piece in events for event in piece] == case.events
        assert events == feed_all(oracle.Reader(**case.options), pieces)

    def test_cut_in_two(self, case: Case) -> None:
        due = len(case.stream) - case.ignored
        for before, after in cut_in_two(case.stream):
            first, second = feed_all(protocol.Reader(**case.options), [before, after])
            assert first + second == case.events, len(before)
            # The last event comes with the byte that makes it due, not sooner and not later.
            if case.events:
                assert (first == case.events) == (len(before) >= due), len(before)


def from_a_server(stream: bytes) -> bytes:
    """The same frames without their masks, as a server sends them; b"" where they are not all there, or not masked."""
    made, at = b"", 0
    while at < len(stream):
        head = stream[at : at + 14]
        if len(head) < 2 or not head[1] & 0x80:
            return b""
        form = {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
        start = 2 + form
        length = int.from_bytes(head[2:start], "big") if form else head[1] & 0x7F
        payload = stream[at + start + 4 : at + start + 4 + length]
        if len(payload) < length:
            return b""
        key = head[start : start + 4]
        made += bytes((head[0], head[1] & 0x7F)) + head[2:start] + oracle.apply_mask(payload, key)
        at += start + 4 + length
    return made


FROM_SERVERS = [(case, from_a_server(case.stream)) for case in CASES]


class TestRole:
    """RFC 6455 section 5.1: a client masks its frames, a server does not, and each fails the other kind."""

    @pytest.mark.parametrize(("case", "stream"), [pair for pair in FROM_SERVERS if pair[1]], ids=str)
    def test_a_client_reads_the_corpus_unmasked(self, case: Case, stream: bytes) -> None:
        for pieces in ([stream], one_by_one(stream)):
            assert events_of(protocol.Reader(**case.options, from_server=True), pieces) == case.events

    def test_that_is_most_of_it(self) -> None:
        assert sum(1 for _, stream in FROM_SERVERS if stream) > len(CASES) * 0.6

    def test_a_masked_frame_fails_a_client(self) -> None:
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
            reader = protocol.Reader(from_server=True)
            assert reader.feed(client_frame(opcode, b"")) == [("fail", 1002, "frame is masked")]

    @pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 1_000_000])
    def test_what_serialize_makes_either_reads(self, length: int) -> None:
        payload = Random(length).randbytes(length)
        for key in KEYS:
            masked = speedups.serialize((True, BINARY, payload, 0), mask=key)
            assert protocol.Reader().feed(masked) == [("binary", payload)]
            assert FrameParser(masked=True).feed(masked) == [(True, BINARY, payload, 0)]
        plain = speedups.serialize((True, BINARY, payload, 0))
        assert protocol.Reader(from_server=True).feed(plain) == [("binary", payload)]
        assert FrameParser(masked=False).feed(plain) == [(True, BINARY, payload, 0)]


class TestReader:
    @pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 65537])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_length_forms(self, length: int, opcode: int) -> None:
        payload = (MIXED * (length // len(MIXED) + 1))[:length] if opcode == BINARY else b"t" * length
        expected = [("text", payload.decode()) if opcode == TEXT else ("binary", payload)]
        stream = client_frame(opcode, payload)
        for cut in [*range(min(20, len(stream))), *range(max(len(stream) - 20, 20), len(stream) + 1)]:
            assert events_of(protocol.Reader(), [stream[:cut], stream[cut:]]) == expected, cut
        limit = {"max_message_size": length - 1}
        if length:
            assert events_of(protocol.Reader(**limit), [stream]) == [("fail", 1009)]

    def test_every_place_of_a_payload(self) -> None:
        """Unmasking and validation at every alignment, over every length up to a few blocks."""
        for offset in range(71):
            before = client_frame(PING, bytes(offset))
            for length in range(71):
                key = KEYS[length % 4]
                data = MIXED[offset : offset + length]
                stream = before + client_frame(BINARY, data, mask=key) + client_frame(TEXT, b"q" * length, mask=key)
                expected = [("ping", bytes(offset)), ("binary", data), ("text", "q" * length)]
                assert protocol.Reader().feed(stream) == expected, (offset, length)

    @pytest.mark.parametrize("size", [1000, 4096, 65536, 100_003, 1 << 20])
    def test_large_messages_in_pieces(self, size: int) -> None:
        text = MIXED * ((1 << 20) // len(MIXED))
        frames = [text[:300_000], text[300_000:300_001], b"", text[300_001:]]
        stream = fragments(TEXT, *frames) + fragments(BINARY, *frames) + client_frame(TEXT, b"end")
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        expected = [("text", text.decode()), ("binary", text), ("text", "end")]
        assert events_of(protocol.Reader(), pieces) == expected

    def test_a_wrong_byte_anywhere_in_a_large_text(self) -> None:
        random = Random(7)
        text = MIXED * (300_000 // len(MIXED))
        for _ in range(40):
            place, size = random.randrange(len(text)), random.choice((997, 4096, 65536))
            stream = client_frame(TEXT, text[:place] + b"\xff" + text[place + 1 :])
            header = len(stream) - len(text)
            pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
            events = feed_all(protocol.Reader(), pieces)
            assert [index for index, found in enumerate(events) if found] == [(header + place) // size], place
            assert events[(header + place) // size] == [("fail", 1007)]

    def test_every_close_code(self) -> None:
        for code in range(65536):
            frame = close(code)
            assert events_of(protocol.Reader(), [frame]) == events_of(oracle.Reader(), [frame]), code

    def test_every_first_two_bytes(self) -> None:
        """Section 5.2, all of it: at the start, in a message, with the next six bytes there or not."""
        started = client_frame(TEXT, b"", fin=False)
        for before in (b"", started):
            for first in range(256):
                for second in range(256):
                    stream = before + bytes((first, second)) + b"\x00\x00\x7f\x00\x00\x00"
                    pieces = [stream[: len(before) + 2], stream[len(before) + 2 :]]
                    found = feed_all(protocol.Reader(), pieces)
                    assert found == feed_all(oracle.Reader(), pieces), (before, first, second)

    def test_every_edge_of_length_and_limit(self) -> None:
        edges = [0, 2, 3, 4, *range(123, 130), *range(65532, 65540), 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1, 2**32]
        edges += [2**32 + 1, *range(2**63 - 5, 2**63)]
        beyond = [2**63, 2**63 + 1, 2**64 - 4, 2**64 - 3, 2**64 - 1]
        headers = [(7, length) for length in edges if length <= 125]
        headers += [(16, length) for length in edges if length <= 65535]
        headers += [(64, length) for length in edges + beyond]
        for before in (b"", client_frame(BINARY, b"abc", fin=False), client_frame(TEXT, b"", fin=False)):
            for form, length in headers:
                frame = client_frame(CONTINUATION if before else BINARY, length_form=form, declared=length)
                pieces = [before, *one_by_one(frame)]
                for limit in edges:
                    options = {"max_message_size": limit}
                    found = feed_all(protocol.Reader(**options), pieces)
                    assert found == feed_all(oracle.Reader(**options), pieces), (before, form, length, limit)

    def test_default_limits(self) -> None:
        over = client_frame(BINARY, declared=(1 << 20) + 1)[:10]
        assert events_of(protocol.Reader(), [over]) == [("fail", 1009)]
        payload = bytes(1 << 20)
        assert protocol.Reader().feed(client_frame(BINARY, payload)) == [("binary", payload)]
        assert protocol.Reader().feed(fragments(TEXT, *[b""] * 16384)) == [("text", "")]
        assert events_of(protocol.Reader(), [fragments(TEXT, *[b""] * 16385)]) == [("fail", 1008)]

    def test_nothing_after_the_end(self) -> None:
        for ending in (client_frame(CLOSE), close(1000), close(1004), b"\xc1\x80", client_frame(TEXT, b"\xff")):
            reader = protocol.Reader()
            assert len(reader.feed(ending)) == 1
            for _ in range(3):
                assert reader.feed(client_frame(TEXT, b"more")) == []
                assert reader.feed(b"") == []

    def test_readers_share_nothing(self) -> None:
        """Every case at once, a byte of each in turn."""
        readers = [protocol.Reader(**case.options) for case in CASES]
        found: list[list[Event]] = [[] for _ in CASES]
        for turn in zip_longest(*(one_by_one(case.stream) for case in CASES), fillvalue=b""):
            for index, piece in enumerate(turn):
                found[index] += feed_all(readers[index], [piece])[0]
        assert found == [case.events for case in CASES]


class TestLargeMessages:
    """What is declared costs nothing, what has come is kept once or twice over, and much of it comes without a copy."""

    @pytest.mark.parametrize("declared", [2 << 30, 2**63 - 1])
    @pytest.mark.parametrize("fin", [True, False])
    def test_memory_follows_what_has_come(self, declared: int, fin: bool) -> None:
        reader = protocol.Reader(max_message_size=2**63 - 1)
        assert reader.feed(client_frame(BINARY, declared=declared, fin=fin)) == []
        assert reader.kept() <= 64
        came = 0
        for size in [1] * 200 + [1000] * 50 + [65536] * 20:
            assert reader.feed(bytes(size)) == []
            came += size
            assert came <= reader.kept() <= 2 * came + 64

    def test_much_is_not_moved_after_an_eighth(self) -> None:
        reader = protocol.Reader(max_message_size=1 << 20)
        assert reader.feed(client_frame(BINARY, declared=1 << 20)) == []
        kept = []
        for _ in range(15):
            assert reader.feed(bytes(65536)) == []
            kept.append(reader.kept())
        assert kept[:2] == [65536, 131072]
        assert set(kept[2:]) == {1 << 20}

    def test_memory_is_given_back(self) -> None:
        reader = protocol.Reader()
        for _ in range(3):
            assert reader.idle
            assert reader.kept() == 0
            reader.feed(client_frame(BINARY, b"x" * 3000, fin=False))
            assert not reader.idle
            assert reader.kept() >= 3000
            assert reader.feed(client_frame(CONTINUATION, b"x" * 3000)) == [("binary", b"x" * 6000)]

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("wish", [65536, 65537, 99_999, 262_144])
    def test_received_straight_into_the_message(self, opcode: int, wish: int) -> None:
        text = MIXED * (700_000 // len(MIXED))
        stream = fragments(opcode, text[:250_001], text[250_001:]) + client_frame(PING, b"p")
        events, straight = receive_all(protocol.Reader(), stream, wish)
        assert plain(events) == [("text", text.decode()) if opcode == TEXT else ("binary", text), ("ping", b"p")]
        assert straight >= 100_000

    def test_a_wrong_byte_received_straight(self) -> None:
        text = MIXED * (700_000 // len(MIXED))
        for place in (70_000, 300_000, 300_001, 300_002, 400_000):
            stream = client_frame(TEXT, text[:place] + b"\xff" + text[place + 1 :])
            events, straight = receive_all(protocol.Reader(), stream, 65536)
            assert plain(events) == [("fail", 1007)]
            assert straight <= place + 65536


def receive_all(reader: Any, stream: bytes, wish: int) -> tuple[list[Event], int]:
    """What a connection does: straight into the message where that is offered, through the parser otherwise.

    Returns the events, and how many bytes went the straight way. It stops at a failure."""
    events: list[Event] = []
    straight = 0
    while stream and not (events and events[-1][0] == "fail"):
        room = reader.window(wish)
        assert room <= wish
        size = room or 70_001
        events += reader.receive(stream[:size]) if room else reader.feed(stream[:size])
        straight += room
        stream = stream[size:]
    return events, straight


class TestBuildFrame:
    @pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY])
    @pytest.mark.parametrize("fin", [True, False])
    def test_messages(self, opcode: int, fin: bool) -> None:
        for length in [*range(301), *range(65530, 65541), (1 << 20) + 3]:
            payload = (MIXED * (length // len(MIXED) + 1))[:length]
            assert protocol.build_frame(opcode, payload, fin) == oracle.build_frame(opcode, payload, fin), length

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_control_frames(self, opcode: int) -> None:
        for length in range(126):
            assert protocol.build_frame(opcode, MIXED[:length]) == oracle.build_frame(opcode, MIXED[:length])


class TestApplyMask:
    @pytest.mark.parametrize("key", KEYS, ids=bytes.hex)
    def test_every_offset_and_length(self, key: bytes) -> None:
        source = bytes(range(256))
        for offset in range(71):
            for length in range(71):
                data = source[offset : offset + length]
                kept = bytes(bytearray(data))
                assert protocol.apply_mask(data, key) == oracle.apply_mask(kept, key), (offset, length)
                assert data == kept

    def test_large(self) -> None:
        data = Random(1).randbytes(100_003)
        for length in (127, 128, 129, 4095, 4096, 4097, 65536, 100_003):
            assert protocol.apply_mask(data[:length], KEYS[2]) == oracle.apply_mask(data[:length], KEYS[2])


def utf8_results(utf8: Any, *pieces: bytes) -> Iterator[int | bool]:
    """What is said of each piece up to the first wrong one, else whether the whole is complete."""
    for piece in pieces:
        index = utf8.feed(piece)
        yield index
        if index >= 0:
            return
    yield utf8.complete()


def check_utf8(*pieces: bytes) -> None:
    assert list(utf8_results(protocol.Utf8(), *pieces)) == list(utf8_results(oracle.Utf8(), *pieces)), pieces


class TestUtf8:
    def test_every_offset_and_length(self) -> None:
        for start in (0, 71, 142, 213):
            for offset in range(start, start + 71):
                for length in range(71):
                    check_utf8(MIXED[offset : offset + length])

    def test_every_cut(self) -> None:
        for start in (0, 84, 120, 156, 227):
            for length in range(71):
                data = MIXED[start : start + length]
                for cut in range(length + 1):
                    check_utf8(data[:cut], data[cut:])
        for cut in range(len(MIXED)):
            check_utf8(MIXED[:cut], MIXED[cut:])

    @pytest.mark.parametrize(
        "bad", [b"\x80", b"\xbf", b"\xc0", b"\xe0\x9f", b"\xed\xa0", b"\xf4\x90", b"\xf5", b"\xff"]
    )
    def test_a_wrong_byte_at_every_place(self, bad: bytes) -> None:
        for length in range(71):
            for place in range(length + 1):
                for filler in (b"a", b"\xc3\xa9"):
                    check_utf8(filler * place + bad + filler * (length - place))

    def test_every_pair_and_the_third(self) -> None:
        """Every first two bytes, and with each a third that may be right or wrong, whole and apart."""
        for first in range(256):
            for second in range(256):
                for third in (0x7F, 0x80, 0xBF, 0xC0):
                    check_utf8(bytes((first, second, third)))
                check_utf8(bytes((first,)), bytes((second,)), b"\x80\x80")

    def test_edges_of_four(self) -> None:
        edges = (0x7F, 0x80, 0x8F, 0x90, 0xBF, 0xC0)
        for first in range(0xEF, 0xF7):
            for second in edges:
                for third in edges:
                    for fourth in edges:
                        sequence = bytes((first, second, third, fourth))
                        check_utf8(sequence)
                        check_utf8(*one_by_one(sequence))
                        # Where a kernel that works in blocks is past its first one, and across the seam.
                        for place in (29, 30, 31, 61, 62, 63, 64):
                            check_utf8(b"a" * place + sequence + b"b" * 66)

    def test_an_unfinished_character_at_every_end(self) -> None:
        for length in range(71):
            for character in ("é", "€", "🙂"):
                encoded = character.encode()
                for missing in range(1, len(encoded)):
                    short = b"a" * length + encoded[:-missing]
                    check_utf8(short)
                    check_utf8(short, encoded[-missing:] + b"b" * length)
                    check_utf8(short, b"", b"b" * length)
