"""Frames parsed and built without a socket, beside the libraries that can be asked to.

python -m pytest bench/micro/test_codec.py --benchmark-only

Parsing: a client's binary frames, unmasked and told one by one, as they come out of one receive: one, or 32 of them.
Building: a server's frame of bytes, ready for the socket. picows has neither without a transport of its own. Binary,
because only some of them decode text on the way. wsproto and websockets go by events, and check the order of frames;
aiohttp's reader is its compiled one. To build a large frame, aiohttp hands out header and payload as they are; so does
fastws in `ws.send`, but what `fastws.prepare` makes is kept for many sends, and copied.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import wsproto.connection
import wsproto.events
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp._websocket.writer import WebSocketWriter
from aiohttp.base_protocol import BaseProtocol
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.protocol import Protocol, Side, State

import fastws
from fastws.speedups import FrameParser, apply_mask

BATCHES = [(16, 1), (16, 32), (1024, 1), (1024, 32), (65536, 1), (1 << 20, 1)]  # bytes in a frame, frames
SIZES = [16, 1024, 65536, 1 << 20]
LARGEST = 1 << 24

pytestmark = pytest.mark.benchmark(max_time=0.2)  # seconds; of each, the best round counts

Parse = Callable[[bytes], list[Any]]
Build = Callable[[bytes], Any]


def head(size: int, masked: bool) -> bytes:
    """Of a whole binary message."""
    bit = 0x80 * masked
    if size < 126:
        return bytes([0x82, bit | size])
    if size < 65536:
        return bytes([0x82, bit | 126]) + size.to_bytes(2, "big")
    return bytes([0x82, bit | 127]) + size.to_bytes(8, "big")


def client_frame(payload: bytes, key: bytes) -> bytes:
    return head(len(payload), True) + key + apply_mask(payload, key)


def now(coroutine: Any) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


# ---- parsing ----


def fastws_parser(loop: asyncio.AbstractEventLoop, frames: int) -> Parse:
    parser = FrameParser(masked=True, max_frame_size=LARGEST)
    return lambda data: [frame.payload for frame in parser.feed(data)]


def websockets_parser(loop: asyncio.AbstractEventLoop, frames: int) -> Parse:
    protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=LARGEST)

    def parse(data: bytes) -> list[Any]:
        protocol.receive_data(data)
        return [frame.data for frame in protocol.events_received()]  # type: ignore[union-attr]

    return parse


def wsproto_parser(loop: asyncio.AbstractEventLoop, frames: int) -> Parse:
    connection = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)

    def parse(data: bytes) -> list[Any]:
        connection.receive_data(data)
        return [event.data for event in connection.events()]  # type: ignore[attr-defined]

    return parse


def aiohttp_parser(loop: asyncio.AbstractEventLoop, frames: int) -> Parse:
    queue = WebSocketDataQueue(BaseProtocol(loop), 1 << 30, loop=loop)
    reader = WebSocketReader(queue, LARGEST, False, True)

    def parse(data: bytes) -> list[Any]:
        reader.feed_data(data)
        return [now(queue.read()).data for _ in range(frames)]

    return parse


PARSERS = {
    "fastws": fastws_parser,
    "websockets": websockets_parser,
    "wsproto": wsproto_parser,
    "aiohttp": aiohttp_parser,
}


@pytest.mark.parametrize("by", PARSERS)
@pytest.mark.parametrize(("size", "frames"), BATCHES)
def test_parse(benchmark: BenchmarkFixture, size: int, frames: int, by: str) -> None:
    rand = random.Random(1)
    payloads = [rand.randbytes(size) for _ in range(frames)]
    data = b"".join(client_frame(payload, rand.randbytes(4)) for payload in payloads)
    loop = asyncio.new_event_loop()
    try:
        parse = PARSERS[by](loop, frames)
        for _ in range(2):  # nothing stays behind
            assert [bytes(payload) for payload in parse(data)] == payloads
        benchmark.group = f"parse {frames} x {size} B"
        benchmark.extra_info = {"size": size, "frames": frames}
        benchmark(parse, data)
    finally:
        loop.close()


# ---- building ----


class Transport(asyncio.Transport):
    """Takes what is written, and keeps it until it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False


def websockets_builder(loop: asyncio.AbstractEventLoop) -> Build:
    protocol = Protocol(Side.SERVER, state=State.OPEN)

    def build(payload: bytes) -> list[bytes]:
        protocol.send_binary(payload)
        return protocol.data_to_send()

    return build


def wsproto_builder(loop: asyncio.AbstractEventLoop) -> Build:
    connection = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
    return lambda payload: [connection.send(wsproto.events.BytesMessage(data=payload))]


def aiohttp_builder(loop: asyncio.AbstractEventLoop) -> Build:
    transport, protocol = Transport(), BaseProtocol(loop)
    protocol.connection_made(transport)
    asyncio.set_event_loop(loop)
    writer = WebSocketWriter(protocol, transport)

    def build(payload: bytes) -> list[bytes]:
        now(writer.send_frame(payload, 2))
        written, transport.written = transport.written, []
        return written

    return build


BUILDERS: dict[str, Callable[[asyncio.AbstractEventLoop], Build]] = {
    "fastws": lambda loop: fastws.prepare,
    "websockets": websockets_builder,
    "wsproto": wsproto_builder,
    "aiohttp": aiohttp_builder,
}


def sent_by_fastws(message: fastws.PreparedMessage) -> bytes:
    """What a PreparedMessage looks like at the other end: of itself, it tells its size only."""

    async def exchange() -> bytes:
        app = fastws.App()

        @app.websocket("/")
        class Once:
            def open(self, ws: fastws.WebSocket) -> None:
                ws.send(message)
                ws.close()

        async with await app.start(port=0) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await reader.readuntil(b"\r\n\r\n")
            frame = await reader.readexactly(len(message))
            writer.transport.abort()
            return frame

    return asyncio.run(exchange())


@pytest.mark.parametrize("by", BUILDERS)
@pytest.mark.parametrize("size", SIZES)
def test_build(benchmark: BenchmarkFixture, size: int, by: str) -> None:
    payload = random.Random(1).randbytes(size)
    loop = asyncio.new_event_loop()
    try:
        build = BUILDERS[by](loop)
        built = build(payload)
        frame = sent_by_fastws(built) if isinstance(built, fastws.PreparedMessage) else b"".join(built)
        assert frame == head(size, False) + payload
        benchmark.group = f"build {size} B"
        benchmark.extra_info = {"size": size}
        benchmark(build, payload)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
