"""FrameParser: every rule of RFC 6455 section 5 for either side, its limits, its memory and its errors."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import textwrap
import tracemalloc
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from harness.frames import build
from oracles.corpus import CASES, Case, cut_in_two, one_by_one
from oracles.protocol import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

from fastws.speedups import Frame, FrameParser, ProtocolError

KEY = b"\xa1\x5c\x0f\xe3"
MASKED = pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])


def frame(opcode: int, payload: bytes = b"", masked: bool = True, **options: int | bool) -> bytes:
    return build(opcode, payload, mask=KEY if masked else None, **options)  # type: ignore[arg-type]


def fault(stream: bytes, masked: bool = True, **options: int) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        FrameParser(masked=masked, **options).feed(stream)
    return caught.value


class TestFrames:
    @MASKED
    @pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 65537])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_length_forms(self, masked: bool, length: int, opcode: int) -> None:
        payload = bytes(i * 7 & 0xFF for i in range(length))
        stream = frame(opcode, payload, masked)
        whole = [Frame(True, opcode, payload)]
        assert FrameParser(masked=masked).feed(stream) == whole
        near = sorted({*range(16), *range(len(stream) - 4, len(stream) + 1)})
        for cut in [at for at in near if 0 <= at <= len(stream)]:
            parser = FrameParser(masked=masked)
            assert parser.feed(stream[:cut]) + parser.feed(stream[cut:]) == whole, cut
            assert parser.buffered == 0

    @MASKED
    def test_fragments_with_control_frames_between(self, masked: bool) -> None:
        frames = [
            Frame(False, TEXT, "é".encode()[:1]),
            Frame(True, PING, b"p" * 125),
            Frame(False, CONTINUATION, b""),
            Frame(True, PONG, b""),
            Frame(True, CONTINUATION, "é".encode()[1:]),
            Frame(True, BINARY, b"\x00" * 300),
            Frame(True, CLOSE, b"\x03\xe8bye"),
        ]
        stream = b"".join(frame(each.opcode, each.payload, masked, fin=each.fin) for each in frames)
        assert FrameParser(masked=masked).feed(stream) == frames
        parser = FrameParser(masked=masked)
        assert [found for byte in one_by_one(stream) for found in parser.feed(byte)] == frames
        for pieces in cut_in_two(stream):
            parser = FrameParser(masked=masked)
            assert [found for piece in pieces for found in parser.feed(piece)] == frames

    def test_what_a_frame_is(self) -> None:
        (found,) = FrameParser(masked=True, allow_rsv=4).feed(frame(BINARY, b"abc", rsv=4, fin=False))
        assert type(found) is Frame
        assert [type(field) for field in found] == [bool, int, bytes, int]
        assert found == Frame(fin=False, opcode=BINARY, payload=b"abc", rsv=4)
        assert repr(found) == "Frame(fin=False, opcode=2, payload=b'abc', rsv=4)"
        assert pickle.loads(pickle.dumps(found)) == found
        assert found._replace(rsv=0) == (False, 2, b"abc", 0)

    def test_text_is_left_to_the_caller(self) -> None:
        assert FrameParser(masked=True).feed(frame(TEXT, b"\xff")) == [Frame(True, TEXT, b"\xff")]

    @pytest.mark.parametrize("body", [b"", b"\x03\xe8", b"\x0f\xa0" + b"x" * 123])
    def test_nothing_after_close(self, body: bytes) -> None:
        """Section 1.4: what comes behind a Close is discarded, right or wrong."""
        parser = FrameParser(masked=True)
        assert parser.feed(frame(CLOSE, body) + frame(TEXT, b"late") + b"\xff\xff") == [Frame(True, CLOSE, body)]
        assert parser.buffered == 0
        assert parser.feed(b"\xff" * 1000) == []
        assert parser.buffered == 0

    def test_a_close_inside_a_message(self) -> None:
        frames = FrameParser(masked=True).feed(frame(TEXT, b"a", fin=False) + frame(CLOSE))
        assert [found.opcode for found in frames] == [TEXT, CLOSE]

    def test_buffered_is_what_waits(self) -> None:
        parser = FrameParser(masked=True)
        stream = frame(BINARY, b"x" * 200)
        for size in range(1, len(stream)):
            parser.feed(stream[size - 1 : size])
            assert parser.buffered == size
        assert len(parser.feed(stream[-1:])) == 1
        assert parser.buffered == 0

    def test_feeding_nothing(self) -> None:
        parser = FrameParser(masked=True)
        for piece in (b"", b"\x82", b"", b"\x80abcd", b""):
            frames = parser.feed(piece)
        assert frames == []


class TestFaults:
    @pytest.mark.parametrize(
        ("stream", "code", "message"),
        [
            (frame(TEXT, rsv=4), 1002, "reserved bit set: RSV1"),
            (frame(PING, rsv=3), 1002, "reserved bit set: RSV2, RSV3"),
            (frame(3), 1002, "reserved opcode: opcode 0x3"),
            (frame(15), 1002, "reserved opcode: opcode 0xf"),
            (frame(PING, fin=False), 1002, "fragmented control frame: opcode 0x9"),
            (frame(PING, length_form=16), 1002, "control frame over 125 bytes: opcode 0x9, length field 126"),
            (
                frame(PONG, length=1 << 62, length_form=64),
                1002,
                "control frame over 125 bytes: opcode 0xa, length field 127",
            ),
            (frame(TEXT, masked=False), 1002, "frame is not masked: opcode 0x1"),
            (frame(CONTINUATION), 1002, "nothing to continue: opcode 0x0"),
            (
                frame(TEXT, fin=False) + frame(BINARY),
                1002,
                "new message inside a fragmented one: opcode 0x2 while 0x1 goes on",
            ),
            (frame(TEXT, length=1 << 63, length_form=64), 1002, f"length with its top bit set: {1 << 63} in 64 bits"),
            (frame(TEXT, length=125, length_form=16), 1002, "length not in its shortest form: 125 in 16 bits"),
            (frame(TEXT, length=65535, length_form=64), 1002, "length not in its shortest form: 65535 in 64 bits"),
            (frame(CLOSE, b"\x03"), 1002, r"close body of one byte: b'\x03'"),
            (frame(CLOSE, b"\x03\xed"), 1002, "close code not allowed: 1005"),
            (frame(CLOSE, b"\x03\xe8\xc3"), 1007, r"close reason is not UTF-8: b'\x03\xe8\xc3'"),
            (
                frame(BINARY, length=(1 << 20) + 1),
                1009,
                f"frame over max_frame_size: {(1 << 20) + 1} bytes, the limit is {1 << 20}",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_is_said(self, stream: bytes, code: int, message: str) -> None:
        error = fault(stream)
        assert (error.code, str(error)) == (code, message)

    @MASKED
    def test_masking_is_the_clients(self, masked: bool) -> None:
        """Section 5.1: by the second byte, whatever follows."""
        parser = FrameParser(masked=masked)
        assert parser.feed(b"\x81") == []
        with pytest.raises(ProtocolError, match="not masked" if masked else "frame is masked: opcode 0x1$") as caught:
            parser.feed(b"\x05" if masked else b"\x85")
        assert caught.value.code == 1002

    @pytest.mark.parametrize("allowed", range(8))
    @pytest.mark.parametrize("rsv", range(8))
    @MASKED
    def test_reserved_bits(self, allowed: int, rsv: int, masked: bool) -> None:
        stream = frame(TEXT, b"x", masked, rsv=rsv)
        if rsv & ~allowed:
            names = [name for bit, name in ((4, "RSV1"), (2, "RSV2"), (1, "RSV3")) if bit & rsv & ~allowed]
            assert str(fault(stream, masked, allow_rsv=allowed)) == f"reserved bit set: {', '.join(names)}"
        else:
            parser = FrameParser(masked=masked, allow_rsv=allowed)
            assert parser.feed(stream) == [Frame(True, TEXT, b"x", rsv)]

    @pytest.mark.parametrize("case", [case for case in CASES if case.events[-1:] == [("fail", 1002)]], ids=str)
    def test_the_corpus_of_faults(self, case: Case) -> None:
        assert fault(case.stream).code == 1002
        parser = FrameParser(masked=True)
        with pytest.raises(ProtocolError) as caught:
            for byte in one_by_one(case.stream):
                parser.feed(byte)
        assert caught.value.code == 1002

    @pytest.mark.parametrize("case", [case for case in CASES if case.close_code is None], ids=str)
    def test_the_corpus_of_what_is_right(self, case: Case) -> None:
        frames = FrameParser(masked=True, max_frame_size=(1 << 63) - 1).feed(case.stream)
        payload = b"".join(found.payload for found in frames if found.opcode < CLOSE)
        text = b"".join(each.encode() if isinstance(each, str) else each for each in case.messages)
        assert payload.startswith(text)  # the rest is of a message that does not end

    def test_frames_before_the_bad_one_are_not_lost(self) -> None:
        good = frame(TEXT, b"one") + frame(PING, b"two")
        error = fault(good + frame(3))
        assert error.frames == [Frame(True, TEXT, b"one"), Frame(True, PING, b"two")]
        parser = FrameParser(masked=True)
        assert len(parser.feed(good)) == 2
        with pytest.raises(ProtocolError) as caught:
            parser.feed(frame(3))
        assert caught.value.frames == []

    @pytest.mark.parametrize("more", [b"", b"\x81\x80abcd", b"\xff" * 100])
    def test_an_error_stays(self, more: bytes) -> None:
        parser = FrameParser(masked=True)
        with pytest.raises(ProtocolError) as first:
            parser.feed(frame(TEXT, b"good") + frame(BINARY, fin=False) + frame(BINARY))
        assert len(first.value.frames) == 2
        for _ in range(3):
            with pytest.raises(ProtocolError) as again:
                parser.feed(more)
            assert again.value is not first.value  # no traceback that grows
            assert (str(again.value), again.value.code) == (str(first.value), first.value.code)
            assert again.value.frames == []
            assert parser.buffered == 0

    def test_the_error_itself(self) -> None:
        error = fault(frame(TEXT, b"x") + frame(3))
        assert isinstance(error, ValueError)
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert (str(other), other.code, other.frames) == (str(error), error.code, error.frames)


class TestLimits:
    @MASKED
    @pytest.mark.parametrize("limit", [0, 1, 125, 126, 65535, 65536])
    def test_max_frame_size(self, masked: bool, limit: int) -> None:
        right = frame(BINARY, b"x" * limit, masked)
        assert FrameParser(masked=masked, max_frame_size=limit).feed(right) == [Frame(True, BINARY, b"x" * limit)]
        head = frame(BINARY, b"", masked, length=limit + 1)  # the header alone decides
        error = fault(head[: -4 if masked else None], masked, max_frame_size=limit)
        assert error.code == 1009
        assert str(error) == f"frame over max_frame_size: {limit + 1} bytes, the limit is {limit}"

    def test_each_frame_has_it_and_control_frames_have_their_own(self) -> None:
        parser = FrameParser(masked=True, max_frame_size=3)
        stream = frame(TEXT, b"abc", fin=False) + frame(PING, b"x" * 125) + frame(CONTINUATION, b"def")
        assert len(parser.feed(stream)) == 3

    @pytest.mark.parametrize("length", [1 << 16, 1 << 31, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1])
    @MASKED
    def test_a_length_alone_costs_nothing(self, length: int, masked: bool) -> None:
        header = frame(BINARY, b"", masked, length=length, length_form=64)
        parser = FrameParser(masked=masked, max_frame_size=(1 << 63) - 1)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            assert parser.feed(header) == []
            for number in range(100):
                assert parser.feed(b"x") == []
                assert parser.buffered == len(header) + number + 1
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak - before < 4096

    @pytest.mark.parametrize("length", [1 << 63, (1 << 63) + 1, (1 << 64) - 4, (1 << 64) - 1])
    @pytest.mark.parametrize("limit", [0, 1 << 20, (1 << 63) - 1])
    def test_a_length_over_63_bits(self, length: int, limit: int) -> None:
        header = frame(TEXT, b"", length=length, length_form=64)
        error = fault(header, max_frame_size=limit)
        assert (error.code, str(error)) == (1002, f"length with its top bit set: {length} in 64 bits")

    def test_memory_follows_what_comes(self) -> None:
        """A large frame in pieces takes at most twice what has come, and in the end what it is."""
        size = 4 << 20
        stream = frame(BINARY, b"m" * size)
        parser = FrameParser(masked=True, max_frame_size=size)
        tracemalloc.start()
        try:
            for at in range(0, len(stream), 65536):
                tracemalloc.reset_peak()
                frames = parser.feed(memoryview(stream)[at : at + 65536])
                now, peak = tracemalloc.get_traced_memory()
                assert now < 2 * (at + 65536) + 16384
                assert peak < 3 * (at + 65536) + 16384  # the old one and the new one while it moves
        finally:
            tracemalloc.stop()
        assert frames == [Frame(True, BINARY, b"m" * size)]
        assert sys.getsizeof(frames[0].payload) == sys.getsizeof(b"m" * size)

    def test_out_of_memory(self) -> None:
        """The parser does not go on with a frame of which it has lost a part."""
        program = """
            import resource
            from fastws.speedups import FrameParser, ProtocolError
            parser = FrameParser(masked=False, max_frame_size=1 << 62)
            parser.feed(b"\\x82\\x7f" + (1 << 40).to_bytes(8, "big"))
            piece = bytes(1 << 20)
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20),) * 2)
            try:
                for _ in range(200):
                    parser.feed(piece)
            except MemoryError:
                print("memory", parser.buffered)
            try:
                parser.feed(piece)
            except ProtocolError as error:
                print(error.code, error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.splitlines() == ["memory 0", "1011 out of memory in an earlier feed()"]


class TestArguments:
    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: array("B", data)])
    def test_bytes_like(self, make: Callable[[bytes], bytes]) -> None:
        parser = FrameParser(masked=True)
        assert parser.feed(make(frame(TEXT, b"abc"))) == [Frame(True, TEXT, b"abc")]

    def test_the_input_is_only_read(self) -> None:
        stream = frame(TEXT, b"abc") + frame(TEXT, b"def")[:-1]
        data = bytearray(stream)
        parser = FrameParser(masked=True)
        parser.feed(data)
        assert data == stream
        data[:] = b"\xff" * len(data)
        data.extend(b"a bytearray that is exported cannot grow")
        assert parser.feed(frame(TEXT, b"def")[-1:]) == [Frame(True, TEXT, b"def")]

    @pytest.mark.parametrize("wrong", ["text", None, 5, [1, 2], memoryview(b"abcdef")[::2]])
    def test_what_is_not_bytes_like(self, wrong: object) -> None:
        parser = FrameParser(masked=True)
        parser.feed(b"\x81")
        with pytest.raises(TypeError, match="C-contiguous bytes-like"):
            parser.feed(wrong)  # type: ignore[arg-type]
        assert parser.feed(frame(TEXT, b"abc")[1:]) == [Frame(True, TEXT, b"abc")]

    def test_constructor(self) -> None:
        options: dict[str, Any]
        for options in ({}, {"masked": True, "role": "server"}, {"masked": True, "max_frame_size": None}):
            with pytest.raises(TypeError):
                FrameParser(**options)
        with pytest.raises(TypeError):
            FrameParser(True)  # type: ignore[call-arg]
        for size in (-1, 1 << 63, 1 << 64):
            with pytest.raises(ValueError, match=f"max_frame_size is {size}: "):
                FrameParser(masked=True, max_frame_size=size)
        for rsv in (-1, 8):
            with pytest.raises(ValueError, match=f"allow_rsv is {rsv}: "):
                FrameParser(masked=True, allow_rsv=rsv)


