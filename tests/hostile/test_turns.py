"""What one peer may have done for it before the others have their turn: a count, whatever it sends.

Time decides nothing here. Where a test says what comes in between, all that peers sent is in the kernel before the loop
runs again, and what is counted are callbacks, or turns of the loop.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from harness import (
    ANY,
    BINARY,
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
from harness.deflating import DeflateClient, compressed, deflate

OFFER = "permessage-deflate"
EVENTS = 128  # of one peer, at once
MIB = 1 << 20

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
            async def message(self, ws: Any, data: Any) -> None:
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
