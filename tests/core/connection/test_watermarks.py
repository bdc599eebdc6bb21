"""Backpressure: high and low water, `drain`, `drained()`, and what becomes of slow consumers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest
from harness import (
    CHUNK,
    PING,
    PONG,
    ROOMY,
    TEXT,
    Frame,
    RawClient,
    Serving,
    amount,
    build,
    eventually,
    fill,
    make_app,
    newest,
    slow_client,
)

from fastws import DROPPED, QUEUED, SENT, ReadyState


class Pump:
    """Notes each `drain` and what was buffered then."""

    def __init__(self) -> None:
        self.drains: list[int] = []
        self.closes: list[tuple[int, str]] = []
        self.got: list[Any] = []

    def message(self, ws: Any, data: Any) -> None:
        self.got.append(data)

    def drain(self, ws: Any) -> None:
        self.drains.append(ws.buffered_amount)

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closes.append((code, reason))


def test_drain_once_per_blocked_period(serve: Serving) -> None:
    pump = Pump()
    server = serve(make_app(pump, **ROOMY))
    client = slow_client(server)
    ws = newest(server)
    for period in range(1, 4):
        sent = fill(server, ws)
        for _ in range(20):
            sent.append(bytes(CHUNK))
            assert server.call(ws.send, sent[-1]) == QUEUED
        assert len(pump.drains) == period - 1
        for message in sent:
            assert client.recv() == message
        eventually(lambda: amount(server, ws) == 0)
        server.settle()
        assert len(pump.drains) == period, pump.drains
        assert pump.drains[-1] <= 16 * 1024


def test_no_drain_where_nothing_was_queued(serve: Serving) -> None:
    pump = Pump()
    server = serve(make_app(pump))
    client = RawClient.open(server.port)
    assert server.call(newest(server).send, bytes(30_000)) == SENT
    assert client.recv() == bytes(30_000)
    server.settle()
    assert pump.drains == []


def test_drain_comes_at_low_water_and_not_before(serve: Serving) -> None:
    pump = Pump()
    server = serve(make_app(pump, high_water=7 << 20, low_water=6 << 20, **ROOMY))
    client = slow_client(server)
    ws = newest(server)
    sent = fill(server, ws)
    for _ in range(150):
        sent.append(bytes(CHUNK))
        server.call(ws.send, sent[-1])
    assert amount(server, ws) > 8 << 20
    for message in sent:
        assert client.recv() == message
        if not pump.drains:
            assert amount(server, ws) > 0
    server.settle()
    # The kernel took all that it has room for (at most 4 MiB: tcp(7), tcp_wmem) from what was more than low water.
    assert len(pump.drains) == 1 and 0 < pump.drains[0] <= 6 << 20


def test_a_pong_that_waited_does_not_delay_drain(serve: Serving) -> None:
    """It is over a low-water mark of nothing, and leaves when the turn ends: nobody is told that it has been taken."""
    pump = Pump()
    server = serve(make_app(pump, high_water=1 << 30, low_water=0, **ROOMY))
    client = slow_client(server)
    ws = newest(server)
    sent = fill(server, ws)
    client.send_raw(build(PING, b"x") + build(TEXT, b"behind it"))
    eventually(lambda: pump.got)
    for message in sent:
        assert client.recv() == message
    assert client.recv_frame() == Frame(True, PONG, b"x")
    eventually(lambda: len(pump.drains) == 1)


def test_a_pump_in_drain_never_stalls(serve: Serving) -> None:
    """The pattern of every producer: send until QUEUED, go on in `drain`."""
    total = 300

    class Producer:
        sent = 0

        def drain(self, ws: Any) -> None:
            while self.sent < total:
                self.sent += 1
                if ws.send(b"%08d" % self.sent + bytes(CHUNK)) != SENT:
                    break

        def message(self, ws: Any, data: Any) -> None:
            self.drain(ws)

    server = serve(make_app(Producer(), **ROOMY))
    client = slow_client(server)
    client.send("go")
    for number in range(1, total + 1):
        assert client.recv()[:8] == b"%08d" % number


# drained()


def test_drained_at_once_where_little_is_queued(serve: Serving) -> None:
    server = serve(make_app(Pump()))
    RawClient.open(server.port)
    ws = newest(server)

    async def check() -> list[bool]:
        before = ws.drained()
        ws.send(bytes(10_000))
        return [before.done(), ws.drained().done()]

    assert server.call(check) == [True, True]


def test_drained_later_for_all_who_wait_but_who_was_cancelled(serve: Serving) -> None:
    server = serve(make_app(Pump(), **ROOMY))
    client = slow_client(server)
    ws = newest(server)
    sent = [*fill(server, ws), bytes(100000)]
    server.call(ws.send, sent[-1])
    seen: list[Any] = []

    async def wait(name: str) -> None:
        try:
            await ws.drained()
            seen.append((name, ws.buffered_amount <= 16 * 1024))
        except asyncio.CancelledError:
            seen.append((name, "cancelled"))

    tasks = server.call(lambda: [server.loop.create_task(wait(name)) for name in "abc"])
    server.settle()
    assert seen == []
    server.call(tasks[1].cancel)
    server.settle()
    assert seen == [("b", "cancelled")]
    for message in sent:
        assert client.recv() == message
    eventually(lambda: len(seen) == 3)
    assert seen[1:] == [("a", True), ("c", True)]


@pytest.mark.parametrize("ending", ["timeout", "cancel", "task"])
@pytest.mark.parametrize("patient", [0, 1, 7, 20])
def test_drained_keeps_nobody_who_waits_no_more(serve: Serving, ending: str, patient: int) -> None:
    """A program that looks for a slow peer again and again, beside some that wait until it has caught up."""
    server = serve(make_app(Pump(), **ROOMY))
    client = slow_client(server)
    ws = newest(server)
    sent = [*fill(server, ws), bytes(100000)]
    server.call(ws.send, sent[-1])
    waiting = server.call(lambda: [ws.drained() for _ in range(patient)])
    refs: list[weakref.ref[Any]] = []

    async def wait_in_vain() -> None:
        future = ws.drained()
        refs.append(weakref.ref(future))
        if ending == "cancel":
            future.cancel()
        elif ending == "timeout":
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(future, 1e-9)
        else:
            task = asyncio.ensure_future(asyncio.wait({future}))
            await asyncio.sleep(0)
            task.cancel()
            future.cancel()

    async def again_and_again() -> int:
        for _ in range(500):
            await wait_in_vain()
        gc.collect()
        return sum(ref() is not None for ref in refs)

    assert server.call(again_and_again) <= max(1, 2 * patient)
    assert not any(future.done() for future in waiting)
    assert [client.recv() for _ in sent] == sent
    eventually(lambda: all(future.done() for future in waiting))
    server.call(waiting.clear)


@pytest.mark.parametrize("how", ["close", "terminate", "reset", "peer's close"])
def test_drained_ends_with_the_connection(serve: Serving, how: str) -> None:
    pump = Pump()
    server = serve(make_app(pump, high_water=1 << 40, close_timeout=5, **ROOMY)).hold_clock()
    client = slow_client(server)
    ws = newest(server)
    fill(server, ws, lambda number: bytes(CHUNK + number))
    server.call(ws.send, bytes(100_000))
    done: list[bool] = []

    async def wait() -> None:
        await ws.drained()
        done.append(True)

    [task] = server.call(lambda: [server.loop.create_task(wait())])
    server.settle()
    assert not done
    if how == "close":
        server.call(ws.close)
    elif how == "terminate":
        server.call(ws.terminate)
    elif how == "reset":
        client.reset()
    else:
        client.send_close(1000)
    server.advance_until(5, lambda: done, "drained() should end")
    server.advance_until(5, lambda: pump.closes, "closed")
    eventually(task.done)
    assert len(pump.closes) == 1
    assert pump.closes[0][0] == {"close": 1000, "peer's close": 1000}.get(how, 1006)
    assert pump.drains == [], "the peer has not caught up: it is gone"


def test_drained_in_a_callback_counts_what_is_corked(serve: Serving) -> None:
    """Nothing is queued yet while a peer's input is processed, but buffered_amount is what `drained` speaks of."""
    seen: list[int] = []

    class Handler:
        async def message(self, ws: Any, data: Any) -> None:
            for number in range(200):
                ws.send(bytes(CHUNK - number))
                await ws.drained()
                seen.append(ws.buffered_amount)

    server = serve(make_app(Handler, **ROOMY))
    client = slow_client(server)
    client.send("go")
    for number in range(200):
        assert len(client.recv()) == CHUNK - number
    eventually(lambda: len(seen) == 200)
    assert max(seen) <= 16 * 1024


