"""Worlds of compression: every message that is sent or published, in any mix, arrives as it was.

A world is an app with routes that compress in different ways, and clients that come and go on one loop in one thread.
Python's zlib deflates what they send and inflates what they hear.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections import Counter, deque
from typing import Any, NamedTuple

from harness import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    BadFrame,
    build,
    build_close,
    close_code,
    new_loop,
    request_bytes,
)
from harness.deflating import AnySender, Params, deflate, random_offer
from harness.frames import in_fragments, random_sizes
from harness.peer import Peer as AnyPeer

import fastws

WORLD_SIZE = 750  # messages
IDLES = 9  # the last digit of a world's number: its histories are given up
WIDTH = 10  # clients at a time
TOPICS = ["a", "b"]
MEMORY_FOR_SOME = 100_000  # bytes, for clients that refer back: two, where their windows are the largest
COMPRESS = [None, None, None, None, True, False]
#: What comes before the offer that counts: each is to be skipped.
SKIPPED = [
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=016",
    'permessage-deflate; client_max_window_bits="x"',
    "permessage-deflate; client_max_window_bits=16",
    "permessage-deflate; unknown",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
    "permessage-bzip2",
]


class Failed(AssertionError):
    pass


class Due(NamedTuple):
    """A message that a client must hear next. One that may be missing was published: it may have been dropped."""

    opcode: int
    payload: bytes
    may_be_compressed: bool
    may_be_missing: bool


def random_deflate(rng: random.Random, history_timeout: float) -> Any:
    return fastws.Deflate(
        level=rng.choice([1, 1, 1, 6, 9]),
        window_bits=rng.choice([9, 10, 11, 12, 13, 14, 15, 15, 15]),
        mem_level=rng.choice([1, 8, 8, 9]),
        history=rng.choice([0, 1, 64, 255, 256, 257, 600, 2048, 2048, 2048, 32768]),
        history_timeout=history_timeout,
        threshold=rng.choice([0, 1, 64, 64, 300]),
        server_no_context_takeover=rng.random() < 0.15,
        client_no_context_takeover=rng.random() < 0.5,
        client_window_bits=rng.choice([9, 10, 12, 15, 15]),
        max_inflater_memory=rng.choice([0, MEMORY_FOR_SOME, 1 << 26]),
    )


class Speech:
    """Messages that repeat a part of what was said before: recently, about as long ago as a window or a history is
    long, or never."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        words = [bytes(rng.choices(b"abcdefgh", k=rng.randrange(2, 9))) for _ in range(200)]
        names = [b'{"id": %d, "name": "%b", "price": 1%d.%d}, ' % (at, word, at, at) for at, word in enumerate(words)]
        self.text = b"".join(rng.choice([rng.choice(names), rng.choice(words)]) for _ in range(8000))
        self.noise = rng.randbytes(80_000)

    def say(self) -> Any:
        """str or bytes."""
        rng, choice = self.rng, self.rng.random()
        if choice < 0.6:
            size = rng.randrange(20, 400)
        elif choice < 0.8:
            size = rng.choice([0, 1, 2, 5, 63, 64, 65, 125, 126, 250, 262, 299, 300])
        elif choice < 0.985:
            size = rng.choice([512, 1024, 2048, 4096]) + rng.randrange(-270, 10)
        else:
            size = rng.choice([16_384, 32_768, 65_535, 65_536, 70_000]) + rng.randrange(-300, 300)
        kind = rng.random()
        if kind < 0.85:
            start = rng.choice([0, 0, rng.randrange(4), rng.randrange(1000), rng.randrange(40_000)])
            data = self.text[start : start + size]
            if kind < 0.5:
                return data.decode()
            return data
        if kind < 0.9:
            return ("aé漢🙂" * (size // 10 + 1))[: size // 3]
        start, share = rng.randrange(5000), rng.choice([0, 0, rng.randrange(size + 1)])
        if kind < 0.98:  # to shrink, what is noise must be followed or preceded by enough that is none
            return self.text[:share] + self.noise[start : start + size - share]
        return bytes(share) + self.noise[start : start + size - share] + bytes(share)


class Peer(AnyPeer):
    def __init__(self, world: World, number: int, address: str) -> None:
        rng = self.rng = world.rng
        self.world, self.number = world, number
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        super().__init__(sock, random_offer(rng) if rng.random() < 0.9 else "")
        self.route = number % len(world.routes)
        offers = [*rng.sample(SKIPPED, rng.choice([0, 0, 0, 1, 2])), *filter(None, [self.offer])]
        headers = [("Sec-WebSocket-Extensions", ", ".join(offers))] if offers else []
        self.outgoing = bytearray(request_bytes(f"/{self.route}?{number}", headers=headers))
        self.leaves = self.is_lazy = False
        self.ws: Any = None
        self.code: int | None = 0  # of the server's Close frame
        self.due: deque[Due] = deque()
        self.sent: deque[Any] = deque()

    @property
    def who(self) -> str:
        options = self.world.routes[self.route]
        return f"client {self.number}, which offers {self.offer!r} and has {self.agreed}, of {options}"

    # out

    def say(self) -> None:
        rng, message = self.rng, self.world.speech.say()
        self.sent.append(message)
        opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        rsv = 0
        if self.agreed is not None and rng.random() < 0.8:
            payload, rsv = self.sender.message(payload), 4
        sizes = random_sizes(rng, len(payload), rng.choice([0, 0, 0, 0, 1, 4]))
        pings = [build(PING, b"between") if rng.random() < 0.2 else b"" for _ in sizes]
        self.outgoing += in_fragments(opcode, payload, sizes, between=pings, rsv=rsv)

    def break_off(self) -> None:
        """Sends what is corrupt, or refers to what others may have said."""
        assert self.agreed is not None
        text = self.world.speech.text
        wrong = [b"\xff\xff", deflate(text[:400], 9)[:-16]]
        if self.agreed.client_no_context_takeover:
            wrong.append(deflate(text[:400], 9, before=text[:500]))
        self.outgoing += build(TEXT, self.rng.choice(wrong), rsv=4)
        self.leaves = True

    def flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.outgoing:
                del self.outgoing[: self.sock.send(self.outgoing)]

    # in

    def read(self, size: int = 1 << 18) -> bool:
        try:
            return super().read(size)
        except BadFrame as error:
            raise Failed(f"{self.who} was sent {error}; {self.due and self.due[0]!r:.100} was due") from error

    def ended(self) -> None:
        if not self.leaves:
            raise Failed(f"{self.who} was hung up on")

    def answered(self, head: bytes) -> None:
        if not self.opened or (self.agreed is not None) != bool(self.offer):
            raise Failed(f"{self.who} was answered {head!r}")
        if self.agreed is not None:
            self._check_agreed(self.agreed, self.world.routes[self.route]["compression"])
            self.sender = AnySender(self.agreed, self.rng)

    def _check_agreed(self, agreed: Params, deflate: Any) -> None:
        """A client may refer back where there is memory for that: for all, for none, or for some at a time."""
        may = not deflate.client_no_context_takeover and "client_no_context_takeover" not in self.offer
        may &= deflate.max_inflater_memory > 0
        is_alone = len(self.world.peers) == 1
        is_sure = not may or is_alone or deflate.max_inflater_memory > MEMORY_FOR_SOME
        if is_sure and agreed.client_no_context_takeover == may:
            raise Failed(f"{self.who}, which is {'' if is_alone else 'not '}alone")

    def heard(self, fin: bool, opcode: int, payload: bytes, wire: int | None) -> None:
        if opcode == CLOSE and self.leaves:
            self.code = close_code(payload)
        elif opcode in (TEXT, BINARY) and fin:
            self._message(opcode, payload, wire)
        elif opcode != PONG:
            raise Failed(f"{self.who} was sent {opcode} {payload!r:.100}")

    def _message(self, opcode: int, payload: bytes, wire: int | None) -> None:
        if wire is not None:
            if len(payload) <= wire:
                raise Failed(f"{self.who} was sent {payload!r:.50}, which has not shrunk")
            self.world.counts["compressed out"] += 1
        while self.due:
            due = self.due.popleft()
            if (opcode, payload) == due[:2]:
                if wire is not None and not due.may_be_compressed:
                    raise Failed(f"{self.who} was sent {due!r:.100} compressed")
                self.world.counts["out"] += 1
                return
            if not due.may_be_missing:
                raise Failed(f"{self.who} heard {payload!r:.100} where {due!r:.100} was due")
            self.world.counts["dropped by a topic"] += 1
        raise Failed(f"{self.who} heard {payload!r:.100}, which nobody said")

    def settled(self) -> bool:
        return not self.sent and not self.outgoing and not any(not due.may_be_missing for due in self.due)


class World:
    def __init__(self, name: str, idles: bool) -> None:
        self.rng = random.Random(name)
        self.speech = Speech(self.rng)
        self.counts: Counter[str] = Counter()
        self.peers: dict[int, Peer] = {}
        self.prepared: deque[tuple[Any, Any]] = deque(maxlen=8)
        self.problems: list[BaseException] = []
        rng = self.rng
        self.idles = idles
        self.app: Any = fastws.App(ping_interval=0, max_control_rate=0, max_backpressure=1 << 30)
        self.routes = []
        for number in range(rng.choice([1, 1, 3])):
            options: dict[str, Any] = {"compression": random_deflate(rng, 0.02 if self.idles else 0.0)}
            if rng.random() < 0.4:
                options |= {"slow_consumer": "drop", "max_backpressure": 10_000, "max_burst": 0}
            self.app.websocket(f"/{number}", **options)(Handler(self))
            self.routes.append(options)
        self.drops = any("slow_consumer" in options for options in self.routes)

    # what the server says

    def prepare(self, message: Any) -> tuple[Any, Any]:
        """A message and what it is prepared as: a new one, or one that has been sent before."""
        if len(self.prepared) < 5 or self.rng.random() < 0.3:
            self.prepared.append((message, fastws.prepare(message)))
        return self.rng.choice(self.prepared)

    def say(self, peer: Peer, message: Any = None, compress: bool | None = None) -> None:
        rng, given, prepared = self.rng, message is not None, None
        if not given:
            message, compress = self.speech.say(), rng.choice(COMPRESS)
        way = rng.randrange(8)
        if way == 0 and not given:
            message, prepared = self.prepare(message)
        data, is_text = message, isinstance(message, str)
        payload = message.encode() if is_text else message
        send = peer.ws.send
        if prepared is not None:
            data = prepared
        elif way == 1 and is_text:
            data, send = payload, peer.ws.send_text
        elif not is_text:
            data = memoryview(message) if way == 1 else bytearray(message) if way == 2 else message
        if send(data, compress=compress) == fastws.DROPPED:
            self.counts["dropped"] += 1
            return
        deflate = self.routes[peer.route]["compression"]
        wanted = compress is True or (compress is None and len(payload) >= deflate.threshold)
        peer.due.append(Due(TEXT if is_text else BINARY, payload, wanted and peer.agreed is not None, False))

    def fail_to_say(self, peer: Peer) -> None:
        """What raises has said nothing."""
        wrong = self.rng.choice([1, None, "x" * 100 + "\ud800", memoryview(bytes(100))[::2]])
        try:
            peer.ws.send(wrong, compress=self.rng.choice(COMPRESS))
        except (TypeError, ValueError, BufferError):
            self.counts["raised"] += 1
        else:
            raise Failed(f"{wrong!r} was sent")

    def publish(self, here: list[Peer]) -> None:
        rng, message = self.rng, self.speech.say()
        compress, topic = rng.choice(COMPRESS), rng.choice(TOPICS)
        sender = rng.choice(here) if rng.random() < 0.3 else None
        if self.drops:  # what is missing must not be taken for another that is the same
            head = f"p{self.counts['published']}:"
            message = head + message if isinstance(message, str) else head.encode() + message
        data = message
        if rng.random() < 0.3:
            message, data = (message, fastws.prepare(message)) if self.drops else self.prepare(message)
        is_text = isinstance(message, str)
        payload = message.encode() if is_text else message
        for peer in self.peers.values():
            if peer.ws is not None and peer.ws.is_subscribed(topic) and peer is not sender:
                may_be_missing = "slow_consumer" in self.routes[peer.route]
                may_be_compressed = compress is not False and peer.agreed is not None
                peer.due.append(Due(TEXT if is_text else BINARY, payload, may_be_compressed, may_be_missing))
        (sender.ws if sender else self.app).publish(topic, data, compress=compress)
        self.counts["published"] += 1

    # what happens

    async def play(self, address: str) -> None:
        rng, came, rounds = self.rng, 0, 0
        while self.counts["in"] + self.counts["out"] < WORLD_SIZE:
            rounds += 1
            while len(self.peers) < WIDTH:
                self.peers[came] = Peer(self, came, address)
                came += 1
                await self.turn()
            here = [peer for peer in self.peers.values() if peer.opened and peer.ws is not None]
            for _ in range(rng.randrange(30)):
                self.act(rng.choice(here), here)
            await self.turn()
            if rng.random() < 0.05:
                await self.part(rng.choice(here))
            for peer in self.peers.values():
                peer.is_lazy &= rng.random() < 0.95
            if self.idles and rounds % 12 == 0:
                await self.idle()
        for peer in list(self.peers.values()):
            await self.part(peer)
        self.counts["clients"] += came
        for number in range(came, came + len(self.routes)):  # each finds all as it was at first
            await self.rest()
            peer = self.peers[number] = Peer(self, number, address)
            await self.turn()
            peer.say()
            await self.turn()
            await self.part(peer)
        await self.rest()

    def act(self, peer: Peer, here: list[Peer]) -> None:
        rng, choice = self.rng, self.rng.randrange(1000)
        if choice < 420:
            peer.say()
        elif choice < 850:
            self.say(peer)
        elif choice < 940:
            self.publish(here)
        elif choice < 970:
            topic = rng.choice(TOPICS)
            if not peer.ws.subscribe(topic) and rng.random() < 0.5:
                peer.ws.unsubscribe(topic)
        elif choice < 980:
            self.fail_to_say(peer)
        elif choice < 985:
            peer.is_lazy = True
        elif choice < 989 and "slow_consumer" in self.routes[peer.route]:
            peer.is_lazy = True
            for message in [self.speech.noise[:30_000]] * 10 + [None] * 5:  # as much as the kernel takes, and more
                self.say(peer, message)

    async def turn(self) -> None:
        """What was said arrives, but where a client is too lazy to read it."""
        moved = True
        while moved:
            for peer in self.peers.values():
                if peer.outgoing:
                    peer.flush()
            for _ in range(3):
                await asyncio.sleep(0)
            if self.problems:
                raise self.problems[0]
            moved = False
            for peer in self.peers.values():
                if not peer.is_lazy:
                    moved |= peer.read()

    async def part(self, peer: Peer) -> None:
        """Leaves, having heard all or in the middle of it."""
        rng = self.rng
        how = rng.randrange(6)
        if how == 5 and peer.agreed is None:
            how = 0
        if how in (0, 1, 2, 5):
            peer.is_lazy = False
            deadline = time.monotonic() + 20 * PATIENCE
            while not peer.settled():
                await self.turn()
                if time.monotonic() > deadline:
                    raise Failed(f"{peer.who} waits for {list(peer.due)[:3]!r:.300}, the server for {len(peer.sent)}")
            if how == 2:
                peer.outgoing += build_close(1000)
                peer.flush()
            elif how == 5:
                peer.break_off()
                while peer.code == 0:
                    await self.turn()
                    if time.monotonic() > deadline:
                        raise Failed(f"{peer.who} was not closed for what is corrupt")
                if peer.code != 1007:
                    raise Failed(f"{peer.who} was closed with {peer.code} for what is corrupt")
                self.counts["broken off"] += 1
        elif how == 3 and peer.ws is not None:
            peer.ws.terminate()
        peer.leaves = True
        peer.close()
        del self.peers[peer.number]
        for _ in range(3):
            await asyncio.sleep(0)
        if peer.ws is not None and peer.ws.send(self.speech.say()) != fastws.DROPPED:
            raise Failed(f"{peer.who} was sent something after it had left")

    async def rest(self) -> None:
        """Until all connections have ended."""
        deadline = time.monotonic() + 10 * PATIENCE
        while (stats := self.app.stats())["sockets"]:
            if time.monotonic() > deadline:
                raise Failed(f"somebody is left: {stats}")
            await asyncio.sleep(0.001)

    async def idle(self) -> None:
        """Until histories are given up that are there."""
        holders = [peer for peer in self.peers.values() if peer.agreed and not peer.agreed.server_no_context_takeover]
        for peer in holders:
            self.say(peer, self.speech.text[:300], True)
        before = self.app.stats()["compression_bytes"]
        deadline = time.monotonic() + 10 * PATIENCE
        while holders and self.app.stats()["compression_bytes"] >= before:
            if time.monotonic() > deadline:
                raise Failed(f"{len(holders)} clients' histories are not given up: {before} bytes")
            await asyncio.sleep(0.01)
        self.counts["given up"] += len(holders) > 0


class Handler:
    def __init__(self, world: World) -> None:
        self.world = world

    def open(self, ws: Any) -> None:
        peer = self.world.peers[int(ws.query_string)]
        peer.ws = ws
        for topic in TOPICS:
            if self.world.rng.random() < 0.5:
                ws.subscribe(topic)

    def message(self, ws: Any, data: Any) -> None:
        world = self.world
        peer = world.peers.get(int(ws.query_string))
        if peer is None or world.problems:
            return  # it has left
        expected = peer.sent.popleft() if peer.sent else None
        if data != expected or type(data) is not type(expected):
            world.problems.append(Failed(f"{peer.who}: {data!r:.100} came where {expected!r:.100} was sent"))
            return
        world.counts["in"] += 1
        if world.rng.random() < 0.2:
            world.say(peer)

    def close(self, ws: Any, code: int, reason: str) -> None:
        peer = self.world.peers.get(int(ws.query_string))
        if peer is not None and not peer.leaves and code not in (1000, 1006):
            self.world.problems.append(Failed(f"{peer.who} was closed with {code} {reason!r}"))


async def _world(name: str, idles: bool) -> World:
    world = World(name, idles)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0fastws states {os.getpid()} {name}")
    server = await world.app.start(sock=listener)
    try:
        await world.play(listener.getsockname())
        stats = world.app.stats()
        world.counts += Counter({name: stats[name] for name in ("deflations", "inflations")})
    finally:
        for peer in world.peers.values():
            peer.close()
        await server.stop(0)
    return world


def play(seed: int, number: int) -> Counter[str]:
    """Plays a world until so many messages have arrived; Failed tells which one did not."""
    loop = new_loop(("uvloop", "asyncio")[number % 2])
    try:
        return loop.run_until_complete(_world(f"{seed} {number}", idles=number % 10 == IDLES)).counts
    finally:
        loop.close()
