"""What one peer may have done for it before the others have their turn: a count, whatever it sends.

Time decides nothing here. Where a test says what comes in between, all that peers sent is in the kernel before the loop
runs again, and what is counted are callbacks, or turns of the loop.
"""

from __future__ import annotations

import asyncio
import random
import struct
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from harness import (
    ANY,
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    build,
    build_close,
    bystander,
    eventually,
    make_app,
)
from harness.deflating import NOTHING, DeflateClient, compressed, deflate
from oracles.deflate import TAIL

import fastws

OFFER = "permessage-deflate"
EVENTS = 128  # of one peer, at once
INPUT = 16_384  # bytes that are inflated of one message, at once
MIB = 1 << 20
UNMASKED = b"\0\0\0\0"  # a masking key that leaves the payload as it is: it takes no time to build

FLOODS = {
    "text": build(TEXT, b"x"),
    "empty": build(BINARY),
    "pings": build(PING),
    "pongs": build(PONG, b"p"),
    "compressed": compressed(TEXT, deflate(b"x")),
    "compressed to nothing": compressed(BINARY, b""),
    "fragments": build(TEXT, b"", fin=False) + build(CONT, b"", fin=False) + build(CONT, b"x"),
}


class Order:
    """Who had a callback when: the flooders and the honest one, who is "!"."""

    def __init__(self) -> None:
        self.who: list[str] = []
        self.gate = asyncio.Event()
        self.honest: RawClient | None = None  # sends amid the first callbacks that waited behind another

    def app(self, **options: Any) -> Any:
        order = self

        class Noting:
            def message(self, ws: Any, data: Any) -> None:
                order.who.append(ws.query_string)
                if ws.query_string == "!":
                    ws.send(data)

            def ping(self, ws: Any, data: Any) -> None:
                order.who.append(ws.query_string)

            pong = ping

        class Waiting(Noting):
            async def message(self, ws: Any, data: Any) -> None:  # type: ignore[override]
                await order.gate.wait()
                if order.honest is not None and ws.query_string in order.who:
                    order.honest.send("hello")
                    order.honest = None
                order.who.append(ws.query_string)

        app = make_app(Noting, max_control_rate=1_000_000, **options)
        app.websocket("/waiting", max_waiting=1_000_000, high_water=1 << 30)(Waiting)
        return app

    def before_the_honest_one(self) -> Counter[str]:
        """How many callbacks of each flooder."""
        return Counter(self.who[: self.who.index("!")])


def at_once(server: ServerThread, *sends: tuple[RawClient, bytes]) -> None:
    """All this is in the kernel before the loop looks at any of it."""

    def send() -> None:
        for client, data in sends:
            client.send_raw(data)

    server.call(send)


@pytest.mark.parametrize("flooders", [1, 32])
@pytest.mark.parametrize("kind", FLOODS)
def test_tiny_frames(serve: Serving, kind: str, flooders: int) -> None:
    """Of each peer no more than a few of a burst are handled before another peer is."""
    order = Order()
    server = serve(order.app(compression="deflate"))
    many = 5000
    with bystander(server):
        honest = RawClient.open(server.port, "/?!")
        clients = [DeflateClient.offer(server.port, OFFER, path=f"/?{number}") for number in range(flooders)]
        for _ in range(3):
            order.who.clear()
            at_once(server, *((client, FLOODS[kind] * many) for client in clients), (honest, build(TEXT, b"hello")))
            assert honest.recv() == "hello"
            before = order.before_the_honest_one()
            assert max(before.values(), default=0) <= 2 * EVENTS, before
            eventually(lambda: len(order.who) == flooders * many + 1, 10)
            for client in clients:
                client.drain_now()  # the Pongs


