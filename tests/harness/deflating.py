"""permessage-deflate (RFC 7692) from a client: offers, answers judged by the RFC, and messages either way."""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from oracles.deflate import FINAL, LONGEST_DISTANCE, TAIL

import fastws

from .client import Ended, Headers, HttpResponse, RawClient
from .frames import BINARY, CLOSE, PING, TEXT, BadFrame, Frame, deflated_frames, in_fragments

RSV1 = 4  # of the three bits
#: Eight blocks that make nothing, each with tables of 226 codes of 8 bits and 60 of 9. Of the blocks without output
#: that were tried they take zlib longest for each byte.
NOTHING = bytes.fromhex(
    "ec600268d86cdbb66ddbb66ddbb66ddbb66ddbb86ddbb6d923763001346cb66ddbb66ddbb66ddbb66ddbb66ddcb66ddbec11"
    "3b98001a36dbb66ddbb66ddbb66ddbb66ddb366edbb66df6881d4c000d9b6ddbb66ddbb66ddbb66ddbb66d1bb76ddb367bc4"
    "0e268086cdb66ddbb66ddbb66ddbb66ddbb68ddbb66d9b3d62071340c366dbb66ddbb66ddbb66ddbb66ddbc66ddbb6cd1eb1"
    "8309a061b36ddbb66ddbb66ddbb66ddbb66de3b66ddb668fd8c104d0b0d9b66ddbb66ddbb66ddbb66ddbb671dbb66db347"
)
FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
SIZES = ("server_max_window_bits", "client_max_window_bits")
ANSWER = re.compile(r"permessage-deflate(?:; ?[a-z_]+(?:=[0-9]+)?)*")
BITS = re.compile(r"[89]|1[0-5]")


@dataclass(frozen=True)
class Params:
    """Of an offer or an answer. `client_max_window_bits` is True without a value."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | bool | None = None

    def __str__(self) -> str:
        text = "permessage-deflate"
        for one in fields(self):
            value = getattr(self, one.name)
            if value:
                text += f"; {one.name}" if value is True else f"; {one.name}={value}"
        return text

    @classmethod
    def read(cls, text: str, *, is_offer: bool = False) -> Params:
        """An answer, which names one extension, each parameter once and each value as section 7.1 wants it; or an offer
        of the same kind, with spaces where there may be some."""
        assert is_offer or ANSWER.fullmatch(text), f"no answer: {text!r}"
        extension, *parts = (part.strip() for part in text.split(";"))
        assert extension == "permessage-deflate", text
        found: dict[str, Any] = {}
        for part in parts:
            name, equals, value = part.partition("=")
            assert name not in found, f"{name} twice: {text!r}"
            assert name in (SIZES if equals else FLAGS) or (is_offer and part == SIZES[1]), text
            assert not equals or BITS.fullmatch(value), text
            found[name] = int(value) if equals else True
        return cls(**found)

    @property
    def server_bits(self) -> int:
        return self.server_max_window_bits or 15

    @property
    def client_bits(self) -> int:
        return 15 if self.client_max_window_bits in (None, True) else int(self.client_max_window_bits)


def every_offer(sizes: Sequence[int] = range(8, 16)) -> list[Params]:
    return [
        Params(*chosen)
        for chosen in itertools.product((False, True), (False, True), (None, *sizes), (None, True, *sizes))
    ]


_NO_BITS = [
    "0",
    "7",
    "16",
    "08",
    "015",
    "+9",
    "-9",
    "9.0",
    "9 9",
    "0x9",
    "\xb9",  # a superscript: a digit to str.isdigit, a number to no one
    "99999999999999999999",
    "x",
]
#: What no offer may have (section 7.1), each of which declines the offer that it is in.
WRONG_PARAMETERS = [
    *(f"server_max_window_bits={value}" for value in _NO_BITS),
    *(f"client_max_window_bits={value}" for value in _NO_BITS),
    *(
        f'{name}="{value}'
        for name in ("server_max_window_bits", "client_max_window_bits")
        for value in ('9"', '9"x', '\\9"', '8 "', '"', '9, 10"', "")  # RFC 7692 quotes none of them
    ),
    "server_max_window_bits",
    "server_max_window_bits=",
    "client_max_window_bits=",
    "server_no_context_takeover=",
    "server_no_context_takeover=true",
    "server_no_context_takeover=1",
    "client_no_context_takeover=15",
    "client_no_context_takeover; client_no_context_takeover",
    "server_no_context_takeover; client_no_context_takeover; server_no_context_takeover",
    "server_max_window_bits=9; server_max_window_bits=9",
    "server_max_window_bits=9; server_max_window_bits=10",
    "client_max_window_bits; client_max_window_bits=10",
    "client_max_window_bits; client_max_window_bits",
    "unknown",
    "unknown=1",
    "__class__",
    "constructor=8",
    "max_window_bits=15",
    "server_max_window_bits=15=15",
    "server max window bits=15",
    "=15",
    ";",
]


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


def agree(offer: Params, answer: Params) -> Params:
    """What both sides do after this answer; AssertionError where section 7.1 does not let a server answer so."""
    assert answer.server_no_context_takeover >= offer.server_no_context_takeover, (offer, answer)  # 7.1.1.1
    if offer.server_max_window_bits is not None:  # 7.1.2.1
        assert answer.server_max_window_bits is not None, (offer, answer)
        assert answer.server_max_window_bits <= offer.server_max_window_bits, (offer, answer)
    if answer.client_max_window_bits is not None:  # 7.1.2.2
        assert offer.client_max_window_bits is not None, (offer, answer)
        assert answer.client_bits <= offer.client_bits, (offer, answer)
    declined = answer.client_no_context_takeover or offer.client_no_context_takeover  # 7.1.1.2
    return Params(answer.server_no_context_takeover, declined, answer.server_bits, answer.client_bits)


def judge(offer: Params, answer: Params, settings: Any) -> None:
    """Whether a server with these settings (`fastws.Deflate`) may answer so, and has not forgotten what it must say."""
    agree(offer, answer)
    assert answer.server_no_context_takeover >= settings.server_no_context_takeover
    assert answer.client_no_context_takeover >= settings.client_no_context_takeover
    assert answer.server_bits >= min(settings.window_bits, offer.server_bits)  # no smaller than it need be
    if offer.client_max_window_bits is not None:
        assert min(answer.client_bits, offer.client_bits) <= settings.client_window_bits


@dataclass(frozen=True)
class Received:
    """A message. `wire` is what came where it was compressed, `before` what stood in the window then."""

    data: str | bytes
    wire: bytes | None
    before: bytes = b""


def deflate(
    data: bytes, bits: int = 15, *, level: int = 6, memory: int = 8, before: bytes = b"", flush: int = zlib.Z_SYNC_FLUSH
) -> bytes:
    """The payload of a compressed message (section 7.2.1), with Z_FINISH one with BFINAL set (section 7.2.3.4)."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -bits, memory, zdict=before)
    payload = deflater.compress(data) + deflater.flush(flush)
    if flush == zlib.Z_FINISH:
        return payload + b"\0"
    assert payload.endswith(TAIL)
    return payload[: -len(TAIL)]


