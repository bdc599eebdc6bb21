"""The process forks while it serves: no event outlives its descriptor, peers see the end, the child has no server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness import Ended, RawClient, Serving, bystander, eventually, request_bytes
from harness.forks import copies_kept, in_child, polled_by_all
from harness.frames import CLOSE
from harness.programs import Program, reserve_port

import fastws
from fastws.serving.stats import total


class Room:
    def __init__(self) -> None:
        self.sockets: list[Any] = []
        self.closed: list[tuple[Any, int]] = []

    def open(self, ws: Any) -> None:
        self.sockets.append(ws)
        ws.subscribe("room")

    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closed.append((ws, code))


def make_app(room: Room, **options: Any) -> fastws.App:
    app = fastws.App(**{"ping_interval": 0, **options})
    app.websocket("/")(room)
    app.websocket("/bystander")(lambda ws, data: ws.send(data))
    return app


def leave(client: RawClient) -> None:
    """The peer's end, too, has a copy in the child."""
    client.sock.shutdown(socket.SHUT_RDWR)
    client.close()


def echoes(client: RawClient, said: str = "hello") -> None:
    client.send(said)
    assert client.recv() == said


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    """Python warns of a fork beside threads from 3.12 on; these children do next to nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


# -- A child holds copies of the descriptors


@pytest.mark.parametrize("kept", [False, True], ids=["forgotten", "kept by the application"])
def test_a_child_holds_a_connection_that_leaves(serve: Serving, kept: bool) -> None:
    """The poller would name it for ever: a use after free where others have come since, and a busy loop."""
    room = Room()
    server = serve(make_app(room))
    with bystander(server):
        leaving = [RawClient.open(server.port) for _ in range(8)]
        before = polled_by_all()
        with copies_kept():
            for client in leaving:
                leave(client)
            eventually(lambda: len(room.closed) == 8)
            if not kept:
                room.sockets.clear()
                room.closed.clear()
            assert polled_by_all() == before - 8
            for number in range(20):
                with RawClient.open(server.port) as client:
                    echoes(client, f"client {number}")
        assert server.stats()["closed"]["lost"] >= 8


@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
def test_a_child_holds_connections_that_end_in_many_ways(serve: Serving, how: str) -> None:
    room = Room()
    server = serve(make_app(room, max_message_size=100))
    with bystander(server), copies_kept():
        before = polled_by_all()
        for _ in range(10):
            client = RawClient.open(server.port)
            if how == "reset":
                client.reset()
            elif how == "close":
                client.send_close()
                client.expect_close(1000)
            else:
                client.finish_sending()
                assert client.eof()
            client.close()
        eventually(lambda: len(room.closed) == 10)
        eventually(lambda: polled_by_all() == before)


ENDINGS: dict[str, tuple[dict[str, Any], Callable[[Any, Any], Any]]] = {
    "terminate": ({}, lambda server, ws: server.call(ws.terminate)),
    "close_timeout": ({"close_timeout": 0.2}, lambda server, ws: server.call(ws.close)),
    "ping_timeout": ({"ping_interval": 0.1, "ping_timeout": 0.1, "close_timeout": 0.1}, lambda server, ws: None),
    "stop": ({"close_timeout": 0.2}, lambda server, ws: server.stop_server(0.2)),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_the_server_closes_ends_for_the_peer_though_a_child_holds_it(serve: Serving, ending: str) -> None:
    options, end = ENDINGS[ending]
    room = Room()
    server = serve(make_app(room, **options))
    client = RawClient.open(server.port)
    with copies_kept():
        end(server, room.sockets[0])
        frames = []
        try:
            while True:
                frames.append(client.recv_frame())
        except (Ended, ConnectionError):
            pass
        assert client.ended or not frames
        eventually(lambda: len(room.closed) == 1)


def test_a_handshake_that_is_timed_out_ends_though_a_child_holds_it(serve: Serving) -> None:
    server = serve(make_app(Room(), handshake_timeout=10)).hold_clock()
    client = RawClient.connect(server.port)
    server.settle()
    with copies_kept():
        server.advance(10)
        assert client.eof()


def test_programs_that_are_run_while_clients_come_and_go(serve: Serving) -> None:
    """As the field has it: a callback runs a program in a thread."""
    app = fastws.App(ping_interval=0)

    @app.websocket("/")
    async def run(ws: Any, data: Any) -> None:
        await asyncio.to_thread(subprocess.run, ["true"], close_fds=data != "inherit", check=True)
        ws.send(data)

    app.websocket("/bystander")(lambda ws, data: ws.send(data))

    @app.websocket("/preexec")
    async def preexec(ws: Any, data: Any) -> None:
        await asyncio.to_thread(subprocess.run, ["true"], preexec_fn=os.getpid, check=True)
        ws.send(data)

    server = serve(app)
    with bystander(server):
        for number in range(6):
            clients = [RawClient.open(server.port, path) for path in ("/", "/", "/preexec", "/")]
            for client, said in zip(clients, ("close", "inherit", "preexec", "leave"), strict=True):
                client.send(said)
            clients[3].close()
            for client, said in zip(clients[:3], ("close", "inherit", "preexec"), strict=True):
                assert client.recv() == said, number
                client.close()


# -- A fork after which both go on


def test_the_child_has_no_server(serve: Serving) -> None:
    """Its copies are closed, every call does nothing, no callback comes; the parent's poller is not touched."""
    room = Room()
    server = serve(make_app(room))
    with bystander(server):
        clients = [RawClient.open(server.port) for _ in range(3)]
        server.settle()
        before = polled_by_all()
        ws = room.sockets[-1]

        def child() -> Any:
            found = [ws.ready_state.name, int(ws.send("from the child")), len(server.server.connections)]
            found += [server.app.publish("room", "from the child"), ws.remote_address == clients[-1].sock.getsockname()]
            ws.close(4000)
            ws.ping()
            ws.pause_reading()
            ws.terminate()
            return [*found, len(room.closed), sockets_of(server.port)]

        assert len(sockets_of(server.port)) == 5
        told = server.call(in_child, child)
        assert told == repr(["CLOSED", int(fastws.DROPPED), 0, 0, True, 0, []])
        assert polled_by_all() == before
        assert room.closed == []
        for client in clients:
            echoes(client)


