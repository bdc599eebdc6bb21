"""An App whose loop is closed without `stop`, as where `asyncio.run` returns from under it: its next start finds no
port taken, and nothing counts or reaches what is gone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from harness import (
    RawClient,
    Traps,
    at_rest,
    client_of,
    echo_app,
    elsewhere,
    new_loop,
    request_bytes,
    serves,
    unaccounted,
    unix_client,
    unix_echoes,
    until,
)

import fastws

Main = Callable[[], Coroutine[Any, Any, Any]]


@pytest.fixture
def run(loop_kind: str, no_leaked_fds: None, traps: Traps) -> Callable[[Main], Any]:
    """As asyncio.run: tasks are cancelled at the end, and the loop is closed."""

    def run(main: Main) -> Any:
        loop = new_loop(loop_kind)
        try:
            return loop.run_until_complete(main())
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(end(tasks))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


async def end(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def serves_one(app: Any, port: int) -> None:
    before = app.stats()["closed"]["lost"]
    await serves(port)
    await until(lambda: app.stats()["closed"]["lost"] == before + 1)


def ended(client: RawClient) -> bool:
    """By FIN, or by RST where something it sent was not read."""
    try:
        while client.sock.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


def settled(app: Any, **closed: int) -> None:
    stats = app.stats()
    assert not any(at_rest(stats).values()), stats
    assert not unaccounted(stats)
    assert {name: count for name, count in stats["closed"].items() if count} == closed


def test_the_same_port_again(run: Any) -> None:
    app = echo_app()
    clients: list[RawClient] = []

    async def first() -> int:
        server = await app.start("127.0.0.1", 0)
        clients.append(await client_of(server.port))
        return int(server.port)

    port = run(first)
    assert app.stats()["connections"] == 1

    async def again() -> None:
        await app.start("127.0.0.1", port)
        assert await elsewhere(ended, clients[-1])
        assert app.stats()["connections"] == 0
        await serves_one(app, port)
        clients.append(await client_of(port))
        await until(lambda: app.stats()["connections"] == 1)

    for _ in range(3):
        run(again)

    async def last() -> None:
        async with await app.start("127.0.0.1", port):
            assert await elsewhere(ended, clients[-1])

    run(last)
    settled(app, stopping=4, lost=3)


def test_the_same_path_again_and_another(run: Any, tmp_path: Path) -> None:
    app = echo_app()
    clients: list[RawClient] = []
    paths = [str(tmp_path / name) for name in ("one", "one", "two")]

    async def start(path: str) -> None:
        await app.start(uds=path)
        client = await elsewhere(unix_client, path)
        await elsewhere(client.handshake)
        clients.append(client)
        before = app.stats()["closed"]["lost"]
        await unix_echoes(path)
        await until(lambda: app.stats()["closed"]["lost"] == before + 1)

    for path in paths:
        run(lambda path=path: start(path))
        assert all(ended(client) for client in clients[:-1])
        assert sorted(os.listdir(tmp_path)) == [Path(path).name], "the file of the one before is gone"
    app.configure(max_topics=1)
    assert os.listdir(tmp_path) == []
    assert ended(clients[-1])
    settled(app, stopping=3, lost=3)


def test_a_path_that_another_server_has_taken_over(run: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    app = echo_app()

    async def start() -> None:
        await app.start(uds=path)

    async def other() -> None:
        with pytest.raises(OSError, match="already in use"):
            await echo_app().start(uds=path)
        os.unlink(path)
        async with await echo_app().start(uds=path):
            app.configure()
            await unix_echoes(path)

    run(start)
    run(other)


STATES = ["connecting", "half a request", "deciding", "idle", "unsent", "waiting", "busy", "closing", "closed"]


class Anything:
    def __init__(self) -> None:
        self.sockets: list[Any] = []
        self.closes: list[int] = []
        self.forever = True

    async def upgrade(self, request: Any) -> None:
        while request.path_params["state"] == "deciding" and self.forever:
            await asyncio.sleep(3600)

    def open(self, ws: Any) -> None:
        ws.subscribe("room")
        self.sockets.append(ws)

    async def message(self, ws: Any, data: str) -> None:
        await asyncio.sleep(3600)

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closes.append(code)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("end", ["start", "configure", "stop"])
def test_whatever_its_connections_do(loop_kind: str, no_leaked_fds: None, traps: Traps, state: str, end: str) -> None:
    """The loop is closed on the spot. No callback is called, for the loop in which they ran is gone."""
    handler = Anything()
    app = fastws.App(max_backpressure=1 << 40, compression="deflate")
    app.websocket("/{state}")(handler)
    pending: list[asyncio.Task[Any]] = []
    loop = new_loop(loop_kind)

    async def begin() -> Any:
        server = await app.start("127.0.0.1", 0)
        client = await elsewhere(lambda: RawClient.connect(server.port, receive_buffer=4096))
        offer = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
        wire = request_bytes(f"/{state}", headers=offer)
        await elsewhere(client.send_raw, wire[: {"connecting": 0, "half a request": 40}.get(state, len(wire))])
        if state in STATES[:3]:
            await until(lambda: app.stats()["handshakes"] == 1)
        else:
            await until(lambda: handler.sockets)
            (ws,) = handler.sockets
            ws.send("x" * 1000)  # leaves something of compression
            if state in ("unsent", "waiting"):
                ws.send(os.urandom(20 << 20))
            if state == "waiting":
                pending.append(asyncio.ensure_future(ws.drained()))
            if state == "busy":
                client.send("go")
                client.send("and wait")
                await until(lambda: app.stats()["buffered_bytes"] == len("and wait"))
            if state == "closing":
                ws.close(4000)
            if state == "closed":
                client.send_close(1000)
                await until(lambda: handler.closes)
        pending.extend(asyncio.all_tasks() - {asyncio.current_task()})
        await loop.shutdown_default_executor()
        return server, client

    server, client = loop.run_until_complete(begin())
    loop.close()
    closes = [*handler.closes]
    assert app.num_subscribers("room") == 0 == app.publish("room", "nobody")

    async def go_on() -> None:
        if end == "start":
            async with await app.start("127.0.0.1", server.port):
                await elsewhere(ended, client)
        elif end == "configure":
            app.configure(max_topics=5)
            await elsewhere(ended, client)
        else:
            await server.stop()
            await elsewhere(ended, client)
        await server.wait_closed()
        await server.stop()

    second = new_loop(loop_kind)
    second.run_until_complete(go_on())
    second.run_until_complete(second.shutdown_default_executor())
    second.close()
    stats = app.stats()
    assert not any(at_rest(stats).values()), stats
    assert not unaccounted(stats), stats
    ended_as = {"refused": stats["refused"], "closed": stats["closed"]}
    counted = [(kind, name) for kind, reasons in ended_as.items() for name, count in reasons.items() if count]
    expected = ("refused", "stopping") if state in STATES[:3] else ("closed", "stopping")
    assert counted == [("closed", "by_peer") if state == "closed" else expected]
    assert handler.closes == closes
    for ws in handler.sockets:
        assert ws.send("x") == 2 and ws.ready_state == 3 and ws.subscriptions == ()
    for task in pending:  # it is the program's own fault that they never end, which asyncio would say
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    pending.clear()


def test_a_stop_that_its_loop_did_not_live_to_see(run: Any) -> None:
    app = echo_app(close_timeout=60)
    held: list[Any] = []

    async def first() -> None:
        server = await app.start("127.0.0.1", 0)
        held.extend([server, await client_of(server.port)])
        await until(lambda: len(server.connections) == 1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(server.stop(60), 0.01)

    run(first)
    server, client = held
    assert app.stats()["connections"] == 1

    async def second() -> None:
        async with await app.start("127.0.0.1", server.port):
            await elsewhere(ended, client)
            await serves_one(app, server.port)

    run(second)
    settled(app, stopping=1, lost=1)


def test_after_lines_in_the_log(run: Any) -> None:
    """Their period has a timer on the loop that is gone."""
    app = echo_app()

    async def first() -> int:
        server = await app.start("127.0.0.1", 0)
        client = await elsewhere(RawClient.connect, server.port)
        client.send_raw(b"nonsense\r\n\r\n")
        await elsewhere(client.expect_reject, 400)
        return int(server.port)

    port = run(first)

    async def second() -> None:
        async with await app.start("127.0.0.1", port):
            await serves(port)

    run(second)


def test_what_lives_is_left_alone(run: Any, loop_kind: str) -> None:
    """Beside a server that is lost, one whose loop only rests, and one that runs."""
    app = echo_app()
    resting = new_loop(loop_kind)
    server = resting.run_until_complete(app.start("127.0.0.1", 0))

    async def lost() -> int:
        return int((await app.start("127.0.0.1", 0)).port)

    port = run(lost)
    with socket.create_connection(("127.0.0.1", port)):  # it listens still

        async def go_on() -> None:
            async with await app.start("127.0.0.1", 0) as running, await app.start("127.0.0.1", port):
                await serves(running.port)
                with pytest.raises(RuntimeError, match="stop the server first"):
                    app.configure()
            with pytest.raises(RuntimeError, match="stop the server first"):
                app.configure()

        run(go_on)
    task = resting.create_task(elsewhere_serves(server.port))
    resting.run_until_complete(task)
    resting.run_until_complete(server.stop())
    resting.close()
    app.configure()


async def elsewhere_serves(port: int) -> None:
    await serves(port)
    await asyncio.get_running_loop().shutdown_default_executor()
