"""How a server stops: its peers are told, its callbacks end, and nothing holds it up. It has its time on the loop's
clock, so time passes here."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
import weakref
from typing import Any

import pytest
from harness import (
    PATIENCE,
    RawClient,
    Recorder,
    Serving,
    Traps,
    client_of,
    echo_app,
    elsewhere,
    make_app,
    new_loop,
    request_bytes,
    until,
)

import fastws


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
        assert 0.19 < time.monotonic() - began < PATIENCE
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
        assert time.monotonic() - began < 0.5 * PATIENCE
        client.close()

    run(main)


@pytest.mark.parametrize("timeout", ["5", None, True, [5], float("nan")])
def test_a_timeout_that_is_none_stops_nothing(run: Any, timeout: Any) -> None:
    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0) as server:
            with pytest.raises(TypeError, match=r"timeout is a number of seconds, got .*: give 0"):
                await server.stop(timeout)
            client = await client_of(server.port)  # it still listens
            client.send("hello")
            assert await elsewhere(client.recv) == "hello"
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
        assert time.monotonic() - began < 2 * PATIENCE
        await server.stop()
        await server.wait_closed()
        client.close()

    run(main)


def test_stop_again_on_another_loop(loop_kind: str, no_leaked_fds: None, traps: Traps) -> None:
    loop, other = new_loop(loop_kind), new_loop(loop_kind)
    server = loop.run_until_complete(echo_app().start("127.0.0.1", 0))
    loop.run_until_complete(server.stop())
    loop.close()
    other.run_until_complete(server.stop())
    other.close()


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
        await asyncio.wait_for(server.wait_closed(), 3 * PATIENCE)
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
        await asyncio.wait_for(servers[0].wait_closed(), 5 * PATIENCE)
        await asyncio.sleep(0)
        assert ended == ["cancelled"]
        assert app.stats()["sockets"] == 0
        client.close()

    run(main)


def test_stop_while_callbacks_run(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = fastws.App()
    begun: list[Any] = []
    ended: list[str] = []

    @app.websocket("/")
    class Handler:
        async def message(self, ws: Any, data: Any) -> None:
            begun.append(data)
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
        await until(lambda: begun)
        await server.stop(0.1)
        assert ended == ["cancelled", "close 1001"]
        client.close()

    run(main)
    (late,) = [line for line in caplog.messages if "have not ended" in line]
    told = 'connections that have not ended within 0.1 s: 1; cancelled: the message callback of "/" ('
    assert late.startswith(told)


def test_a_long_close_callback(run: Any, traps: Traps, caplog: pytest.LogCaptureFixture) -> None:
    """It has CANCEL_TIMEOUT to end, and is then cancelled as others are: that is no fault of it."""
    app = fastws.App(close_timeout=30)
    ended: list[str] = []

    @app.websocket("/")
    class Handler:
        async def close(self, ws: Any, code: int, reason: str) -> None:
            try:
                await asyncio.sleep(0.05 if ws.query_string else 60)
                ended.append("in time")
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        clients = [await client_of(server.port, path) for path in ("/", "/?short")]
        began = time.monotonic()
        await server.stop(0)
        assert 0.9 < time.monotonic() - began < 3 * PATIENCE
        assert ended == ["in time", "cancelled"]
        assert not caplog.messages, "it was to be at once"
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
        assert time.monotonic() - began < 4 * PATIENCE
        assert app.stats()["sockets"] == 0
        client.close()
        release[0].set()
        await until(lambda: len(asyncio.all_tasks()) == 1 + WAIT_FOR_TASK)

    run(main)
    where = "serving.test_stop.test_a_callback_that_ignores_its_cancellation.<locals>.Handler.message"
    assert traps.records[0].getMessage() == (
        f'the message callback of "/" ({where}) ignores its cancellation; the server stops without it'
    )


#: wait_for() runs its coroutine in a task of its own before Python 3.12.
WAIT_FOR_TASK = sys.version_info < (3, 12)


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_stop_while_connections_are_opening(run: Any, timeout: float) -> None:
    app = fastws.App()
    begun: list[str] = []
    ended: list[str] = []

    async def forever(request: Any) -> Any:
        begun.append(request.path)
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
        await until(lambda: server.stats()["handshakes"] == 4 and len(begun) == 2)
        began = time.monotonic()
        await server.stop(timeout)
        assert time.monotonic() - began < PATIENCE
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


def test_a_server_that_has_stopped_keeps_no_connection(serve: Serving) -> None:
    """Whoever keeps the server does not keep those who were connected."""
    sockets: list[Any] = []

    class Handler:
        def open(self, ws: Any) -> None:
            sockets.append(weakref.ref(ws))

        def close(self, ws: Any, code: int, reason: str) -> None:
            pass

    server = serve(make_app(Handler))
    clients = [RawClient.open(server.port) for _ in range(3)]
    server.stop_server(0)
    gc.collect()
    assert [ws() for ws in sockets] == [None] * 3
    assert server.server is not None
    for client in clients:
        client.close()
