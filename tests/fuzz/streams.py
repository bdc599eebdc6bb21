"""Streams of frames, for the protocol half and for FrameParser: as they come, or built of what an input says.

An input of either target is: how many SIMD variants to pass over, the options (two bytes), the sizes of the pieces
(four), raw or built (one), and the stream.
"""

from __future__ import annotations

from typing import Any

from oracles import frame_parser as oracle_frames
from oracles import protocol as oracle
from oracles.corpus import CASES, one_by_one
from oracles.protocol import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Event, client_frame

from .source import Source, cut, same

SIZES = [1 << 20, 0, 1, 5, 10, 80, 125, 126, 127, 4096, 65535, 65536, 65537, 1 << 31, 1 << 32, 2**63 - 1]
FRAGMENTS = [16384, 1, 2, 3, 8]
RAW, BUILT = 0, 1
#: One by one takes time; what goes wrong there goes wrong in short streams, too.
SHORT = 150

KEYS = [oracle.KEY, bytes(4), b"\xff\xff\xff\xff", b"\x00\x80\x00\x01"]
# Twice what is always right, so that a conversation goes on for a while.
KINDS = [TEXT, TEXT, BINARY, BINARY, PING, PONG, CLOSE, None]


def build(source: Source, masked: bool) -> bytes:
    """Frames: two bytes and a payload for each. What is wrong with one is rare."""
    stream = bytearray()
    kind = 0
    while source:
        first, second = source.byte(), source.byte()
        opcode = KINDS[first & 7]
        fin, key, flaw = bool(first & 8), KEYS[first >> 4 & 3], first >> 6 == 3
        payload = source.take(second) if second < 192 else source.take(source.byte() & 15) * (second - 191)
        frame: dict[str, Any] = {"fin": fin, "mask": key, "masked": masked}
        if opcode is None:
            opcode = source.byte() & 15
        elif opcode >= CLOSE:
            frame["fin"], payload = True, payload[:125]
        else:
            opcode, kind = CONTINUATION if kind else opcode, 0 if fin else opcode
        if flaw:
            which = source.byte()
            flaws = {"rsv": which >> 3 & 7}, {"length_form": 16}, {"length_form": 64}, {"masked": not masked}
            frame |= flaws[which & 3]
            if which & 4:
                frame |= {"length_form": 64, "declared": int.from_bytes(source.take(8), "big")}
        stream += client_frame(opcode, payload, **frame)
    return bytes(stream)


def stream_of(source: Source, masked: bool) -> bytes:
    return build(source, masked) if source.byte() & 1 == BUILT else source.rest()


def encode(stream: bytes, variant: int = 0, first: int = 0, second: int = 0, sizes: bytes = bytes(4)) -> bytes:
    """The input that sends this stream."""
    return bytes([variant, first, second, *sizes, RAW]) + stream


# The protocol half


def check_stream(core: Any, data: bytes) -> list[Any]:
    """Fails where the events depend on the cuts or are not those of the reference. Returns what was seen."""
    source = Source(data)
    core.use_variant(source.byte() & 3)
    limits = {"max_message_size": source.choose(SIZES), "max_fragments": source.choose(FRAGMENTS)}
    sizes = source.take(4)
    stream = stream_of(source, masked=True)
    pieces = list(cut(stream, sizes))

    whole = core.Reader(**limits).feed(stream)
    found = list(map(core.Reader(**limits).feed, pieces))
    reference = oracle.Reader(**limits)
    same(plain(found), plain(map(reference.feed, pieces)), "not what the reference says")
    same(joined(found), whole, "not what it is in one piece")
    same(received(core.Reader(**limits), pieces), whole, "not the same straight into the message")
    if len(stream) <= SHORT:
        same(joined(map(core.Reader(**limits).feed, one_by_one(stream))), whole, "not the same byte by byte")
    kinds = [event[0] if event[0] != "fail" else event[2] for event in whole]
    return [*zip(kinds, ["", *kinds], strict=False), ("last", *kinds[-3:])]


def joined(found: Any) -> list[Event]:
    return [event for events in found for event in events]


def plain(found: Any) -> list[list[Event]]:
    """Without the wording of a failure, which is nobody's contract."""
    return [[event[:2] if event[0] == "fail" else event for event in events] for events in found]


def received(reader: Any, pieces: list[bytes]) -> list[Event]:
    """The events where all that can be is put straight into the message, as a connection does. What is allocated grows
    with what has come, whatever has been declared."""
    events = []
    came = 0
    for piece in pieces:
        rest = piece
        while rest:
            room = reader.window(len(rest))
            used = rest[:room] if room else rest
            events += reader.receive(used) if room else reader.feed(used)
            if events and events[-1][0] in {"close", "fail"}:
                return events
            came += len(used)
            assert reader.kept() <= 64 + 8 * came, "more is allocated than the bytes are worth"
            rest = rest[len(used) :]
    return events


# FrameParser


def check_parser(core: Any, data: bytes) -> list[Any]:
    """The same for fastws.speedups.FrameParser."""
    source = Source(data)
    core.use_variant(source.byte() & 3)
    sides = source.byte()
    options: dict[str, Any] = {
        "masked": sides & 1 == 0,
        "allow_rsv": sides >> 1 & 7,
        "max_frame_size": source.choose(SIZES),
    }
    sizes = source.take(4)
    stream = stream_of(source, options["masked"])
    pieces = list(cut(stream, sizes))

    whole = frames_of(core, options, [stream])
    found = frames_of(core, options, pieces)
    reference = oracle_frames.FrameReader(**options)
    expected = [reference.feed(piece) for piece in pieces]
    same([(frames, error and error[1]) for frames, error in found], expected, "not what the reference says")
    same(together(found), together(whole), "not what it is in one piece")
    if len(stream) <= SHORT:
        slow = frames_of(core, options, one_by_one(stream))
        same(together(slow), together(whole), "not the same byte by byte")
    frames, error = together(whole)
    return [*(("frame", *frame[:2], frame[3]) for frame in frames), ("error", error and error[0].partition(":")[0])]


def frames_of(core: Any, options: dict[str, Any], pieces: list[bytes]) -> list[Any]:
    """(frames, error) of each piece."""
    parser = core.FrameParser(**options)
    found: list[Any] = []
    for piece in pieces:
        try:
            found.append((parser.feed(core.Exact(piece)), None))
        except core.ProtocolError as error:
            found.append((error.frames, (str(error), error.code)))
            assert parser.buffered == 0
    return found


def together(found: list[Any]) -> tuple[list[Any], Any]:
    return [frame for frames, _ in found for frame in frames], found[-1][1] if found else None


def seeds(parser: bool) -> list[bytes]:
    """The named streams of tests/oracles/corpus.py that are not long, and some that are built."""
    found = []
    for number, case in enumerate(CASES):
        size, count = case.options.get("max_message_size", 1 << 20), case.options.get("max_fragments", 16384)
        if size in SIZES and count in FRAGMENTS and len(case.stream) <= SHORT:
            options = (0, SIZES.index(size)) if parser else (SIZES.index(size), FRAGMENTS.index(count))
            found.append(encode(case.stream, number & 3, *options, sizes=bytes([number % 7, 0, 0, 0])))
    built = bytes([8, 5]) + b"hello" + bytes([0, 2]) + b"\xe2\x82" + bytes([12, 1, 65, 8, 1]) + b"\xac"
    long = bytes([2, 254, 7]) + b"several" + bytes([10, 200, 8]) + bytes(range(8))
    return [*found, bytes(7) + bytes([BUILT]) + built, bytes(3) + bytes([0, 210, 3, 0, BUILT]) + long]
