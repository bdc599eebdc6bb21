"""Topics: who is subscribed to what, until when, and who hears what is published."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from harness import CLOSE, PING, PONG, RawClient, Serving, build, eventually, make_app, slow_client

import fastws


class Room:
    """Everybody is in "room", and says what comes from its client to the others there."""

    def __init__(self) -> None:
        self.sockets: list[Any] = []

    def open(self, ws: Any) -> None:
        ws.subscribe("room")
        self.sockets.append(ws)

    def message(self, ws: Any, data: Any) -> None:
        ws.publish("room", data)


def test_a_connection_publishes_to_all_but_itself(serve: Serving) -> None:
    server = serve(make_app(Room))
    one, two, three = (RawClient.open(server.port) for _ in range(3))
    one.send("hello")
    assert two.recv() == three.recv() == "hello"
    assert server.call(server.app.publish, "room", b"to all") == 3
    assert [client.recv() for client in (one, two, three)] == [b"to all"] * 3


def test_a_prepared_message(serve: Serving) -> None:
    server = serve(make_app(Room))
    client = RawClient.open(server.port)
    assert server.call(server.app.publish, "room", fastws.prepare("once")) == 1
    assert client.recv() == "once"


# Joining and leaving


def test_what_each_call_returns(serve: Serving) -> None:
    room = Room()
    app = make_app(room)
    server = serve(app)
    for _ in range(2):
        RawClient.open(server.port)
    eventually(lambda: len(room.sockets) == 2)
    one, two = room.sockets

    def calls() -> None:
        assert not one.subscribe("room")
        assert one.subscriptions == ("room",)
        assert one.subscribe("news") and one.subscribe("näws") and one.subscribe("n\N{GRINNING FACE}ws")
        assert sorted(one.subscriptions) == sorted(["room", "news", "näws", "n\N{GRINNING FACE}ws"])
        assert one.is_subscribed("näws") and not two.is_subscribed("näws")
        assert [app.num_subscribers(name) for name in ("room", "news", "none")] == [2, 1, 0]
        assert app.stats()["topics"] == 4
        assert one.unsubscribe("news") and not one.unsubscribe("news") and not two.unsubscribe("news")
        assert not one.is_subscribed("news")
        assert app.num_subscribers("news") == 0
        assert app.stats()["topics"] == 3
        assert [app.publish("room", "x"), one.publish("room", "x"), two.publish("näws", "x")] == [2, 1, 1]
        assert [app.publish("news", "x"), one.publish("näws", "x")] == [0, 0]

    server.call(calls)


def test_any_order_of_joining_and_leaving(serve: Serving) -> None:
    """Thousands of random changes among a few topics: each side keeps knowing where the other names it."""
    room = Room()
    app = make_app(room)
    server = serve(app)
    for _ in range(8):
        RawClient.open(server.port)
    eventually(lambda: len(room.sockets) == 8)
    rng = random.Random(3)
    topics = ["room", *"abcdefgh"]
    model: dict[Any, set[str]] = {ws: {"room"} for ws in room.sockets}

    def changes() -> None:
        for _ in range(4000):
            ws, topic = rng.choice(room.sockets), rng.choice(topics)
            if rng.random() < 0.5:
                assert ws.subscribe(topic) == (topic not in model[ws])
                model[ws].add(topic)
            else:
                assert ws.unsubscribe(topic) == (topic in model[ws])
                model[ws].discard(topic)
            assert len(ws.subscriptions) == len(model[ws])
            assert app.num_subscribers(topic) == sum(topic in own for own in model.values())
        for ws, own in model.items():
            assert set(ws.subscriptions) == own
            assert all(ws.is_subscribed(topic) == (topic in own) for topic in topics)
        assert app.stats()["topics"] == len(set().union(*model.values()))

    server.call(changes)
    for ws in room.sockets[::2]:
        server.call(ws.terminate)
    for ws in room.sockets[1::2]:
        assert set(ws.subscriptions) == model[ws]
    for topic in topics:
        assert app.num_subscribers(topic) == sum(topic in model[ws] for ws in room.sockets[1::2])


# The end of a connection


class Leaving(Room):
    """Notes what a connection is subscribed to when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.app: Any = None
        self.closed: list[tuple[Any, ...]] = []

    def message(self, ws: Any, data: Any) -> Any:
        if data == "raise":
            raise LookupError
        return asyncio.sleep(3600) if data == "wait" else None

    def close(self, ws: Any, code: int, reason: str) -> None:
        seen = [ws.subscriptions, ws.is_subscribed("room"), ws.subscribe("room"), ws.subscribe("new")]
        self.closed.append((*seen, ws.unsubscribe("room"), self.app.num_subscribers("room")))


