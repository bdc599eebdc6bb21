"""Row S4, and row A2 inside of a publish: what happens to topics while a message goes round."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from harness import PATIENCE, RawClient, ServerThread, Serving, bystander, close_code, eventually, fill, make_app

from fastws import QUEUED

CLOSE = 8


class Room:
    """Everybody is in "room"; an async callback waits for what `waits_for` makes."""

    def __init__(self, waits_for: Callable[[], Any] | None = None) -> None:
        self.sockets: list[Any] = []
        self.closed: list[tuple[int, int]] = []
        self.waits_for = waits_for

    def open(self, ws: Any) -> None:
        if ws.query_string != "apart":
            ws.subscribe("room")
        self.sockets.append(ws)

    async def message(self, ws: Any, data: Any) -> None:
        if data == "wait" and self.waits_for is not None:
            await self.waits_for()

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closed.append((ws.id, code))


def join(server: ServerThread, room: Room, client: RawClient, query: str = "") -> Any:
    """The server's end of a client that is connected here."""
    count = len(room.sockets)
    client.handshake("/?" + query)
    eventually(lambda: len(room.sockets) > count)
    return room.sockets[-1]


def numbered(number: int, size: int) -> bytes:
    return (b"%08d" % number * (size // 8 + 1))[:size]


# -- S4


def read_all(client: RawClient, count: int, size: int, failed: list[BaseException]) -> None:
    try:
        for number in range(count):
            assert client.recv() == numbered(number, size)
    except BaseException as error:
        failed.append(error)


POLICIES: dict[str, tuple[dict[str, Any], int | None]] = {  # options, and the code that the slow one is closed with
    "close": ({"slow_consumer": "close", "max_burst": 1 << 20}, 1008),
    "drop": ({"slow_consumer": "drop", "max_burst": 1 << 20}, None),
    "send_timeout": ({"max_backpressure": 1 << 40, "send_timeout": 30}, 1006),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [1000, 60_000])
def test_s04_subscribers_that_stop_reading(serve: Serving, size: int, policy: str) -> None:
    """The policy applies to them alone: whoever reads gets everything, and soon."""
    options, code = POLICIES[policy]
    room = Room()
    server = serve(make_app(room, **options)).hold_clock()
    count = 10_000_000 // size
    failed: list[BaseException] = []
    with bystander(server) as watch:
        slow: list[RawClient] = []
        reading: list[RawClient] = []
        for number in range(12):
            client = RawClient.connect(server.port, receive_buffer=None if number % 3 else 4096)
            join(server, room, client)
            (reading if number % 3 else slow).append(client)
        readers = [threading.Thread(target=read_all, args=(client, count, size, failed)) for client in reading]
        for reader in readers:
            reader.start()
        most, least = 0, len(reading) + len(slow)

        async def publish() -> None:
            nonlocal most, least
            for number in range(count):
                least = min(least, server.app.publish("room", numbered(number, size)))
                while max(ws.buffered_amount for ws in room.sockets if ws.id % 3 != 2) > 500_000:
                    await asyncio.sleep(0)  # in the time of those that read
                most = max(most, server.app.stats()["buffered_bytes"])
                if number % 8 == 0:
                    await asyncio.sleep(0)

        server.call(publish, timeout=30)
        for reader in readers:
            reader.join(20 * PATIENCE)
        assert not failed
        assert watch.worst < 1.5 * PATIENCE
        if policy == "send_timeout":
            server.advance(29.999)
            assert not room.closed
            server.advance(0.001)
            server.advance_until(30, lambda: len(room.closed) == len(slow), "the slow ones are closed")
        if code is not None:
            eventually(lambda: len(room.closed) == len(slow), 3.0, "the slow ones are closed")
            assert [one for _, one in room.closed] == [code] * len(slow)
        assert server.app.num_subscribers("room") == (12 if policy == "drop" else len(reading))
        assert least == (len(reading) if policy != "send_timeout" else 12)
        if policy != "send_timeout":
            assert most < 12 * ((2 << 20) + 500_000 + 3 * size)


def test_s04_a_peer_that_joins_everything_and_reads_nothing(serve: Serving) -> None:
    """1,000 topics, all published to in one turn: one limit for all of them together, 17 MiB."""
    room = Room()
    server = serve(make_app(room, max_topics=1000))
    with bystander(server):
        client = RawClient.connect(server.port, receive_buffer=4096)
        ws = join(server, room, client, "apart")

        def publish() -> list[int]:
            for number in range(1000):
                assert ws.subscribe(f"topic {number}")
            return [server.app.publish(f"topic {number}", bytes(100_000)) for number in range(1000)]

        counts = server.call(publish)
        assert counts == sorted(counts, reverse=True)
        assert sum(counts) < 300
        assert server.app.stats()["topics"] == 0
        eventually(lambda: room.closed == [(ws.id, 1008)])


# -- A2: acting because of a publish that ends a subscriber: the cancel() of the future that its callback awaits is the
# app's own. It runs when the turn ends, and never in the middle of the publish.


def stuff(server: ServerThread, ws: Any) -> None:
    """Queues so much for a peer that does not read that the policy applies to the next message."""
    fill(server, ws)
    assert server.call(ws.send, bytes(8 << 20)) == QUEUED  # of which the kernel may still take some


class Stage:
    """Subscribers a, slow, b, c, and d who is apart; the publish that closes the slow one calls `act`."""

    def __init__(self, serve: Serving, act: Callable[[Stage], Any]) -> None:
        stage = self
        self.acted = 0
        self.counts: list[tuple[int, int]] = []  # when it acted: as it is told, and as it is

        class Future(asyncio.Future):  # type: ignore[type-arg]
            def cancel(self, msg: Any = None) -> bool:
                stage.acted += 1
                if stage.acted < 50:  # lest a mistake recurses for ever
                    act(stage)
                members = sum(ws.is_subscribed("room") for ws in stage.room.sockets)
                stage.counts.append((stage.app.num_subscribers("room"), members))
                return super().cancel()

        self.room = Room(Future)
        self.server = serve(make_app(self.room, max_burst=0))
        self.app = self.server.app
        self.clients = {name: RawClient.connect(self.server.port) for name in "abcd"}
        self.clients["slow"] = RawClient.connect(self.server.port, receive_buffer=4096)
        for name in ("a", "slow", "b", "c", "d"):
            setattr(self, name, join(self.server, self.room, self.clients[name], "apart" if name == "d" else ""))
        self.clients["slow"].send("wait")
        self.server.settle()
        stuff(self.server, self.slow)

    a: Any
    b: Any
    c: Any
    d: Any
    slow: Any

    def publish(self) -> int:
        return int(self.server.call(self.app.publish, "room", "outer"))

    def heard(self, name: str) -> list[Any]:
        """All that a client hears up to an "end" that it is sent now, or up to its close."""
        ws, client = getattr(self, name), self.clients[name]
        self.server.call(ws.send, "end")
        found: list[Any] = []
        try:
            while (frame := client.recv_frame()).payload != b"end":
                found.append(close_code(frame.payload) if frame.opcode == CLOSE else frame.payload.decode())
                if frame.opcode == CLOSE:
                    break
        except (AssertionError, ConnectionError):
            found.append("gone")
        return found


O, I = "outer", "inner"  # noqa: E741
ACTS: dict[str, tuple[Callable[[Stage], Any], dict[str, list[Any]], int]] = {
    # what is done; who heard what; how many are left in the room
    "nothing": (lambda s: None, {"a": [O], "b": [O], "c": [O], "d": []}, 3),
    "one behind leaves": (lambda s: s.b.unsubscribe("room"), {"a": [O], "b": [O], "c": [O]}, 2),
    "the last leaves": (lambda s: s.c.unsubscribe("room"), {"a": [O], "b": [O], "c": [O]}, 2),
    "one before leaves": (lambda s: s.a.unsubscribe("room"), {"a": [O], "b": [O], "c": [O]}, 2),
    "all leave": (
        lambda s: [ws.unsubscribe("room") for ws in (s.a, s.b, s.c)],
        {"a": [O], "b": [O], "c": [O], "d": []},
        0,
    ),
    "all leave, one joins": (
        lambda s: [*(ws.unsubscribe("room") for ws in (s.c, s.b, s.a)), s.d.subscribe("room")],
        {"a": [O], "b": [O], "c": [O], "d": []},
        1,
    ),
    "one joins": (lambda s: s.d.subscribe("room"), {"a": [O], "b": [O], "c": [O], "d": []}, 4),
    "one leaves and joins again": (
        lambda s: (s.b.unsubscribe("room"), s.b.subscribe("room")),
        {"a": [O], "b": [O], "c": [O]},
        3,
    ),
    "hundreds of times": (
        lambda s: [(ws.unsubscribe("room"), ws.subscribe("room")) for ws in (s.b, s.c, s.d) for _ in range(300)],
        {"a": [O], "b": [O], "c": [O], "d": []},
        4,
    ),
    "one is closed": (lambda s: s.b.close(4000), {"a": [O], "b": [O, 4000], "c": [O]}, 2),
    "one is terminated": (lambda s: s.c.terminate(), {"a": [O], "b": [O], "c": ["gone"]}, 2),
    "another publish": (
        lambda s: s.app.publish("room", "inner"),
        {"a": [O, I], "b": [O, I], "c": [O, I], "d": []},
        3,
    ),
    "another publish by one who leaves": (
        lambda s: (s.b.unsubscribe("room"), s.b.publish("room", "inner"), s.d.subscribe("room")),
        {"a": [O, I], "b": [O], "c": [O, I], "d": []},
        3,
    ),
    "another publish to one who joins": (
        lambda s: (s.d.subscribe("room"), s.app.publish("room", "inner")),
        {"a": [O, I], "b": [O, I], "c": [O, I], "d": [I]},
        4,
    ),
    "a publish to another topic": (
        lambda s: (s.b.subscribe("new"), s.app.publish("new", "inner"), s.b.unsubscribe("new")),
        {"a": [O], "b": [O, I], "c": [O]},
        3,
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_a02_acting_because_of_a_publish(serve: Serving, name: str) -> None:
    act, heard, left = ACTS[name]
    stage = Stage(serve, act)
    assert stage.publish() == 3
    eventually(lambda: stage.acted == 1)
    assert [told for told, _ in stage.counts] == [members for _, members in stage.counts]
    assert {who: stage.heard(who) for who in heard} == heard
    assert stage.app.num_subscribers("room") == left
    members = [ws for ws in (stage.a, stage.b, stage.c, stage.d) if ws.is_subscribed("room")]
    assert len(members) == left
    assert stage.server.call(stage.app.publish, "room", "after") == left
    for ws in members:
        assert [stage.clients[who].recv() for who in "abcd" if getattr(stage, who) is ws] == ["after"]
    assert stage.app.stats()["topics"] == (left > 0)
    stage.server.call(lambda: [ws.unsubscribe("room") for ws in members])
    assert stage.app.stats()["topics"] == 0


SELF: dict[str, Callable[[Stage], Any]] = {
    "publish": lambda s: s.app.publish("room", "inner"),
    "send": lambda s: s.slow.send("inner"),
    "close": lambda s: s.slow.close(4000),
    "terminate": lambda s: s.slow.terminate(),
    "subscribe": lambda s: s.slow.subscribe("room"),
}


@pytest.mark.parametrize("ending", ["publish", "reset", "stop"])
@pytest.mark.parametrize("name", SELF)
def test_a02_a_future_whose_cancel_acts_on_the_one_that_ends(serve: Serving, name: str, ending: str) -> None:
    """It is over already, as in `close`: nothing is sent, and it ends once."""
    stage = Stage(serve, SELF[name])
    if ending == "publish":
        assert stage.publish() == 3
        eventually(lambda: stage.acted)
    elif ending == "reset":
        stage.clients["slow"].reset()
        eventually(lambda: stage.acted)
    else:
        stage.server.stop_server(0.1)
    assert stage.acted == 1 or (ending == "stop" and stage.acted)
    eventually(lambda: [one for one, _ in stage.room.closed].count(stage.slow.id) == 1)
    assert stage.slow.subscriptions == ()
    open_now = 0 if ending == "stop" else 4
    assert stage.server.stats()["connections"] == open_now
    assert stage.app.num_subscribers("room") == max(0, open_now - 1)


def test_a02_finalizers_that_act_wherever_garbage_is_collected(serve: Serving) -> None:
    """Garbage is collected at every allocation in turn, so that finalizers run in the midst of everything (from Python
    3.12 on between two instructions of the app's). Two steady subscribers miss nothing and hear nothing twice."""
    rng = random.Random(4)
    room = Room()
    server = serve(make_app(room, max_backpressure=1 << 40))
    app = server.app
    steady = [RawClient.connect(server.port) for _ in range(2)]
    for client in steady:
        join(server, room, client)
    shaky = [RawClient.connect(server.port) for _ in range(6)]
    others = [join(server, room, client) for client in shaky]
    published = 0
    ran = 0
    inside = False
    ran_inside = 0

    def publish() -> None:
        nonlocal published
        published += 1
        app.publish("room", numbered(published, rng.choice([8, 600, 3000, 70_000])))

    def any_act(ws: Any) -> None:
        choice = rng.random()
        if choice < 0.3:
            ws.subscribe("room")
        elif choice < 0.6:
            ws.unsubscribe("room")
        elif choice < 0.7:
            publish()
        elif choice < 0.8:
            ws.send(bytes(rng.choice([1, 100_000])))
        elif choice < 0.83 and len(others) > 2:
            others.remove(ws)
            rng.choice([ws.close, ws.terminate])()
        else:
            ws.subscribe(f"{rng.randrange(5)}")
            app.publish(f"{rng.randrange(5)}", b"x" * 600)

    class Litter:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            nonlocal ran, ran_inside
            if threading.current_thread().name == "server":
                ran += 1
                ran_inside += inside
                any_act(rng.choice(others))

    def rounds(threshold: int) -> None:
        nonlocal inside
        for _ in range(3):
            gc.set_threshold(0)
            for _ in range(3):
                Litter()
            gc.set_threshold(threshold)
            inside = True
            publish()
            any_act(rng.choice(others))
            inside = False
            gc.set_threshold(0)
            assert app.num_subscribers("room") == sum(ws.is_subscribed("room") for ws in room.sockets)

    before = gc.get_threshold()
    try:
        for threshold in [*range(1, 40), *range(40, 400, 9)]:
            server.call(rounds, threshold)
            for client in shaky:
                client.drain_now() if client.sock.fileno() >= 0 else None
                client.buffer.clear()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert ran > 200
    if sys.version_info < (3, 12):
        assert ran_inside > 100
    assert server.stats()["connections"] == len(others) + 2 + sum(ws.ready_state == 2 for ws in room.sockets)
    for client in steady:
        messages = [client.recv() for _ in range(published)]
        assert all(isinstance(message, bytes) for message in messages)
        heard = sorted(int(message[:8]) for message in messages)
        assert heard == list(range(1, published + 1))
