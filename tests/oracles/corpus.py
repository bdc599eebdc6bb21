"""Named streams of a client's bytes, and the events that each must give however it is cut.

The names begin with the row of the catalogue of hostile input that they belong to: F1-F14 (frames), F15 (the cuts) and
M1-M2 (messages). A "fail" event stands here without its wording, as `plain` leaves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from oracles.protocol import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Event, client_frame


@dataclass(frozen=True)
class Case:
    name: str
    stream: bytes
    events: list[Event]
    options: dict[str, Any] = field(default_factory=dict)
    # How many bytes at the end of the stream come after the last event is due, and change nothing.
    ignored: int = 0

    @property
    def close_code(self) -> int | None:
        """What the peer must be told: 1005 for an empty close frame, None where the connection stays open."""
        last = self.events[-1] if self.events else ("",)
        return last[1] if last[0] in {"close", "fail"} else None

    @property
    def messages(self) -> list[str | bytes]:
        """What the message callback must get, and nothing else."""
        return [event[1] for event in self.events if event[0] in {"text", "binary"}]

    def __str__(self) -> str:
        return self.name


def plain(events: Iterable[Event]) -> list[Event]:
    """The events without the wording of a failure, which is nobody's contract."""
    return [event[:2] if event[0] == "fail" else event for event in events]


def one_by_one(stream: bytes) -> list[bytes]:
    return [stream[index : index + 1] for index in range(len(stream))]


def cut_in_two(stream: bytes) -> Iterator[list[bytes]]:
    for cut in range(len(stream) + 1):
        yield [stream[:cut], stream[cut:]]


def feed_all(reader: Any, pieces: Iterable[bytes]) -> list[list[Event]]:
    """The events of each piece; joined, they are those of the stream."""
    return [plain(reader.feed(piece)) for piece in pieces]


def events_of(reader: Any, pieces: Iterable[bytes]) -> list[Event]:
    return [event for events in feed_all(reader, pieces) for event in events]


def fail(code: int) -> list[Event]:
    return [("fail", code)]


def close(code: int, reason: bytes = b"") -> bytes:
    return client_frame(CLOSE, code.to_bytes(2, "big") + reason)


def fragments(opcode: int, *payloads: bytes, fin: bool = True) -> bytes:
    """One message in as many frames as there are payloads."""
    last = len(payloads) - 1
    return b"".join(
        client_frame(CONTINUATION if index else opcode, payload, fin=fin and index == last)
        for index, payload in enumerate(payloads)
    )


MESSAGE_KINDS = (("text", TEXT), ("binary", BINARY))
CONTROL_KINDS = (("ping", PING), ("pong", PONG), ("close", CLOSE))
START = client_frame(BINARY, b"start", fin=False)
HELLO = client_frame(TEXT, b"hello")
HELLO_EVENT = ("text", "hello")
# A violation is due with the last byte that it needs, so most of these streams end in the middle of a frame.
FIRST_TWO = slice(0, 2)
SIZE_16 = slice(0, 4)
SIZE_64 = slice(0, 10)


def f1() -> Iterator[Case]:
    """A 64-bit length with the top bit set."""
    lengths = {"2_63": 2**63, "2_63_plus_5": 2**63 + 5, "2_64_minus_4": 2**64 - 4, "2_64_minus_1": 2**64 - 1}
    for name, length in lengths.items():
        frame = client_frame(BINARY, b"tail", declared=length)
        yield Case(f"f1_length_{name}", frame, fail(1002), ignored=8)
        yield Case(f"f1_length_{name}_limit_2_63_minus_1", frame[SIZE_64], fail(1002), {"max_message_size": 2**63 - 1})
    continuation = client_frame(CONTINUATION, declared=2**64 - 5)
    yield Case("f1_total_wraps_to_zero", START + continuation[SIZE_64], fail(1002))


