"""Server.adopt: connected sockets from elsewhere, with bytes that somebody has read already."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import (
    TEXT,
    RawClient,
    Recorder,
    Serving,
    build,
    eventually,
    make_app,
    new_loop,
    on_loop,
    open_fds,
    request_bytes,
    until,
)
from harness.forks import in_child

import fastws
from fastws.serving.reactors import reactor_of

HELLO = build(TEXT, b"hello")


@contextlib.contextmanager
def pair(kind: str, tmp_path: Path) -> Iterator[tuple[socket.socket, RawClient]]:
    """A connected socket, and the client at its other end."""
    if kind == "socketpair":
        ours, theirs = socket.socketpair()
    else:
        with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as listener:
            listener.bind(str(tmp_path / "socket") if kind == "unix" else ("127.0.0.1", 0))
            listener.listen()
            theirs = socket.socket(listener.family)
            theirs.connect(listener.getsockname())
            ours, _ = listener.accept()
    client = RawClient(theirs)
    yield ours, client
    client.close()


KINDS = ["socketpair", "tcp", "unix"]


@pytest.fixture(params=KINDS)
def connected(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, RawClient]]:
    with pair(request.param, tmp_path) as both:
        yield both


@pytest.mark.parametrize("already", ["nothing", "half", "all", "frames", "half a frame"])
def test_bytes_that_were_read_already(serve: Serving, connected: Any, already: str) -> None:
    ours, client = connected
    server = serve(make_app(Recorder().handler(echo=True)))
    stream = request_bytes() + HELLO
    head = len(request_bytes())
    cut = {"nothing": 0, "half": 40, "all": head, "frames": len(stream), "half a frame": head + 4}[already]
    server.call(lambda: server.server.adopt(ours, stream[:cut]))
    assert ours.fileno() == -1
    client.send_raw(stream[cut:])
    client.expect_101()
    assert client.recv() == "hello"
    client.send("again")
    assert client.recv() == "again"
    stats = server.stats()
    assert (stats["accepted"], stats["connections"], stats["buffered_bytes"]) == (1, 1, 0)


def test_all_has_come_and_the_peer_has_shut(serve: Serving, connected: Any) -> None:
    ours, client = connected
    server = serve(make_app(Recorder().handler(echo=True)))
    client.finish_sending()
    server.call(lambda: server.server.adopt(ours, request_bytes() + HELLO * 3))
    client.expect_101()
    assert [client.recv() for _ in range(3)] == ["hello"] * 3
    client.expect_eof()
    eventually(lambda: server.stats()["sockets"] == 0)


def test_without_a_listener(loop_kind: str, no_leaked_fds: None) -> None:
    async def main() -> None:
        async with await make_app(Recorder().handler(echo=True)).start(listen=None) as server:
            assert (server.port, server.urls) == (0, [])
            ours, theirs = socket.socketpair()
            client = RawClient(theirs)
            server.adopt(ours, request_bytes())
            await asyncio.to_thread(client.expect_101)
            await asyncio.to_thread(client.send, "hello")
            assert await asyncio.to_thread(client.recv) == "hello"
            client.close()

    on_loop(loop_kind, main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("peer", [None, ("192.0.2.7", 5), ("2001:db8::1", 6)])
def test_the_address_of_the_peer(serve: Serving, tmp_path: Path, kind: str, peer: tuple[str, int] | None) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with pair(kind, tmp_path) as (ours, client):
        expected = peer or (client.sock.getsockname() if kind == "tcp" else None)
        server.call(lambda: server.server.adopt(ours, request_bytes(), peer=peer))
        client.expect_101()
        eventually(lambda: recorder.sockets)
        assert server.call(lambda: recorder.sockets[0].remote_address) == expected


def test_limits_count_by_the_address_that_is_given(serve: Serving, tmp_path: Path) -> None:
    server = serve(make_app(Recorder().handler(), max_connections_per_ip=1))
    with pair("socketpair", tmp_path) as (first, one), pair("socketpair", tmp_path) as (second, two):
        for ours in (first, second):
            server.call(lambda ours=ours: server.server.adopt(ours, request_bytes(), peer=("192.0.2.7", 5)))
        one.expect_101()
        two.expect_reject(503)


def test_a_full_server(serve: Serving, connected: Any) -> None:
    ours, client = connected
    server = serve(make_app(Recorder().handler(), max_connections=1))
    first = RawClient.open(server.port)
    server.call(lambda: server.server.adopt(ours, request_bytes()))
    client.expect_reject(503)
    first.close()


def test_it_has_the_options_of_one_that_was_accepted(serve: Serving, tmp_path: Path) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with pair("tcp", tmp_path) as (ours, client):
        copy = ours.dup()
        server.call(lambda: server.server.adopt(ours, request_bytes()))
        client.expect_101()
        assert copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert copy.getblocking() is True and not os.get_blocking(copy.fileno())
        copy.close()


# What is refused; the socket is closed then


def refused(server: Any, sock: socket.socket, error: type[BaseException], match: str, **how: Any) -> None:
    def adopt() -> None:
        with pytest.raises(error, match=match):
            server.server.adopt(sock, **how)
        assert sock.fileno() == -1

    server.call(adopt)


def test_what_cannot_be_adopted(serve: Serving, tmp_path: Path) -> None:
    server = serve(make_app(Recorder().handler()))
    refused(server, socket.socket(), OSError, "not connected")
    pairs = [socket.socketpair() for _ in range(4)]
    datagrams, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    refused(server, datagrams, ValueError, "no stream socket")
    theirs.close()
    refused(server, pairs[0][0], ValueError, "'example.com' is no address", peer=("example.com", 1))
    for data in (5, "text", None):
        ours, theirs = socket.socketpair()
        refused(server, ours, TypeError, f"data is .*, a bytes-like object, got {data!r}: leave it out", data=data)
        theirs.close()
    for peer in ("192.0.2.1", 5, ("192.0.2.1",), ["192.0.2.1", 5]):
        ours, theirs = socket.socketpair()
        refused(server, ours, TypeError, f"peer={re.escape(repr(peer))} is no address: give", peer=peer)
        theirs.close()
    for host in (5, b"192.0.2.1", None):
        ours, theirs = socket.socketpair()
        refused(server, ours, ValueError, "is no address: give", peer=(host, 5))
        theirs.close()
    for port in (True, 1.5, "80"):
        ours, theirs = socket.socketpair()
        refused(server, ours, TypeError, "of the peer is no int", peer=("192.0.2.1", port))
        theirs.close()
    refused(server, pairs[1][0], ValueError, "port 70000 of the peer is out of range", peer=("192.0.2.1", 70_000))
    refused(server, pairs[2][0], ValueError, "262,145 bytes of data, more than 262,144", data=bytes((1 << 18) + 1))
    for _, theirs in pairs[:3]:
        assert theirs.recv(1) == b""
    with pytest.raises(RuntimeError, match="belongs to its event loop: adopt in it"):
        server.server.adopt(pairs[3][0])
    assert pairs[3][0].fileno() == -1
    refused(server, pairs[3][0], ValueError, "is closed")
    for _, theirs in pairs:
        theirs.close()
    assert server.stats()["accepted"] == 0


def test_no_socket_at_all(serve: Serving) -> None:
    server = serve(make_app(Recorder().handler()))
    for what in (5, None, "socket"):
        with pytest.raises(TypeError, match=r"is a socket\.socket, got"):
            server.server.adopt(what)


def test_a_tls_socket(serve: Serving) -> None:
    """It would be answered in plain text."""
    server = serve(make_app(Recorder().handler()))
    ours, theirs = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    wrapped = context.wrap_socket(ours, do_handshake_on_connect=False)
    refused(server, wrapped, ValueError, "a TLS socket")
    assert theirs.recv(1) == b""
    theirs.close()


def test_the_system_says_of_what_kind_a_socket_is(serve: Serving, tmp_path: Path) -> None:
    """uvicorn and others have made Unix sockets of any descriptor that they were given."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with pair("tcp", tmp_path) as (ours, client):
        port = client.sock.getsockname()[1]
        believed = socket.socket(socket.AF_UNIX, fileno=ours.detach())
        server.call(lambda: server.server.adopt(believed, request_bytes()))
        client.expect_101()
        assert recorder.sockets[0].remote_address == ("127.0.0.1", port)
    packets, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    refused(server, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=packets.detach()), ValueError, "no stream")
    theirs.close()


