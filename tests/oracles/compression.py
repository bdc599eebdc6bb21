"""A client's side of permessage-deflate (RFC 7692) on Python's zlib: what the core's compression is compared with."""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass
from typing import Any

TAIL = b"\0\0\xff\xff"  # section 7.2.1: of an empty stored block, left out on the wire
FINAL = b"\1\0\0\xff\xff"  # an empty stored block that ends a stream, where the block before it has ended
WINDOW = 32768

#: The values that stand for themselves (section 7.1.2): one or two digits, no leading zero.
BITS = re.compile(r"[89]|1[0-5]")


@dataclass(frozen=True)
class Agreed:
    """What both sides do; the bits are those of a window of 1 << bits bytes."""

    server_takeover: bool = True
    client_takeover: bool = True
    server_bits: int = 15
    client_bits: int = 15


def random_offer(rng: random.Random) -> str:
    """One offer, right in every way."""
    parameters = []
    if rng.random() < 0.2:
        parameters.append("server_no_context_takeover")
    if rng.random() < 0.3:
        parameters.append("client_no_context_takeover")
    if rng.random() < 0.4:
        parameters.append(f"server_max_window_bits={rng.choice([8, 9, 9, 10, 11, 12, 13, 14, 15])}")
    if rng.random() < 0.6:
        value = f"={rng.randrange(8, 16)}" if rng.random() < 0.5 else ""
        parameters.append(f"client_max_window_bits{value}")
    rng.shuffle(parameters)
    return rng.choice(["; ", ";", " ; "]).join(["permessage-deflate", *parameters])


def parameters_of(text: str) -> dict[str, str]:
    """Of one extension; those without a value have an empty one."""
    name, *rest = (part.strip() for part in text.split(";"))
    assert name == "permessage-deflate", text
    found = [(key, value) for key, _, value in (part.partition("=") for part in rest)]
    assert len(dict(found)) == len(found), f"a parameter stands twice in {text!r}"
    return dict(found)


def agreed(answer: str, offer: str) -> Agreed:
    """What the answer to this offer says; AssertionError where section 7.1 does not let a server say so."""
    offered, said = parameters_of(offer), parameters_of(answer)
    found = dict.fromkeys(("server_max_window_bits", "client_max_window_bits"), 15)
    for name, value in said.items():
        if name in found:
            assert BITS.fullmatch(value), answer
            found[name] = int(value)
        else:
            assert name in ("server_no_context_takeover", "client_no_context_takeover"), answer
            assert not value, answer
    if "server_no_context_takeover" in offered:  # 7.1.1.1
        assert "server_no_context_takeover" in said, (answer, offer)
    if most := offered.get("server_max_window_bits"):  # 7.1.2.1
        assert "server_max_window_bits" in said, (answer, offer)
        assert found["server_max_window_bits"] <= int(most), (answer, offer)
    if "client_max_window_bits" in said:  # 7.1.2.2
        assert "client_max_window_bits" in offered, (answer, offer)
        assert found["client_max_window_bits"] <= int(offered["client_max_window_bits"] or 15), (answer, offer)
    return Agreed(
        "server_no_context_takeover" not in said,
        "client_no_context_takeover" not in said and "client_no_context_takeover" not in offered,
        found["server_max_window_bits"],
        found["client_max_window_bits"],
    )


class Receiver:
    """Inflates what a server sends, as a client does that keeps no more than it has agreed to keep."""

    def __init__(self, agreed: Agreed) -> None:
        self.takeover = agreed.server_takeover
        self.bits = agreed.server_bits
        # What is inflated in one call lies before zlib as a whole: distances are limited to the window where a call is
        # for less than the window.
        self.step = 1 << self.bits - 2 if self.bits < 12 else 0
        self.stream = zlib.decompressobj(-self.bits)

    def message(self, payload: bytes) -> bytes:
        """The message; AssertionError or zlib.error where section 7.2.1 lets no server send such a payload."""
        rest = payload + TAIL
        if self.step:
            parts = []
            while rest:
                parts.append(self.stream.decompress(rest, self.step))
                rest = self.stream.unconsumed_tail
            while part := self.stream.decompress(b"", self.step):
                parts.append(part)
            data = b"".join(parts)
        else:
            data = self.stream.decompress(rest)
        assert not self.stream.eof, "a block with BFINAL"
        if not self.takeover:
            left = self.stream.decompress(FINAL)
            assert self.stream.eof and not left, "the message ends within a block"
            self.stream = zlib.decompressobj(-self.bits)
        return data


