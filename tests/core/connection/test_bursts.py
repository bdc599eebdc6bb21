"""A peer is slow when it does not take what it was given for some time, not when the application sends much at once."""

from __future__ import annotations

import time
from typing import Any

import pytest
from harness import CHUNK, PATIENCE, RawClient, Serving, amount, eventually, fill, make_app, newest, slow_client

from fastws import DROPPED, QUEUED, SENT

MIB = 1 << 20


class Notes:
    def __init__(self) -> None:
        self.drains: list[int] = []
        self.closes: list[tuple[int, str]] = []

    def drain(self, ws: Any) -> None:
        self.drains.append(ws.buffered_amount)

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closes.append((code, reason))


@pytest.mark.parametrize("policy", ["close", "drop"])
def test_a_burst_in_open_reaches_a_peer_that_reads(serve: Serving, policy: str) -> None:
    class Greeting:
        def open(self, ws: Any) -> None:
            self.statuses = [ws.send(b"%03d" % number + bytes(50_000)) for number in range(120)]

    handler = Greeting()
    server = serve(make_app(handler, slow_consumer=policy))
    client = RawClient.open(server.port)
    for number in range(120):
        assert client.recv()[:3] == b"%03d" % number
    assert DROPPED not in handler.statuses


@pytest.mark.parametrize("size", [5 * MIB, 40 * MIB])
def test_a_large_message_is_followed_by_others(serve: Serving, size: int) -> None:
    server = serve(make_app(Notes()))
    client = RawClient.open(server.port)
    ws = newest(server)

    def send() -> list[Any]:
        return [ws.send(bytes(size)), *(ws.send(f"after {number}") for number in range(50))]

    assert DROPPED not in server.call(send)
    assert client.recv() == bytes(size)
    assert [client.recv() for _ in range(50)] == [f"after {number}" for number in range(50)]


@pytest.mark.parametrize("policy", ["close", "drop"])
@pytest.mark.parametrize("size", [1000, CHUNK])
def test_a_burst_has_a_limit(serve: Serving, size: int, policy: str) -> None:
    """What one turn may add to what is unsent, so that memory is bounded for a peer that does not read."""
    notes = Notes()
    server = serve(make_app(notes, max_backpressure=MIB, max_burst=3 * MIB, slow_consumer=policy, send_timeout=0))
    client = slow_client(server)
    ws = newest(server)
    sent = fill(server, ws)
    messages = [b"%08d" % number + bytes(size) for number in range(5 * MIB // size)]
    statuses = server.call(lambda: [ws.send(message) for message in messages])
    taken = statuses.count(QUEUED)
    assert statuses == [QUEUED] * taken + [DROPPED] * (len(statuses) - taken)
    # All that was accepted is there, or has been taken since the first message that the kernel refused.
    assert taken * size > 3.5 * MIB
    if policy == "drop":
        assert 3 * MIB <= amount(server, ws) <= 4 * MIB + 3 * size
    for message in sent + messages[:taken]:
        assert client.recv() == message
    if policy == "close":
        client.expect_close(1008)
        eventually(lambda: notes.closes and notes.closes[0][0] == 1008)
    else:
        eventually(lambda: amount(server, ws) == 0)
        assert server.call(ws.send, "again") == SENT
        assert client.recv() == "again"


@pytest.mark.parametrize("policy", ["close", "drop"])
def test_a_burst_has_its_time(serve: Serving, policy: str) -> None:
    """A peer that takes something now and then, but not max_backpressure in send_timeout, is slow after that."""
    notes = Notes()
    server = serve(make_app(notes, max_backpressure=8 * MIB, slow_consumer=policy, send_timeout=10)).hold_clock()
    client = slow_client(server)
    ws = newest(server)
    fill(server, ws)
    assert server.call(lambda: [ws.send(bytes(CHUNK)) for _ in range(300)]) == [QUEUED] * 300
    given = amount(server, ws)
    for _ in range(4):
        assert server.call(ws.send, "now over it") == QUEUED
        take(server, client, ws, 100_000)
        server.advance(2.4)
    assert server.call(ws.send, "in time") == QUEUED
    server.advance(0.4)
    assert given - 8 * MIB < amount(server, ws) > 8 * MIB
    assert server.call(lambda: [ws.send("late"), ws.send("later")]) == [DROPPED, DROPPED]
    assert notes.closes == ([] if policy == "drop" else [(1008, "slow consumer: over max_backpressure")])
    if policy == "drop":  # until no more than max_backpressure is unsent
        while amount(server, ws) > 8 * MIB:
            assert server.call(ws.send, "later") == DROPPED
            take(server, client, ws, 100_000)
        assert server.call(ws.send, "again") == QUEUED


@pytest.mark.parametrize("feed", [4, 1_000_000])
@pytest.mark.parametrize("messages", [1, 200])
def test_a_peer_that_takes_enough_is_not_slow(serve: Serving, messages: int, feed: int) -> None:
    """However long it has more than max_backpressure to take, and however much of that has been added meanwhile."""
    notes = Notes()
    server = serve(make_app(notes, max_backpressure=500_000, max_burst=20 * MIB, send_timeout=10)).hold_clock()
    client = slow_client(server)
    ws = newest(server)
    server.call(lambda: [ws.send(bytes(20 * MIB // messages)) for _ in range(messages)])
    for _ in range(8):
        assert server.call(ws.send, bytes(feed)) == QUEUED
        take(server, client, ws, 1_000_000)
        server.advance(9.9)
    assert amount(server, ws) > MIB
    assert server.call(ws.send, "tick") == QUEUED
    assert notes.closes == []


@pytest.mark.parametrize("last", ["after it", bytes(70_000)])
def test_what_the_peer_took_while_the_loop_stood_still_counts(serve: Serving, last: str | bytes) -> None:
    """A callback holds the loop for longer than send_timeout, and then sends: nobody had looked what the peer took."""
    notes = Notes()
    server = serve(make_app(notes, send_timeout=10)).hold_clock()
    client = slow_client(server)
    ws = newest(server)
    sent = [*fill(server, ws), bytes(2 * MIB)]
    assert server.call(lambda: [ws.send(sent[-1]), ws.send("over it")]) == [QUEUED, QUEUED]
    server.settle()

    def hold() -> Any:
        """The client reads what there is meanwhile, and the kernel has room anew."""
        client.sock.settimeout(0.2)
        try:
            while data := client.sock.recv(65536):
                client.buffer += data
        except TimeoutError:
            client.sock.settimeout(20.0 * PATIENCE)
        server.reactor.pass_time(10)
        return ws.send(last)

    status = server.call(hold, timeout=60)
    assert status in (QUEUED, SENT)
    for message in [*sent, "over it", last]:
        assert client.recv() == message
    eventually(lambda: amount(server, ws) == 0)
    server.settle()
    assert len(notes.drains) == 1
    assert notes.closes == []


def take(server: Any, client: RawClient, ws: Any, size: int) -> None:
    """The client reads until so much less is unsent."""
    goal = amount(server, ws) - size
    deadline = time.monotonic() + 10 * PATIENCE
    while amount(server, ws) > goal:
        assert time.monotonic() < deadline, "the kernel takes nothing more"
        client.buffer += client.sock.recv(65536)
        server.settle()
