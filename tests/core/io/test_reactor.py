"""The reactor on the user's loop: fairness, several servers and loops, turns, and exceptions that are not its own."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness import (
    PATIENCE,
    TEXT,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    at_rest,
    build,
    eventually,
    make_app,
    new_loop,
    request_bytes,
    unaccounted,
)

import fastws


class Flood:
    """Threads whose clients pipeline echoes without end and read what comes, whatever it is."""

    def __init__(self, server: ServerThread, connections: int = 8, message: bytes = b"f" * 1000) -> None:
        self.stop = threading.Event()
        self.clients = [RawClient.open(server.port) for _ in range(connections)]
        wire = build(TEXT, message) * 200
        self.threads = []
        for client in self.clients:
            for target in (self._write, self._read):
                self.threads.append(threading.Thread(target=target, args=(client.sock, wire), daemon=True))

    def __enter__(self) -> Flood:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        for client in self.clients:
            client.sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
        for client in self.clients:
            client.close()

    def _write(self, sock: socket.socket, wire: bytes) -> None:
        try:
            while not self.stop.is_set():
                sock.sendall(wire)
        except OSError:
            pass

    def _read(self, sock: socket.socket, wire: bytes) -> None:
        try:
            while sock.recv(1 << 20):
                pass
        except OSError:
            pass


def test_everything_else_goes_on_beside_a_flood(serve: Serving) -> None:
    """Another connection is answered, timers fire, tasks step, and the loop's own sockets work."""
    recorder = Recorder()

    class Echo:
        def message(self, ws: Any, data: str) -> None:
            if data == "quiet":
                recorder.note(ws, "message", data)
            ws.send(data)

    server = serve(make_app(Echo, max_backpressure=1 << 30))
    fired: list[int] = []
    steps = [0]

    async def many_steps() -> None:
        while steps[0] < 300:
            steps[0] += 1
            await asyncio.sleep(0)

    async def own_socket() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(b"line\n")
        line = await reader.readline()
        writer.close()
        listening.close()
        return line

    def again() -> None:
        fired.append(len(fired))
        if len(fired) < 20:
            server.loop.call_later(0.005, again)

    quiet = RawClient.open(server.port)
    with Flood(server):
        server.loop.call_soon_threadsafe(again)
        [task] = server.call(lambda: [server.loop.create_task(many_steps())])
        for _ in range(20):
            quiet.send("quiet")
            assert quiet.recv() == "quiet"
        assert server.call(own_socket) == b"line\n"
        eventually(lambda: len(fired) == 20 and task.done(), 10.0)
    assert len(recorder.events) == 20


def test_no_connection_starves_another(serve: Serving) -> None:
    """Of many that flood, each gets answers all the while."""
    seen: dict[int, int] = {}

    class Echo:
        def message(self, ws: Any, data: str) -> None:
            seen[ws.id] = seen.get(ws.id, 0) + 1

    server = serve(make_app(Echo))
    with Flood(server, connections=6):
        eventually(lambda: len(seen) == 6)
        for _ in range(5):
            before = dict(seen)
            eventually(lambda before=before: all(seen[one] > before[one] for one in before), 5.0, "everyone's turn")


def test_two_servers_on_one_loop(serve: Serving) -> None:
    first = serve(make_app(Recorder().handler(echo=True)))
    recorder = Recorder()
    other_app = make_app(recorder.handler(echo=True))
    second = first.call(other_app.start, "127.0.0.1", 0)
    one, two = RawClient.open(first.port), RawClient.open(second.port)
    for text in ("a", "b"):
        one.send(text)
        two.send(text + "2")
        assert (one.recv(), two.recv()) == (text, text + "2")
    assert len(first.server.connections) == len(second.connections) == 1

    def cross() -> None:
        """Between turns, to connections of both."""
        for ws in (*first.server.connections, *second.connections):
            ws.send("from outside")

    first.call(cross)
    assert (one.recv(), two.recv()) == ("from outside", "from outside")
    two.send_close()
    two.expect_close(1000)
    two.close()
    first.call(second.stop)
    recorder.wait_for(("open",), ("message", "a2"), ("message", "b2"), ("close", 1000, ""))
    one.send("c")
    assert one.recv() == "c"


def test_one_app_on_two_loops_in_two_threads(serve: Serving) -> None:
    app = make_app(Recorder().handler(echo=True))
    servers = [serve(app), serve(app)]
    floods = [Flood(server, connections=2) for server in servers]
    with floods[0], floods[1]:
        for server in servers * 20:
            with RawClient.open(server.port) as client:
                client.send("x")
                assert client.recv() == "x"
    ws_of_first = RawClient.open(servers[0].port) and servers[0].call(lambda: next(iter(servers[0].server.connections)))
    with pytest.raises(RuntimeError, match="thread"):
        servers[1].call(ws_of_first.send, "from the wrong loop")


