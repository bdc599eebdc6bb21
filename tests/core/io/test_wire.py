"""The pushed wire: the whole server over an asyncio.Transport, which somebody else's server has accepted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from harness import BINARY, RawClient, Recorder, build, make_app, on_loop, request_bytes

from fastws import _speedups


class Door(asyncio.Protocol):
    """Hands all that its transport tells to the server."""

    def __init__(self, server: Any, spoil: Callable[[Any, Any], Any] | None = None) -> None:
        self.server, self.spoil = server, spoil

    def connection_made(self, transport: Any) -> None:
        if self.spoil is not None:
            transport = self.spoil(self, transport)
        self.pushed = _speedups.push(self.server._service, transport, b"\x7f\0\0\x01", 5)

    def data_received(self, data: bytes) -> None:
        self.pushed.data_received(data)

    def eof_received(self) -> bool:
        return self.pushed.eof_received()

    def connection_lost(self, error: BaseException | None) -> None:
        self.pushed.connection_lost(error)

    def pause_writing(self) -> None:
        self.pushed.pause_writing()

    def resume_writing(self) -> None:
        self.pushed.resume_writing()


@contextlib.asynccontextmanager
async def door(app: Any, spoil: Callable[[Any, Any], Any] | None = None) -> AsyncIterator[tuple[Any, int]]:
    """A server of ours without a listener, and the port of theirs."""
    async with await app.start(listen=None) as server:
        theirs = await asyncio.get_running_loop().create_server(lambda: Door(server, spoil), "127.0.0.1", 0)
        for sock in theirs.sockets:  # accepted ones inherit it; the kernel would take 32 MiB
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)
        yield server, theirs.sockets[0].getsockname()[1]
        theirs.close()
        await theirs.wait_closed()


def run(loop_kind: str, app: Any, talk: Callable[[int], None]) -> dict[str, Any]:
    """The server's figures after talk(port), which runs in a thread."""

    async def main() -> dict[str, Any]:
        async with door(app) as (server, port):
            await asyncio.to_thread(talk, port)
            for _ in range(1000):
                if not server.stats()["sockets"]:
                    break
                await asyncio.sleep(0.005)
            stats: dict[str, Any] = server.stats()
            return stats

    stats: dict[str, Any] = on_loop(loop_kind, main())
    assert (stats["sockets"], stats["buffered_bytes"]) == (0, 0)
    return stats


def test_echoes(loop_kind: str, no_leaked_fds: None) -> None:
    recorder = Recorder()

    def talk(port: int) -> None:
        client = RawClient.open(port)
        for size in (0, 1, 100, 70_000, 1_000_000):
            client.send("x" * size)
            assert client.recv() == "x" * size
        client.send_close(1000)
        client.expect_close(1000)
        client.close()

    stats = run(loop_kind, make_app(recorder.handler(echo=True), max_backpressure=1 << 24), talk)
    assert stats["closed"]["by_peer"] == 1
    assert recorder.events[-1] == ("close", 1000, "")


def test_frames_however_they_are_cut(loop_kind: str, no_leaked_fds: None) -> None:
    rng = random.Random(5)
    messages = [rng.randbytes(rng.choice([0, 1, 125, 126, 5000, 100_000])) for _ in range(100)]

    def talk(port: int) -> None:
        client = RawClient.open(port)
        stream = b"".join(build(BINARY, message) for message in messages)
        at = 0
        while at < len(stream):
            size = rng.choice([1, 10, 1000, 50_000])
            client.send_raw(stream[at : at + size])
            at += size
            if rng.random() < 0.3:
                client.drain_now()
        assert [client.recv() for _ in messages] == messages
        client.close()

    run(loop_kind, make_app(Recorder().handler(echo=True), max_backpressure=1 << 24, high_water=1 << 24), talk)


def test_a_peer_that_reads_late_is_held_back(loop_kind: str, no_leaked_fds: None) -> None:
    """The transport's buffer fills, then ours; reading pauses; all of it comes in the end."""
    recorder = Recorder()
    blob = bytes(range(256)) * 4096

    def talk(port: int) -> None:
        client = RawClient.open(port)
        client.sock.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(400):
                client.send_frame(BINARY, blob, mask=b"\0\0\0\0")
                sent += 1
        assert sent < 400
        client.sock.settimeout(20)
        for _ in range(sent):
            assert client.recv() == blob
        client.close()

    run(loop_kind, make_app(recorder.handler(echo=True), max_backpressure=1 << 22), talk)


