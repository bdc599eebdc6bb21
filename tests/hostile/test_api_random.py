"""Row A2 without a plan: many connections whose callbacks do anything to any of them, while their peers misbehave."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from harness import (
    BINARY,
    CONT,
    PATIENCE,
    PING,
    TEXT,
    Ended,
    RawClient,
    Serving,
    build,
    build_close,
    bystander,
    eventually,
    make_app,
    parse,
)

CONNECTIONS = 30
STEPS = 5000

ACTIONS: list[Callable[[Any, random.Random], Any]] = [
    lambda ws, rng: say(ws, "x" * rng.choice([0, 10, 200, 70_000])),
    lambda ws, rng: say(ws, "é" * rng.choice([1, 100, 70_000])),
    lambda ws, rng: say(ws, bytes(rng.choice([0, 10, 60_000, 300_000]))),
    lambda ws, rng: say(ws, bytearray(rng.choice([5, 80_000]))),
    lambda ws, rng: ws.ping(b"p"),
    lambda ws, rng: ws.pause_reading(),
    lambda ws, rng: ws.resume_reading(),
    lambda ws, rng: (ws.pause_reading(), ws.resume_reading()),
    lambda ws, rng: ws.close(4000, "r") if rng.random() < 0.1 else None,
    lambda ws, rng: ws.terminate() if rng.random() < 0.1 else None,
    lambda ws, rng: ws.subscribe(rng.choice(TOPICS)),
    lambda ws, rng: ws.unsubscribe(rng.choice(TOPICS)),
    lambda ws, rng: publish(ws, b"\0" * rng.choice([0, 10, 600, 5000])),
    lambda ws, rng: publish(ws, b"\0" * rng.choice([100, 100, 70_000]), prepared=True),
]
TOPICS: list[str] = ["one", "two", "three"]
published = itertools.count()


def say(ws: Any, payload: Any) -> None:
    """Sends `payload` behind a number that its peer expects next."""
    import fastws

    number = ws.data or 0
    head = f"{number}:"
    if ws.send(head + payload if isinstance(payload, str) else head.encode() + payload) != fastws.DROPPED:
        ws.data = number + 1


def publish(ws: Any, payload: bytes, prepared: bool = False) -> None:
    """Publishes to all topics behind a number that is higher than all before."""
    import fastws

    for topic in TOPICS:
        data = b"p%d:" % next(published) + payload
        ws.publish(topic, fastws.prepare(data) if prepared else data)


class Peer:
    """A client that sends numbered messages, whole or in fragments, in segments of any size, and reads or does not."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self.client = RawClient.open(port)
        self.client.sock.setblocking(False)
        self.rng = rng
        self.number = 0
        self.heard = 0
        self.latest = -1  # of what was published
        self.published = 0
        self.outgoing = bytearray()

    def more(self) -> None:
        for _ in range(self.rng.randrange(1, 20)):
            body = b"%d:" % self.number + bytes(self.rng.choice([0, 1, 100, 5000, 90_000]))
            self.number += 1
            if self.rng.random() < 0.3:
                cut = self.rng.randrange(len(body))
                self.outgoing += build(BINARY, body[:cut], fin=False) + build(PING, b"p") + build(CONT, body[cut:])
            else:
                self.outgoing += build(BINARY, body)

    def read(self, data: bytes) -> None:
        """What the server says comes in order, unharmed and in frames as they should be."""
        self.client.buffer += data
        while found := parse(self.client.buffer):
            (_, opcode, payload), size = found
            self.client.take(size)
            if opcode in (TEXT, BINARY):
                number, _, rest = payload.partition(b":")
                if number.startswith(b"p"):
                    assert int(number[1:]) > self.latest, f"{number!r} after {self.latest}"
                    assert rest.count(0) == len(rest)
                    self.latest = int(number[1:])
                    self.published += 1
                    continue
                assert int(number) == self.heard, f"{number!r} where {self.heard} was due"
                assert rest == rest[:2] * (len(rest) // 2) + rest[: len(rest) % 2]
                self.heard += 1

    def step(self) -> bool:
        """Does something; False when the connection is no more."""
        choice = self.rng.random()
        try:
            if choice < 0.5:
                if not self.outgoing:
                    self.more()
                size = self.rng.choice([1, 7, 1000, 100_000])
                del self.outgoing[: self.client.sock.send(self.outgoing[:size])]
            elif choice < 0.95:
                if not (data := self.client.sock.recv(500_000)):
                    raise ConnectionResetError
                self.read(data)
            elif choice < 0.97:
                self.outgoing += build_close(1000)
            elif choice < 0.98:
                self.client.reset()
                return False
            elif choice < 0.99:
                self.client.close()
                return False
        except BlockingIOError:
            pass
        except ConnectionError:
            self.client.close()
            return False
        return True


def newcomer(port: int, rng: random.Random) -> Peer:
    """`open` may terminate at once, and then its 101 is lost."""
    for _ in range(20):
        try:
            return Peer(port, rng)
        except (Ended, ConnectionError):
            pass
    raise AssertionError("none of 20 connections was opened")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a02_anything_goes(serve: Serving, seed: int, asynchronous: bool) -> None:
    """Each connection's messages come in order and unharmed, `close` comes once and last, and nothing stays behind."""
    rng = random.Random(seed)
    inside = random.Random(~seed)  # for the server's thread
    alive: dict[int, Any] = {}
    seen: defaultdict[int, int] = defaultdict(int)
    opened: list[int] = []
    closed: list[int] = []
    wrong: list[str] = []
    calm: list[bool] = []  # once filled: no more actions

    def act(ws: Any) -> None:
        if not calm and inside.random() < 0.5:
            ACTIONS[inside.randrange(len(ACTIONS))](inside.choice([ws, *alive.values()]), inside)

    def check(ws: Any, data: bytes) -> None:
        number, _, rest = data.partition(b":")
        if ws.id in closed or int(number) != seen[ws.id] or rest.count(0) != len(rest):
            wrong.append(f"{ws.id}: {data[:20]!r} after {seen[ws.id]} messages")
        seen[ws.id] += 1

    class Handler:
        def open(self, ws: Any) -> None:
            alive[ws.id] = ws
            opened.append(ws.id)
            act(ws)

        def ping(self, ws: Any, data: bytes) -> None:
            act(ws)

        pong = ping

        def drain(self, ws: Any) -> None:
            act(ws)

        def close(self, ws: Any, code: int, reason: str) -> None:
            if ws.id in closed:
                wrong.append(f"{ws.id}: closed twice")
            closed.append(ws.id)
            alive.pop(ws.id)
            act(ws)

    def message(self: Any, ws: Any, data: bytes) -> None:
        check(ws, data)
        act(ws)

    async def message_later(self: Any, ws: Any, data: bytes) -> None:
        check(ws, data)
        await asyncio.sleep(inside.choice([0, 0, 0.001]))
        act(ws)

    Handler.message = message_later if asynchronous else message  # type: ignore[attr-defined]
    server = serve(make_app(Handler, close_timeout=0.3, max_waiting=3, max_backpressure=500_000))
    with bystander(server):
        peers = [newcomer(server.port, rng) for _ in range(CONNECTIONS)]
        everyone = list(peers)
        deadline = time.monotonic() + 5 * PATIENCE
        for _ in range(STEPS):
            at = rng.randrange(len(peers))
            if not peers[at].step():
                peers[at] = newcomer(server.port, rng)
                everyone.append(peers[at])
            if time.monotonic() > deadline:
                break
        calm.append(True)
        for peer in peers:
            peer.client.close()
        server.call(lambda: [ws.resume_reading() for ws in list(alive.values())])
        eventually(lambda: len(closed) == len(opened) and not alive, 5.0, f"{len(opened)} opened, {alive} open")
    assert not wrong, wrong
    assert len(closed) == len(set(closed))
    assert sum(seen.values()) > 100
    assert sum(peer.heard for peer in everyone) > 100
    assert sum(peer.published for peer in everyone) > 10
    assert server.app.stats()["topics"] == 0


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a05_stop_amid_anything(serve: Serving, asynchronous: bool) -> None:
    """`server.stop` while peers flood, read slowly and leave: each gets its `close` once, and stop keeps its time."""
    rng = random.Random(5)
    opened: list[int] = []
    closed: list[int] = []

    class Handler:
        def open(self, ws: Any) -> None:
            opened.append(ws.id)

        def close(self, ws: Any, code: int, reason: str) -> None:
            closed.append(ws.id)

    def message(self: Any, ws: Any, data: bytes) -> None:
        say(ws, data.partition(b":")[2])

    async def message_later(self: Any, ws: Any, data: bytes) -> None:
        await asyncio.sleep(0.001)
        say(ws, data.partition(b":")[2])

    Handler.message = message_later if asynchronous else message  # type: ignore[attr-defined]
    server = serve(make_app(Handler))
    peers = [newcomer(server.port, rng) for _ in range(CONNECTIONS)]
    for _ in range(1000):
        at = rng.randrange(len(peers))
        if not peers[at].step():
            peers[at] = newcomer(server.port, rng)
    stopping = threading.Thread(target=server.stop_server, args=(0.5,))
    began = time.monotonic()
    stopping.start()
    while stopping.is_alive() and time.monotonic() - began < 10:
        for peer in list(peers):
            if not peer.step():
                peers.remove(peer)
    assert time.monotonic() - began < 2.5 * PATIENCE
    stopping.join()
    assert len(closed) == len(set(closed)) == len(opened)


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
