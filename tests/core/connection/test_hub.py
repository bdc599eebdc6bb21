"""What a hub tells those that watch it, as links and brokers do."""

from __future__ import annotations

from typing import Any

import pytest
from harness import TEXT, RawClient, ServerThread, Serving, build, eventually, make_app, newest, on_loop

from fastws import prepare


class Watcher:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def first_subscriber(self, topic: str) -> None:
        self.told.append(("first", topic))

    def last_subscriber(self, topic: str) -> None:
        self.told.append(("last", topic))

    def published(self, topic: str, message: Any) -> None:
        self.told.append(("published", topic))
        self.message = message


class Room:
    """A message is what to do: "+topic", "-topic", or "topic what to publish"."""

    def message(self, ws: Any, data: str) -> None:
        if data[0] == "+":
            ws.subscribe(data[1:])
        elif data[0] == "-":
            ws.unsubscribe(data[1:])
        else:
            ws.publish(*data.split(" ", 1))


def start(serve: Serving, watcher: Watcher | None = None) -> tuple[ServerThread, Watcher]:
    app = make_app(Room())
    watcher = watcher or Watcher()
    app._hub.watch(watcher)
    return serve(app), watcher


def say(server: ServerThread, client: RawClient, *what: str) -> None:
    client.send_raw(b"".join(build(TEXT, one.encode()) for one in what))
    server.settle()


def test_first_and_last(serve: Serving) -> None:
    server, watcher = start(serve)
    one, two = RawClient.open(server.port), RawClient.open(server.port)
    say(server, one, "+a", "+b", "+a")
    say(server, two, "+a")
    assert watcher.told == [("first", "a"), ("first", "b")]
    say(server, one, "-a", "-b")
    assert watcher.told[2:] == [("last", "b")]
    two.close()
    eventually(lambda: watcher.told[3:] == [("last", "a")])
    say(server, one, "+a")
    assert watcher.told[4:] == [("first", "a")]


def test_leaving_and_joining_in_one_turn_is_no_change(serve: Serving) -> None:
    """A room of one does not flap."""
    server, watcher = start(serve)
    client = RawClient.open(server.port)
    say(server, client, "+a", "-a", "+a", "-a", "+a")
    assert watcher.told == [("first", "a")]
    say(server, client, "-a")
    assert watcher.told == [("first", "a"), ("last", "a")]


def test_published(serve: Serving) -> None:
    """It is told once, whether anybody is subscribed or not, and after it was sent to those that are."""
    server, watcher = start(serve)
    one, two = RawClient.open(server.port), RawClient.open(server.port)
    say(server, one, "+a")
    say(server, two, "a hello", "b nobody")
    assert watcher.told == [("first", "a"), ("published", "a"), ("published", "b")]
    assert one.recv() == "hello"
    assert server.call(server.app.publish, "a", b"there") == 1
    assert watcher.told[3:] == [("published", "a")]
    assert one.recv() == b"there"


def test_what_comes_from_elsewhere_is_not_told_of(serve: Serving) -> None:
    server, watcher = start(serve)
    client = RawClient.open(server.port)
    say(server, client, "+a")
    assert server.call(server.app._hub.deliver, "a", prepare("from afar")) == 1
    assert client.recv() == "from afar"
    assert watcher.told == [("first", "a")]


def test_what_a_watcher_was_told_of_can_be_delivered_elsewhere(serve: Serving) -> None:
    server, watcher = start(serve)
    other, _ = start(serve)
    client = RawClient.open(other.port)
    say(other, client, "+a")
    server.call(server.app.publish, "a", "x" * 1000)
    assert other.call(other.app._hub.deliver, "a", watcher.message) == 1
    assert client.recv() == "x" * 1000


def test_who_comes_late_is_told_what_there_is(serve: Serving) -> None:
    server, _ = start(serve)
    client = RawClient.open(server.port)
    say(server, client, "+a", "+b", "+c", "-c")
    late = Watcher()
    server.call(server.app._hub.watch, late)
    assert sorted(late.told) == [("first", "a"), ("first", "b")]
    server.call(server.app._hub.unwatch, late)
    say(server, client, "+d", "-a")
    assert len(late.told) == 2


def test_who_watches_again_is_told_what_there_is_then(serve: Serving) -> None:
    server = serve(make_app(Room()))
    watcher = Watcher()
    client = RawClient.open(server.port)
    for topic in "abc":
        say(server, client, f"+{topic}")
        server.call(server.app._hub.watch, watcher)
        server.call(server.app._hub.unwatch, watcher)
        say(server, client, f"-{topic}")
    assert watcher.told == [("first", "a"), ("first", "b"), ("first", "c")]