# high_water pauses reading


@pytest.mark.parametrize("size", [20_000, 100_000])
def test_a_peer_that_reads_late_gets_every_answer(serve: Serving, size: int) -> None:
    count = 3000 if size < 65536 else 600
    seen = [0]

    class Handler:
        def message(self, ws: Any, data: str) -> None:
            seen[0] += 1
            ws.send(data.ljust(size, "."))

    server = serve(make_app(Handler, **ROOMY))
    client = slow_client(server)
    client.send_raw(b"".join(build(TEXT, b"%d" % number) for number in range(count)))
    eventually(lambda: amount(server, newest(server)) > 64 * 1024, 5.0, "over high_water")
    server.settle()
    stopped_at = seen[0]
    assert stopped_at < count
    assert amount(server, newest(server)) <= 64 * 1024 + 262_144 + size + 10
    server.settle()
    assert seen[0] == stopped_at, "nothing is read from a peer that does not read"
    for number in range(count):
        got = client.recv()
        assert isinstance(got, str)
        assert len(got) == size and got.rstrip(".") == str(number)
    assert seen[0] == count


def test_reading_pauses_when_a_turn_ends_over_high_water(serve: Serving) -> None:
    """Not only at the next send."""
    pump = Pump()
    server = serve(make_app(pump, high_water=0, low_water=0, **ROOMY))
    client = slow_client(server)
    ws = newest(server)
    sent = 0
    while amount(server, ws) == 0:
        server.call(lambda: [ws.send(bytes(CHUNK)) for _ in range(4)])
        sent += 4
        server.settle()
    client.send("held")
    server.settle()
    assert pump.got == []
    for _ in range(sent):
        assert len(client.recv()) == CHUNK
    eventually(lambda: pump.got == ["held"])


