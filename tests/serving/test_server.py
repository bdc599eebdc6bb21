"""A server's life: what it knows of its connections, starting again, and what is left of it."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from harness import (
    RawClient,
    Recorder,
    client_of,
    echo_app,
    echoes,
    open_fds,
    request_bytes,
    unix_echoes,
    until,
)
from harness.programs import python

import fastws


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
            assert None not in connections and "x" not in connections  # type: ignore[comparison-overlap]
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

    run(main)
    run(main)  # on another loop, too
    stats = app.stats()  # what servers that are gone have counted stays
    assert stats["accepted"] == stats["closed"]["lost"] + stats["closed"]["stopping"] == 6
    assert stats["connections"] == 0


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
        assert len(open_fds()) == before - 3  # the listener, the poller and the timer of the one that was open then

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
begun = asyncio.Event()
@app.websocket("/")
class Handler:
    def open(self, ws):
        kept.append(ws)
    async def message(self, ws, data):
        print("got", data)
        begun.set()
        await asyncio.sleep(60)

loop = new_event_loop()
async def main():
    server = await app.start("127.0.0.1", 0)
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall({request!r} + {frame!r})
    await begun.wait()
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
    malloc = os.environ.get("PYTHONMALLOC", "debug")  # a sanitizer's own allocator sees more
    done = python("-X", "faulthandler", "-c", program, loop_kind, *ending.split(), PYTHONMALLOC=malloc)
    assert (done.returncode, done.stdout) == (0, "got b''\nend\n"), done.stderr
    for wrong in ("Traceback", "Fatal", "Exception ignored"):
        assert wrong not in done.stderr, done.stderr
