"""Rows A1, A2 and A6: callbacks that raise, that act on any connection at any time, or that never end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from harness import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawClient,
    ServerThread,
    Serving,
    build,
    bystander,
    eventually,
    make_app,
    request_bytes,
)


class Boom(Exception):
    """What a callback raises here: its text must not reach a client."""


CALLBACKS = ["open", "message", "ping", "pong", "drain", "close"]
BIG = b"b" * (12 << 20)  # more than the kernel takes for a peer that does not read


def provoke(server: ServerThread, callback: str) -> RawClient:
    """A connection that has just made the server call this callback."""
    client = RawClient.connect(server.port, receive_buffer=65536 if callback == "drain" else None)
    client.handshake("/")
    if callback == "message":
        client.send("hello")
    elif callback in ("ping", "pong"):
        client.send_frame(PING if callback == "ping" else PONG, b"p")
    elif callback == "drain":
        client.send("fill")  # answered with BIG
    elif callback == "close":
        client.send_close(1000)
    return client


def read_to_the_end(client: RawClient) -> list[tuple[int, bytes]]:
    """All frames until the server ends; a reset after them is an end as well (terminate)."""
    frames = []
    try:
        while True:
            frame = client.recv_frame()
            frames.append((frame.opcode, frame.payload))
    except (AssertionError, ConnectionError):
        assert client.ended or not client.buffer
    return frames


def acting(callback: str, act: Callable[[Any], Any], log: list[tuple[Any, ...]], asynchronous: bool = False) -> type:
    """A handler that calls `act(ws)` from one callback, and notes every close."""

    def message(self: Any, ws: Any, data: Any) -> None:
        if data == "fill":
            ws.send(BIG)

    def close(self: Any, ws: Any, code: int, reason: str) -> None:
        log.append(("close", ws.id, code))

    def opened(self: Any, ws: Any) -> None:
        log.append(("open", ws.id))

    body: dict[str, Any] = {"open": opened, "message": message, "close": close}
    before = body.get(callback, lambda *args: None)
    if asynchronous:

        async def later(self: Any, ws: Any, *args: Any) -> None:
            before(self, ws, *args)
            await asyncio.sleep(0)
            act(ws)

        body[callback] = later
    else:

        def now(self: Any, ws: Any, *args: Any) -> None:
            before(self, ws, *args)
            act(ws)

        body[callback] = now
    return type("Acting", (), body)


# -- A1


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_a01_a_callback_raises(serve: Serving, callback: str, asynchronous: bool) -> None:
    def act(ws: Any) -> None:
        raise Boom(f"the secret of {callback}")

    log: list[tuple[Any, ...]] = []
    server = serve(make_app(acting(callback, act, log, asynchronous)))
    serve.traps.expect(Boom)
    with bystander(server):
        client = provoke(server, callback)
        frames = read_to_the_end(client)
        assert frames[-1][0] == CLOSE
        code = int.from_bytes(frames[-1][1][:2], "big")
        assert code == (1000 if callback == "close" else 1011)
        assert b"secret" not in frames[-1][1]
        eventually(lambda: serve.traps.logged(Boom))
        eventually(lambda: len([entry for entry in log if entry[0] == "close"]) == 1)
        assert log[-1][2] == code
        assert len([frame for frame in frames if frame[0] == CLOSE]) == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a01_an_http_handler_raises(serve: Serving, asynchronous: bool) -> None:
    app = make_app()

    def handler(request: Any) -> Any:
        raise Boom("the secret of http")

    async def later(request: Any) -> Any:
        await asyncio.sleep(0)
        raise Boom("the secret of http")

    app.http("/boom")(later if asynchronous else handler)
    server = serve(app)
    serve.traps.expect(Boom)
    with bystander(server):
        client = RawClient.connect(server.port)
        client.send_raw(b"GET /boom HTTP/1.1\r\nHost: x\r\n\r\n")
        response = client.recv_http()
        assert response.status == 500
        assert b"secret" not in response.body


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_a01_an_odd_exception(serve: Serving, kind: type[BaseException]) -> None:
    """CancelledError and GeneratorExit are exceptions like others; the two that end a program may end the loop."""
    if kind in (KeyboardInterrupt, SystemExit):
        pytest.xfail("asyncio lets these two through every callback: they are meant for the program")

    def act(ws: Any) -> None:
        raise kind

    server = serve(make_app(acting("message", act, [])))
    serve.traps.expect(kind)
    with bystander(server):
        client = provoke(server, "message")
        client.expect_close(1011)


def test_a01_nothing_more_is_delivered(serve: Serving) -> None:
    """Frames behind the one whose callback raised, in the same read, reach nobody."""
    seen: list[str] = []

    def message(ws: Any, data: str) -> None:
        seen.append(data)
        if data == "two":
            raise Boom

    server = serve(make_app(message))
    serve.traps.expect(Boom)
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(b"".join(build(TEXT, text) for text in (b"one", b"two", b"three")) + build(PING))
        client.expect_close(1011)
    assert seen == ["one", "two"]


def test_a01_close_raises_while_others_live(serve: Serving) -> None:
    def act(ws: Any) -> None:
        raise Boom

    server = serve(make_app(acting("close", act, [])))
    serve.traps.expect(Boom, 20)
    with bystander(server):
        clients = [RawClient.open(server.port) for _ in range(20)]
        for number, client in enumerate(clients):
            client.close() if number % 2 else client.reset()
        eventually(lambda: len(serve.traps.logged(Boom)) == 20)


# -- A2

ACTIONS: dict[str, Callable[[Any], Any]] = {
    "send": lambda ws: ws.send("x"),
    "send binary": lambda ws: ws.send(b"x" * 70_000),
    "close": lambda ws: ws.close(4000, "enough"),
    "close twice": lambda ws: (ws.close(4000), ws.close(4001)),
    "close then send": lambda ws: (ws.close(4000), ws.send("x"))[1],
    "terminate": lambda ws: ws.terminate(),
    "terminate then all": lambda ws: (ws.terminate(), ws.ping(), ws.close(), ws.terminate(), ws.send("x"))[4],
    "ping": lambda ws: ws.ping(b"p"),
    "pause and resume": lambda ws: (ws.pause_reading(), ws.resume_reading()),
    "pause, close": lambda ws: (ws.pause_reading(), ws.close(4000)),
    "drop all references": lambda ws: None,
}
DROPS = ("close then send", "terminate then all")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("target", ["self", "other"])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_a02_acting_from_a_callback(serve: Serving, callback: str, target: str, asynchronous: bool) -> None:
    """Each action, on the connection itself and on another one: the result is defined, `close` is called once."""
    import fastws

    others: list[Any] = []
    results: list[tuple[str, Any]] = []
    turn = itertools.cycle(ACTIONS)
    log: list[tuple[Any, ...]] = []

    def act(ws: Any) -> None:
        name = next(turn)
        whom = ws if target == "self" else others[-1]
        results.append((name, ACTIONS[name](whom)))

    class Other:
        def open(self, ws: Any) -> None:
            others.append(ws)

        def close(self, ws: Any, code: int, reason: str) -> None:
            log.append(("close", ws.id, code))

    app = make_app(acting(callback, act, log, asynchronous))
    app.websocket("/other")(Other)
    server = serve(app)
    with bystander(server):
        for number, name in enumerate(ACTIONS, 1):
            other = RawClient.open(server.port, "/other")
            eventually(lambda number=number: len(others) == number)
            client = provoke(server, callback)
            if callback == "drain":
                client.recv_exactly(len(BIG))
            eventually(lambda number=number: len(results) == number, 5.0, f"{name} from {callback}")
            client.close()
            other.close()
            eventually(lambda number=number: len(log) == 3 * number, 3.0, f"{name}: opened once, closed twice, in all")
    assert [name for name, _ in results] == list(ACTIONS)
    for name, result in results:
        if name in DROPS or (callback == "close" and target == "self" and name.startswith("send")):
            assert result == fastws.DROPPED, name
        elif name.startswith("send"):
            assert result in (fastws.SENT, fastws.QUEUED), (name, result)
    closes = [entry[1] for entry in log if entry[0] == "close"]
    assert len(closes) == len(set(closes)) == 2 * len(ACTIONS)


@pytest.mark.parametrize(("action", "code"), [("close", 4000), ("terminate", 1006), ("close then send", 4000)])
def test_a02_the_rest_of_the_read_is_dropped(serve: Serving, action: str, code: int) -> None:
    """After its own close or terminate a connection gets no further callback but `close`."""
    seen: list[Any] = []
    log: list[tuple[Any, ...]] = []

    class Handler:
        def message(self, ws: Any, data: str) -> None:
            seen.append(data)
            ACTIONS[action](ws)

        def close(self, ws: Any, code: int, reason: str) -> None:
            log.append((code, reason))

    server = serve(make_app(Handler))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(b"".join(build(TEXT, text) for text in (b"one", b"two", b"three")))
        frames = read_to_the_end(client) if code == 1006 else [client.recv_frame()]
        if code != 1006:
            assert frames[0].opcode == CLOSE
            client.send_raw(build(CLOSE, frames[0].payload[:2]))
            client.expect_eof()
        eventually(lambda: log)
    assert seen == ["one"]
    assert [entry[0] for entry in log] == [code]


def test_a02_connections_close_each_other_in_one_read(serve: Serving) -> None:
    """Many connections are ready in one wake-up; each message ends all the others."""
    sockets: list[Any] = []
    closed: list[int] = []

    class Handler:
        def open(self, ws: Any) -> None:
            sockets.append(ws)

        def message(self, ws: Any, data: str) -> None:
            for number, other in enumerate(sockets):
                if other is not ws:
                    other.terminate() if number % 2 else other.close(4000)

        def close(self, ws: Any, code: int, reason: str) -> None:
            closed.append(ws.id)
            for other in sockets:
                other.send("too late")

    server = serve(make_app(Handler))
    with bystander(server):
        for _ in range(10):
            sockets.clear()
            closed.clear()
            clients = [RawClient.open(server.port) for _ in range(30)]
            eventually(lambda: len(sockets) == 30)
            server.loop.call_soon_threadsafe(__import__("time").sleep, 0.05)
            for client in clients:
                client.send("end")
            server.settle()
            for client in clients:
                client.close()
            eventually(lambda: len(closed) == 30, 5.0)
            assert len(set(closed)) == 30


def test_a02_a_dropped_ws_object(serve: Serving) -> None:
    """An app that keeps nothing: the connection lives on its own, and its `data` goes with it."""
    import gc
    import weakref

    class Token:
        pass

    tokens: list[weakref.ref[Token]] = []

    class Handler:
        def open(self, ws: Any) -> None:
            ws.data = Token()
            tokens.append(weakref.ref(ws.data))

        def message(self, ws: Any, data: str) -> None:
            gc.collect()
            ws.send(data)

    server = serve(make_app(Handler))
    with bystander(server):
        client = RawClient.open(server.port)
        server.call(gc.collect)
        client.send("still here")
        assert client.recv() == "still here"
        client.close()
        eventually(lambda: (server.call(gc.collect), tokens[0]() is None)[1])


# -- A6


@pytest.mark.parametrize("size", [10, 60_000])
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
        assert held <= 16 * (size + 64) + (512 << 10), f"{held} bytes kept behind a callback that never ends"
        assert entered == ["message"]
        assert watch.worst < 1.0
        client.reset()
        eventually(lambda: cancelled, 3.0, "cancelled when the peer is gone")
    assert cancelled == [True]
    assert entered == ["message"]


def test_a06_a_peer_that_leaves_quietly(serve: Serving) -> None:
    """Reading is paused, so the FIN waits behind unread frames; the callback is cancelled nevertheless."""
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

    server = serve(make_app(Handler, ping_interval=0.3, ping_timeout=0.3))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(build(TEXT, b"x") * 1000)
        server.settle()
        client.close()
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


def test_a02_request_bytes_are_not_kept(serve: Serving) -> None:
    """`ws.request` is None unless the route keeps it."""
    kept: dict[str, Any] = {}
    app = make_app()
    for path, options in (("/kept", {"keep_request": True}), ("/not", {})):

        class Handler:
            def open(self, ws: Any) -> None:
                kept[ws.path] = ws.request

        app.websocket(path, **options)(Handler)
    server = serve(app)
    for path in ("/kept", "/not"):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes(path + "?q=1", headers=[("X-Test", "here")]))
        client.expect_101()
    eventually(lambda: len(kept) == 2)
    assert kept["/not"] is None
    assert kept["/kept"].headers["x-test"] == "here"