def sockets_of(port: int) -> list[int]:
    """Descriptors of this process whose local port this is: the server's."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{name}") and os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
            with socket.socket(fileno=os.dup(int(name))) as copy:
                if copy.family == socket.AF_INET and copy.getsockname()[1] == port:
                    found.append(int(name))
    return found


def test_the_child_stops_nothing_of_the_parents(serve: Serving) -> None:
    room = Room()
    server = serve(make_app(room))
    client = RawClient.open(server.port)

    def child() -> Any:
        coroutine = server.server.stop(0)
        try:
            coroutine.send(None)
        except StopIteration:
            return "stopped"
        return "waits"

    assert server.call(in_child, child) == repr("stopped")
    echoes(client)
    with RawClient.open(server.port) as another:
        echoes(another)


def test_the_child_serves_by_itself(serve: Serving) -> None:
    """On a loop of its own, with the same App; what it is asked comes from the parent's process."""
    room = Room()
    server = serve(make_app(room))
    client = RawClient.open(server.port)
    read, write = os.pipe()

    async def serve_in_child() -> str:
        async with await server.app.start("127.0.0.1", 0) as own:
            os.write(write, b"%d\n" % own.port)
            while not room.closed:
                await asyncio.sleep(0.01)
        return f"{len(room.closed)} closed with {room.closed[0][1]}"

    def talk() -> None:
        with open(read) as pipe:
            port = int(pipe.readline())
        with RawClient.open(port) as another:
            echoes(another)
            another.send_close(4001)
            assert another.recv_frame().opcode == CLOSE

    talking = threading.Thread(target=talk)
    talking.start()
    assert in_child(lambda: asyncio.run(serve_in_child())) == repr("1 closed with 4001")
    talking.join()
    os.close(write)
    assert room.closed == []
    echoes(client)