# slow consumers


def test_slow_consumer_close(serve: Serving) -> None:
    pump = Pump()
    server = serve(make_app(pump, max_backpressure=200_000, max_burst=0, send_timeout=0))
    client = slow_client(server)
    other = RawClient.open(server.port)
    to_other = newest(server)
    ws = server.call(lambda: next(one for one in server.server.connections if one is not to_other))
    sent = fill(server, ws)
    statuses = [server.call(ws.send, b"%d" % number + bytes(CHUNK)) for number in range(6)]
    taken = statuses.count(QUEUED)
    assert statuses == [QUEUED] * taken + [DROPPED] * (6 - taken) and 3 <= taken <= 5
    assert server.call(lambda: ws.ready_state) == ReadyState.CLOSED
    assert len(pump.closes) == 1 and pump.closes[0][0] == 1008 and "max_backpressure" in pump.closes[0][1]
    for message in sent + [b"%d" % number + bytes(CHUNK) for number in range(taken)]:
        assert client.recv() == message
    client.expect_close(1008)
    assert server.call(to_other.send, "fine") == SENT
    assert other.recv() == "fine"


def test_slow_consumer_drop(serve: Serving) -> None:
    pump = Pump()
    server = serve(make_app(pump, max_backpressure=200_000, max_burst=0, slow_consumer="drop", send_timeout=0))
    client = slow_client(server)
    ws = newest(server)
    expected = fill(server, ws)
    dropped = 0
    for number in range(20):
        message = b"%d" % number + bytes(CHUNK)
        if server.call(ws.send, message) == QUEUED:
            expected.append(message)
        else:
            dropped += 1
    assert 14 <= dropped <= 17
    assert amount(server, ws) <= 200_000 + CHUNK + 100
    for message in expected:
        assert client.recv() == message
    eventually(lambda: amount(server, ws) == 0)
    assert server.call(ws.send, "again") == SENT
    assert client.recv() == "again"
    assert pump.closes == []


@pytest.mark.parametrize("policy", ["close", "drop"])
@pytest.mark.parametrize("limit", [0, 1000])
def test_one_message_of_any_size_passes(serve: Serving, limit: int, policy: str) -> None:
    server = serve(make_app(Pump(), max_backpressure=limit, max_burst=0, slow_consumer=policy, send_timeout=0))
    client = slow_client(server)
    ws = newest(server)
    large = bytes(8 << 20)
    assert server.call(lambda: (ws.send(large), ws.send("second"))) == (QUEUED, DROPPED)
    assert client.recv() == large
    if policy == "close":
        client.expect_close(1008)


def test_what_has_not_been_tried_is_no_backpressure(serve: Serving) -> None:
    """Many messages in one turn, all of which the kernel takes."""
    server = serve(make_app(Pump(), max_backpressure=100))
    client = RawClient.open(server.port)
    ws = newest(server)
    statuses = server.call(lambda: [ws.send(b"%d" % number + bytes(90)) for number in range(500)])
    assert statuses == [SENT] * 500
    assert [client.recv() for _ in range(500)] == [b"%d" % number + bytes(90) for number in range(500)]
