"""Anything in any order: what each client hears over a real socket is what a slow model says it must."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from typing import Any

import pytest
from harness import BINARY, CLOSE, PATIENCE, TEXT, RawClient, ServerThread, eventually, small_buffers
from harness.frames import frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastws

#: As many examples as HYPOTHESIS_TOPICS says: a few in every run of the tests, thousands where one has the time.
EXAMPLES = int(os.environ.get("HYPOTHESIS_TOPICS", "40"))
CLIENTS = 5
TOPICS = ["a", "b", "ç"]
SIZES = [0, 1, 20, 125, 126, 507, 508, 2044, 2045, 16_384, 65_531, 65_535, 65_536, 200_000, 262_143, 300_000]

Message = str | bytes
Act = tuple[Any, ...]  # the name of a method of Bench, whose it is, and its arguments


class SmallBuffers(fastws.App):
    """Its kernel buffers are small, so that a client which does not read is soon a slow one."""

    async def start(self, *args: Any, **options: Any) -> Any:
        return await super().start(sock=small_buffers(4096))


class Peer:
    """A client, the server's end of it, and what the model says of it."""

    def __init__(self, client: Any, ws: Any) -> None:
        self.client = client
        self.ws = ws
        self.reads = True
        self.topics: set[str] = set()
        self.due: list[Message] = []  # the model's sequence
        self.heard = 0  # how many of these have come
        self.open = True
        self.closing = False  # a Close of ours was sent, after all that is due
        self.closed = False  # and was not cut off, so that it must come
        self.saw_close = False

    def take(self) -> None:
        """Compares what has arrived."""
        for fin, opcode, payload in frames(self.client.buffer):
            assert fin
            if opcode == CLOSE:
                assert self.closing
                assert self.heard == len(self.due)
                self.saw_close = True
                continue
            assert not self.saw_close
            got = payload.decode() if opcode == TEXT else payload
            assert opcode in (TEXT, BINARY)
            assert self.heard < len(self.due), f"{len(payload)} bytes came where nothing was due"
            expected = self.due[self.heard]
            assert got == expected, f"message {self.heard}: {got[:20]!r} instead of {expected[:20]!r}"
            self.heard += 1

    def read(self) -> None:
        """What has arrived, without waiting; a prefix of what is due."""
        try:
            self.client.drain_now()
        except ConnectionError:
            pass
        self.take()

    def read_all(self) -> None:
        """All that is due, and the Close if there is one."""
        while self.heard < len(self.due) or (self.closed and not self.saw_close):
            assert self.client.fill(), "the connection ended too early"
            self.take()


class Handler:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def open(self, ws: Any) -> None:
        self.bench.opened.append(ws)

    def message(self, ws: Any, data: Any) -> Any:
        acts, done = self.bench.todo.pop(ws)
        if data == "later":
            return self.later(acts, done)
        for act in acts:
            self.bench.perform(act)
        done.set()
        return None

    async def later(self, acts: list[Act], done: threading.Event) -> None:
        for act in acts:
            with contextlib.suppress(asyncio.CancelledError):  # the connection has ended; it goes on all the same
                await asyncio.sleep(0)
            self.bench.perform(act)
        done.set()

    def close(self, ws: Any, code: int, reason: str) -> None:
        if not self.bench.quiet:
            self.bench.publish(Peer(None, ws), TOPICS[0], 30, "text")