@pytest.mark.parametrize("flooders", [1, 32])
def test_messages_that_wait_behind_an_async_callback(serve: Serving, flooders: int) -> None:
    """Once it has ended, those that came meanwhile are no more at once than if they came then."""
    order = Order()
    server = serve(order.app())
    many = 5000
    with bystander(server):
        honest = RawClient.open(server.port, "/?!")
        clients = [RawClient.open(server.port, f"/waiting?{number}") for number in range(flooders)]
        for client in clients:
            client.send_raw(build(BINARY, b"12345678") * many)
        eventually(lambda: server.stats()["buffered_bytes"] == flooders * (many - 1) * 8, 10)

        order.honest = honest
        server.call(order.gate.set)
        assert honest.recv() == "hello"
        before = order.before_the_honest_one()
        assert max(before.values(), default=0) <= 3 * EVENTS, before
        eventually(lambda: len(order.who) == flooders * many + 1, 10)
        assert server.stats()["buffered_bytes"] == 0


def test_answers_of_tasks_do_not_wait_for_all_who_go_on(serve: Serving) -> None:
    """Ten peers each fill their share of a turn over and over, on the server's clock. What a task sends leaves in the
    next turn, not when each of them has had one of its own."""
    waited: list[int] = []  # of each answer: for how many callbacks that take long
    honest: list[Any] = []
    counts: Counter[Any] = Counter()

    class Flooded:
        def message(self, ws: Any, data: Any) -> None:
            counts[ws] += 1
            if counts[ws] % EVENTS == 1:
                server.reactor.pass_time(0.005)
                if counts[ws] > EVENTS and honest[0].buffered_amount:  # not one of those that events have brought
                    waited[-1] += 1

    class Honest:
        async def open(self, ws: Any) -> None:
            honest.append(ws)
            while ws.ready_state == fastws.ReadyState.OPEN:
                await asyncio.sleep(0)
                if not ws.buffered_amount:
                    waited.append(0)
                    ws.send("tick")

    app = make_app(Flooded)
    app.websocket("/honest")(Honest)
    server = serve(app).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port, "/honest")
        wire = build(TEXT, b"x", mask=UNMASKED) * (EVENTS * 20)
        at_once(server, *((RawClient.open(server.port), wire) for _ in range(10)))
        eventually(lambda: sum(counts.values()) == 10 * EVENTS * 20, 10)
        client.reset()
    assert len(waited) > 20 and max(waited) <= 2, waited


def test_a_busy_server_does_not_starve_those_who_go_on(serve: Serving) -> None:
    """New input takes 40 ms of a wake-up, on the server's clock. Of sixteen peers whose input goes on, those that fit
    into 16 ms go on after it, not just one."""
    peers, parts = 16, 4
    counts: Counter[Any] = Counter()
    turns: list[bool] = []

    class Flooded:
        def message(self, ws: Any, data: Any) -> None:
            counts[ws] += 1
            if counts[ws] % EVENTS == 1:
                server.reactor.pass_time(0.005)

    class Busy:
        def message(self, ws: Any, data: Any) -> None:
            server.reactor.pass_time(0.04)
            done = sum(counts.values())
            turns.append(0 < done < peers * parts * EVENTS)
            if done < peers * parts * EVENTS:
                busy.send_raw(tick)  # there is new input in the next wake-up, too

    app = make_app(Flooded)
    app.websocket("/busy")(Busy)
    server = serve(app).hold_clock()
    busy, tick = RawClient.open(server.port, "/busy"), build(BINARY, b"tick")
    flooders = [RawClient.open(server.port) for _ in range(peers)]
    wire = build(TEXT, b"x", mask=UNMASKED) * (EVENTS * parts)
    at_once(server, *((flooder, wire) for flooder in flooders), (busy, tick))
    eventually(lambda: sum(counts.values()) == peers * parts * EVENTS, 20)
    # Their 48 further parts, four at a time; they would go on one by one if 4 ms were all they had.
    assert 0 < sum(turns) <= 18, sum(turns)


