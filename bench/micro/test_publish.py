"""One message to all subscribers of a topic: 10,000 that are measured, and fewer whose system calls and memory count.

python -m pytest bench/micro/test_publish.py --benchmark-only

The server runs here, its subscribers in another process, where they read and forget. What is timed is the publish and
the turn of the loop that sends it: when it ends, the kernel has everything. "sends" is a loop of `ws.send` instead.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

import fastws
from bench import profiling
from bench.machine import BENCH
from bench.servers import SERVERS

FEW, MANY = 100, 10_000
CHUNK = 64  # bytes: the reference, which is no Python object, with its place in the list of those to be seen to
SLACK = 30  # blocks that the frame, the loop and this test take, whoever is there; of 100 bytes on average
TEXT = "x" * 64
WAIT = 60.0


class Crowd:
    """An app and so many subscribers of its topic "all"."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, app: fastws.App, server: fastws.Server, peers: subprocess.Popen[str]
    ) -> None:
        self.app = app
        self.server = server
        self._loop = loop
        self._peers = peers

    def turn(self, publish: Callable[[], object]) -> None:
        """What the callback of a connection does, and all that leaves for it."""

        async def work() -> None:
            publish()
            await asyncio.sleep(0)

        self._loop.run_until_complete(work())

    def rest(self) -> None:
        self.received()

    def received(self) -> int:
        """Bytes of frames that each subscriber has got until now."""
        assert self._peers.stdin is not None and self._peers.stdout is not None
        self._peers.stdin.write("?\n")
        self._peers.stdin.flush()
        least, most = map(int, self._peers.stdout.readline().split())
        assert least == most
        return least


@contextmanager
def crowd(count: int) -> Iterator[Crowd]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    app = fastws.App(ping_interval=0)  # Pings would be counted

    @app.websocket("/broadcast")
    class Broadcast:
        def open(self, ws: fastws.WebSocket) -> None:
            ws.subscribe("all")

    async def filled() -> None:
        while app.num_subscribers("all") < count:
            await asyncio.sleep(0.01)

    loop = uvloop.new_event_loop()
    server = loop.run_until_complete(app.start(port=0))
    command = [sys.executable, str(BENCH / "micro" / "subscribers.py"), str(server.port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peers:
        try:
            loop.run_until_complete(asyncio.wait_for(filled(), WAIT))
            assert peers.stdout is not None and peers.stdout.readline() == "ready\n"
            yield Crowd(loop, app, server, peers)
        finally:
            peers.kill()
            loop.run_until_complete(server.stop(0))
            loop.close()


@pytest.fixture(scope="module")
def everybody(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    with crowd(MANY if request.config.getoption("benchmark_only") else FEW) as found:
        yield found


WAYS: dict[str, Callable[[Crowd], Callable[[], object]]] = {
    "publish": lambda crowd: lambda: crowd.app.publish("all", TEXT),
    "prepared": lambda crowd: partial(crowd.app.publish, "all", fastws.prepare(TEXT)),
    "sends": lambda crowd: lambda: [ws.send(TEXT) for ws in crowd.server.connections],
}


@pytest.mark.parametrize("by", WAYS)
def test_publish(benchmark: BenchmarkFixture, everybody: Crowd, by: str) -> None:
    publish = WAYS[by](everybody)
    before = everybody.received()
    everybody.turn(publish)
    assert everybody.app.stats()["buffered_bytes"] == 0
    assert everybody.received() - before == 2 + len(TEXT)
    benchmark.group = f"publish 64 B to {everybody.app.num_subscribers('all'):,}"
    benchmark.pedantic(everybody.turn, (publish,), setup=everybody.rest, rounds=20)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("burst", [1, 16])
def test_one_send_for_each_subscriber(burst: int) -> None:
    """However many messages there are in a turn."""
    load = ["broadcast", "--connections", "200", "--size", "64", "--burst", str(burst), "--seconds", "0.3"]
    done, calls = profiling.first(profiling.COUNTERS, profiling.Target(SERVERS["fastws"].command, load, (0, 1)))
    turns = done.count // burst  # in each, one subscriber has got all
    sends = sum(calls[name] for name in ("sendto", "sendmsg", "sendmmsg", "write", "writev"))
    assert turns <= sends <= 1.05 * turns  # the turn in which the publisher's burst arrived in two pieces


@pytest.mark.parametrize("size", [64, 65536])
def test_nothing_is_copied_for_a_subscriber(everybody: Crowd, size: int) -> None:
    """Between publish and flush each has a reference to the frame in its outbox; after it, nothing is left."""
    text, grown = "x" * size, [0, 0]
    publish = partial(everybody.app.publish, "all", text)

    def measured() -> None:
        blocks, memory = sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0]
        publish()
        grown[:] = sys.getallocatedblocks() - blocks, tracemalloc.get_traced_memory()[0] - memory

    before = everybody.received()
    everybody.turn(publish)  # whatever is made once
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        everybody.turn(measured)
        blocks, memory = sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0]
        everybody.turn(publish)
        blocks_left, memory_left = sys.getallocatedblocks() - blocks, tracemalloc.get_traced_memory()[0] - memory
    finally:
        tracemalloc.stop()
        gc.enable()
    assert everybody.received() - before == 3 * (size + (2 if size < 126 else 10))
    blocks, memory = grown
    assert FEW <= blocks <= FEW + SLACK
    assert memory <= size + FEW * CHUNK + SLACK * 100
    assert blocks_left <= SLACK and memory_left <= SLACK * 100
