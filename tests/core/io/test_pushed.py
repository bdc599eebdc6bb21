"""The pushed wire: the whole server over an asyncio.Transport, which somebody else's server has accepted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from harness import (
    BINARY,
    CLOSE,
    TEXT,
    RawClient,
    Recorder,
    build,
    frames,
    make_app,
    on_loop,
    open_fds,
    request_bytes,
    run_until,
    until,
)
from harness.forks import in_child

import fastws
from fastws import _speedups
from fastws.serving.reactors import reactor_of


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
async def door(
    app: Any, spoil: Callable[[Any, Any], Any] | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Any, int]]:
    """A server of ours without a listener, and the port of theirs."""
    async with await app.start(listen=None) as server:
        loop = asyncio.get_running_loop()
        theirs = await loop.create_server(lambda: Door(server, spoil), "127.0.0.1", 0, ssl=tls)
        for sock in theirs.sockets:  # accepted ones inherit it; the kernel would take 32 MiB
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)
        yield server, theirs.sockets[0].getsockname()[1]
        theirs.close()
        await theirs.wait_closed()


def run(loop_kind: str, app: Any, talk: Callable[[int], None], tls: ssl.SSLContext | None = None) -> dict[str, Any]:
    """The server's figures after talk(port), which runs in a thread."""

    async def main() -> dict[str, Any]:
        async with door(app, tls=tls) as (server, port):
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


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's. They are made in a process of its own, without the sanitizers that this one may run
    under: what makes them leaves memory behind at its end."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [sys.executable, "-m", "trustme", "--quiet", "--identities", "127.0.0.1", "--dir", str(folder)]
    subprocess.run(command, env=environment, check=True)
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.load_cert_chain(folder / "server.pem", folder / "server.key")
    theirs.load_verify_locations(folder / "client.pem")
    return ours, theirs


def test_over_tls(loop_kind: str, tmp_path: Path, no_leaked_fds: None, caplog: pytest.LogCaptureFixture) -> None:
    """What the loops' own TLS decrypts is served, and what a peer of it may do brings no line in the log."""
    ours, theirs = certificates(tmp_path)

    def connect(port: int) -> RawClient:
        sock = theirs.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")
        client = RawClient(sock, 20.0)
        client.handshake("/")
        return client

    def talk(port: int) -> None:
        client = connect(port)
        for size in (0, 1, 100, 70_000, 1_000_000):
            client.send("x" * size)
            assert client.recv() == "x" * size
        client.send_close(1000)
        client.expect_close(1000)
        client.close()
        late = connect(port)
        for _ in range(20):
            late.send("y" * 100_000)
        assert [late.recv() for _ in range(20)] == ["y" * 100_000] * 20
        late.send_close(1000)
        late.reset()
        vanishing = connect(port)
        vanishing.send("z" * 1000)
        os.close(vanishing.sock.detach())  # without TLS's own end

    recorder = Recorder()
    app = make_app(recorder.handler(echo=True), max_backpressure=1 << 24)
    stats = run(loop_kind, app, talk, ours)
    assert stats["accepted"] == 3
    assert caplog.records == []


