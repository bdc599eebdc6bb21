"""The order in which a subscriber hears what is sent and published to it, and what a slow one costs the others."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from harness import CHUNK, RawClient, ServerThread, Serving, eventually, fill, make_app, slow_client

import fastws
from fastws import QUEUED

UNBOUNDED = {"max_backpressure": 1 << 40, "high_water": 1 << 40, "send_timeout": 0}


@pytest.mark.parametrize("large", [70_000, 300_000])
def test_every_order_within_a_callback(serve: Serving, large: int) -> None:
    """What is corked, copied and referred to keeps its order, whichever comes first."""
    ways = [(how, size) for how in ("send", "publish") for size in (8, 3000, large)]
    plans = list(itertools.product(ways, repeat=3))
    expected: list[bytes] = []

    class Handler:
        def open(self, ws: Any) -> None:
            ws.subscribe("room")

        def message(self, ws: Any, data: str) -> None:
            for how, size in plans[int(data)]:
                expected.append(numbered(len(expected), size))
                if how == "send":
                    ws.send(expected[-1])
                else:
                    app.publish("room", expected[-1])

    app = make_app(Handler, **UNBOUNDED)
    server = serve(app)
    client = RawClient.open(server.port)
    for number, plan in enumerate(plans):
        client.send(f"{number}")
        got = [client.recv() for _ in plan]
        assert got == expected[-3:], plan


# Slow subscribers


class Room:
    """Everybody is in "room"."""

    def __init__(self) -> None:
        self.sockets: list[Any] = []
        self.closed: list[tuple[Any, int, str]] = []

    def open(self, ws: Any) -> None:
        ws.subscribe("room")
        self.sockets.append(ws)

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closed.append((ws, code, reason))


def stuff(server: ServerThread, ws: Any) -> list[bytes]:
    """Queues so much for a peer that does not read that the policy applies to the next message."""
    queued = fill(server, ws)
    queued.append(bytes(8 << 20))  # of which the kernel may still take some
    assert server.call(ws.send, queued[-1]) == QUEUED
    return queued


def numbered(number: int, size: int) -> bytes:
    return (b"%08d" % number * (size // 8 + 1))[:size]


PATTERNS = ["s.", ".s", ".s.", "ss.", ".ss", "s.s", "ss", "s.ss..s"]


@pytest.mark.parametrize("size", [100, 100_000])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_publish_closes_those_that_are_too_slow(serve: Serving, pattern: str, size: int) -> None:
    """Whatever their places among the subscribers, the others hear everything, once."""
    room = Room()
    server = serve(make_app(room, max_burst=0))
    clients = []
    for number, kind in enumerate(pattern):
        clients.append(slow_client(server) if kind == "s" else RawClient.open(server.port))
        eventually(lambda number=number: len(room.sockets) == number + 1)
    slow = [ws for ws, kind in zip(room.sockets, pattern, strict=True) if kind == "s"]
    queued = {ws: stuff(server, ws) for ws in slow}
    count = pattern.count(".")

    def publish() -> None:
        for number in range(5):
            assert server.app.publish("room", numbered(number, size)) == count
            assert server.app.num_subscribers("room") == count
            assert [ws.subscriptions for ws in slow] == [()] * len(slow)
        assert server.app.stats()["topics"] == (count > 0)

    server.call(publish)
    for ws, client in zip(room.sockets, clients, strict=True):
        if ws in slow:
            assert [client.recv() for _ in queued[ws]] == queued[ws]
            client.expect_close(1008, reason=b"slow consumer: over max_backpressure")
        else:
            assert [client.recv() for _ in range(5)] == [numbered(number, size) for number in range(5)]
    assert {ws for ws, _, _ in room.closed} == set(slow)
    assert {code for _, code, _ in room.closed} <= {1008}


@pytest.mark.parametrize("size", [100, 1000, 100_000])
def test_a_slow_subscriber_misses_what_is_dropped(serve: Serving, size: int) -> None:
    room = Room()
    server = serve(make_app(room, max_burst=0, slow_consumer="drop"))
    clients = [RawClient.open(server.port), slow_client(server), RawClient.open(server.port)]
    eventually(lambda: len(room.sockets) == 3)
    queued = stuff(server, room.sockets[1])
    for number in range(20):
        assert server.call(server.app.publish, "room", numbered(number, size)) == 2
    assert server.app.num_subscribers("room") == 3
    for client in (clients[0], clients[2]):
        assert [client.recv() for _ in range(20)] == [numbered(number, size) for number in range(20)]
    assert [clients[1].recv() for _ in queued] == queued
    eventually(lambda: server.call(lambda: room.sockets[1].buffered_amount) == 0)
    assert server.call(server.app.publish, "room", "after") == 3
    assert [client.recv() for client in clients] == ["after"] * 3


def test_a_subscriber_that_is_gone_while_it_is_published_to(serve: Serving) -> None:
    """Its peer resets, and the poller has not told yet: sending fails in the middle of a publish."""
    room = Room()
    server = serve(make_app(room))
    clients = [RawClient.open(server.port) for _ in range(3)]
    eventually(lambda: len(room.sockets) == 3)

    def publish() -> list[int]:
        clients[1].reset()
        return [server.app.publish("room", numbered(number, 100_000)) for number in range(12)]

    # Up to 256 KiB wait for the end of the turn. What makes them more is the first that fails, and is not counted.
    assert server.call(publish) == [3] * 3 + [2] * 9
    for client in (clients[0], clients[2]):
        assert [client.recv() for _ in range(12)] == [numbered(number, 100_000) for number in range(12)]
    eventually(lambda: room.closed)
    assert server.app.num_subscribers("room") == 2


def test_a_subscriber_over_high_water_is_read_no_more_until_it_drains(serve: Serving) -> None:
    noted: list[str] = []

    class Noting(Room):
        def message(self, ws: Any, data: Any) -> None:
            noted.append(data)

        def drain(self, ws: Any) -> None:
            noted.append("drain")

    room = Noting()
    server = serve(make_app(room))
    client = slow_client(server)
    eventually(lambda: room.sockets)
    queued = [*fill(server, room.sockets[0]), bytes(100_000)]
    assert server.call(server.app.publish, "room", queued[-1]) == 1
    client.send("not yet")
    server.settle()
    assert noted == []
    assert [client.recv() for _ in queued] == queued
    eventually(lambda: noted == ["drain", "not yet"])


def test_the_count_is_of_those_that_took_it(serve: Serving) -> None:
    """Sent or queued both count."""
    room = Room()
    server = serve(make_app(room, **UNBOUNDED))
    client, slow = RawClient.open(server.port), slow_client(server)
    eventually(lambda: len(room.sockets) == 2)
    queued = fill(server, room.sockets[1])
    for size in (10, 1000, CHUNK, 1 << 20):
        message = bytes(size)
        assert server.call(server.app.publish, "room", message) == 2
        assert server.call(room.sockets[0].publish, "room", message) == 1
        assert client.recv() == message
        queued += [message] * 2
    assert [slow.recv() for _ in queued] == queued


@pytest.mark.parametrize("size", [100, 511, 512, 700, 2044, 5000])
def test_what_is_queued_stays_what_it_was(serve: Serving, size: int) -> None:
    """Small frames share a block of memory, which is used again: never while anything there is still to be sent."""
    room = Room()
    server = serve(make_app(room, **UNBOUNDED))
    fast = RawClient.open(server.port)
    slow = [slow_client(server) for _ in range(3)]
    eventually(lambda: len(room.sockets) == 4)
    queued: list[list[bytes]] = [fill(server, ws) for ws in room.sockets[1:]]
    rng = random.Random(size)
    kept = [fastws.prepare(b"kept" * (size // 4))]
    number = 0
    for turn in range(60):
        messages = []
        for _ in range(rng.choice([1, 7, 40])):
            messages.append(numbered(number, max(8, size + rng.choice([-1, 0, 1]))))
            number += 1
        some = rng.random() < 0.5  # else only the fast one is left in "room" for this turn

        def publish(messages: list[bytes] = messages, some: bool = some) -> None:
            for ws in room.sockets[1:]:
                ws.subscribe("room") if some else ws.unsubscribe("room")
            for message in messages:
                assert server.app.publish("room", message) == (4 if some else 1)
            assert server.app.publish("room", kept[0]) == (4 if some else 1)

        server.call(publish)
        expected = [*messages, b"kept" * (size // 4)]
        if some:
            for waiting in queued:
                waiting.extend(expected)
        assert [fast.recv() for _ in expected] == expected
        if turn % 15 == 14:  # one catches up, and its block is free
            at = turn // 15 % 3
            assert [slow[at].recv() for _ in queued[at]] == queued[at]
            queued[at] = []
    for client, expected in zip(slow, queued, strict=True):
        assert [client.recv() for _ in expected] == expected
