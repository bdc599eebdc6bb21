"""Compressed messages, for the inbox and the inflater together: as they come, corrupt or not.

An input is: how many SIMD variants to pass over, the limit, what was agreed on, how much memory is lent (a byte each),
the sizes of the pieces (four), and messages: a byte that says of what kind, one or two for the size, and the payload.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

from harness import BINARY, CONT, TEXT, build
from harness.deflating import AnySender, Params
from oracles.corpus import one_by_one
from oracles.deflate import LONGEST_DISTANCE, outcomes

from fastws.compression import Agreement

from .source import Source, cut, same

LIMITS = [1000, 0, 1, 5, 64, 125, 300, 70_000]
ROOMS = [65536, 1, 10, 64, 300]
SHORT = 100
SHARES = [(1 << 40, 1 << 40), (1, 1 << 40), (1 << 40, 1), (3, 7)]  # what is inflated at a time, and to how much at most


def deflation_of(kind: Any) -> Any:
    """Makes what a connection has agreed on, with the `Deflation` of a build."""

    def make(takeover: bool, bits: int) -> Any:
        return kind(Agreement("", 15, False, bits, takeover))

    return make


class Message:
    def __init__(self, source: Source) -> None:
        first, size = source.byte(), source.byte()
        if size >= 224:
            size = (size - 224) << 8 | source.byte()
        self.payload = source.take(size)
        self.is_compressed = first & 3 != 3
        self.opcode = TEXT if self.is_compressed and first & 4 else BINARY
        count = (1, 1, 2, 4)[first >> 3 & 3]
        step = len(self.payload) // count
        self.parts = [self.payload[at * step : (at + 1) * step] for at in range(count - 1)]
        self.parts.append(self.payload[(count - 1) * step :])
        self.reserved = [4 if self.is_compressed else 0] + [0] * (count - 1)
        if first >> 5 == 7:  # RFC 7692 section 6: only RSV1, and only in the first
            self.reserved[-1] = 4 if count > 1 else 6

    def wire(self) -> bytes:
        last = len(self.parts) - 1
        return b"".join(
            build(CONT if at else self.opcode, part, fin=at == last, rsv=reserved)
            for at, (part, reserved) in enumerate(zip(self.parts, self.reserved, strict=True))
        )

    def outcomes(self, limit: int, bits: int, known: bytes) -> set[Any]:
        """Payloads and close codes."""
        most = limit + limit // 8 + 64 if self.is_compressed else limit  # what does not shrink may grow
        size = 0
        for at, (part, reserved) in enumerate(zip(self.parts, self.reserved, strict=True)):
            if reserved not in ((0, 4) if at == 0 else (0,)):
                return {1002}
            size += len(part)
            if size > most:
                return {1009}
        found: set[Any] = outcomes(self.payload, limit, bits, known) if self.is_compressed else {self.payload}
        return {one if self.opcode == BINARY or is_utf8(one) else 1007 for one in found}


def check_deflated(core: Any, data: bytes) -> list[Any]:
    """Fails where a message is not what Python's zlib makes of it, or depends on the cuts. Returns what was seen."""
    source = Source(data)
    core.use_variant(source.byte() & 3)
    limit, agreed, room = source.choose(LIMITS), source.byte(), source.choose(ROOMS)
    takeover, bits = bool(agreed & 1), 15 - (agreed >> 1 & 7)
    sizes = source.take(4)
    messages = []
    while source:
        messages.append(Message(source))
    stream = b"".join(message.wire() for message in messages)

    def events(pieces: list[bytes], share: tuple[int, int] = SHARES[0]) -> list[Any]:
        deflation = core.deflation(takeover, bits)
        reader = core.Reader(max_message_size=limit, deflation=deflation, room=room, input=share[0], output=share[1])
        return [event for piece in pieces for event in reader.feed(piece)]

    whole = events([stream])
    certain = check_events(whole, messages, limit, bits if takeover else 15, takeover)
    same(events(list(cut(stream, sizes))), whole, "not what it is in one piece")
    shared = events([stream], SHARES[agreed >> 4 & 3])
    if certain:  # but for the words of a failure
        same([one[:2] for one in shared], [one[:2] for one in whole], "not what it is when it is inflated at once")
    else:
        check_events(shared, messages, limit, bits if takeover else 15, takeover)
    if len(stream) <= SHORT:
        same(events(one_by_one(stream)), whole, "not the same byte by byte")
    seen = [(event[0], event[1:] if event[0] == "fail" else min(len(event[1]), 3)) for event in whole]
    return [*seen, *itertools.pairwise(seen), ("bits", bits, takeover, len(whole) > 1)]