class PutOff:
    """A hundred peers whose input goes on, of whom each turn has one: a callback of theirs takes 20 ms, on the server's
    clock, which stands otherwise. They have seconds to wait for a turn."""

    def __init__(self, serve: Serving, **options: Any) -> None:
        self.counts: Counter[Any] = Counter()
        self.sockets: list[Any] = []
        self.closed: list[tuple[int, str]] = []
        world = self

        class Flooded:
            def open(self, ws: Any) -> None:
                world.sockets.append(ws)

            def message(self, ws: Any, data: Any) -> None:
                world.note(ws)

            def ping(self, ws: Any, data: Any) -> None:
                world.note(ws)

            def close(self, ws: Any, code: int, reason: str) -> None:
                world.closed.append((code, reason))

        app = make_app(Flooded, max_control_rate=0, **options)
        self.server = serve(app).hold_clock()
        self.pass_time = self.server.reactor.pass_time
        self.clients = [RawClient.open(self.server.port) for _ in range(100)]

    def note(self, ws: Any) -> None:
        self.counts[ws] += 1
        if self.counts[ws] % EVENTS == 1:
            self.pass_time(0.02)

    def flood(self, wire: bytes) -> None:
        at_once(self.server, *((client, wire) for client in self.clients))


@pytest.mark.parametrize("how", ["send", "close", "terminate", "publish"])
def test_nothing_but_input_is_put_off(serve: Serving, how: str) -> None:
    """What a peer with a backlog is sent leaves, and its end comes, while its input waits for its turn."""
    parts = 200
    world = PutOff(serve)
    world.flood(build(TEXT, b"x", mask=UNMASKED) * EVENTS * parts)
    ws = world.sockets[50]
    client = next(one for one in world.clients if one.sock.getsockname() == ws.remote_address)

    def act() -> None:
        if how == "publish":
            ws.subscribe("room")
            world.server.app.publish("room", "here")
        elif how == "terminate":
            ws.terminate()
        else:
            ws.send("here")
            if how == "close":
                ws.close(4000)

    async def soon() -> int:
        handled = world.counts[ws]
        for _ in range(1000):  # until it has just had its turn, and the 99 others come first
            if world.counts[ws] != handled:
                break
            await asyncio.sleep(0)
        act()
        for _ in range(4):
            await asyncio.sleep(0)
        client.drain_now()
        return sum(world.counts.values())

    assert world.server.call(soon) < 100 * EVENTS * parts, "they had no backlog"
    if how == "terminate":
        assert world.closed == [(1006, "")]
    else:
        heard = build(TEXT, b"here", mask=None)
        if how == "close":
            heard += build(CLOSE, (4000).to_bytes(2, "big"), mask=None)
        assert client.buffer == heard
    world.server.call(lambda: [one.terminate() for one in world.sockets])


@pytest.mark.parametrize("what", ["pings", "a message"])
def test_who_is_put_off_is_not_late(serve: Serving, what: str) -> None:
    """What it has sent and the server has not looked at cannot be held against it."""
    parts = 40
    limits = {"ping_interval": 0.5, "ping_timeout": 0.5} if what == "pings" else {"message_timeout": 0.5}
    world = PutOff(serve, **limits)
    wire = build(TEXT, b"x", mask=UNMASKED) * EVENTS * parts
    if what == "a message":
        wire = build(TEXT, b"x", fin=False) + build(PING, mask=UNMASKED) * EVENTS * parts + build(CONT, b"x")
    world.flood(wire)

    async def half_of_it() -> None:
        while sum(world.counts.values()) < 100 * EVENTS * parts // 2:
            world.server.reactor.advance(0)
            await asyncio.sleep(0)

    world.server.call(half_of_it)
    assert world.closed == []
    assert world.server.stats()["connections"] == 100
    world.server.call(lambda: [one.terminate() for one in world.sockets])