def f2() -> Iterator[Case]:
    """Lengths near 2^63, alone and as a running total."""
    largest = {"max_message_size": 2**63 - 1}
    for name, length in {"2_63_minus_4": 2**63 - 4, "2_63_minus_1": 2**63 - 1, "2_32": 2**32}.items():
        frame = client_frame(BINARY, declared=length)
        yield Case(f"f2_length_{name}", frame[SIZE_64], fail(1009))
        yield Case(f"f2_length_{name}_within_the_limit", frame, [], largest)
        continuation = client_frame(CONTINUATION, declared=length)
        yield Case(f"f2_continuation_of_{name}", START + continuation[SIZE_64], fail(1009))
    total = client_frame(CONTINUATION, declared=2**63 - 5)
    yield Case("f2_total_of_2_63", START + total[SIZE_64], fail(1009), largest)
    total = client_frame(CONTINUATION, declared=2**63 - 6)
    yield Case("f2_total_of_2_63_minus_1", START + total, [], largest)
    wraps_32_bits = client_frame(CONTINUATION, declared=2**32 - 5)
    yield Case("f2_total_of_2_32", START + wraps_32_bits[SIZE_64], fail(1009))


def f3() -> Iterator[Case]:
    """Two gigabytes declared, a few bytes sent."""
    frame = client_frame(BINARY, b"a few bytes", declared=2 << 30)
    yield Case("f3_over_the_limit", frame, fail(1009), ignored=15)
    yield Case("f3_within_the_limit", frame, [], {"max_message_size": 4 << 30})
    text = client_frame(TEXT, b"a few bytes\xff", declared=2 << 30)
    yield Case("f3_within_the_limit_wrong_text", text, fail(1007), {"max_message_size": 4 << 30})


def f4() -> Iterator[Case]:
    """Exactly the limit, and one byte more."""
    for limit, header in ((0, FIRST_TWO), (1, FIRST_TWO), (10, FIRST_TWO), (125, SIZE_16), (126, SIZE_16)):
        options = {"max_message_size": limit}
        at_limit, over = b"x" * limit, b"x" * (limit + 1)
        yield Case(f"f4_limit_{limit}", client_frame(BINARY, at_limit), [("binary", at_limit)], options)
        yield Case(f"f4_limit_{limit}_text", client_frame(TEXT, at_limit), [("text", at_limit.decode())], options)
        yield Case(f"f4_limit_{limit}_over", client_frame(BINARY, over)[header], fail(1009), options)
        yield Case(f"f4_limit_{limit}_over_text", client_frame(TEXT, over)[header], fail(1009), options)
    ten = {"max_message_size": 10}
    whole = fragments(TEXT, b"12345", b"", b"67890")
    yield Case("f4_limit_10_in_fragments", whole, [("text", "1234567890")], ten)
    yield Case("f4_limit_10_empty_end", fragments(TEXT, b"1234567890", b""), [("text", "1234567890")], ten)
    yield Case("f4_limit_10_over_in_fragments", fragments(TEXT, b"12345", b"678901")[:13], fail(1009), ten)
    yield Case("f4_limit_10_over_by_an_end_of_1", fragments(BINARY, b"1234567890", b"1")[:18], fail(1009), ten)
    two = client_frame(BINARY, b"1234567890")
    yield Case("f4_limit_is_per_message", two * 3, [("binary", b"1234567890")] * 3, ten)
    stream = START + client_frame(PING, b"x" * 125) + client_frame(CONTINUATION, b"12345")
    yield Case("f4_control_frames_do_not_count", stream, [("ping", b"x" * 125), ("binary", b"start12345")], ten)
    stream = client_frame(TEXT, "€uro".encode())
    yield Case("f4_limit_counts_bytes", stream, [("text", "€uro")], {"max_message_size": 6})
    yield Case("f4_limit_counts_bytes_over", stream[FIRST_TWO], fail(1009), {"max_message_size": 5})


def f5() -> Iterator[Case]:
    """A message over the limit with more behind it: nothing of it and nothing after it."""
    ten = {"max_message_size": 10}
    over, behind = client_frame(TEXT, b"12345678901"), HELLO + client_frame(PING, b"p") + close(1000)
    yield Case("f5_frames_behind", over + behind, fail(1009), ten, ignored=len(over) - 2 + len(behind))
    stream = HELLO + over + behind
    events = [HELLO_EVENT, *fail(1009)]
    yield Case("f5_frames_before_and_behind", stream, events, ten, ignored=len(over) - 2 + len(behind))
    stream = fragments(TEXT, b"12345678", b"901") + behind
    yield Case("f5_fragment_over_frames_behind", stream, fail(1009), ten, ignored=7 + len(behind))