def compressed(
    opcode: int, payload: bytes, *, sizes: Sequence[int] = (), between: Sequence[bytes] = (), mask: bytes = b"mask"
) -> bytes:
    """One compressed message, RSV1 on its first frame."""
    return in_fragments(opcode, payload, sizes, between=between, mask=mask, rsv=RSV1)


class Receiver:
    """Inflates what a server sends, as a client does that keeps no more than it has agreed to keep."""

    def __init__(self, agreed: Params) -> None:
        self.takeover = not agreed.server_no_context_takeover
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


class Sender:
    """Deflates what a client sends, as zlib does it by itself."""

    def __init__(self, agreed: Params) -> None:
        self.takeover = not agreed.client_no_context_takeover
        self.bits = max(agreed.client_bits, 9)  # zlib's distances in a window of 512 bytes are below 256
        self.stream: Any = None

    def message(self, data: bytes) -> bytes:
        if self.stream is None or not self.takeover:
            self.stream = zlib.compressobj(6, zlib.DEFLATED, -self.bits)
        payload: bytes = self.stream.compress(data) + self.stream.flush(zlib.Z_SYNC_FLUSH)
        return payload.removesuffix(TAIL)


MODES = [zlib.Z_NO_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK]
STRATEGIES = [zlib.Z_DEFAULT_STRATEGY] * 4 + [zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]


class AnySender(Sender):
    """In all the ways that section 7.2.1 leaves to it."""

    def __init__(self, agreed: Params, rng: random.Random) -> None:
        super().__init__(agreed)
        self.rng = rng
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
            self.window = (self.window + piece)[-LONGEST_DISTANCE:]
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