def test_what_waited_behind_callbacks_shares_a_turn(serve: Serving) -> None:
    """A hundred async callbacks end at once. What waits behind them is no more at a time than other input."""
    peers, many = 100, 100
    gate = asyncio.Event()
    count = 0
    at: list[int] = []

    def message(ws: Any, data: Any) -> Any:
        nonlocal count
        if data == "wait":
            return gate.wait()
        count += 1
        server.reactor.pass_time(0.001)
        return None

    async def go() -> None:
        gate.set()
        while count < peers * many:
            await asyncio.sleep(0)
            at.append(count)

    server = serve(make_app(message, max_waiting=1000)).hold_clock()
    clients = [RawClient.open(server.port) for _ in range(peers)]
    at_once(server, *((client, build(TEXT, b"wait") + build(TEXT, b"x") * many) for client in clients))
    server.settle()
    server.call(go)
    most = max(after - before for before, after in zip([0, *at], at, strict=False))
    assert most <= peers + 3 * EVENTS, most


def test_a_sweep_goes_on_with_no_input(serve: Serving) -> None:
    """Or each of those that are due in it would cost a turn: three hundred have a backlog, three hundred are pinged."""
    flooders, idle, parts = 300, 300, 200
    count = 0

    def flooded(ws: Any, data: Any) -> None:
        nonlocal count
        count += 1

    app = make_app(flooded)
    app.websocket("/idle", ping_interval=600)(lambda ws, data: None)
    server = serve(app).hold_clock()
    clients = [RawClient.open(server.port) for _ in range(flooders)]
    pinged = [RawClient.open(server.port, "/idle") for _ in range(idle)]
    wire = build(TEXT, b"x", mask=UNMASKED) * EVENTS * parts

    async def sweep() -> int:
        for client in clients:
            client.send_raw(wire)
        while count < flooders * EVENTS:
            await asyncio.sleep(0)
        before = count
        server.reactor.advance(600)
        return count - before

    handled = server.call(sweep)
    assert all(client.recv_frame().opcode == PING for client in pinged)
    assert handled <= 2 * (256 + flooders) * EVENTS, "more than a batch of new input, and a part of each, twice"
    server.call(lambda: [ws.terminate() for ws in server.server.connections])


def test_a_close_behind_what_waits(serve: Serving) -> None:
    """It is the last callback all the same, and comes once."""
    events: list[Any] = []
    gate = asyncio.Event()

    class Waiting:
        async def message(self, ws: Any, data: bytes) -> None:
            await gate.wait()
            events.append(data)

        def close(self, ws: Any, code: int, reason: str) -> None:
            events.append(code)

    server = serve(make_app(Waiting, max_waiting=100_000))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(b"".join(build(BINARY, b"%d" % number) for number in range(1000)) + build_close(1000))
        client.expect_close(1000)
        server.call(gate.set)
        eventually(lambda: events and events[-1] == 1000)
        assert events == [*[b"%d" % number for number in range(1000)], 1000]


# -- What is held meanwhile


def test_what_is_held_comes_in_order(serve: Serving) -> None:
    """Frames of all sizes, tiny ones in long runs, with pauses at random: nothing is lost, doubled or overtaken."""
    rng = random.Random(3)
    events: list[Any] = []
    loop = asyncio.get_running_loop

    class Pausing:
        def note(self, ws: Any, what: Any) -> None:
            events.append(what)
            if rng.random() < 0.03:
                ws.pause_reading()
                if rng.random() < 0.3:
                    ws.resume_reading()
                elif rng.random() < 0.5:
                    loop().call_soon(ws.resume_reading)
                else:
                    loop().call_later(0.0005, ws.resume_reading)

        def message(self, ws: Any, data: bytes) -> None:
            self.note(ws, data)

        def ping(self, ws: Any, data: bytes) -> None:
            self.note(ws, (data,))

    server = serve(make_app(Pausing, max_control_rate=0))
    expected: list[Any] = []
    stream = bytearray()
    while len(stream) < 3 * MIB:
        size = rng.choice([0, 5, 5, 5, 200, 16_370, 40_000, 300_000])
        for _ in range(rng.choice([1, 1, 400]) if size < 100 else 1):
            data = b"%d " % len(expected) + bytes(size)
            if rng.random() < 0.1:
                stream += build(PING, data[:20])
                expected.append((data[:20],))
            elif rng.random() < 0.1:
                stream += build(BINARY, data[:3], fin=False) + build(PING, b"between") + build(CONT, data[3:])
                expected += [(b"between",), data]
            else:
                stream += build(BINARY, data)
                expected.append(data)
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(stream)
        eventually(lambda: len(events) >= len(expected), 10)
        assert events == expected


