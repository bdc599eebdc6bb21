"""A server's life: what it listens on, what it knows of its connections, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from harness import RawClient, Recorder, Traps, new_loop, open_fds, request_bytes

import fastws

Main = Callable[[], Awaitable[None]]


@pytest.fixture
def run(loop_kind: str, no_leaked_fds: None, traps: Traps) -> Any:
    """Runs a coroutine function on a fresh loop, and fails for what it leaves there."""

    def run(main: Main) -> None:
        loop = new_loop(loop_kind)
        errors: list[Any] = []
        loop.set_exception_handler(lambda loop, context: errors.append(context))
        try:
            loop.run_until_complete(asyncio.wait_for(main(), 30))
            loop.run_until_complete(asyncio.sleep(0))
            assert not errors
            assert asyncio.all_tasks(loop) == set()
            if isinstance(loop, asyncio.BaseEventLoop):
                assert [handle for handle in loop._scheduled if not handle.cancelled()] == []  # type: ignore[attr-defined]
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


def echo_app(**options: Any) -> fastws.App:
    app = fastws.App(**{"ping_interval": 0, **options})
    app.websocket("/")(lambda ws, data: ws.send(data))
    return app


async def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs what blocks, a client's part, in a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


async def client_of(port: int, path: str = "/", host: str = "127.0.0.1") -> RawClient:
    def connect() -> RawClient:
        client = RawClient(socket.create_connection((host, port)))
        client.handshake(path)
        return client

    client: RawClient = await elsewhere(connect)
    return client


async def echoes(client: RawClient) -> None:
    client.send("hello")
    assert await elsewhere(client.recv) == "hello"


async def serves(port: int, host: str = "127.0.0.1") -> None:
    client = await client_of(port, host=host)
    await echoes(client)
    client.close()


async def until(check: Callable[[], Any], within: float = 3.0) -> None:
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


# What it listens on


def test_port_0(run: Any) -> None:
    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0) as server:
            assert server.port > 0
            assert server.urls == [f"http://127.0.0.1:{server.port}"]
            await serves(server.port)

    run(main)


@pytest.mark.parametrize("host", ["localhost", None, ""])
def test_all_addresses_of_a_host(run: Any, host: str | None) -> None:
    """With port 0, too, all of them have one port."""
    addresses = {"127.0.0.1", "::1"}
    if host:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, 0)}

    async def main() -> None:
        async with await echo_app().start(host, 0) as server:
            assert len(server.urls) == len(addresses)
            for address in addresses:
                await serves(server.port, host=address)

    run(main)


class Resolving(asyncio.SelectorEventLoop):
    """Knows a name with two addresses, of which the first is not of this machine."""

    async def getaddrinfo(self, *arguments: Any, **options: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        ]


def test_an_address_that_is_not_here_beside_one_that_is(no_leaked_fds: None, traps: Traps) -> None:
    """As where localhost is ::1, too, and IPv6 is switched off."""

    async def main() -> None:
        async with await echo_app().start("somewhere", 0) as server:
            assert server.urls == [f"http://127.0.0.1:{server.port}"]

    loop = Resolving()
    loop.run_until_complete(main())
    loop.close()


def test_a_socket(run: Any) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        async with await echo_app().start(sock=sock) as server:
            assert server.port == port
            await serves(port)
        assert sock.fileno() == -1  # it was the server's

    run(main)


def test_a_socket_and_a_path(run: Any) -> None:
    async def main() -> None:
        with socket.socket() as sock, pytest.raises(ValueError, match="give one of them"):
            await echo_app().start(sock=sock, uds="/tmp/socket")

    run(main)


def unix_client(path: str) -> RawClient:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return RawClient(sock)


async def unix_echoes(path: str) -> None:
    client = await elsewhere(unix_client, path)
    await elsewhere(client.handshake)
    await echoes(client)
    client.close()


def test_unix_socket(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        async with await echo_app().start(uds=str(path)) as server:
            assert (server.port, server.urls) == (0, [f"unix:{path}"])
            assert path.is_socket()
            await unix_echoes(str(path))
        assert not path.exists()

    run(main)


def test_unix_socket_of_an_earlier_server(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.is_socket()

    async def main() -> None:
        async with await echo_app().start(uds=str(path)):
            await unix_echoes(str(path))

    run(main)
    assert not path.exists()


def test_unix_socket_that_another_server_took_over(run: Any, tmp_path: Path) -> None:
    """A restart without a gap: the new server puts its own file there before the old one stops, or while it does."""
    path = tmp_path / "socket"

    async def main() -> None:
        old = await echo_app().start(uds=str(path))
        async with await echo_app().start(uds=str(path)):
            await old.stop()
            await unix_echoes(str(path))
        assert not path.exists()
        old = await echo_app().start(uds=str(path))
        client = unix_client(str(path))
        await elsewhere(client.handshake)
        stopping = asyncio.ensure_future(old.stop(0.2))
        await elsewhere(client.recv_frame)
        assert not path.exists()
        async with await echo_app().start(uds=str(path)):
            await stopping
            await unix_echoes(str(path))
        client.close()

    run(main)


def test_stop_again_on_another_loop(loop_kind: str, no_leaked_fds: None, traps: Traps) -> None:
    loop, other = new_loop(loop_kind), new_loop(loop_kind)
    server = loop.run_until_complete(echo_app().start("127.0.0.1", 0))
    loop.run_until_complete(server.stop())
    loop.close()
    other.run_until_complete(server.stop())
    other.close()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_something_else_in_the_place_of_a_unix_socket(run: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "precious"
    path.mkdir() if kind == "directory" else path.write_text("data")

    async def main() -> None:
        with pytest.raises(FileExistsError) as caught:
            await echo_app().start(uds=str(path))
        assert caught.value.strerror == f"cannot listen on {path}: a file that is no socket is there"

    run(main)
    assert path.is_dir() if kind == "directory" else path.read_text() == "data"


def test_unix_socket_and_a_change_of_directory(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with await echo_app().start(uds="socket"):
            monkeypatch.chdir("/")
        assert not (tmp_path / "socket").exists()

    run(main)


def test_unix_socket_without_a_file(run: Any) -> None:
    name = f"\0fastws-test-{os.getpid()}"

    async def main() -> None:
        async with await echo_app().start(uds=name) as server:
            assert (server.port, server.urls) == (0, [f"unix:@{name[1:]}"])
            await unix_echoes(name)

    run(main)


@pytest.mark.parametrize("name", ["missing/socket", "x" * 200])
def test_unix_socket_that_cannot_be(run: Any, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)

    async def main() -> None:
        with pytest.raises(OSError) as caught:
            await echo_app().start(uds=path)
        assert f"cannot listen on {path}: " in str(caught.value)
        assert "None" not in str(caught.value)[-10:]

    run(main)


def test_port_in_use(run: Any) -> None:
    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0) as server:
            for host in ("127.0.0.1", "localhost", None):
                with pytest.raises(OSError) as caught:
                    await echo_app().start(host, server.port)
                assert caught.value.errno == errno.EADDRINUSE
                said = rf"cannot listen on (127\.0\.0\.1|0\.0\.0\.0) port {server.port}: Address already in use"
                assert caught.match(said)

    run(main)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", "cannot listen on 192.0.2.1 port 0: Cannot assign requested address"),
        ("no.such.name.invalid", "cannot listen on no.such.name.invalid port 0: "),
        ("x" * 64 + ".example", "cannot listen on xxxx"),
    ],
)
def test_hosts_that_are_not_here(run: Any, host: str, said: str) -> None:
    async def main() -> None:
        with pytest.raises(OSError) as caught:
            await echo_app().start(host, 0)
        assert said in str(caught.value)

    run(main)


def test_reuse_port(run: Any) -> None:
    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0, reuse_port=True) as one:
            async with await echo_app().start("127.0.0.1", one.port, reuse_port=True) as two:
                clients = [await client_of(one.port) for _ in range(40)]
                await until(lambda: len(one.connections) + len(two.connections) == 40)
                assert one.connections and two.connections  # 2^-39 that the kernel means it so
                for client in clients:
                    client.close()

    run(main)


def test_backlog(run: Any) -> None:
    """While the loop is held, the kernel keeps no more than this waiting (listen(2): it rounds up by one)."""

    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0, backlog=2) as server:
            connected = []
            for _ in range(8):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", server.port))
                connected.append(sock)
            time.sleep(0.1)
            up = [sock for sock in connected if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) and is_up(sock)]
            assert len(up) == 3
            for sock in connected:
                sock.close()

    run(main)


def is_up(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def test_no_descriptor_for_the_poller(run: Any) -> None:
    """The sockets that were opened for it are closed."""

    async def main() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 2, hard))
        fillers = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            os.close(fillers.pop())
            with pytest.raises(OSError) as caught:
                await echo_app().start("127.0.0.1", 0)
            assert caught.value.errno == errno.EMFILE
            fillers.append(os.dup(0))  # it is free again
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)

    run(main)


# Its connections


def test_connections(run: Any) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler())

    async def main() -> None:
        async with await app.start("127.0.0.1", 0) as server:
            connections = server.connections
            assert isinstance(connections, Collection)
            assert (len(connections), list(connections), bool(connections)) == (0, [], False)
            clients = [await client_of(server.port) for _ in range(3)]
            await until(lambda: len(recorder.sockets) == 3)
            assert set(connections) == set(recorder.sockets)
            assert repr(connections) == "<3 connections>"
            assert recorder.sockets[0] in connections
            assert None not in connections and "x" not in connections
            for ws in connections:  # a snapshot: it may change meanwhile
                ws.terminate()
                assert ws not in connections
            assert len(connections) == 0 == len(list(connections))
            half = RawClient.connect(server.port)
            half.send_raw(request_bytes()[:-2])
            await until(lambda: server.stats()["handshakes"] == 1)
            assert not connections
            for client in clients:
                client.close()
        assert list(connections) == []
        assert recorder.sockets[0] not in connections

    run(main)


# Its end


def test_stop_says_1001(run: Any) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler())

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        clients = [await client_of(server.port) for _ in range(5)]
        await until(lambda: len(server.connections) == 5)
        stopping = asyncio.ensure_future(server.stop(5))
        frames = [await elsewhere(client.recv_frame) for client in clients]
        assert {(frame.opcode, frame.payload[:2]) for frame in frames} == {(8, b"\x03\xe9")}
        assert not stopping.done()  # it waits for the peers
        with pytest.raises(ConnectionRefusedError):
            RawClient.connect(server.port)
        for client in clients:
            client.send_close(1001)
        for client in clients:
            assert await elsewhere(client.eof)
            client.close()
        await stopping
        assert recorder.events[5:] == [("close", 1001, "server is stopping")] * 5

    run(main)


def test_stop_terminates_those_who_do_not_answer(run: Any) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler())

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        client = await client_of(server.port)
        began = time.monotonic()
        await server.stop(0.2)
        assert 0.19 < time.monotonic() - began < 1
        assert recorder.events == [("open",), ("close", 1001, "server is stopping")]
        await elsewhere(client.recv_frame)
        client.close()

    run(main)


@pytest.mark.parametrize("timeout", [0, 0.0, -1])
def test_stop_at_once(run: Any, timeout: float) -> None:
    async def main() -> None:
        server = await echo_app().start("127.0.0.1", 0)
        client = await client_of(server.port)
        began = time.monotonic()
        await server.stop(timeout)
        assert time.monotonic() - began < 0.5
        client.close()

    run(main)


def test_stop_again_and_at_the_same_time(run: Any) -> None:
    async def main() -> None:
        server = await echo_app().start("127.0.0.1", 0)
        client = await client_of(server.port)
        began = time.monotonic()
        waiting = asyncio.ensure_future(server.wait_closed())
        stops = [asyncio.ensure_future(server.stop(10)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(stop.done() for stop in [*stops, waiting])
        await server.stop(0.1)
        await asyncio.gather(*stops, waiting)
        assert time.monotonic() - began < 2
        await server.stop()
        await server.wait_closed()
        client.close()

    run(main)


def test_stop_that_is_cancelled(run: Any) -> None:
    """It goes on by itself, and can be called again."""

    async def main() -> None:
        server = await echo_app().start("127.0.0.1", 0)
        client = await client_of(server.port)
        stopping = asyncio.ensure_future(server.stop(10))
        waiting = asyncio.ensure_future(server.wait_closed())
        await elsewhere(client.recv_frame)
        stopping.cancel()
        waiting.cancel()
        await asyncio.wait((stopping, waiting))
        assert stopping.cancelled() and waiting.cancelled()
        client.send_close(1001)
        client.close()
        await asyncio.wait_for(server.wait_closed(), 3)
        await server.stop()

    run(main)


def test_stop_from_its_own_callback(run: Any) -> None:
    """It waits for the connections, and so for the callback that waits for it, until the time is up."""
    app = fastws.App()
    servers: list[fastws.Server] = []
    ended: list[str] = []

    @app.websocket("/")
    class Handler:
        async def message(self, ws: Any, data: Any) -> None:
            try:
                await servers[0].stop(0.1)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    async def main() -> None:
        servers.append(await app.start("127.0.0.1", 0))
        client = await client_of(servers[0].port)
        client.send("stop")
        await asyncio.wait_for(servers[0].wait_closed(), 5)
        await asyncio.sleep(0)
        assert ended == ["cancelled"]
        assert app.stats()["sockets"] == 0
        client.close()

    run(main)


def test_stop_while_callbacks_run(run: Any) -> None:
    app = fastws.App()
    ended: list[str] = []

    @app.websocket("/")
    class Handler:
        async def message(self, ws: Any, data: Any) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        def close(self, ws: Any, code: int, reason: str) -> None:
            ended.append(f"close {code}")

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        client = await client_of(server.port)
        client.send("wait")
        await asyncio.sleep(0.1)
        await server.stop(0.1)
        assert ended == ["cancelled", "close 1001"]
        client.close()

    run(main)


def test_a_long_close_callback(run: Any, traps: Traps) -> None:
    """It has CANCEL_TIMEOUT to end, and is then cancelled as others are: that is no fault of it."""
    app = fastws.App(close_timeout=30)
    ended: list[str] = []

    @app.websocket("/")
    class Handler:
        async def close(self, ws: Any, code: int, reason: str) -> None:
            try:
                await asyncio.sleep(0.3 if ws.query_string else 60)
                ended.append("in time")
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        clients = [await client_of(server.port, path) for path in ("/", "/?short")]
        began = time.monotonic()
        await server.stop(0)
        assert 0.9 < time.monotonic() - began < 3
        assert ended == ["in time", "cancelled"]
        for client in clients:
            client.close()

    run(main)


def test_a_callback_that_ignores_its_cancellation(run: Any, traps: Traps) -> None:
    app = fastws.App()
    release: list[asyncio.Event] = []
    traps.expect(None)

    @app.websocket("/")
    class Handler:
        async def message(self, ws: Any, data: Any) -> None:
            release.append(asyncio.Event())
            while not release[0].is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release[0].wait()
            ws.send("DROPPED")

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        client = await client_of(server.port)
        client.send("go")
        await until(lambda: release)
        began = time.monotonic()
        await server.stop(0)
        assert time.monotonic() - began < 4
        assert app.stats()["sockets"] == 0
        client.close()
        release[0].set()
        await until(lambda: len(asyncio.all_tasks()) == 1 + WAIT_FOR_TASK)

    run(main)
    assert traps.records[0].getMessage() == "a callback ignores its cancellation; the server stops without it"


#: wait_for() runs its coroutine in a task of its own before Python 3.12.
WAIT_FOR_TASK = sys.version_info < (3, 12)


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_stop_while_connections_are_opening(run: Any, timeout: float) -> None:
    app = fastws.App()
    ended: list[str] = []

    async def forever(request: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(request.path)
            raise

    class Handler:
        upgrade = staticmethod(forever)

        def open(self, ws: Any) -> None:
            ended.append("opened")

    app.websocket("/ws")(Handler)
    app.http("/http")(forever)

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        clients = [RawClient.connect(server.port) for _ in range(4)]
        clients[1].send_raw(b"GET / HT")
        clients[2].send_raw(request_bytes("/ws"))
        clients[3].send_raw(b"GET /http HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: server.stats()["handshakes"] == 4)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await server.stop(timeout)
        assert time.monotonic() - began < 1
        assert sorted(ended) == ["/http", "/ws"]
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                assert await elsewhere(client.eof)
            client.close()

    run(main)


def test_stop_with_a_refusal_under_way(run: Any) -> None:
    """A peer that was refused and does not hang up."""

    async def main() -> None:
        server = await echo_app().start("127.0.0.1", 0)
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes("/nowhere"))
        response = await elsewhere(client.recv_http)
        assert response.status == 404
        await server.stop(0.1)
        client.close()

    run(main)


def test_async_with(run: Any) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with await echo_app().start("127.0.0.1", 0) as server:
                1 / 0  # noqa: B018
        with pytest.raises(ConnectionRefusedError):
            RawClient.connect(server.port)
        await server.wait_closed()

    run(main)


def test_starting_again(run: Any) -> None:
    app = echo_app()

    async def main() -> None:
        port = 0
        for _ in range(3):
            async with await app.start("127.0.0.1", port) as server:
                port = server.port
                client = await client_of(port)
                await echoes(client)
                client.close()
        assert app.stats()["accepted"] == 0  # of servers that are gone, nothing is told

    run(main)
    run(main)  # on another loop, too


def test_several_servers_of_one_app(run: Any, tmp_path: Path) -> None:
    app = echo_app()
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with await app.start("127.0.0.1", 0) as one, await app.start("::1", 0), await app.start(uds=path) as unix:
            client = await client_of(one.port)
            await unix_echoes(path)
            assert app.stats()["accepted"] == 2
            assert (len(one.connections), one.stats()["accepted"]) == (1, 1)
            await unix.stop()
            await echoes(client)
            client.close()

    run(main)


def test_it_can_be_collected(run: Any) -> None:
    async def main() -> None:
        server = await echo_app().start("127.0.0.1", 0)
        client = await client_of(server.port)
        await echoes(client)
        client.close()
        await server.stop()
        ref = weakref.ref(server)
        connections = server.connections
        del server
        await asyncio.sleep(0)
        gc.collect()
        assert ref() is None
        assert len(connections) == 0

    run(main)


def test_a_hundred_starts_and_stops(run: Any) -> None:
    async def main() -> None:
        for round_ in range(100):
            server = await echo_app().start("127.0.0.1", 0)
            if round_ == 10:
                before = len(open_fds())
            await server.stop()
        assert len(open_fds()) == before - 2  # the listener and the poller of the one that was open then

    run(main)


DROPPED = """
import asyncio, gc, socket, sys
import fastws
if sys.argv[1] == "uvloop":
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop

app = fastws.App()
kept = []
@app.websocket("/")
class Handler:
    def open(self, ws):
        kept.append(ws)
    async def message(self, ws, data):
        print("got", data)
        await asyncio.sleep(60)

loop = new_event_loop()
async def main():
    server = await app.start("127.0.0.1", 0)
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall({request!r} + {frame!r})
    await asyncio.sleep(0.1)
    assert len(server.connections) == 1
    return server if "keep" in sys.argv else None

server = loop.run_until_complete(main())
if "open" not in sys.argv:
    loop.close()
if "collect" in sys.argv:
    kept.clear()
    del loop, app, Handler
    gc.collect()
print("end")
"""


@pytest.mark.parametrize("ending", ["", "keep", "collect", "keep collect", "open", "open keep", "open collect"])
def test_dropped_without_stop(loop_kind: str, ending: str) -> None:
    """The loop is closed, or is not, and the interpreter ends: no crash and no traceback."""
    frame = b"\x82\x80\x00\x00\x00\x00"
    program = DROPPED.replace("{request!r}", repr(request_bytes())).replace("{frame!r}", repr(frame))
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, loop_kind, *ending.split()],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONMALLOC": "debug"},
    )
    assert (done.returncode, done.stdout) == (0, "got b''\nend\n"), done.stderr
    for wrong in ("Traceback", "Fatal", "Exception ignored"):
        assert wrong not in done.stderr, done.stderr