def test_a_turn_is_as_soon_as_the_next_iteration(serve: Serving) -> None:
    """What is sent outside of callbacks leaves by itself, however it came to be sent."""
    server = serve(make_app(Recorder().handler()))
    client = RawClient.open(server.port)
    ws = server.call(lambda: next(iter(server.server.connections)))

    async def task() -> None:
        await asyncio.sleep(0)
        ws.send("task")

    server.loop.call_soon_threadsafe(ws.send, "soon")
    assert client.recv() == "soon"
    server.loop.call_soon_threadsafe(server.loop.call_later, 0.01, ws.send, "later")
    assert client.recv() == "later"
    server.call(task)
    assert client.recv() == "task"
    readable, written = os.pipe()
    server.call(server.loop.add_reader, readable, lambda: (os.read(readable, 1), ws.send("reader")))
    os.write(written, b"x")
    assert client.recv() == "reader"
    server.call(server.loop.remove_reader, readable)
    os.close(readable)
    os.close(written)


def test_a_connection_is_freed_with_its_last_reference(serve: Serving) -> None:
    server = serve(make_app(lambda ws, data: None))

    def count() -> int:
        gc.collect()
        return sum(type(one) is fastws.WebSocket for one in gc.get_objects())

    before = server.call(count)
    for _ in range(10):
        with RawClient.open(server.port) as client:
            client.send("x")
    eventually(lambda: server.stats()["sockets"] == 0)
    eventually(lambda: server.call(count) <= before, 3.0, "freed")


# Exceptions that end the loop: they are the user's to decide about, here as anywhere in asyncio.

CLOSED = ("victim", "close")


class Interrupting:
    """Raises `kind` once, in the callback that `where` names, for a victim."""

    def __init__(self, kind: type[BaseException], where: str) -> None:
        self.kind, self.where = kind, where
        self.events: list[tuple[str, str]] = []

    def step(self, ws: Any, place: str) -> None:
        if self.where == place and ws.query_string == "victim":
            self.where = ""
            raise self.kind

    def open(self, ws: Any) -> None:
        self.step(ws, "open")

    def message(self, ws: Any, data: str) -> Any:
        if data == "hold":
            return asyncio.sleep(0.01)
        if data == "async":
            return self.later(ws)
        self.step(ws, f"message {data}")
        self.events.append((ws.query_string, data))
        return None

    async def later(self, ws: Any) -> None:
        self.step(ws, "async")

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.events.append((ws.query_string, "close"))
        self.step(ws, "close")


@pytest.mark.parametrize(
    ("where", "sent"),
    [
        ("open", "x"),
        ("message go", "go never"),
        ("async", "async never"),
        ("message held", "hold held never"),
        ("close", "x"),
    ],
)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_loop(
    loop_kind: str, no_leaked_fds: None, kind: type[BaseException], where: str, sent: str
) -> None:
    """It comes out of the loop. Run again, the loop serves on, those connections are over, `close` came once."""
    handler = Interrupting(kind, where)
    app = make_app(handler, close_timeout=0.2)
    loop = new_loop(loop_kind)
    server = loop.run_until_complete(app.start("127.0.0.1", 0))

    def client(name: str, *messages: str) -> RawClient:
        made = RawClient.connect(server.port)
        made.send_raw(request_bytes(f"/?{name}") + b"".join(build(TEXT, message.encode()) for message in messages))
        return made

    def pump(until: Callable[[], bool]) -> None:
        """Runs the loop, which an exception may leave."""
        deadline = time.monotonic() + 3.0 * PATIENCE

        async def wait() -> None:
            while not until() and time.monotonic() < deadline:
                await asyncio.sleep(0.002)

        loop.run_until_complete(wait())
        assert until(), handler.events

    try:
        bystander = client("bystander", "warm")
        pump(lambda: ("bystander", "warm") in handler.events)
        victims = [client("victim", *sent.split()) for _ in range(3 if where == "close" else 1)]
        if where == "close":
            pump(lambda: handler.events.count(("victim", "x")) == 3)
            for victim in victims:
                victim.reset()
        with pytest.raises(kind):
            pump(lambda: False)
        if where != "close":
            victims[0].send_raw(build(TEXT, b"late"))
        bystander.send_raw(build(TEXT, b"beside"))
        client("after", "after")
        pump(lambda: {("bystander", "beside"), ("after", "after")} <= set(handler.events))
        pump(lambda: handler.events.count(CLOSED) == len(victims))
        assert not {("victim", "never"), ("victim", "late")} & set(handler.events)
        for one in list(RawClient.opened):
            one.close()
        loop.run_until_complete(asyncio.wait_for(server.stop(1.0), 5.0 * PATIENCE))
        assert handler.events.count(CLOSED) == len(victims)
        assert ("after", "close") in handler.events and ("bystander", "close") in handler.events
        assert not any(at_rest(app.stats()).values())
        assert not unaccounted(app.stats())
    finally:
        loop.run_until_complete(server.stop(0))
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