def check_events(found: list[Any], messages: list[Message], limit: int, bits: int, takeover: bool) -> bool:
    """Whether each message had one outcome. It has several where it breaks its own window: zlib notices that only once
    the window is full, so it depends on how much is inflated at a time."""
    known, certain = b"", True
    for message, event in zip(messages, found, strict=False):
        allowed = message.outcomes(limit, bits, known if takeover else b"")
        certain &= len(allowed) == 1
        if event[0] == "fail":
            assert event[1] in allowed, f"{event} where {allowed!r:.200} was due"
            assert event is found[-1], "something after a failure"
            return certain
        payload = event[1].encode() if event[0] == "text" else event[1]
        assert payload in allowed, f"{event!r:.200} where {allowed!r:.200} was due"
        same(event[0], "text" if message.opcode == TEXT else "binary", "not the kind")
        if message.is_compressed:
            known = (known + payload)[-LONGEST_DISTANCE:]
    same(len(found), len(messages), "not as many messages")
    return certain


def is_utf8(payload: bytes | int) -> bool:
    """Or a close code."""
    try:
        return isinstance(payload, int) or payload.decode() is not None
    except UnicodeDecodeError:
        return False


def encode(messages: list[tuple[int, bytes]], head: bytes = bytes(8)) -> bytes:
    """The input with these messages: what the first byte says of each, and its payload."""
    data = bytearray(head)
    for kind, payload in messages:
        size = len(payload)
        data += bytes([kind, size]) if size < 224 else bytes([kind, 224 + (size >> 8), size & 255])
        data += payload
    return bytes(data)


def seeds() -> list[bytes]:
    found = []
    for seed in range(60):
        rng = random.Random(seed)
        bits, takeover = rng.randrange(9, 16), rng.random() < 0.5
        sender = AnySender(Params(client_no_context_takeover=not takeover, client_max_window_bits=bits), rng)
        messages = []
        for _ in range(rng.randrange(1, 5)):
            text = b"".join(rng.choices([b"hello ", b"compressed ", "ü".encode(), bytes(40)], k=rng.randrange(20)))
            messages.append((rng.randrange(32), sender.message(text)) if rng.random() < 0.8 else (3, text))
        choices = [rng.randrange(4), rng.choice([0, 0, *range(8)]), takeover | (15 - bits) << 1, rng.randrange(5)]
        found.append(encode(messages, bytes([*choices, rng.randrange(9), 0, 3, 0])))
    hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00"  # RFC 7692 section 7.2.3.1
    last = b"\xf3" + hello[1:] + b"\0"  # 7.2.3.4
    wrong = [b"", b"\0", b"\0\0", b"\xff", hello[:-1], hello[:-3], hello + b"\0", last, last[:-1], hello * 2, last * 2]
    found += [encode([(kind, payload), (kind, hello)]) for payload in wrong for kind in (0, 4, 16, 28)]
    found += [encode([(kind, hello), (3, b"plain"), (0, hello)]) for kind in (0xE0, 0xF0, 0xF8, 0xE3, 0xFB)]
    # Its code for the end is of fourteen ones: with the bytes that are added the block ends two bits before they do.
    within = bytes.fromhex("04c0019224499224492416358fac9ebdff7ff700")
    stored = b"\0\x06\0\xf9\xffab"  # a stored block that would swallow the four bytes that are added
    found += [encode([(0, within), (0, hello)], bytes([0, 0, takeover, 0, 0, 0, 0, 0])) for takeover in (0, 1)]
    found += [
        encode([(0, within), (0, stored), (0, hello)], bytes([0, 7, share << 4, 1, 0, 0, 0, 0])) for share in (1, 2, 3)
    ]
    return [*found, encode([(0, stored), (0, hello)]), encode([(0, hello)], bytes([0, 3, 1, 1, 1, 0, 0, 0]))]