@pytest.mark.parametrize("at", [1, 127, 128, 129, 1000, 4999])
@pytest.mark.parametrize("how", ["close", "terminate", "raise", "peer", "wrong"])
def test_an_end_amid_what_is_held(serve: Serving, how: str, at: int, traps: Any) -> None:
    """Nothing behind it is delivered, and nothing is left."""
    recorder = Recorder()

    class Ending(recorder.handler()):  # type: ignore[misc]
        def message(self, ws: Any, data: str) -> None:
            recorder.note(ws, "message", data)
            if data == "end":
                if how == "raise":
                    raise ValueError("to be expected")
                getattr(ws, how)()

    server = serve(make_app(Ending))
    end = {"peer": build_close(1001), "wrong": build(TEXT, b"x", mask=None)}.get(how, build(TEXT, b"end"))
    code = {"close": 1000, "terminate": 1006, "raise": 1011, "peer": 1001, "wrong": 1002}[how]
    if how == "raise":
        traps.expect(ValueError)
    expected = [("open",), *[("message", "x")] * at, ("message", "end"), ("close", code, ANY)]
    if how in ("peer", "wrong"):
        expected.remove(("message", "end"))
    with bystander(server, recorder, expected):
        client = RawClient.open(server.port)
        client.send_raw(build(TEXT, b"x") * at + end + build(TEXT, b"y") * (5000 - at) + build_close(1000))
        if how != "terminate":
            client.expect_close(code)
        eventually(lambda: recorder.events[-1][0] == "close")


def test_pausing_between_two_messages_that_are_held(serve: Serving) -> None:
    """The next one comes when reading goes on, and what is read then comes behind what was held."""
    sockets: list[Any] = []
    events: list[str] = []

    def message(ws: Any, data: str) -> None:
        events.append(data)
        sockets[:] = [ws]
        ws.pause_reading()

    server = serve(make_app(message))
    texts = [str(number) for number in range(600)]
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(b"".join(build(TEXT, text.encode()) for text in texts[:300]))
        eventually(lambda: events)
        client.send_raw(b"".join(build(TEXT, text.encode()) for text in texts[300:]))
        for number in range(1, 600):
            assert events == texts[:number]
            server.call(sockets[0].resume_reading)
            server.settle()
        assert events == texts
        server.call(sockets[0].resume_reading)


# -- Messages that take long to inflate