def test_a_peer_as_accept_gives_it_for_ipv6(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    ours, theirs = socket.socketpair()
    server.call(lambda: server.server.adopt(ours, request_bytes(), peer=("2001:db8::1", 5, 0, 0)))
    RawClient(theirs).expect_101()
    assert recorder.sockets[0].remote_address == ("2001:db8::1", 5)


def test_many_at_once(serve: Serving) -> None:
    """All that wait for their turn with a request are too many, but none of them is late."""
    server = serve(make_app(Recorder().handler(), max_pending_handshakes=10))
    pairs = [socket.socketpair() for _ in range(100)]
    server.call(lambda: [server.server.adopt(ours, request_bytes()) for ours, _ in pairs])
    for _, theirs in pairs:
        RawClient(theirs).expect_101()
    assert server.stats()["refused"]["max_pending_handshakes"] == 0


class Interrupting(asyncio.SelectorEventLoop):
    """Its call_soon() raises where a signal's handler might."""

    armed = False

    def call_soon(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt
        return super().call_soon(*args, **options)


def test_an_interrupt_once_it_is_served(no_leaked_fds: None) -> None:
    """The descriptor is the connection's by then: closing it would close whatever has its number next."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Interrupting)
        async with await make_app(Recorder().handler(echo=True)).start(listen=None) as server:
            ours, theirs = socket.socketpair()
            loop.armed = True
            with pytest.raises(KeyboardInterrupt):
                server.adopt(ours, request_bytes() + HELLO)
            assert not loop.armed and ours.fileno() == -1
            others = [socket.socketpair() for _ in range(3)]
            server.adopt(others[0][0], request_bytes())
            for client in (RawClient(theirs), RawClient(others[0][1])):
                await asyncio.to_thread(client.expect_101)
                client.close()
            for sock in (*others[1], *others[2]):
                os.fstat(sock.fileno())
                sock.close()

    loop = Interrupting()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_copy_that_blocks_blocks_nobody(serve: Serving, tmp_path: Path) -> None:
    """O_NONBLOCK belongs to all copies of a descriptor. What is sent to a slow reader does not hold the loop up."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True), max_backpressure=1 << 26, high_water=1 << 26))
    with pair("tcp", tmp_path) as (ours, client):
        copy = ours.dup()
        server.call(lambda: server.server.adopt(ours, request_bytes()))
        client.expect_101()
        os.set_blocking(copy.fileno(), True)
        server.call(lambda: [recorder.sockets[0].send(bytes(1 << 20)) for _ in range(40)])
        other = RawClient.open(server.port)
        other.send("still here")
        assert other.recv() == "still here"
        copy.close()


def test_while_the_server_stops_and_after(loop_kind: str, no_leaked_fds: None) -> None:
    async def main() -> None:
        server = await make_app(Recorder().handler()).start(listen=None)
        ours, theirs = socket.socketpair()
        client = RawClient(theirs)
        server.adopt(ours, request_bytes())
        await asyncio.to_thread(client.expect_101)
        stopping = asyncio.ensure_future(server.stop(5))
        await asyncio.sleep(0.01)
        for _ in range(2):
            late, other = socket.socketpair()
            with pytest.raises(RuntimeError, match="stopping"):
                server.adopt(late)
            assert other.recv(1) == b""
            other.close()
            client.close()
            await stopping

    on_loop(loop_kind, main())


# One reactor for all servers of a loop


def test_servers_of_a_loop_share_its_reactor(loop_kind: str, no_leaked_fds: None) -> None:
    """Each serves its own; the descriptors of the reactor go with the last."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = open_fds()
        servers = [await make_app(Recorder().handler(echo=True)).start("127.0.0.1", 0) for _ in range(5)]
        reactor = reactor_of(loop)
        assert sum("eventpoll" in what for what in open_fds().values()) == (
            sum("eventpoll" in what for what in before.values()) + 1
        )
        for server in servers:
            client = await asyncio.to_thread(RawClient.open, server.port)
            await asyncio.to_thread(client.send, "x")
            assert await asyncio.to_thread(client.recv) == "x"
            assert [one.stats()["accepted"] for one in servers] == [1] * (servers.index(server) + 1) + [0] * (
                len(servers) - servers.index(server) - 1
            )
            client.close()
        for server in servers:
            assert reactor.is_open
            await server.stop()
        assert not reactor.is_open

    on_loop(loop_kind, main())


def test_a_thousand_loops_leave_nothing(loop_kind: str, no_leaked_fds: None) -> None:
    app = fastws.App()
    app.websocket("/")(lambda ws, data: ws.send(data))

    async def main() -> None:
        async with await app.start(listen=None) as server:
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            server.adopt(ours, request_bytes() + HELLO)
            answer = b""
            while b"hello" not in answer:
                answer += await asyncio.get_running_loop().sock_recv(theirs, 1000)
            theirs.close()

    for _ in range(1000):
        on_loop(loop_kind, main())
    gc.collect()
    left = [one for one in gc.get_objects() if type(one).__name__ in ("Reactor", "Service", "WebSocket", "Server")]
    assert len(left) <= 1, left
    assert app.stats()["accepted"] == 1000


def test_loops_in_threads_have_reactors_of_their_own(loop_kind: str, no_leaked_fds: None) -> None:
    app = make_app(Recorder().handler(echo=True))
    reactors: list[Any] = []
    barrier = threading.Barrier(2)

    def serve_in_thread() -> None:
        async def main() -> None:
            async with await app.start(listen=None):
                reactors.append(reactor_of(asyncio.get_running_loop()))
                await asyncio.to_thread(barrier.wait)

        loop = new_loop(loop_kind)
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    threads = [threading.Thread(target=serve_in_thread) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in reactors}) == 2
    reactors.clear()


def test_a_server_ends_although_a_log_handler_runs_the_loop(no_leaked_fds: None) -> None:
    """The nested turn finds it empty again; the other server of the loop serves on."""
    left = [1]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        task: Any = asyncio.current_task()

        class Nests(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if not left or "refused" not in record.getMessage():
                    return
                left.clear()
                current = asyncio.current_task()
                if current is not None:
                    asyncio.tasks._leave_task(loop, current)
                try:
                    for _ in range(6):
                        loop.call_soon(lambda: None)
                        loop._run_once()
                finally:
                    for _ in range(100):  # what the outer _run_once() has counted
                        loop.call_soon(lambda: None)
                    if current is not None:
                        asyncio.tasks._enter_task(loop, current)

        handler = Nests()
        log = logging.getLogger("fastws")
        log.addHandler(handler)
        level = log.level
        log.setLevel(logging.INFO)
        try:
            stays = await make_app(Recorder().handler(echo=True)).start(listen=None)
            ends = await make_app(Recorder().handler()).start(listen=None)
            ours, theirs = socket.socketpair()
            stays.adopt(ours, request_bytes())
            client = RawClient(theirs)
            await asyncio.to_thread(client.expect_101)
            bad, other = socket.socketpair()
            stays.adopt(bad, b"garbage\r\n\r\n")
            await ends.stop()
            await until(lambda: not left)
            client.send("still here")
            assert await asyncio.to_thread(client.recv) == "still here"
            client.close()
            other.close()
            await stays.stop(1)
        finally:
            log.removeHandler(handler)
            log.setLevel(level)
        assert task is asyncio.current_task()

    on_loop("asyncio", main())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_server_that_only_its_loop_holds_is_known_to_forks(no_leaked_fds: None) -> None:
    async def start() -> int:
        return (await make_app(Recorder().handler(echo=True)).start("127.0.0.1", 0)).port

    async def main() -> None:
        before = len(open_fds())
        port = await start()
        gc.collect()
        client = await asyncio.to_thread(RawClient.open, port)
        held = int(in_child(lambda: len(open_fds()))) - before - 2  # the ends of its pipe
        assert held <= 2, "the child has more than its copy of the client's end, and a poller of nothing"
        client.close()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gc.collect()