def test_a_half_close_is_answered(loop_kind: str, no_leaked_fds: None) -> None:
    def talk(port: int) -> None:
        client = RawClient.open(port)
        for number in range(5):
            client.send(str(number))
        client.finish_sending()
        assert [client.recv() for _ in range(5)] == list("01234")
        client.expect_eof()
        client.close()

    run(loop_kind, make_app(Recorder().handler(echo=True)), talk)


@pytest.mark.parametrize("how", ["close", "terminate", "reset", "stop"])
def test_ends(loop_kind: str, no_leaked_fds: None, how: str) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with door(make_app(recorder.handler(echo=True))) as (server, port):
            client = await asyncio.to_thread(RawClient.open, port)
            while not recorder.sockets:
                await asyncio.sleep(0.001)
            (ws,) = recorder.sockets
            assert ws.remote_address == ("127.0.0.1", 5)
            if how == "close":
                ws.close(4000, "bye")
                assert (await asyncio.to_thread(client.recv_frame)).payload == b"\x0f\xa0bye"
                await asyncio.to_thread(client.send_close, 4000)
            elif how == "terminate":
                ws.terminate()
            elif how == "reset":
                client.reset()
            else:
                stopping = asyncio.ensure_future(server.stop(2))
                assert (await asyncio.to_thread(client.recv_frame)).payload[:2] == b"\x03\xe9"
                await asyncio.to_thread(client.send_close, 1001)
                await stopping
            if how != "reset":
                assert await asyncio.to_thread(client.eof)
                client.close()
            for _ in range(1000):
                if not server.stats()["sockets"]:
                    break
                await asyncio.sleep(0.005)
            assert server.stats()["sockets"] == 0
        codes = {
            "close": (4000, "bye"),
            "terminate": (1006, ""),
            "reset": (1006, ""),
            "stop": (1001, "server is stopping"),
        }
        assert recorder.events[-1] == ("close", *codes[how])

    on_loop(loop_kind, main())


class Spoilt:
    """The transport, but for one method, which does something else on its n-th call."""

    def __init__(self, transport: Any, name: str, count: int, deed: Callable[[], Any]) -> None:
        self.transport, self.name, self.count, self.deed = transport, name, count, deed

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.transport, name)
        if name != self.name:
            return method

        def call(*arguments: Any) -> Any:
            self.count -= 1
            if self.count == 0:
                self.deed()
            return method(*arguments)

        return call


def fail() -> None:
    raise ArithmeticError("a transport's own")


@pytest.mark.parametrize("name", ["write", "pause_reading", "resume_reading", "write_eof", "abort", "close"])
@pytest.mark.parametrize("deed", ["raises", "aborts", "says more"])
def test_a_transport_of_any_kind(loop_kind: str, no_leaked_fds: None, name: str, deed: str) -> None:
    """It may raise, lose its connection inside a call of ours, or give more bytes there: no other one notices."""
    recorder = Recorder()

    def spoil(own: Door, transport: Any) -> Any:
        if own.server.stats()["accepted"] != 1:  # the second is spoilt
            return transport
        more = build(BINARY, b"more")
        deeds = {"raises": fail, "aborts": transport.abort, "says more": lambda: own.pushed.data_received(more)}
        return Spoilt(transport, name, 1, deeds[deed])

    async def main() -> None:
        app = make_app(recorder.handler(echo=True), high_water=65_536, low_water=1024)
        async with door(app, spoil) as (server, port):
            good = await asyncio.to_thread(RawClient.open, port)
            bad = await asyncio.to_thread(RawClient.open, port) if name != "write" or deed == "says more" else None
            if bad is None:
                await asyncio.to_thread(no_answer, port)
            else:
                for ws in list(server.connections)[:1]:
                    ws.pause_reading()
                    ws.resume_reading()
                with contextlib.suppress(OSError):
                    bad.send(b"to the bad one")
                    bad.send_close(1000)
            for number in range(20):
                await asyncio.to_thread(good.send, str(number))
                assert await asyncio.to_thread(good.recv) == str(number)
            if bad is not None:
                bad.close()
            for _ in range(1000):
                if server.stats()["sockets"] == 1:
                    break
                await asyncio.sleep(0.005)
            assert server.stats()["sockets"] == 1
            good.close()

    def no_answer(port: int) -> None:
        """The 101 is what the transport does not write."""
        with socket.create_connection(("127.0.0.1", port), 10) as client, contextlib.suppress(ConnectionError):
            client.sendall(request_bytes())
            assert client.recv(4096) == b""

    on_loop(loop_kind, main())