class Bench:
    """A server whose callbacks do what they are told, and its peers."""

    def __init__(self, loop_kind: str) -> None:
        self.opened: list[Any] = []
        self.todo: dict[Any, tuple[list[Act], threading.Event]] = {}
        self.failed: list[BaseException] = []
        self.app = SmallBuffers(
            ping_interval=0, max_backpressure=1 << 40, high_water=1 << 40, send_timeout=0, close_timeout=30
        )
        self.app.websocket("/")(Handler(self))
        self.server = ServerThread(self.app, loop_kind)
        self.peers: list[Peer] = []
        self.count = 0
        self.quiet = False

    def join(self) -> Peer:
        before = len(self.opened)
        client = RawClient.open(self.server.port)
        eventually(lambda: len(self.opened) > before)
        peer = Peer(client, self.opened[-1])
        self.peers.append(peer)
        return peer

    def perform_all(self, acts: list[Act]) -> None:
        for act in acts:
            self.perform(act)

    def run(self, place: int | None, acts: list[Act], later: bool) -> None:
        """On the loop, or in the `message` callback of a peer that is open: in one turn or, `later`, by its task."""
        peer = None if place is None else self.peers[place % len(self.peers)]
        if peer is None or not peer.open:
            self.server.call(self.perform_all, acts)
        else:
            done = threading.Event()
            self.todo[peer.ws] = (acts, done)
            peer.client.send("later" if later else "now")
            assert done.wait(10 * PATIENCE)
        failed, self.failed = self.failed, []
        if failed:
            raise failed[0]

    def perform(self, act: Act) -> None:
        name, who, *rest = act
        try:
            getattr(self, name)(None if who is None else self.peers[who % len(self.peers)], *rest)
        except BaseException as error:
            self.failed.append(error)

    # what is done in one turn: each both to the server and to the model

    def payload(self, size: int, kind: str) -> tuple[Any, Message]:
        self.count += 1
        block = b"%08d." % self.count
        data = (block * (size // 9 + 1))[:size]
        if kind == "text":
            return data.decode(), data.decode()
        if kind == "bytearray":
            return bytearray(data), data
        if kind == "prepared":
            return fastws.prepare(data), data
        if kind == "prepared text":
            return fastws.prepare(data, is_text=True), data.decode()
        return data, data

    def subscribe(self, peer: Peer, topic: str) -> None:
        assert peer.ws.subscribe(topic) == (peer.open and topic not in peer.topics)
        if peer.open:
            peer.topics.add(topic)

    def unsubscribe(self, peer: Peer, topic: str) -> None:
        assert peer.ws.unsubscribe(topic) == (topic in peer.topics)
        peer.topics.discard(topic)

    def publish(self, sender: Peer | None, topic: str, size: int, kind: str, times: int = 1) -> None:
        for _ in range(times):
            given, data = self.payload(size, kind)
            hearing = [peer for peer in self.peers if topic in peer.topics and peer is not sender]
            for peer in hearing:
                peer.due.append(data)
            took = (self.app if sender is None else sender.ws).publish(topic, given)
            assert took == len(hearing)

    def send(self, peer: Peer, size: int, kind: str) -> None:
        given, data = self.payload(size, kind)
        status = peer.ws.send(given)
        assert (status == fastws.DROPPED) == (not peer.open)
        if peer.open:
            peer.due.append(data)

    def close(self, peer: Peer) -> None:
        peer.ws.close(4000)
        if peer.open:
            peer.open, peer.closing, peer.closed = False, True, True
            peer.topics.clear()

    def terminate(self, peer: Peer) -> None:
        peer.ws.terminate()
        peer.open = peer.closed = False
        peer.topics.clear()

    # between turns

    def leave(self, peer: Peer, abruptly: bool) -> None:
        """The client goes, and the server has noticed."""
        peer.read()
        self.peers.remove(peer)
        peer.client.reset() if abruptly else peer.client.close()
        eventually(lambda: peer.ws.ready_state == fastws.ReadyState.CLOSED)

    def check(self) -> None:
        """The server's own view agrees with the model's."""

        def look() -> None:
            for topic in TOPICS:
                assert self.app.num_subscribers(topic) == sum(topic in peer.topics for peer in self.peers)
            assert self.app.stats()["topics"] == len(set().union(*(peer.topics for peer in self.peers)))
            for peer in self.peers:
                assert set(peer.ws.subscriptions) == peer.topics
                assert all(peer.ws.is_subscribed(topic) == (topic in peer.topics) for topic in TOPICS)

        self.server.call(look)

    def finish(self) -> None:
        """Everybody reads on, and hears all that is due; whoever ended without a Close at least a prefix."""
        self.server.call(setattr, self, "quiet", True)
        for peer in self.peers:
            if peer.open:
                self.server.call(self.send, peer, 5, "text")  # nothing else may come before it
            if peer.open or peer.closed:
                peer.read_all()
            peer.read()
            peer.client.close()
        self.peers.clear()
        eventually(lambda: self.app.stats()["connections"] == 0)
        self.quiet = False
        assert self.app.stats()["topics"] == 0
        assert self.app.stats()["buffered_bytes"] == 0


peers = st.integers(0, CLIENTS - 1)
topics = st.sampled_from(TOPICS)
sizes = st.sampled_from(SIZES) | st.integers(0, 3000)
kinds = st.sampled_from(["text", "bytes", "bytearray", "prepared", "prepared text"])
act = st.one_of(
    st.tuples(st.just("subscribe"), peers, topics),
    st.tuples(st.just("subscribe"), peers, topics),
    st.tuples(st.just("unsubscribe"), peers, topics),
    st.tuples(st.just("publish"), st.none() | peers, topics, sizes, kinds),
    st.tuples(st.just("publish"), st.none() | peers, topics, sizes, kinds, st.sampled_from([1, 3, 20])),
    st.tuples(st.just("send"), peers, sizes, kinds),
)
ending = st.tuples(st.sampled_from(["close", "terminate"]), peers)
acts = st.lists(act | act | act | act | ending, min_size=1, max_size=12)
turn = st.tuples(st.just("turn"), st.none() | peers, acts, st.booleans())
between = st.one_of(
    st.tuples(st.just("leave"), peers, st.booleans()),
    st.tuples(st.just("join")),
    st.tuples(st.just("stop reading"), peers),
    st.tuples(st.just("read on"), peers),
)
plans = st.lists(turn | turn | turn | between, min_size=3, max_size=14)
beginnings = st.lists(st.sets(topics), min_size=CLIENTS, max_size=CLIENTS)


def play(bench: Bench, beginning: list[set[str]], plan: list[tuple[Any, ...]]) -> None:
    for own in beginning:
        peer = bench.join()
        for topic in sorted(own):
            bench.server.call(bench.subscribe, peer, topic)
    for kind, *arguments in plan:
        if kind == "turn":
            bench.run(*arguments)
        elif kind == "join" and len(bench.peers) < 2 * CLIENTS:
            bench.join()
        elif kind == "leave" and len(bench.peers) > 1:
            bench.leave(bench.peers[arguments[0] % len(bench.peers)], arguments[1])
        elif kind == "stop reading":
            bench.peers[arguments[0] % len(bench.peers)].reads = False
        elif kind == "read on":
            bench.peers[arguments[0] % len(bench.peers)].reads = True
        for peer in bench.peers:
            if peer.reads:
                peer.read()
        bench.check()
    bench.finish()


@pytest.fixture
def bench(loop_kind: str, no_leaked_fds: None, traps: Any) -> Any:
    made = Bench(loop_kind)
    yield made
    for client in list(RawClient.opened):
        client.close()
    made.server.stop()
    assert made.server.loop_errors == []
    vars(made).clear()  # pytest keeps the bench of the last test for longer than no_object_left waits


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(beginning=beginnings, plan=plans)
def test_everybody_hears_what_the_model_says(
    bench: Bench, beginning: list[set[str]], plan: list[tuple[Any, ...]]
) -> None:
    try:
        play(bench, beginning, plan)
    finally:  # of an example that failed: the next begins with nobody
        bench.quiet = True
        for peer in bench.peers:
            peer.client.close()
        bench.peers.clear()
        eventually(lambda: bench.app.stats()["sockets"] == 0)
        bench.quiet = False


@pytest.mark.parametrize("seed", range(3))
def test_a_long_one(bench: Bench, seed: int) -> None:
    """Hundreds of turns with the same peers, most of them slow: blocks of memory are used again under their queues."""
    rng = random.Random(seed)

    def acts() -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for _ in range(rng.randrange(1, 10)):
            who, topic, size = rng.randrange(CLIENTS), rng.choice(TOPICS), rng.choice([9, 100, 510, 700, 2000, 3000])
            kind = rng.choice(["text", "bytes", "prepared"])
            found.append(
                rng.choice(
                    [
                        ("subscribe", who, topic),
                        ("unsubscribe", who, topic),
                        ("send", who, size, kind),
                        ("publish", rng.choice([None, who]), topic, size, kind, rng.choice([1, 4, 30])),
                        ("publish", None, topic, size, kind, 8),
                    ]
                )
            )
        return found

    plan: list[tuple[Any, ...]] = []
    for _ in range(120):
        plan.append(("turn", rng.choice([None, None, 0]), acts(), rng.random() < 0.5))
        if rng.random() < 0.3:
            plan.append((rng.choice(["stop reading", "stop reading", "read on"]), rng.randrange(1, CLIENTS)))
    play(bench, [{rng.choice(TOPICS)} for _ in range(CLIENTS)], plan)
