"""Rows A1 and A2: callbacks that raise, or that act on any connection at any time."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from harness import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Ended,
    RawClient,
    ServerThread,
    Serving,
    build,
    bystander,
    eventually,
    make_app,
)


class Boom(Exception):
    """What a callback raises here: its text must not reach a client."""


CALLBACKS = ["open", "message", "ping", "pong", "drain", "close"]
BIG = b"b" * (6 << 20)  # more than the kernel takes for a peer that does not read


def provoke(server: ServerThread, callback: str) -> RawClient:
    """A connection that has just made the server call this callback."""
    client = RawClient.connect(server.port, receive_buffer=65536 if callback == "drain" else None)
    try:
        client.handshake("/")
    except (Ended, ConnectionError):
        assert callback == "open"  # which terminates: unsent bytes are lost, the 101 among them
    if callback == "message":
        client.send("hello")
    elif callback in ("ping", "pong"):
        client.send_frame(PING if callback == "ping" else PONG, b"p")
    elif callback == "drain":
        client.send("fill")  # answered with BIG, all of which the kernel might take if it were read meanwhile
        eventually(lambda: server.stats()["buffered_bytes"])
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
        ws.subscribe("room")
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


def test_a01_a_cancelled_error_is_an_exception_like_others(serve: Serving) -> None:
    def act(ws: Any) -> None:
        raise asyncio.CancelledError

    server = serve(make_app(acting("message", act, [])))
    serve.traps.expect(asyncio.CancelledError)
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
    "send much": lambda ws: ws.send(BIG),
    "close": lambda ws: ws.close(4000, "enough"),
    "close twice": lambda ws: (ws.close(4000), ws.close(4001)),
    "close then send": lambda ws: (ws.close(4000), ws.send("x"))[1],
    "terminate": lambda ws: ws.terminate(),
    "terminate then all": lambda ws: (ws.terminate(), ws.ping(), ws.close(), ws.terminate(), ws.send("x"))[4],
    "ping": lambda ws: ws.ping(b"p"),
    "pause and resume": lambda ws: (ws.pause_reading(), ws.resume_reading()),
    "pause, close": lambda ws: (ws.pause_reading(), ws.close(4000)),
    "drop all references": lambda ws: None,
    "subscribe": lambda ws: ws.subscribe("new"),
    "unsubscribe": lambda ws: ws.unsubscribe("room"),
    "publish": lambda ws: ws.publish("room", "x"),
    "publish large": lambda ws: ws.publish("room", b"x" * 300_000),
    "leave, publish, join": lambda ws: (ws.unsubscribe("room"), ws.publish("room", "x"), ws.subscribe("room"))[1],
    "publish, close": lambda ws: (ws.publish("room", "x"), ws.close(4000))[0],
    "close then publish": lambda ws: (ws.close(4000), ws.subscribe("room"), ws.publish("room", "x"))[2],
    "terminate then publish": lambda ws: (ws.terminate(), ws.unsubscribe("room"), ws.publish("room", "x"))[2],
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
    drained: set[int] = set()

    def act(ws: Any) -> None:
        if callback == "drain":
            if ws.id in drained:
                return  # what its first `drain` sent, or had published to it, was queued and brought another one
            drained.add(ws.id)
        name = next(turn)
        whom = ws if target == "self" else others[-1]
        results.append((name, ACTIONS[name](whom)))

    class Other:
        def open(self, ws: Any) -> None:
            ws.subscribe("room")
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
                with suppress(Ended):  # of what is terminated then, up to low_water is lost
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
        elif "publish" in name:
            # The one that publishes and the other are in the room, unless the one has ended or is just to be opened.
            assert result in (0, 1), (name, result)
    closes = [entry[1] for entry in log if entry[0] == "close"]
    assert len(closes) == len(set(closes)) == 2 * len(ACTIONS)
    assert app.num_subscribers("room") == app.num_subscribers("new") == app.stats()["topics"] == 0


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
        if code == 1006:
            read_to_the_end(client)
        else:
            _, opcode, payload = client.recv_frame()
            assert opcode == CLOSE
            client.send_raw(build(CLOSE, payload[:2]))
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
            server.loop.call_soon_threadsafe(time.sleep, 0.05)
            for client in clients:
                client.send("end")
            server.settle()
            for client in clients:
                client.close()
            eventually(lambda: len(closed) == 30, 5.0)
            assert len(set(closed)) == 30


def test_a02_a_dropped_ws_object(serve: Serving) -> None:
    """An app that keeps nothing: the connection lives on its own, and its `data` goes with it."""

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


class OneForAll:
    """One function is every callback. It notes what it is called with; a message "wait" waits for the gate."""

    def __init__(self, *, plain: bool = False) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.gate = asyncio.Event()

        async def anything(ws: Any, *arguments: Any) -> None:
            self.calls.append(arguments)
            if arguments == ("wait",):
                ws.send(BIG)
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.calls.append(("cancelled",))
                    raise

        def anything_later(ws: Any, *arguments: Any) -> Any:
            return anything(ws, *(bytes(one) if isinstance(one, memoryview) else one for one in arguments))

        one = anything_later if plain else anything
        self.open = self.message = self.drain = self.ping = self.pong = self.close = one


@pytest.mark.parametrize("binary", ["bytes", "view"])
def test_a02_one_function_for_all_callbacks(serve: Serving, binary: str) -> None:
    """What waits behind it is known by what it is, not by its function."""
    handler = OneForAll(plain=binary == "view")
    server = serve(make_app(handler, binary=binary, max_backpressure=1 << 30))
    with bystander(server):
        client = RawClient.connect(server.port, receive_buffer=4096, timeout=20.0)
        client.handshake()
        client.send_raw(build(TEXT, b"wait"))
        eventually(lambda: ("wait",) in handler.calls)
        client.send_raw(build(BINARY, b"b") + build(PING, b"p") + build(PONG, b"q"))
        assert client.recv() == BIG
        assert client.recv_frame().payload == b"p"
        server.settle()  # `drain` waits, too
        assert handler.calls == [(), ("wait",)]
        client.send_close(1000)
        client.expect_close(1000)
        server.call(handler.gate.set)
        eventually(lambda: (1000, "") in handler.calls)
        assert sorted(handler.calls[2:-1], key=repr) == [(), (b"b",), (b"p",), (b"q",)]
        assert handler.calls[-1] == (1000, "")


@pytest.mark.parametrize("how", ["reset", "terminate"])
def test_a02_one_function_for_all_callbacks_is_cancelled(serve: Serving, how: str) -> None:
    """Of what waits, `close` alone comes."""
    handler = OneForAll()
    server = serve(make_app(handler, close_timeout=5)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(build(TEXT, b"wait") + build(TEXT, b"behind") + build(PING))
        eventually(lambda: ("wait",) in handler.calls)
        server.settle()
        if how == "reset":
            client.reset()
        else:
            server.call(lambda: next(iter(server.server.connections)).terminate())
            server.advance(4.999)
            assert handler.calls == [(), ("wait",)]
            server.advance(0.001)
        eventually(lambda: (1006, "") in handler.calls)
        assert handler.calls == [(), ("wait",), ("cancelled",), (1006, "")]


@pytest.mark.parametrize("resumer", ["itself", "another connection", "the loop"])
def test_a02_pausing_keeps_the_order(serve: Serving, resumer: str) -> None:
    """A reader that pauses after every few messages, with more behind it than the receive buffer holds."""
    count = 20_000
    seen: list[bytes] = []
    paused: list[Any] = []

    class Handler:
        def message(self, ws: Any, data: bytes) -> None:
            seen.append(data)
            if len(seen) % 100 == 0:
                ws.pause_reading()
                if resumer == "itself":
                    ws.resume_reading()
                elif resumer == "the loop":
                    asyncio.get_running_loop().call_soon(ws.resume_reading)
                else:
                    paused.append(ws)

    app = make_app(Handler)

    @app.websocket("/resume")
    def resume(ws: Any, data: Any) -> None:
        while paused:
            paused.pop().resume_reading()
        ws.send(data)

    server = serve(app)
    messages = [b"%d" % number + bytes(number % 50) for number in range(count)]
    wire = memoryview(b"".join(build(BINARY, message) for message in messages))
    with bystander(server):
        client, other = RawClient.open(server.port), RawClient.open(server.port, "/resume")
        client.sock.setblocking(False)
        deadline = time.monotonic() + 20 * PATIENCE
        while len(seen) < count and time.monotonic() < deadline:
            try:
                wire = wire[client.sock.send(wire) :] if wire else wire
            except BlockingIOError:
                pass
            if resumer == "another connection":
                other.send("go on")
                other.recv()
            else:
                server.settle()
        assert seen == messages
        while paused:
            server.call(paused.pop().resume_reading)


def test_a02_upgrade_ends_another_connection(serve: Serving) -> None:
    """A second login ends the first session, from within the hook."""
    sessions: list[Any] = []
    codes: list[int] = []

    class Handler:
        def upgrade(self, request: Any) -> None:
            for ws in sessions:
                ws.send("logged in elsewhere")
                ws.close(4001)
            sessions.clear()

        def open(self, ws: Any) -> None:
            sessions.append(ws)

        def close(self, ws: Any, code: int, reason: str) -> None:
            codes.append(code)

    server = serve(make_app(Handler))
    with bystander(server):
        first = RawClient.open(server.port)
        eventually(lambda: sessions)
        second = RawClient.open(server.port)
        assert first.recv() == "logged in elsewhere"
        assert first.recv_frame().payload == (4001).to_bytes(2, "big")
        first.send_close(4001)
        first.expect_eof()
        eventually(lambda: codes == [4001])
        second.expect_silence(0.02)
