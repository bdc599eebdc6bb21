"""Row A6: async callbacks that never end, and what their peers and the server do meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import (
    BINARY,
    PATIENCE,
    TEXT,
    RawClient,
    Serving,
    build,
    build_close,
    bystander,
    eventually,
    make_app,
    request_bytes,
)


@pytest.mark.parametrize("size", [10, 60_000, 1_000_000])
def test_a06_an_async_callback_that_never_ends(serve: Serving, size: int) -> None:
    entered: list[str] = []
    cancelled: list[bool] = []

    class Handler:
        async def message(self, ws: Any, data: bytes) -> None:
            entered.append("message")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

    server = serve(make_app(Handler))
    flood = memoryview(build(BINARY, bytes(size)) * (64_000_000 // (size + 8)))
    with bystander(server) as watch:
        client = RawClient.open(server.port)
        client.sock.setblocking(False)
        sent = 0
        for _ in range(300):
            try:
                sent += client.sock.send(flood[sent:])
            except BlockingIOError:
                server.settle()
        assert 0 < sent < len(flood), "the sender was never stopped"
        held = server.stats()["buffered_bytes"]
        waiting = min(16 * (size + 64), (64 << 10) + size)  # max_waiting; high_water, and the one that is over it
        assert held <= waiting + (512 << 10), f"{held} bytes kept behind a callback that never ends"
        assert entered == ["message"]
        assert watch.worst < 1.0 * PATIENCE
        client.reset()
        eventually(lambda: cancelled, 3.0, "cancelled when the peer is gone")
    assert cancelled == [True]
    assert entered == ["message"]


@pytest.mark.parametrize("leave", ["close", "finish_sending"])
@pytest.mark.parametrize("count", [1, 1000])
def test_a06_a_peer_that_leaves_quietly(serve: Serving, count: int, leave: str) -> None:
    """Where reading is paused, the FIN waits behind unread frames; after `close_timeout` the callback is cancelled."""
    cancelled: list[bool] = []
    closed: list[int] = []

    class Handler:
        async def message(self, ws: Any, data: str) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        def close(self, ws: Any, code: int, reason: str) -> None:
            closed.append(code)

    server = serve(make_app(Handler, close_timeout=5)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(build(TEXT, b"x") * count)
        server.settle()
        getattr(client, leave)()
        server.settle()
        server.advance(4.999)
        assert not closed and not cancelled
        server.advance(0.001)
        eventually(lambda: closed, 4.0, "closed")
        eventually(lambda: cancelled, 1.0, "cancelled")


def test_a06_stop_does_not_wait_for_it(serve: Serving) -> None:
    cancelled: list[bool] = []

    class Handler:
        async def message(self, ws: Any, data: str) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

    server = serve(make_app(Handler))
    client = RawClient.open(server.port)
    client.send("x")
    server.settle()
    server.stop_server(0.3)
    assert cancelled == [True]
    code = client.recv_frame().payload[:2]
    assert int.from_bytes(code, "big") == 1001


def test_a06_async_callbacks_run_one_at_a_time_in_order(serve: Serving) -> None:
    running: list[int] = []
    order: list[str] = []

    class Handler:
        async def message(self, ws: Any, data: str) -> None:
            running.append(1)
            assert len(running) == 1
            await asyncio.sleep(0 if int(data) % 3 else 0.001)
            order.append(data)
            running.pop()
            ws.send(data)

        async def close(self, ws: Any, code: int, reason: str) -> None:
            order.append("close")

    server = serve(make_app(Handler))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(b"".join(build(TEXT, str(n).encode()) for n in range(300)))
        assert [client.recv() for _ in range(300)] == [str(n) for n in range(300)]
        client.send_close()
        client.expect_close(1000)
        eventually(lambda: order[-1] == "close")
    assert order == [*map(str, range(300)), "close"]


def test_a06_open_ends_before_the_first_message(serve: Serving) -> None:
    order: list[str] = []

    class Handler:
        async def open(self, ws: Any) -> None:
            order.append("open begins")
            await asyncio.sleep(0.05)
            order.append("open ends")

        def message(self, ws: Any, data: str) -> None:
            order.append(data)

        def close(self, ws: Any, code: int, reason: str) -> None:
            order.append(f"close {code}")

    server = serve(make_app(Handler))
    with bystander(server):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes() + build(TEXT, b"one") + build(TEXT, b"two") + build_close(1000))
        client.expect_101()
        client.expect_close(1000)
        eventually(lambda: len(order) == 5)
    assert order == ["open begins", "open ends", "one", "two", "close 1000"]


@pytest.mark.parametrize("ending", ["close handshake", "protocol error", "terminate", "close", "reset"])
def test_a06_cancelled_whatever_ends_the_connection(
    serve: Serving, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`close` comes once, after the callback; after a clean end that has until `close_timeout` to finish. The log tells
    of one that had the time and has not ended, and of the message behind it."""
    order: list[Any] = []
    sockets: list[Any] = []

    class Handler:
        def open(self, ws: Any) -> None:
            sockets.append(ws)

        async def message(self, ws: Any, data: str) -> None:
            order.append(data)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                order.append("cancelled")
                raise

        def close(self, ws: Any, code: int, reason: str) -> None:
            order.append(code)

    server = serve(make_app(Handler, close_timeout=5)).hold_clock()
    codes = {"close handshake": 1000, "protocol error": 1002, "terminate": 1006, "close": 1006, "reset": 1006}
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(build(TEXT, b"begins") + build(TEXT, b"waits"))
        eventually(lambda: order)
        if ending == "close handshake":
            client.send_close(1000)
            client.expect_close(1000)
        elif ending == "protocol error":
            client.send_raw(build(3))
            client.expect_close(1002)
        elif ending == "terminate":
            server.call(sockets[0].terminate)
        else:
            getattr(client, ending)()
        server.settle()
        server.advance(5)
        eventually(lambda: len(order) == 3, 3.0, "cancelled and closed")
    assert order == ["begins", "cancelled", codes[ending]]
    server.settle()
    late = [line for line in caplog.messages if "has not ended within close_timeout (5 s) after its connection" in line]
    assert len(late) == (ending in ("close handshake", "terminate"))
    if ending == "close handshake":
        assert late[0].startswith('the message callback of "/" (') and "wait behind it are dropped (1);" in late[0]


def test_a06_without_cancel_on_disconnect(serve: Serving) -> None:
    """Peers that come, start a callback that never ends, and vanish: each holds it for `close_timeout`, no longer."""
    ended: list[str] = []
    begun: list[Any] = []

    class Handler:
        async def message(self, ws: Any, data: str) -> None:
            begun.append(ws)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        def close(self, ws: Any, code: int, reason: str) -> None:
            ended.append("closed")

    server = serve(make_app(Handler, close_timeout=5, cancel_on_disconnect=False)).hold_clock()
    with bystander(server):
        for count in range(50):
            client = RawClient.open(server.port)
            client.send("x")
            client.send("waits")
            eventually(lambda count=count: len(begun) == count + 1)
            client.reset()
        eventually(lambda: server.stats()["connections"] == 1, 3.0, "the bystander is left")
        server.settle()
        assert ended == [] and server.stats()["buffered_bytes"] == 0
        server.advance(5)
        eventually(lambda: server.stats()["sockets"] == 1, 3.0, "nothing is left of them")
    assert ended.count("cancelled") == ended.count("closed") == len(begun) == 50