def test_a_peer_that_resets_after_our_close_is_no_error(
    loop_kind: str, no_leaked_fds: None, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio's write_eof() raises then."""
    app = make_app(Closing())

    def talk(port: int) -> None:
        for _ in range(30):
            client = RawClient.open(port)
            client.recv_frame()
            client.send_close(1000)
            client.reset()

    assert run(loop_kind, app, talk)["closed"]["by_app"] == 30
    assert caplog.records == []


class Closing:
    def open(self, ws: Any) -> None:
        ws.close(1000)


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


def memory_transport(server: Any, **methods: Callable[..., Any]) -> Any:
    """A transport that keeps what it is given, and the pushed wire over it as `wire`."""
    made = type("Transport", (MemoryTransport,), methods)()
    made.wire = _speedups.push(server._service, made, b"\x7f\0\0\x01", 5)
    return made


async def opened(server: Any, recorder: Recorder, **methods: Callable[..., Any]) -> tuple[Any, Any]:
    """A memory_transport() whose connection is open, and the connection."""
    transport = memory_transport(server, **methods)
    transport.wire.data_received(request_bytes())
    await until(lambda: recorder.sockets)
    (ws,) = recorder.sockets
    return transport, ws


class MemoryTransport:
    wire: Any

    def __init__(self) -> None:
        self.out = bytearray()
        self.closed = self.aborted = False
        self.reading = True

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 1

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        self.out += data

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def messages(self) -> list[bytes]:
        head, _, rest = self.out.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        return [frame.payload for frame in frames(rest)]


def on_a_server(loop_kind: str, app: Any, play: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with await app.start(listen=None) as server:
            await play(server)
            await asyncio.sleep(0.02)

    on_loop(loop_kind, main())


def test_a_write_that_sends_more(loop_kind: str, no_leaked_fds: None) -> None:
    """Nothing is sent twice or lost, although the transport's write() sends, and gives more to read."""
    recorder = Recorder()

    async def play(server: Any) -> None:
        def write(self: Any, data: bytes) -> None:
            self.out += data
            if recorder.sockets and len(recorder.sockets) < 2 and server.more:
                server.more -= 1
                recorder.sockets[0].send(b"inside %d" % server.more + bytes(40_000))
                self.wire.data_received(build(BINARY, b"given %d" % server.more))

        server.more = 0
        transport, ws = await opened(server, recorder, write=write)
        server.more = 20
        for number in range(20):
            ws.send(b"outside %d" % number + bytes(9_000))
            await asyncio.sleep(0)
        await until(lambda: len(transport.messages()) == 60)
        names = [message.rstrip(b"\0") for message in transport.messages()]
        for name in (b"outside", b"inside", b"given"):
            assert len({one for one in names if one.startswith(name)}) == 20, name
        transport.wire.connection_lost(None)

    app = make_app(recorder.handler(echo=True), max_backpressure=1 << 26, high_water=1 << 26)
    on_a_server(loop_kind, app, play)


def test_a_collection_within_a_write(loop_kind: str, no_leaked_fds: None) -> None:
    """A destructor that ends the connection while its bytes are handed over frees none of them too early."""
    recorder = Recorder()

    async def play(server: Any) -> None:
        transport, ws = await opened(server, recorder)

        class Ends:
            def __init__(self) -> None:
                self.cycle = self

            def __del__(self) -> None:
                ws.terminate()

        Ends()
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for number in range(300):
                ws.send(b"%03d" % number * 100)
            await asyncio.sleep(0)
        finally:
            gc.set_threshold(*threshold)
        await asyncio.sleep(0.01)
        assert ws.ready_state == fastws.ReadyState.CLOSED
        heard = transport.messages()
        assert heard == [b"%03d" % number * 100 for number in range(len(heard))]
        transport.wire.connection_lost(None)

    on_a_server(loop_kind, make_app(recorder.handler()), play)


def test_an_interrupt_forgets_no_other(no_leaked_fds: None) -> None:
    got: list[Any] = []

    def message(ws: Any, data: Any) -> None:
        got.append(data)
        if data == "raises":
            raise KeyboardInterrupt

    async def main() -> None:
        app = make_app(type("H", (), {"message": staticmethod(message)})())
        server = await app.start(listen=None)
        kept.append(server)
        for text in ("raises", "waits"):
            transport = memory_transport(server)
            kept.append(transport)
            transport.wire.data_received(request_bytes() + build(TEXT, text.encode()))
        await asyncio.sleep(60)

    kept: list[Any] = []
    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)

    async def end() -> None:
        await until(lambda: sorted(got) == ["raises", "waits"])
        await kept[0].stop(0.1)
        task.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(end())
    loop.close()


def test_a_peer_that_closes_is_heard_out(loop_kind: str, no_leaked_fds: None) -> None:
    """As after a close() over TCP: all that came before it is processed, although an async callback is busy."""
    got: list[Any] = []

    class Handler:
        async def message(self, ws: Any, data: Any) -> None:
            await asyncio.sleep(0.001)
            got.append(data)

        def close(self, ws: Any, code: int, reason: str) -> None:
            got.append(code)

    async def play(server: Any) -> None:
        transport = memory_transport(server)
        transport.wire.data_received(request_bytes() + build(TEXT, b"m") * 100)
        transport.wire.eof_received()
        transport.wire.connection_lost(None)
        await until(lambda: got and got[-1] == 1006)
        assert got == ["m"] * 100 + [1006]

    on_a_server(loop_kind, make_app(Handler()), play)


def test_what_it_is_given_counts_and_has_an_end(loop_kind: str, no_leaked_fds: None) -> None:
    """A transport that does not pause is broken off before it fills the memory."""
    recorder = Recorder()

    async def play(server: Any) -> None:
        transport, ws = await opened(server, recorder)
        ws.pause_reading()
        await until(lambda: not transport.reading)
        transport.wire.data_received(build(BINARY, bytes(500_000)))
        assert server.stats()["buffered_bytes"] >= 500_000
        for _ in range(3):
            transport.wire.data_received(build(BINARY, bytes(500_000)))
        await until(lambda: transport.aborted)
        await until(lambda: server.stats()["sockets"] == 0)
        assert server.stats()["buffered_bytes"] == 0

    on_a_server(loop_kind, make_app(recorder.handler()), play)


def test_slow_peers_that_are_ended_leave_no_descriptor(loop_kind: str, no_leaked_fds: None) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with door(make_app(recorder.handler(), max_backpressure=100_000)) as (server, port):
            before = len(open_fds())
            clients = [await asyncio.to_thread(RawClient.open, port) for _ in range(5)]
            for ws in list(recorder.sockets):
                while ws.send(bytes(50_000)) != fastws.DROPPED:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            reactor = reactor_of(asyncio.get_running_loop())
            reactor.hold_clock()
            reactor.advance(6)  # close_timeout: they do not answer the Close
            await until(lambda: server.stats()["sockets"] == 0)
            await until(lambda: len(open_fds()) == before + len(clients))
            for client in clients:
                client.reset()

    on_loop(loop_kind, main())


def test_last_bytes_have_a_time(loop_kind: str, no_leaked_fds: None) -> None:
    """A transport that has not ended ten seconds after its close is ended: it cannot send what it was handed before."""
    recorder = Recorder()

    async def play(server: Any) -> None:
        transport = memory_transport(server)
        transport.wire.data_received(request_bytes(method="GET", path="/nowhere"))
        await until(lambda: transport.out)
        transport.wire.eof_received()
        await until(lambda: transport.closed and not server.stats()["sockets"])
        reactor = reactor_of(asyncio.get_running_loop())
        reactor.hold_clock()
        reactor.advance(9)
        await asyncio.sleep(0)
        assert not transport.aborted
        reactor.advance(2)
        await until(lambda: transport.aborted)

    on_a_server(loop_kind, make_app(recorder.handler()), play)


def test_reading_goes_on_in_the_next_turn(loop_kind: str, no_leaked_fds: None) -> None:
    """No timer is waited for: none rings while the clock is held."""
    recorder = Recorder()

    async def play(server: Any) -> None:
        transport, ws = await opened(server, recorder)
        reactor_of(asyncio.get_running_loop()).hold_clock()
        for number in range(3):
            ws.pause_reading()
            await until(lambda: not transport.reading)
            transport.wire.data_received(build(TEXT, b"%d" % number))
            ws.resume_reading()
            await until(lambda: len(recorder.events) == 2 + number)  # noqa: B023
            assert transport.reading
        transport.wire.connection_lost(None)

    on_a_server(loop_kind, make_app(recorder.handler()), play)


def test_the_others_are_seen_to_while_a_callback_runs_the_loop(no_leaked_fds: None) -> None:
    """Those, too, that have something in the same turn."""
    got: list[str] = []

    class Handler:
        def message(self, ws: Any, data: str) -> None:
            got.append(data)
            if len(got) == 1:
                run_until(lambda: len(got) == 3)

    async def play(server: Any) -> None:
        transports = [memory_transport(server) for _ in range(3)]
        for transport in transports:
            transport.wire.data_received(request_bytes())
        await until(lambda: len(server.connections) == 3)
        for number, transport in enumerate(transports):
            transport.wire.data_received(build(TEXT, b"%d" % number))
        await until(lambda: sorted(got) == ["0", "1", "2"])
        for transport in transports:
            transport.wire.connection_lost(None)

    on_a_server("asyncio", make_app(Handler()), play)


@pytest.mark.parametrize("closes", ["before", "after"])
def test_what_close_raises_is_logged(loop_kind: str, caplog: pytest.LogCaptureFixture, closes: str) -> None:
    """Also where the socket has gone, and only the transport is left; that is aborted then."""
    recorder = Recorder()

    async def play(server: Any) -> None:
        transport, ws = await opened(server, recorder, close=lambda self: fail())
        if closes == "before":
            transport.can_write_eof = lambda: False
            ws.close(1000)
            transport.wire.data_received(build(CLOSE, b"\x03\xe8"))
            transport.wire.eof_received()
        else:
            ws.terminate()
            transport.wire.eof_received()
        await until(lambda: transport.aborted)

    on_a_server(loop_kind, make_app(recorder.handler()), play)
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [ArithmeticError]


def test_a_chain_of_them_is_freed_without_recursion(no_leaked_fds: None) -> None:
    """Their loop was closed before the server was stopped. A thread with a small stack frees them."""
    many = 40_000

    async def begin() -> Any:
        server = await make_app(lambda ws, data: None, max_connections=many).start(listen=None)
        for number in range(many):
            transport = memory_transport(server)
            transport.wire.data_received(request_bytes())
            transport.wire = None  # else a collection would take the chain apart
            if number % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(server.connections) == many)
        return server

    freed = []

    def free() -> None:
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(begin())
        loop.close()
        server.abandon()
        del server, loop
        gc.collect()
        freed.append(True)

    size = threading.stack_size(1 << 18)
    thread = threading.Thread(target=free)
    thread.start()
    thread.join()
    threading.stack_size(size)
    assert freed


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_the_child_of_a_fork_pushes_nothing(loop_kind: str) -> None:
    async def play(server: Any) -> None:
        def push() -> None:
            memory_transport(server)

        assert "the server is stopping" in in_child(push)

    on_a_server(loop_kind, make_app(Recorder().handler()), play)