ENDS: dict[str, Callable[[RawClient, Any], Any]] = {
    "peer closes": lambda client, ws: client.send_close(),
    "peer leaves": lambda client, ws: client.close(),
    "peer resets": lambda client, ws: client.reset(),
    "peer breaks the protocol": lambda client, ws: client.send_raw(build(3)),
    "a callback raises": lambda client, ws: client.send("raise"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_connection_leaves_when_it_ends(serve: Serving, end: str) -> None:
    leaving = Leaving()
    leaving.app = make_app(leaving)
    server = serve(leaving.app)
    if end == "a callback raises":
        serve.traps.expect(LookupError)
    client, other = (RawClient.open(server.port) for _ in range(2))
    eventually(lambda: len(leaving.sockets) == 2)
    ENDS[end](client, leaving.sockets[0])
    eventually(lambda: leaving.closed, 3.0, "close was called")
    assert leaving.closed == [((), False, False, False, False, 1)]
    assert server.call(server.app.publish, "room", "still") == 1
    assert other.recv() == "still"
    assert server.call(leaving.sockets[0].publish, "room", "from the dead") == 1
    assert other.recv() == "from the dead"


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_connection_leaves_in_the_call_that_ends_it(serve: Serving, end: str) -> None:
    leaving = Leaving()
    leaving.app = app = make_app(leaving)
    server = serve(app)
    clients = [RawClient.open(server.port) for _ in range(2)]
    eventually(lambda: len(leaving.sockets) == 2)
    one, two = leaving.sockets

    def ended() -> Any:
        getattr(one, end)()
        assert (one.subscriptions, one.is_subscribed("room"), one.subscribe("room")) == ((), False, False)
        return app.num_subscribers("room"), app.publish("room", "x"), one.publish("room", "y"), two.publish("room", "z")

    assert server.call(ended) == (1, 1, 1, 0)
    assert [clients[1].recv(), clients[1].recv()] == ["x", "y"]
    if end == "close":
        assert clients[0].recv_frame().opcode == CLOSE
        clients[0].send_close(1000)
        clients[0].expect_eof()


def test_a_connection_leaves_although_its_callback_goes_on(serve: Serving) -> None:
    leaving = Leaving()
    leaving.app = app = make_app(leaving, close_timeout=5)
    server = serve(app).hold_clock()
    client = RawClient.open(server.port)
    client.send("wait")
    client.send_close()
    client.expect_close(1000)
    server.advance(4.999)
    assert not leaving.closed
    assert app.num_subscribers("room") == 0
    assert app.stats()["topics"] == 0
    server.advance(0.001)
    eventually(lambda: leaving.closed, 3.0, "cancelled, then closed")


def test_stop_ends_all_topics(serve: Serving) -> None:
    app = make_app(Room)
    server = serve(app)
    for _ in range(3):
        RawClient.open(server.port)
    eventually(lambda: app.num_subscribers("room") == 3)
    server.stop_server(0.1)
    assert app.num_subscribers("room") == 0
    assert server.call(app.publish, "room", "nobody") == 0
    assert app.publish("room", "nobody") == 0


# Every callback


@pytest.mark.parametrize("asynchronous", [False, True])
def test_publishing_from_every_callback(serve: Serving, asynchronous: bool) -> None:
    said: list[tuple[str, int, int]] = []

    def say(name: str, ws: Any) -> None:
        said.append((name, ws.publish("room", f"ws in {name}"), app.publish("room", f"app in {name}")))

    def now(name: str) -> Callable[..., Any]:
        def callback(self: Any, ws: Any, *args: Any) -> None:
            if name == "open":
                ws.subscribe("room")
            if args == ("fill",):
                ws.send(bytes(6 << 20))
            elif name != "drain" or said[-1][0] != "drain":  # what it publishes may be queued, and bring another
                say(name, ws)

        return callback

    def later(name: str) -> Callable[..., Any]:
        async def callback(self: Any, ws: Any, *args: Any) -> None:
            await asyncio.sleep(0)
            now(name)(self, ws, *args)

        return callback

    names = ("open", "message", "ping", "pong", "drain", "close")
    app = make_app(type("Handler", (), {name: (later if asynchronous else now)(name) for name in names}))
    listening = Room()
    app.websocket("/listen")(listening)
    server = serve(app)
    listener = RawClient.open(server.port, "/listen")
    eventually(lambda: listening.sockets)
    client = slow_client(server)

    def both_hear(name: str) -> None:
        assert [listener.recv(), listener.recv(), client.recv()] == [
            f"ws in {name}",
            f"app in {name}",
            f"app in {name}",
        ]

    both_hear("open")
    client.send("x")
    both_hear("message")
    client.send_frame(PING, b"")
    assert client.recv_frame().opcode == PONG
    both_hear("ping")
    client.send_frame(PONG, b"")
    both_hear("pong")
    client.send("fill")
    eventually(lambda: server.stats()["buffered_bytes"])
    assert client.recv() == bytes(6 << 20)
    both_hear("drain")
    client.send_close()
    client.expect_close(1000)
    assert [listener.recv(), listener.recv()] == ["ws in close", "app in close"]
    assert said == [*((name, 1, 2) for name in names[:-1]), ("close", 1, 1)]
