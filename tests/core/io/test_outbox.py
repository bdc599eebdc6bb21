"""What a socket does not take at once: kept in order, copied only where it must be, and sent to the last byte."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import pytest
from harness import RawClient, ServerThread, Serving, eventually, fill, make_app, newest, slow_client

from fastws import QUEUED, SENT

UNBOUNDED = {"max_backpressure": 1 << 40, "send_timeout": 0, "ping_interval": 0}
SIZES = [0, 125, 126, 65535, 65536, 1 << 20, 16 << 20, pytest.param(64 << 20, marks=pytest.mark.slow)]


class Silent:
    def message(self, ws: Any, data: Any) -> None: ...


def blocked(serve: Serving, **options: Any) -> tuple[ServerThread, RawClient, Any, list[Any]]:
    """A server, a client that reads nothing, the server's end, and what was sent until it was QUEUED."""
    server = serve(make_app(Silent, **UNBOUNDED, **options))
    client = slow_client(server)
    ws = newest(server)
    return server, client, ws, fill(server, ws)


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that are the same nowhere a block could be lost or doubled unnoticed."""
    block = random.Random(seed).randbytes(65521)
    return (block * (size // 65521 + 1))[:size]


@pytest.mark.parametrize("reader", ["fast", "slow"])
@pytest.mark.parametrize("size", SIZES)
def test_sizes(serve: Serving, size: int, reader: str) -> None:
    server = serve(make_app(Silent, **UNBOUNDED))
    client = slow_client(server) if reader == "slow" else RawClient.open(server.port)
    client.sock.settimeout(20)
    ws = newest(server)
    payload = pattern(size)
    text = payload[:1000].hex() * (size // 2000) + "x" * (size % 2000)
    statuses = server.call(lambda: [ws.send(payload), ws.send(text), ws.send(bytearray(payload))])
    if size >= 16 << 20:
        assert statuses == [QUEUED, QUEUED, QUEUED]
    assert client.recv() == payload
    assert client.recv() == text
    assert client.recv() == payload
    eventually(lambda: server.call(lambda: ws.buffered_amount) == 0, 3.0, "nothing left to send")


@pytest.mark.parametrize("kind", ["bytes", "str", "encoded", "encoded text"])
def test_what_cannot_change_is_held_by_reference(serve: Serving, kind: str) -> None:
    server, client, ws, sent = blocked(serve)
    payload: Any = pattern(500_000).hex() if kind == "str" else pattern(1_000_000)
    if kind == "encoded text":
        payload = payload.hex().encode()[:1_000_000]
    before = sys.getrefcount(payload)
    buffered = server.stats()["buffered_bytes"]
    status = server.call(ws.send_text if kind == "encoded text" else ws.send, payload)
    assert status == QUEUED
    assert sys.getrefcount(payload) == before + 1
    assert server.stats()["buffered_bytes"] == buffered + 10 + 1_000_000
    for message in sent:
        assert client.recv() == message
    assert client.recv() == (payload.decode() if kind == "encoded text" else payload)
    eventually(lambda: sys.getrefcount(payload) == before, 3.0, "given back")


def test_a_reference_is_given_back_when_the_peer_leaves(serve: Serving) -> None:
    server, client, ws, _ = blocked(serve)
    payload = pattern(1_000_000)
    before = sys.getrefcount(payload)
    assert server.call(ws.send, payload) == QUEUED
    assert sys.getrefcount(payload) == before + 1
    client.reset()
    eventually(lambda: sys.getrefcount(payload) == before, 3.0, "given back")


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_what_can_change_is_copied(serve: Serving, size: int) -> None:
    server, client, ws, sent = blocked(serve)
    payload = bytearray(pattern(size))
    expected = bytes(payload)
    before = sys.getrefcount(payload)

    def send() -> None:
        ws.send(payload)
        ws.send(memoryview(payload)[1:])
        payload[:] = b"!" * size
        payload.clear()  # a BufferError, were it still exported

    server.call(send)
    assert sys.getrefcount(payload) == before
    for message in [*sent, expected, expected[1:]]:
        assert client.recv() == message


def test_text_that_is_encoded_first_does_not_keep_its_str(serve: Serving) -> None:
    server, client, ws, sent = blocked(serve)
    payload = "ä" * 500_000
    before = sys.getrefcount(payload)
    assert server.call(ws.send, payload) == QUEUED
    assert sys.getrefcount(payload) == before
    for message in [*sent, payload]:
        assert client.recv() == message


def test_buffered_amount_is_exact(serve: Serving) -> None:
    server, client, ws, sent = blocked(serve)
    before = server.call(lambda: ws.buffered_amount)
    assert before > 0
    for size, head in ((0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10), (300_000, 10)):
        for make in (bytes, bytearray):
            payload = make(size)
            server.call(ws.send, payload)
            sent.append(payload)
            now = server.call(lambda: ws.buffered_amount)
            assert now == before + head + size
            assert server.stats()["buffered_bytes"] == now
            before = now
    for message in sent:
        assert client.recv() == message
    eventually(lambda: server.call(lambda: ws.buffered_amount) == 0, 3.0, "nothing left to send")


def mixed(seed: int, count: int = 400) -> list[bytes | str]:
    """Messages of all sizes around those at which their way through the server changes."""
    rng = random.Random(seed)
    made: list[bytes | str] = []
    for number in range(count):
        size = rng.choice([0, 1, 60, 125, 126, 5000, 60_000, 65_530, 65_535, 65_536, 70_000, 262_140, 262_144, 400_000])
        head = b"%06d" % number
        payload = (head + pattern(size, number))[: max(size, 6)]
        made.append(payload.hex() if rng.random() < 0.3 else payload)
    return made


class Sender:
    """Sends `messages` from the place that its client asks for."""

    def __init__(self, messages: list[bytes | str]) -> None:
        self.messages = messages
        self.target: Any = None
        self.tasks: list[asyncio.Task[None]] = []

    def open(self, ws: Any) -> None:
        if self.target is None:
            self.target = ws

    def message(self, ws: Any, data: str) -> Any:
        if data == "callback":
            self.send_all(ws)
        elif data == "another connection's callback":
            self.send_all(self.target)
        elif data == "a task":
            self.tasks.append(asyncio.get_running_loop().create_task(self.send_some_a_turn(ws)))
        elif data == "an async callback":
            return self.send_some_a_turn(ws)
        return None

    def send_all(self, ws: Any) -> None:
        for message in self.messages:
            ws.send(message)

    async def send_some_a_turn(self, ws: Any) -> None:
        for at in range(0, len(self.messages), 7):
            for message in self.messages[at : at + 7]:
                ws.send(message)
            await asyncio.sleep(0)


@pytest.mark.parametrize("reader", ["fast", "slow"])
@pytest.mark.parametrize("place", ["callback", "another connection's callback", "a task", "an async callback"])
def test_order_of_mixed_sizes(serve: Serving, place: str, reader: str) -> None:
    messages = mixed(seed=len(place))
    server = serve(make_app(Sender(messages), **UNBOUNDED))
    client = slow_client(server) if reader == "slow" else RawClient.open(server.port)
    asker = RawClient.open(server.port) if place.startswith("another") else client
    asker.send(place)
    for number, message in enumerate(messages):
        got = client.recv()
        assert got == message, f"message {number}: {len(got)} instead of {len(message)}"


def test_sends_from_two_places_are_in_the_order_of_the_calls(serve: Serving) -> None:
    """Queued from outside first, then corked behind it while the peer's own input is processed, in one turn."""
    expected: list[str] = []

    class Handler:
        first: Any = None

        def open(self, ws: Any) -> None:
            Handler.first = Handler.first or ws

        def message(self, ws: Any, data: str) -> None:
            for size in (10, 70_000, 10, 300_000, 10):
                expected.append(f"{data} {len(expected)} ".ljust(size, "."))
                Handler.first.send(expected[-1])

    server = serve(make_app(Handler, **UNBOUNDED))
    one, two = RawClient.open(server.port), RawClient.open(server.port)
    for _ in range(20):
        two.send("two")
        one.send("one")
    count = 2 * 20 * 5
    got = [one.recv() for _ in range(count)]
    assert got == expected