def outcomes(payload: bytes, limit: int, bits: int = 15, known: bytes = b"") -> set[bytes | int]:
    """What may become of a compressed message (section 7.2.2) where no more than `limit` bytes are wanted: itself, or a
    close code, 1007 or 1009. `known` is what the sender may refer to.

    There are several where it is for the receiver to choose: whether it notices a distance that is more than the
    window, and what it says of a message that is too large and corrupt."""
    if not payload:
        return {b""}
    narrow = _inflate(payload, limit, bits, known, 1 << bits - 2)
    return narrow if bits == 15 else narrow | _inflate(payload, limit, 15, known, WINDOW)


def _inflate(payload: bytes, limit: int, bits: int, known: bytes, step: int) -> set[bytes | int]:
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
            return _inflate(payload, limit, bits, known, 1)
        return {1007} if len(data) < limit else {1007, 1009}
    try:
        more = stream.decompress(FINAL)
    except zlib.error:
        return {1007}
    return {data} if stream.eof and not more and not stream.unused_data else {1007}


MODES = [zlib.Z_NO_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK]
STRATEGIES = [zlib.Z_DEFAULT_STRATEGY] * 4 + [zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]


class Sender:
    """Deflates what a client sends, in all the ways that section 7.2.1 leaves to it."""

    def __init__(self, agreed: Agreed, rng: random.Random) -> None:
        self.rng = rng
        self.takeover = agreed.client_takeover
        self.bits = max(agreed.client_bits, 9)  # zlib's distances in a window of 512 bytes are below 256
        self.stream: Any = None  # a zlib.compressobj()
        self.window = b""  # of what was deflated, the end

    def message(self, data: bytes) -> bytes:
        rng = self.rng
        if not self.takeover:
            self.stream, self.window = None, b""
        out = []
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 0, 0, 1, 3])))
        pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        for at, piece in enumerate(pieces):
            if self.stream is None or rng.random() < 0.02:
                out.append(self._begin())
            assert self.stream is not None
            out.append(self.stream.compress(piece))
            self.window = (self.window + piece)[-WINDOW:]
            if rng.random() < 0.1:  # section 7.2.3.4
                out.append(self.stream.flush(zlib.Z_FINISH))
                self.stream = None
                if at == len(pieces) - 1:
                    return b"".join([*out, b"\0"])
            elif at < len(pieces) - 1:
                out.append(self.stream.flush(rng.choice(MODES)))
        assert self.stream is not None
        out.append(self.stream.flush(rng.choice([zlib.Z_SYNC_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])))
        deflated = b"".join(out)
        if not deflated:  # zlib flushes nothing where nothing has come since the last flush
            return b"\0"
        assert deflated.endswith(TAIL)
        return deflated.removesuffix(TAIL)

    def _begin(self) -> bytes:
        """A new stream, at a byte's boundary; returns what ends the one before it."""
        rng = self.rng
        ended = b"" if self.stream is None else self.stream.flush(zlib.Z_SYNC_FLUSH)
        bits = self.bits if rng.random() < 0.8 else rng.randrange(9, self.bits + 1)
        arguments = (rng.choice([0, 1, 1, 6, 9]), zlib.DEFLATED, -bits, rng.choice([1, 8, 9]), rng.choice(STRATEGIES))
        known = self.window[-(1 << bits) :]
        if known and rng.random() < 0.8:
            self.stream = zlib.compressobj(*arguments, known)
        else:
            self.stream = zlib.compressobj(*arguments)
        return ended