class DeflateClient(RawClient):
    """A RawClient that takes part in compression as it was agreed, and keeps what the server may refer to."""

    agreed: Params | None = None
    _is_compressed = False
    window = b""

    @classmethod
    def offer(cls, port: int, *offers: Params | str, path: str = "/") -> DeflateClient:
        """Connected, with these offers in one header."""
        client = cls.connect(port)
        client.handshake(path, headers=[("Sec-WebSocket-Extensions", ", ".join(map(str, offers)))])
        assert isinstance(client, DeflateClient)
        return client

    def handshake(
        self, path: str = "/", *, headers: Headers = (), extra: bytes = b"", host: str | None = "localhost"
    ) -> HttpResponse:
        response = super().handshake(path, headers=headers, extra=extra, host=host)
        self.extensions = response.headers.get("sec-websocket-extensions", "")
        if self.extensions:
            self.agreed = Params.read(self.extensions)
            self._sender, self._receiver = Sender(self.agreed), Receiver(self.agreed)
        return response

    # -- out

    def send_deflated(self, message: str | bytes, **how: Any) -> None:
        """With takeover where that was agreed; `how` is as for `compressed`."""
        data, opcode = (message.encode(), TEXT) if isinstance(message, str) else (message, BINARY)
        self.send_raw(compressed(opcode, self._sender.message(data), **how))

    # -- in

    def recv_frame(self) -> Frame:
        """As a RawClient's, with RSV1 allowed where section 6 of RFC 7692 does."""
        while (found := next(deflated_frames(self.buffer), None)) is None:
            if not self.fill():
                raise Ended(f"ended inside or before a frame, after {bytes(self.buffer)!r}")
        frame, self._is_compressed = found
        if self._is_compressed and self.agreed is None:
            raise BadFrame(f"RSV1 set: {frame!r:.100}")
        return frame

    def receive(self) -> Received:
        """The next message, inflated; pings are answered on the way, pongs skipped."""
        compressed, opcode, payload = False, None, b""
        while True:
            frame = self.recv_frame()
            assert frame.opcode != CLOSE, f"closed with {frame.payload!r} where a message was expected"
            if frame.opcode == PING:
                self.send_frame(10, frame.payload)
            if frame.opcode >= 8:
                continue
            if opcode is None:
                compressed, opcode = self._is_compressed, frame.opcode
            payload += frame.payload
            if frame.fin:
                break
        wire, before = None, self.window
        if compressed:
            wire, payload = payload, self._receiver.message(payload)
            if self._receiver.takeover:
                self.window = (self.window + payload)[-LONGEST_DISTANCE:]
        return Received(payload.decode() if opcode == TEXT else payload, wire, before)

    def recv(self) -> str | bytes:
        return self.receive().data


#: What servers may be set to, as arguments of `fastws.Deflate`.
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no-history": {"history": 0},
    "long-history": {"history": 32_768},
    "server-no-takeover": {"server_no_context_takeover": True},
    "client-takeover": {"client_no_context_takeover": False},
    "client-takeover-9": {"client_no_context_takeover": False, "client_window_bits": 9},
    **{f"window-{bits}": {"window_bits": bits} for bits in (9, 12)},
    **{f"client-window-{bits}": {"client_window_bits": bits} for bits in range(9, 15)},
    "all": {"window_bits": 9, "client_window_bits": 9, "level": 9, "mem_level": 1, "history": 200, "threshold": 0},
}


def answering_app(**options: Any) -> fastws.App:
    """A route for each of the settings, which answers each message with ANSWERS: itself, itself not compressed, itself
    published, and itself compressed whatever its size."""
    import fastws

    app = fastws.App(ping_interval=0, max_message_size=1 << 20, max_backpressure=16 << 20, **options)

    class Answering:
        def open(self, ws: Any) -> None:
            ws.subscribe(str(ws.id))

        def message(self, ws: Any, data: Any) -> None:
            ws.send(data)
            ws.send(data, compress=False)
            app.publish(str(ws.id), data)
            ws.send(data, compress=True)

    for name, settings in SETTINGS.items():
        app.websocket(f"/{name}", compression=fastws.Deflate(**settings))(Answering)
    return app


ANSWERS = 4
PLAIN = 1  # the number of the one that is not compressed


def sample_messages(*, large: bool = True) -> Iterator[str | bytes]:
    """Of many sizes and kinds, some like those before them."""
    words = ["id", "price", "amount", "time", "symbol", "BTC-EUR", "ETH-EUR", "side", "buy", "sell"]
    quote = '{"symbol":"BTC-EUR","price":64123.5,"amount":0.0150,"side":"buy","time":%d}'
    noise = bytes((number * number * 167 + 13 * number >> 3) & 255 for number in range(5000))
    yield ""
    yield b""
    yield "x"
    for size in (63, 64, 65, 125, 126, 127, 200):
        yield (quote % (1_700_000_000 + size) * 3)[:size]
    yield from (quote % (1_700_000_000 + number) for number in range(5))
    yield "[" + ",".join(quote % number for number in range(5)) + "]"  # about 400 bytes
    yield noise[:100]
    yield "Zürich 東京 🙂 " * 5
    yield ("".join(words) * 100)[:4096]
    yield b"ab" * 2048
    yield noise
    if large:
        yield ("[" + ",".join(quote % number for number in range(900)) + "]")[:65_536]
        yield bytes(65_535)
        yield ("Ελληνικά, русский, 漢字, 🙂. " * 8000)[:70_000]
        yield zlib.compress(noise * 3) * 40 + bytes(range(256)) * 700
        yield "".join(f"{words[number * number % 10]}:{number * 7919 % 1009} " for number in range(20_000))[:200_000]
    yield quote % 1