def taken_here() -> int:
    """Bytes that this file has taken, and what it calls in C: other threads of the test's process take some as well."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__)])
    return sum(trace.size for trace in snapshot.traces)


def test_nothing_is_left() -> None:
    """References and memory: after rounds of all that can happen, there is no more than before."""

    def round_of_all() -> None:
        parser = FrameParser(masked=True)
        parser.feed(frame(TEXT, b"whole" * 100) + frame(BINARY, b"begun" * 100)[:-7])  # dropped in the middle
        parser = FrameParser(masked=True)
        stream = frame(BINARY, b"pieces" * 50) + frame(CLOSE, b"\x03")
        for byte in one_by_one(stream[:-1]):
            parser.feed(byte)
        for _ in range(2):
            with pytest.raises(ProtocolError):
                parser.feed(stream[-1:])
        with pytest.raises(TypeError):
            parser.feed("text")  # type: ignore[arg-type]

    data = bytearray(frame(PING, b"x"))
    kept = FrameParser(masked=True)
    gc.collect()  # errors that other tests caught
    references = sys.getrefcount(data), sys.getrefcount(Frame), sys.getrefcount(ProtocolError)
    (found,) = kept.feed(data)
    same = Frame(True, PING, bytes(bytearray(b"xy")))
    counts = (
        sys.getrefcount(found),
        sys.getrefcount(found.payload),
        sys.getrefcount(same),
        sys.getrefcount(same.payload),
    )
    assert counts[:2] == counts[2:]
    del found, same
    round_of_all()
    gc.collect()
    tracemalloc.start()
    try:
        round_of_all()
        gc.collect()
        before = taken_here()
        for _ in range(50):
            round_of_all()
        gc.collect()
        assert taken_here() - before < 2000
    finally:
        tracemalloc.stop()
    assert (sys.getrefcount(data), sys.getrefcount(Frame), sys.getrefcount(ProtocolError)) == references