def test_two_servers_in_two_threads_count_together(serve: Serving) -> None:
    server, watcher = start(serve)
    other = serve(server.app)
    here, there = RawClient.open(server.port), RawClient.open(other.port)
    say(server, here, "+a")
    say(other, there, "+a")
    say(server, here, "-a", "+a", "-a")
    assert watcher.told == [("first", "a")]
    say(other, there, "-a")
    assert watcher.told == [("first", "a"), ("last", "a")]


def test_the_end_of_a_server_is_the_end_of_its_topics(loop_kind: str, no_leaked_fds: None) -> None:
    import asyncio

    watcher = Watcher()
    app = make_app(Room())
    app._hub.watch(watcher)

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        client = await asyncio.to_thread(RawClient.open, server.port)
        client.send("+a")
        while not watcher.told:
            await asyncio.sleep(0.001)
        stopping = asyncio.ensure_future(server.stop(1))
        await asyncio.to_thread(client.expect_close, 1001)
        client.close()
        await stopping
        await asyncio.sleep(0)

    on_loop(loop_kind, main())
    assert watcher.told == [("first", "a"), ("last", "a")]


def test_who_cannot_be_told_makes_subscribe_raise(serve: Serving) -> None:
    """The message would be lost elsewhere otherwise, and nobody would know."""

    class Full(Watcher):
        def first_subscriber(self, topic: str) -> None:
            if topic == "full" and ("first", topic) not in self.told:
                super().first_subscriber(topic)
                raise RecursionError(topic)
            super().first_subscriber(topic)

    server, watcher = start(serve, Full())
    RawClient.open(server.port)
    ws = newest(server)
    with pytest.raises(RecursionError, match="full"):
        server.call(ws.subscribe, "full")
    assert server.call(ws.is_subscribed, "full") is False
    assert server.app.num_subscribers("full") == 0
    assert server.call(ws.subscribe, "full") is True
    assert watcher.told == [("first", "full"), ("first", "full")]


def test_a_watcher_may_end_the_subscriber(serve: Serving) -> None:
    class Ending(Watcher):
        def first_subscriber(self, topic: str) -> None:
            super().first_subscriber(topic)
            ws.terminate()
            if topic == "raise":
                raise RecursionError

    server, watcher = start(serve, Ending())
    for topic in ("a", "raise"):
        RawClient.open(server.port)
        ws = newest(server)
        if topic == "raise":
            with pytest.raises(RecursionError):
                server.call(ws.subscribe, topic)
        else:
            server.call(ws.subscribe, topic)
        eventually(lambda: server.stats()["sockets"] == 0)
        assert server.stats()["topics"] == 0
    server.settle()
    assert ("last", "a") in watcher.told


def test_one_that_raises_keeps_no_other_from_being_told(serve: Serving) -> None:
    class Raising(Watcher):
        def last_subscriber(self, topic: str) -> None:
            raise ArithmeticError(topic)

        def published(self, topic: str, message: Any) -> None:
            raise ArithmeticError(topic)

    server, _ = start(serve, Raising())
    later = Watcher()
    server.call(server.app._hub.watch, later)
    client = RawClient.open(server.port)
    say(server, client, "+a")
    with pytest.raises(ArithmeticError):
        server.call(server.app.publish, "a", "x")
    assert client.recv() == "x"
    server.call(lambda: server.loop.set_exception_handler(lambda loop, context: None))
    say(server, client, "-a")
    eventually(lambda: later.told == [("first", "a"), ("published", "a"), ("last", "a")])


def test_where_one_raises_the_others_know_that_there_is_no_subscriber(serve: Serving) -> None:
    """Else a link to another process would go on asking for a topic that nobody here has."""

    class Raising(Watcher):
        def first_subscriber(self, topic: str) -> None:
            super().first_subscriber(topic)
            raise ArithmeticError(topic)

    server, before = start(serve)
    raising, after = Raising(), Watcher()
    for watcher in (raising, after):
        server.call(server.app._hub.watch, watcher)
    client = RawClient.open(server.port)
    ws = newest(server)
    with pytest.raises(ArithmeticError):
        server.call(ws.subscribe, "a")
    assert (before.told, raising.told, after.told) == ([("first", "a"), ("last", "a")], [("first", "a")], [])
    assert server.call(lambda: ws.subscriptions) == ()
    server.app._hub.unwatch(raising)
    say(server, client, "+a", "-a")
    assert (before.told[2:], after.told) == ([("first", "a"), ("last", "a")],) * 2


def test_one_that_raises_at_once_does_not_watch(serve: Serving) -> None:
    class Raising(Watcher):
        def first_subscriber(self, topic: str) -> None:
            raise ArithmeticError(topic)

    server, _ = start(serve)
    client = RawClient.open(server.port)
    say(server, client, "+a")
    raising = Raising()
    with pytest.raises(ArithmeticError):
        server.call(server.app._hub.watch, raising)
    say(server, client, "+b")
    assert server.call(newest(server).is_subscribed, "b") is True