def nothing(size: int) -> bytes:
    """The payload of an empty message, of about so many bytes."""
    return NOTHING * (size // len(NOTHING)) + b"\0"


class Turns:
    """Counts turns of a server's loop from when a message begins to be inflated until `is_over()`."""

    def __init__(self, server: ServerThread, is_over: Callable[[], bool]) -> None:
        self.app, self.is_over = server.app, is_over
        self.count = 0
        self.ended = False
        server.call(self._start)

    def _start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.app.stats()["inflations"]
        self._turn()

    def _turn(self) -> None:
        self.ended = self.is_over()
        if not self.ended:
            self.count += self.app.stats()["inflations"] > self.began
            self.loop.call_soon(self._turn)


def amid(server: ServerThread, client: RawClient, wire: bytes, action: Callable[[], Any]) -> Any:
    """Has the client send. What `action()` returns, called on the loop once a message has begun to be inflated, and is
    not finished."""
    sending = threading.Thread(target=client.send_raw, args=(wire,))

    async def wait() -> Any:
        before = server.app.stats()["inflations"]
        sending.start()
        while server.app.stats()["inflations"] == before:
            await asyncio.sleep(0)
        result = action()
        return await result if asyncio.iscoroutine(result) else result

    result = server.call(wait)
    sending.join()
    return result


@pytest.mark.parametrize(("size", "limit"), [(1_170_000, MIB), (6 * MIB, 16 * MIB)], ids=["default limit", "16 MiB"])
@pytest.mark.parametrize("sizes", [[], [1000] * 100], ids=["whole", "fragments"])
@pytest.mark.parametrize("takeover", [False, True])
def test_a_message_that_inflates_to_nothing(
    serve: Serving, takeover: bool, sizes: list[int], size: int, limit: int
) -> None:
    """It is inflated a little in each turn; others compress and are compressed for meanwhile, and what comes behind it
    waits."""
    recorder = Recorder()
    settings = fastws.Deflate(client_no_context_takeover=not takeover)
    server = serve(make_app(recorder.handler(), compression=settings, max_message_size=limit))
    payload = nothing(size)
    expected = [("open",), ("message", "first"), ("message", b""), ("message", "behind it"), ("ping", b"p")]
    with bystander(server, recorder, [*expected, ("close", 1000, "")]):
        client = DeflateClient.offer(server.port, OFFER)
        other = DeflateClient.offer(server.port, f"{OFFER}; client_no_context_takeover", path="/bystander")
        other.send_deflated("before" * 100)
        assert other.recv() == "before" * 100
        client.send_deflated("first")
        eventually(lambda: recorder.events[-1] == ("message", "first"))
        client.send_raw(compressed(BINARY, payload, sizes=sizes, mask=UNMASKED)[:-1])
        server.settle()
        turns = Turns(server, lambda: ("message", b"") in recorder.events)
        client.send_raw(payload[-1:])
        client.send_deflated("behind it")
        client.send_raw(build(PING, b"p"))
        eventually(lambda: turns.count or turns.ended)
        for number in range(5):
            other.send_deflated(text := f"amid {number} " * 99)
            assert other.recv() == text
        eventually(lambda: recorder.events == expected, 20)
        assert turns.count >= len(payload) // (4 * INPUT), f"{turns.count} turns for {len(payload)} bytes"
        client.send_close()
        assert client.recv_frame().opcode == PONG
        client.expect_close(1000)
        assert server.stats()["inflations"] == 3 + 6


def test_many_peers_whose_messages_inflate_to_nothing(serve: Serving) -> None:
    """All of them at once, with the honest one between any two turns."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    payload = nothing(200_000)
    with bystander(server):
        clients = [DeflateClient.offer(server.port, OFFER) for _ in range(32)]
        for client in clients:
            client.send_raw(compressed(BINARY, payload, mask=UNMASKED)[:-1])
        eventually(lambda: server.stats()["buffered_bytes"] >= 32 * len(payload))
        turns = Turns(server, lambda: recorder.events.count(("message", b"")) > 0)
        at_once(server, *((client, payload[-1:]) for client in clients))
        eventually(lambda: recorder.events.count(("message", b"")) == 32, 20)
        assert turns.count >= len(payload) // (4 * INPUT)
        eventually(lambda: server.stats()["buffered_bytes"] == 0)


@pytest.mark.parametrize("size", [300, 5000])
def test_messages_that_inflate_to_nothing_in_one_burst(serve: Serving, size: int) -> None:
    """Each of them is done at once, but few of them are in one turn."""
    runs = [0]

    def message(ws: Any, data: bytes) -> None:
        if not runs[-1]:
            asyncio.get_running_loop().call_soon(runs.append, 0)
        runs[-1] += 1

    server = serve(make_app(message, compression="deflate"))
    wire = compressed(BINARY, nothing(size))
    many = 250_000 // len(wire)
    with bystander(server):
        client = DeflateClient.offer(server.port, OFFER)
        at_once(server, (client, wire * many))
        eventually(lambda: sum(runs) == many)
        assert max(runs) <= 3 * (INPUT // len(wire) + 1), runs


@pytest.mark.parametrize("kind", ["text", "noise", "large"])
def test_honest_messages_that_take_several_turns(serve: Serving, kind: str) -> None:
    recorder = Recorder()
    app = make_app(compression="deflate", max_message_size=8 * MIB)
    app.websocket("/")(recorder.handler())
    app.websocket("/view", binary="view", text="utf8")(Copying(recorder))
    app.websocket("/async")(Waiting(recorder))
    server = serve(app)
    rng = random.Random(5)
    data: Any = {
        "text": "".join(f'{{"id":{number},"name":"é{rng.random()}"}}' for number in range(20_000)),
        "noise": rng.randbytes(500_000),
        "large": bytes(range(256)) * 20_000,
    }[kind]
    with bystander(server):
        for path in ("/", "/view", "/async"):
            recorder.events.clear()
            client = DeflateClient.offer(server.port, OFFER, path=path)
            for message in (data, "short", data):
                client.send_deflated(message)
            eventually(lambda: len(got := messages_of(recorder)) == 3 and got == [data, "short", data], 10)
            client.close()


@pytest.mark.parametrize("size", [2 * (INPUT - 5) << times for times in range(5)])
def test_a_message_that_ends_with_its_room(serve: Serving, size: int) -> None:
    """Its last block is to have four bytes more than it has, and the tail that a message goes without (RFC 7692 section
    7.2.1) makes it whole. With the last of them there is neither more to read nor room for more: the room is twice what
    the first turn made of INPUT, less a block's head, and is doubled from then on."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    message = random.Random(6).randbytes(size - len(TAIL)) + TAIL
    blocks = [message[at : at + 32_768] for at in range(0, size, 32_768)]
    stored = b"".join(b"\0" + struct.pack("<HH", len(one), 0xFFFF - len(one)) + one for one in blocks)
    with bystander(server):
        client = DeflateClient.offer(server.port, OFFER)
        client.send_raw(compressed(BINARY, stored.removesuffix(TAIL)))
        eventually(lambda: messages_of(recorder) == [message], 10)
        client.close()


def messages_of(recorder: Recorder) -> list[Any]:
    return [event[1] for event in recorder.events if event[0] == "message"]


def Copying(recorder: Recorder) -> type:
    class Copying:
        def message(self, ws: Any, data: Any) -> None:
            recorder.note(ws, "message", bytes(data).decode() if ws.is_text else bytes(data))

    return Copying


def Waiting(recorder: Recorder) -> type:
    class Waiting:
        async def message(self, ws: Any, data: Any) -> None:
            await asyncio.sleep(0)
            recorder.note(ws, "message", data)

    return Waiting


@pytest.mark.parametrize(
    ("payload", "opcode", "code"),
    [
        (nothing(100_000) + b"\xff", BINARY, 1007),
        (nothing(100_000)[:-40], BINARY, 1007),
        (nothing(100_000)[:-1] + deflate(b"caf\xe9"), TEXT, 1007),
        (nothing(100_000)[:-1] + deflate(bytes(MIB + 1)), BINARY, 1009),
        (deflate(random.Random(1).randbytes(MIB) + b"x"), BINARY, 1009),
    ],
    ids=["corrupt", "cut short", "no text", "too large", "one byte too large"],
)
def test_what_is_wrong_after_several_turns(serve: Serving, payload: bytes, opcode: int, code: int) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    with bystander(server, recorder, [("open",), ("close", code, ANY)]):
        client = DeflateClient.offer(server.port, OFFER)
        client.send_raw(compressed(opcode, payload) + build(TEXT, b"behind it"))
        client.expect_close(code)


# What happens meanwhile

LONG = nothing(500_000)


either = pytest.mark.parametrize("takeover", [False, True], ids=["shared", "takeover"])


def start(serve: Serving, takeover: bool) -> tuple[ServerThread, Recorder]:
    recorder = Recorder()
    settings = fastws.Deflate(client_no_context_takeover=not takeover)
    return serve(make_app(recorder.handler(), compression=settings)), recorder


@pytest.mark.parametrize("how", ["close", "terminate", "stop"])
@either
def test_an_end_amid_an_inflation(serve: Serving, takeover: bool, how: str) -> None:
    """The message is not delivered, nor what is behind it, and what was kept of it is freed at once."""
    server, recorder = start(serve, takeover)
    client = DeflateClient.offer(server.port, OFFER)
    stopping: list[Any] = []

    async def end() -> tuple[Any, Any]:
        before = server.app.stats()
        if how == "stop":
            stopping.append(asyncio.ensure_future(server.server.stop(5.0)))
            await asyncio.sleep(0)
        else:
            getattr(recorder.sockets[0], how)()
        return before, server.app.stats()

    before, after = amid(server, client, compressed(BINARY, LONG) + build(TEXT, b"behind it") * 3, end)
    assert before["buffered_bytes"] >= len(LONG)
    assert after["buffered_bytes"] < 200  # the Close, and what was behind the message
    assert after["compression_bytes"] <= before["compression_bytes"] - 32_768
    if how != "terminate":
        assert client.recv_frame().opcode == CLOSE
        client.send_close()
        assert client.eof()
        client.close()
    eventually(lambda: recorder.events[-1][0] == "close")
    assert [event[0] for event in recorder.events] == ["open", "close"]
    eventually(lambda: server.call(server.app.stats)["sockets"] == 0)


@either
def test_a_peer_that_leaves_amid_an_inflation(serve: Serving, takeover: bool) -> None:
    server, recorder = start(serve, takeover)
    with bystander(server):
        client = DeflateClient.offer(server.port, OFFER)
        amid(server, client, compressed(BINARY, LONG), lambda: None)
        client.reset()
        eventually(lambda: recorder.events[-1] == ("close", 1006, ""), 10)


@either
def test_a_pause_amid_an_inflation(serve: Serving, takeover: bool) -> None:
    """The message comes when reading goes on, and not before."""
    server, recorder = start(serve, takeover)
    with bystander(server):
        client = DeflateClient.offer(server.port, OFFER)
        wire = compressed(BINARY, LONG) + build(TEXT, b"behind it")
        amid(server, client, wire, recorder.sockets[0].pause_reading)
        for _ in range(20):
            server.settle()
        assert recorder.events == [("open",)]
        assert server.stats()["buffered_bytes"] >= len(LONG)
        server.call(recorder.sockets[0].resume_reading)
        recorder.wait_for(("open",), ("message", b""), ("message", "behind it"), within=10)
        assert recorder.sockets[0].ready_state == fastws.ReadyState.OPEN


@either
def test_a_close_is_answered_after_an_inflation(serve: Serving, takeover: bool) -> None:
    """The peer's, which comes behind the message; and ours, which drops it, is answered by what came behind it."""
    server, recorder = start(serve, takeover)
    with bystander(server):
        client = DeflateClient.offer(server.port, OFFER)
        client.send_raw(compressed(BINARY, LONG) + build_close(4000))
        client.expect_close(4000)
        recorder.wait_for(("open",), ("message", b""), ("close", 4000, ""))
        client = DeflateClient.offer(server.port, OFFER)
        wire = compressed(BINARY, LONG) + build(TEXT, b"behind it") * 5000 + build_close(1000)
        amid(server, client, wire, lambda: recorder.sockets[1].close(3000))
        frame = client.recv_frame()
        assert (frame.opcode, frame.payload) == (CLOSE, b"\x0b\xb8")
        client.expect_eof()
        eventually(lambda: recorder.events[3:] == [("open",), ("close", 3000, "")])


def test_the_window_is_whole_after_several_turns(serve: Serving) -> None:
    """With takeover, what comes behind a long message may refer to it."""
    recorder = Recorder()
    settings = fastws.Deflate(client_no_context_takeover=False)
    server = serve(make_app(recorder.handler(), compression=settings, max_message_size=8 * MIB))
    rng = random.Random(8)
    with bystander(server):
        client = DeflateClient.offer(server.port, OFFER)
        messages = [rng.randbytes(40_000) for _ in range(4)]
        messages = [one for message in messages for one in (message, message[-30_000:], b"x" * 600_000 + message)]
        for message in messages:
            client.send_deflated(message)
        recorder.wait_for(("open",), *[("message", message) for message in messages], within=10)