def f6() -> Iterator[Case]:
    """Frames without a mask."""
    for name, opcode in MESSAGE_KINDS + CONTROL_KINDS:
        frame = client_frame(opcode, b"hi", masked=False)
        yield Case(f"f6_unmasked_{name}", frame, fail(1002), ignored=2)
        yield Case(f"f6_unmasked_empty_{name}", client_frame(opcode, masked=False), fail(1002))
    stream = START + client_frame(CONTINUATION, b"x", masked=False)
    yield Case("f6_unmasked_continuation", stream, fail(1002), ignored=1)
    yield Case("f6_unmasked_second", HELLO + HELLO[:1] + b"\x05hello", [HELLO_EVENT, *fail(1002)], ignored=5)
    over = client_frame(BINARY, b"x" * 9, masked=False)[FIRST_TWO]
    yield Case("f6_unmasked_and_over_the_limit", over, fail(1002), {"max_message_size": 5})
    yield Case("f6_mask_of_zeros", client_frame(TEXT, b"hello", mask=bytes(4)), [HELLO_EVENT])


def f7() -> Iterator[Case]:
    """RSV bits where no extension was agreed on."""
    for rsv in range(1, 8):
        for name, opcode in MESSAGE_KINDS + CONTROL_KINDS:
            yield Case(f"f7_rsv_{rsv:03b}_{name}", client_frame(opcode, b"", rsv=rsv)[FIRST_TWO], fail(1002))
        continuation = client_frame(CONTINUATION, b"", rsv=rsv)
        yield Case(f"f7_rsv_{rsv:03b}_continuation", START + continuation[FIRST_TWO], fail(1002))
    stream = client_frame(TEXT, b"x", rsv=4, fin=False) + HELLO
    yield Case("f7_rsv_100_first_fragment", stream, fail(1002), ignored=len(stream) - 2)


def f8() -> Iterator[Case]:
    """Reserved opcodes."""
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        frame = client_frame(opcode, b"x")
        yield Case(f"f8_opcode_{opcode}", frame + HELLO, fail(1002), ignored=len(frame) - 2 + len(HELLO))
        yield Case(f"f8_opcode_{opcode}_in_a_message", START + frame[FIRST_TWO], fail(1002))
        frame = client_frame(opcode, b"x", fin=False)
        yield Case(f"f8_opcode_{opcode}_not_final", frame[FIRST_TWO], fail(1002))


def f9() -> Iterator[Case]:
    """Control frames that are fragmented or long."""
    for name, opcode in CONTROL_KINDS:
        frame = client_frame(opcode, b"", fin=False)
        yield Case(f"f9_fragmented_{name}", frame[FIRST_TWO], fail(1002))
        yield Case(f"f9_fragmented_{name}_in_a_message", START + frame[FIRST_TWO], fail(1002))
        for length in (126, 65536):
            long = client_frame(opcode, b"", declared=length)
            yield Case(f"f9_{name}_of_{length}", long[FIRST_TWO], fail(1002))
        long = client_frame(opcode, b"x", length_form=16)
        yield Case(f"f9_{name}_of_1_in_16_bits", long, fail(1002), ignored=len(long) - 2)
    for name, opcode in CONTROL_KINDS[:2]:
        for length in (0, 1, 125):
            payload = bytes(range(length))
            yield Case(f"f9_{name}_of_{length}", client_frame(opcode, payload), [(name, payload)])
    events = [("ping", b"1"), ("pong", b"2"), ("ping", b""), ("text", "hello")]
    controls = client_frame(PING, b"1") + client_frame(PONG, b"2") + client_frame(PING, b"")
    stream = client_frame(TEXT, b"hel", fin=False) + controls + client_frame(CONTINUATION, b"lo")
    yield Case("f9_control_frames_between_fragments", stream, events)
    stream = client_frame(TEXT, b"\xe2\x82", fin=False) + controls + client_frame(CONTINUATION, b"\xac")
    yield Case("f9_control_frames_within_a_character", stream, [*events[:3], ("text", "€")])
    yield Case("f9_close_within_a_message", START + close(1001), [("close", 1001, "")])