RETURNS_TO_THE_LOOP = """
import asyncio, os, sys
import fastws

app = fastws.App(ping_interval=0)
child = 0

@app.websocket("/")
async def message(ws, data):
    ws.send(data)

@app.websocket("/fork")
def fork(ws, data):
    global child
    loop = asyncio.get_running_loop()
    child = os.fork()
    if child == 0:
        # It goes on in its copy of the parent's loop for a while: asyncio's business, but no harm to ours.
        loop.call_later(0.3, os._exit, 0)
    ws.send(data)

@app.websocket("/reap")
def reap(ws, data):
    ws.send(str(os.waitpid(child, 0)[1]))

async def main():
    async with await app.start("127.0.0.1", 0) as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main()) if hasattr(uvloop, "run") else asyncio.run(main())
else:
    asyncio.run(main())
"""


def test_a_child_that_returns_into_the_loop(loop_kind: str) -> None:
    """The answer comes once, from the parent; the child ends as it means to."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RETURNS_TO_THE_LOOP, loop_kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    try:
        port = int(process.stdout.readline())
        with RawClient.open(port) as bystander, RawClient.open(port, "/fork") as client:
            client.send("twice?")
            assert client.recv() == "twice?"
            client.expect_silence(0.2)
            echoes(bystander)
            # The loop's wake-up is shared: a child that still lives may take the one for the line below, and uvloop
            # then waits for ever.
            with RawClient.open(port, "/reap") as reaper:
                reaper.send("")
                assert reaper.recv() == "0"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(20) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


SIGNALLED = """
import os, signal, sys, time
import fastws

app = fastws.App()

@app.http("/")
def fork_and_signal(request):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(child, int(request.query_string))
    _, status = os.waitpid(child, 0)
    return fastws.Response(200, str(os.WTERMSIG(status)))

@app.http("/blocked")
def fork_with_a_signal_blocked(request):
    def is_blocked():
        return signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = os.fork()
    if child == 0:
        os._exit(is_blocked())
    _, status = os.waitpid(child, 0)
    found = [os.waitstatus_to_exitcode(status) == 1, is_blocked()]
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return fastws.Response(200, str(found))

app.run(port=int(sys.argv[2]), loop=sys.argv[1])
"""


@contextmanager
def signalled(loop_kind: str) -> Iterator[tuple[Program, int]]:
    """It, and its port."""
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        program = Program("-W", "ignore", "-c", SIGNALLED, loop_kind, str(port), port=port)
        try:
            yield program, port
        finally:
            program.kill()


def ask(port: int, target: str) -> bytes:
    with RawClient.connect(port) as client:
        client.send_raw(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client.recv_http().body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_the_child_is_not_for_the_parent(loop_kind: str, number: signal.Signals) -> None:
    """They share the pipe by which a loop learns of signals."""
    with signalled(loop_kind) as (program, port):
        for _ in range(2):
            assert ask(port, f"/?{int(signal.SIGTERM)}") == b"15"
        program.end(number)


def test_a_signal_that_is_blocked_in_the_thread_that_forks(loop_kind: str) -> None:
    """As in the threads of libraries that leave signals to the main thread. It stays so, in both processes."""
    with signalled(loop_kind) as (program, port):
        assert ask(port, "/blocked") == b"[True, True]"
        program.end(signal.SIGTERM)


def test_a_request_that_is_being_decided_when_the_process_forks(serve: Serving) -> None:
    app = fastws.App()
    forked = asyncio.Event()

    @app.websocket("/")
    class Slow:
        async def upgrade(self, request: Any) -> None:
            await forked.wait()

    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes())
    server.settle()
    assert server.call(in_child, lambda: server.app.stats() == total(())) == "True"
    server.call(forked.set)
    client.expect_101()