def test_a_peer_that_reads_in_small_steps_gets_every_byte(serve: Serving) -> None:
    """Writes end anywhere: in a header, a small message, a large one."""
    server = serve(make_app(Silent, **UNBOUNDED))
    client = slow_client(server)
    ws = newest(server)
    messages = [pattern(size, seed) for seed in range(60) for size in (1, 130, 3001, 66_000, 7)]
    server.call(lambda: [ws.send(message) for message in messages])
    rng = random.Random(1)
    read = bytearray()
    expected = sum(
        len(message) + (2 if len(message) < 126 else 4 if len(message) < 65536 else 10) for message in messages
    )
    while len(read) < expected:
        read += client.sock.recv(rng.choice([1, 13, 1460, 4096, 20_000]))
    client.buffer += read
    assert [client.recv() for _ in messages] == messages


def test_thousands_of_queued_messages_leave(serve: Serving) -> None:
    """Many more chunks than one system call takes."""
    server, client, ws, sent = blocked(serve)
    large = pattern(65_536)
    for number in range(1000):
        message = b"%d" % number
        assert server.call(lambda message=message: (ws.send(message), ws.send(large))) == (QUEUED, QUEUED)
        sent += [message, large]
    for message in sent:
        assert client.recv() == message


def test_status_tells_what_became_of_a_message(serve: Serving) -> None:
    server, client, ws, sent = blocked(serve)
    assert server.call(ws.send, b"behind") == QUEUED
    for message in [*sent, b"behind"]:
        assert client.recv() == message
    eventually(lambda: server.call(lambda: ws.buffered_amount) == 0, 3.0, "nothing left to send")
    assert server.call(ws.send, b"again") == SENT
    assert client.recv() == b"again"