def f10() -> Iterator[Case]:
    """Lengths in a longer form than they need, and the shortest of each form."""
    for form, lengths in ((16, (0, 5, 125)), (64, (0, 5, 125, 126, 300, 65535))):
        for length in lengths:
            header = client_frame(BINARY, length_form=form, declared=length)[: 2 + form // 8]
            yield Case(f"f10_{length}_in_{form}_bits", header, fail(1002))
            yield Case(f"f10_{length}_in_{form}_bits_limit_0", header, fail(1002), {"max_message_size": 0})
            continuation = client_frame(CONTINUATION, length_form=form, declared=length)[: 2 + form // 8]
            yield Case(f"f10_continuation_of_{length}_in_{form}_bits", START + continuation, fail(1002))
    for length in (125, 126, 127, 200):
        payload = bytes(range(length))
        yield Case(f"f10_{length}", client_frame(BINARY, payload), [("binary", payload)])
    header = client_frame(BINARY, declared=65536)[SIZE_64]
    yield Case("f10_65536_over_the_limit", header, fail(1009), {"max_message_size": 65535})


def f11() -> Iterator[Case]:
    """Fragments out of order."""
    for fin in (True, False):
        name = "final" if fin else "first"
        frame = client_frame(CONTINUATION, b"x", fin=fin)
        yield Case(f"f11_{name}_continuation_of_nothing", frame, fail(1002), ignored=5)
        yield Case(f"f11_{name}_continuation_after_a_message", HELLO + frame[FIRST_TWO], [HELLO_EVENT, *fail(1002)])
        finished = fragments(TEXT, b"hel", b"lo") + frame[FIRST_TWO]
        yield Case(f"f11_{name}_continuation_after_fragments", finished, [HELLO_EVENT, *fail(1002)])
        finished = client_frame(PING, b"x") + frame[FIRST_TWO]
        yield Case(f"f11_{name}_continuation_after_a_ping", finished, [("ping", b"x"), *fail(1002)])
        for kind, opcode in MESSAGE_KINDS:
            frame = client_frame(opcode, b"x", fin=fin)[FIRST_TWO]
            empty = client_frame(opcode, b"", fin=False)
            yield Case(f"f11_{name}_{kind}_in_a_message", START + frame, fail(1002))
            yield Case(f"f11_{name}_{kind}_after_an_empty_fragment", empty + frame, fail(1002))
            stream = START + client_frame(CONTINUATION, b"", fin=False) + client_frame(PING, b"") + frame
            yield Case(f"f11_{name}_{kind}_after_a_ping_in_a_message", stream, [("ping", b""), *fail(1002)])
    yield Case("f11_fragments", fragments(TEXT, b"h", b"el", b"lo"), [HELLO_EVENT])
    yield Case("f11_fragments_of_binary", fragments(BINARY, b"\xff", b"\xc0\x80"), [("binary", b"\xff\xc0\x80")])
    yield Case("f11_empty_fragments", fragments(TEXT, b"", b"", b"hello", b"", b""), [HELLO_EVENT])
    yield Case("f11_nothing_but_empty_fragments", fragments(BINARY, b"", b"", b""), [("binary", b"")])
    yield Case("f11_empty_messages", fragments(TEXT, b"") + fragments(BINARY, b""), [("text", ""), ("binary", b"")])
    yield Case("f11_unfinished", fragments(TEXT, b"hel", b"lo", fin=False), [])


def f12() -> Iterator[Case]:
    """Close frames that may not be."""
    for byte in (b"\x00", b"\x03", b"\xff"):
        yield Case(f"f12_close_body_of_1_byte_{byte.hex()}", client_frame(CLOSE, byte), fail(1002))
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1999, 2000, 2999, 5000, 9999, 32768, 65535):
        yield Case(f"f12_close_code_{code}", close(code), fail(1002))
    yield Case("f12_close_code_1005_with_reason", close(1005, b"bye"), fail(1002))
    yield Case("f12_close_code_1006_with_wrong_reason", close(1006, b"\xff"), fail(1002))
    yield Case("f12_reason_of_one_wrong_byte", close(1000, b"\xff"), fail(1007))
    yield Case("f12_reason_wrong_in_the_middle", close(1001, b"by\xc0\x80e"), fail(1007))
    yield Case("f12_reason_with_a_surrogate", close(3000, b"\xed\xa0\x80"), fail(1007))
    yield Case("f12_reason_ends_within_a_character", close(4999, "bye €".encode()[:-1]), fail(1007))
    stream = client_frame(TEXT, b"\xe2\x82", fin=False) + close(1000, b"\xac")
    yield Case("f12_reason_is_no_continuation_of_a_text", stream, fail(1007))


def f13() -> Iterator[Case]:
    """Close frames as they should be."""
    for code in (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999):
        yield Case(f"f13_close_code_{code}", close(code), [("close", code, "")])
    yield Case("f13_empty_close", client_frame(CLOSE), [("close", 1005, "")])
    yield Case("f13_reason", close(1000, b"bye"), [("close", 1000, "bye")])
    yield Case("f13_reason_beyond_ascii", close(1000, "adiós 🙂".encode()), [("close", 1000, "adiós 🙂")])
    yield Case("f13_reason_of_123_bytes", close(4000, b"r" * 123), [("close", 4000, "r" * 123)])
    stream = client_frame(TEXT, b"\xe2\x82", fin=False) + close(1000, "€".encode())
    yield Case("f13_reason_apart_from_an_unfinished_text", stream, [("close", 1000, "€")])


def f14() -> Iterator[Case]:
    """Data after a close frame."""
    behind = {
        "text": HELLO,
        "ping": client_frame(PING, b"x"),
        "close": close(1001),
        "wrong_frame": client_frame(3, b"x"),
        "wrong_text": client_frame(TEXT, b"\xff"),
        "over_the_limit": client_frame(BINARY, b"x" * 90),
        "half_a_header": HELLO[:1],
        "rubbish": b"GET / HTTP/1.1\r\n\r\n",
    }
    options = {"max_message_size": 80}
    for name, extra in behind.items():
        stream = HELLO + close(1000, b"bye") + extra
        yield Case(f"f14_{name}", stream, [HELLO_EVENT, ("close", 1000, "bye")], options, ignored=len(extra))
        stream = client_frame(CLOSE) + extra
        yield Case(f"f14_{name}_after_empty_close", stream, [("close", 1005, "")], options, ignored=len(extra))
        stream = close(1004) + extra
        yield Case(f"f14_{name}_after_wrong_close", stream, fail(1002), options, ignored=len(extra))


def f15() -> Iterator[Case]:
    """A little of everything, for the cuts."""
    euros, blob = "€uro " * 30, bytes(range(256))
    stream = HELLO + client_frame(BINARY, blob, mask=b"\xff\x00\x01\x80") + client_frame(PING, b"are you there")
    stream += client_frame(TEXT, euros.encode()[:100], fin=False) + client_frame(PONG, b"")
    stream += client_frame(CONTINUATION, euros.encode()[100:]) + client_frame(TEXT, b"")
    events = [HELLO_EVENT, ("binary", blob), ("ping", b"are you there"), ("pong", b""), ("text", euros), ("text", "")]
    yield Case("f15_conversation", stream, events)
    yield Case("f15_conversation_then_close", stream + close(1000, b"bye"), [*events, ("close", 1000, "bye")])
    yield Case("f15_conversation_then_violation", stream + b"\xc1\x80", [*events, *fail(1002)])
    yield Case("f15_nothing", b"", [])


def m1() -> Iterator[Case]:
    """Text that is not UTF-8. Each stream ends at the first byte that cannot be right, or with the message."""
    wrong = {
        "tail_first": b"\x80",
        "last_tail_first": b"\xbf",
        "overlong_c0": b"\xc0",
        "overlong_c1": b"\xc1",
        "overlong_e0": b"\xe0\x9f",
        "overlong_f0": b"\xf0\x8f",
        "first_surrogate": b"\xed\xa0",
        "last_surrogate": b"\xed\xbf",
        "above_10ffff": b"\xf4\x90",
        "above_13ffff": b"\xf5",
        "ff": b"\xff",
        "fe": b"\xfe",
        "second_of_2": b"\xc3A",
        "second_of_3": b"\xe2A",
        "third_of_3": b"\xe2\x82\xc3",
        "second_of_4": b"\xf0\x7f",
        "third_of_4": b"\xf0\x9f\xc0",
        "fourth_of_4": b"\xf0\x9f\x99\x7f",
        "one_tail_too_many": "é".encode() + b"\x80",
    }
    for name, bad in wrong.items():
        whole = client_frame(TEXT, bad + b"more")
        yield Case(f"m1_{name}", whole, fail(1007), ignored=4)
        # Long enough for kernels that work in blocks, and not at the start of one.
        text = ("aé€🙂" * 9).encode() + b"a" * 17
        whole = client_frame(TEXT, text + bad + b"b" * 70)
        yield Case(f"m1_{name}_after_text", whole, fail(1007), ignored=70)
        for cut in range(1, len(bad)):
            stream = fragments(TEXT, bad[:cut], bad[cut:] + b"more")
            yield Case(f"m1_{name}_cut_at_{cut}", stream, fail(1007), ignored=4)
        if len(bad) > 1:
            frames = [*one_by_one(bad[:-1]), b"", bad[-1:]]
            yield Case(f"m1_{name}_in_fragments", fragments(TEXT, *frames, fin=False), fail(1007))
    for character in ("é", "€", "🙂"):
        encoded = character.encode()
        name = f"{len(encoded)}_bytes"
        for missing in range(1, len(encoded)):
            short = encoded[:-missing]
            yield Case(f"m1_{name}_{missing}_missing", client_frame(TEXT, b"x" + short), fail(1007))
            yield Case(f"m1_{name}_{missing}_missing_in_fragments", fragments(TEXT, b"x", short), fail(1007))
            yield Case(f"m1_{name}_{missing}_missing_empty_end", fragments(TEXT, short, b""), fail(1007))
            two = client_frame(TEXT, short) + client_frame(TEXT, encoded[-missing:])
            yield Case(f"m1_{name}_{missing}_in_the_next_message", two, fail(1007), ignored=6 + missing)
        pieces = one_by_one(encoded)
        yield Case(f"m1_{name}_in_fragments", fragments(TEXT, *pieces), [("text", character)])
        yield Case(f"m1_{name}_in_fragments_empty_end", fragments(TEXT, *pieces, b""), [("text", character)])
    edges = "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\ufeff\ufffe\uffff\U00010000\U0001fffe\U0010ffff"
    yield Case("m1_edges_of_unicode", client_frame(TEXT, edges.encode()), [("text", edges)])
    yield Case("m1_edges_of_unicode_in_fragments", fragments(TEXT, *one_by_one(edges.encode())), [("text", edges)])
    yield Case(
        "m1_binary_may_be_anything", client_frame(BINARY, b"\xff\xc0\xed\xa0"), [("binary", b"\xff\xc0\xed\xa0")]
    )
    yield Case("m1_ping_may_be_anything", client_frame(PING, b"\xff\xc0"), [("ping", b"\xff\xc0")])


def m2() -> Iterator[Case]:
    """Fragments without end, empty ones counted."""
    eight = {"max_fragments": 8}
    for name, payload in (("one_byte", b"x"), ("empty", b"")):
        whole = fragments(TEXT, *[payload] * 8)
        yield Case(f"m2_8_{name}", whole, [("text", payload.decode() * 8)], eight)
        yield Case(f"m2_8_{name}_twice", whole * 2, [("text", payload.decode() * 8)] * 2, eight)
        endless = fragments(BINARY, *[payload] * 30, fin=False)
        due = 8 * (6 + len(payload)) + 2
        yield Case(f"m2_endless_{name}", endless, fail(1008), eight, ignored=len(endless) - due)
        nine = fragments(BINARY, *[payload] * 9)
        yield Case(f"m2_9_{name}", nine[:due], fail(1008), eight)
    ping = client_frame(PING, b"")
    stream = ping.join(client_frame(CONTINUATION if index else TEXT, b"x", fin=index == 7) for index in range(8))
    yield Case("m2_control_frames_do_not_count", stream, [("ping", b"")] * 7 + [("text", "x" * 8)], eight)
    one = {"max_fragments": 1}
    yield Case("m2_limit_1_whole_messages", HELLO * 2, [HELLO_EVENT] * 2, one)
    yield Case("m2_limit_1_second_fragment", fragments(TEXT, b"hel", b"lo")[:11], fail(1008), one)
    both = {"max_fragments": 1, "max_message_size": 5}
    stream = fragments(TEXT, b"hel", b"lo!")[:11]
    yield Case("m2_size_comes_before_count", stream, fail(1009), both)
    yield Case("m2_order_comes_before_count", START + HELLO[FIRST_TWO], fail(1002), both)


ROWS = (f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, m1, m2)
CASES = [case for row in ROWS for case in row()]
