"""One round of whole-server fuzzing: an app, its server, peers and their steps, all in one thread on one loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import sys
import time
import warnings
from collections import Counter
from typing import Any

from harness import PATIENCE, build_close, new_loop, open_fds, small_buffers

import fastws
from fastws.serving.reactors import reactor_of

from .server_app import Boom, Handler, meddle, publish
from .server_ledger import World
from .server_peer import Peer

LIMIT = 10.0 * PATIENCE  # seconds for what must come about

#: The rest of what may be logged as an error: a callback that raised is told with its Boom.
TOLD = (
    "must return request.accept(), request.reject() or None, not 'nonsense'",
    "exception in cancelling",
    "more like it",
)


class Failed(AssertionError):
    pass


class Watch(logging.Handler):
    """Everything that fastws, asyncio and Python complain about, unless a callback asked for it."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.NOTSET)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._judge(record)
        except Exception as error:  # what a handler raises is nobody's concern
            self.world.wrong(f"{record.msg!r} with {record.args!r} was logged: {error!r}")
        if record.name == "fastws":
            meddle(self.world)

    def _judge(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        expected = (Boom, asyncio.CancelledError) if "internal error" not in record.getMessage() else ()
        if kind in expected or (kind is None and any(part in record.getMessage() for part in TOLD)):
            return
        if record.levelno >= logging.ERROR or record.exc_info or record.name != "fastws":
            text = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            self.world.wrong(f"logged: {record.getMessage()}\n{text}")

    def unraisable(self, found: sys.UnraisableHookArgs) -> None:
        self.world.wrong(f"unraisable: {found.err_msg or 'in'} {found.object!r}: {found.exc_value!r}")

    def in_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.world.wrong(f"in the loop: {context}")

    @contextlib.contextmanager
    def on(self) -> Any:
        root, hook = logging.getLogger(), sys.unraisablehook
        handlers = root.handlers
        log, level = logging.getLogger("fastws"), logging.getLogger("fastws").level
        log.setLevel(logging.INFO)
        root.handlers = [self]  # alone: others keep records, whose tracebacks refer to connections
        sys.unraisablehook = self.unraisable
        told, logging.raiseExceptions = logging.raiseExceptions, False  # what meddle() raises
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                yield
                gc.collect()  # what was never awaited or retrieved speaks up now
        finally:
            sys.unraisablehook = hook
            logging.raiseExceptions = told
            root.handlers = handlers
            log.setLevel(level)


def play(seed: int, number: int, clock_held: bool = False) -> World:
    """Plays a round; AssertionError tells what was wrong. Returns what happened.

    clock_held: the server's clock stands, so that a busy machine changes nothing. Not for rounds over TCP or with short
        deadlines.
    """
    name = f"{seed} {number}"
    world = World(
        name,
        loop_kind=("uvloop", "asyncio")[number % 2],
        transport="tcp" if number % 5 == 4 else "unix",
        timed=number % 3 == 2,
    )
    assert not clock_held or (world.transport == "unix" and not world.timed)
    gc.collect()
    fds = open_fds()
    watch = Watch(world)
    loop = new_loop(world.loop_kind)
    loop.set_exception_handler(watch.in_loop)
    try:
        with watch.on():
            loop.run_until_complete(_round(world, name, clock_held))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            _check_references(world)
    finally:
        if not loop.is_closed():
            loop.close()
    _fail_if_wrong(world)
    left = {fd: what for fd, what in open_fds().items() if fds.get(fd) != what}
    assert not left, f"descriptors are left open: {left}"
    return world


def _fail_if_wrong(world: World) -> None:
    if world.problems:
        raise Failed("\n".join(world.problems[:5]))


def _make_app(world: World) -> Any:
    rng = world.rng
    options: dict[str, Any] = {"close_timeout": 600}  # which does not come
    if world.timed:
        options = {"handshake_timeout": rng.choice([0.01, 0.05]), "close_timeout": 0.05}
    limits = {"max_pending_handshakes": 2, "max_connections": 5, "max_connections_per_ip": 2}
    options |= {name: limit for name, limit in limits.items() if rng.random() < 0.15}
    app: Any = fastws.App(**options)
    app.is_limited = "max_connections" in options or "max_connections_per_ip" in options
    app.evicts = "max_pending_handshakes" in options
    app.handlers = []
    for number in range(rng.randrange(1, 4)):
        handler = Handler(world, rng)
        handler.path = f"/{number}"
        app.websocket(handler.path, **handler.options)(handler)
        app.handlers.append(handler)

    def stats(request: Any) -> fastws.Response:
        return fastws.Response(200, json.dumps(app.stats()))

    async def later(request: Any) -> fastws.Response:
        await asyncio.sleep(0)
        return fastws.Response(200, "x" * 300_000)

    app.http("/stats")(stats)
    app.http("/later")(later)
    return app


def _listen(world: World, name: str) -> socket.socket:
    if world.transport == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"\0fastws fuzz {os.getpid()} {name}")
        return sock
    return small_buffers(world.rng.choice([4096, 30_000, 300_000]))


async def _round(world: World, name: str, clock_held: bool) -> None:
    world.app = _make_app(world)
    listener = _listen(world, name)
    address = listener.getsockname()
    world.server = await world.app.start(sock=listener)
    if clock_held:
        reactor_of(asyncio.get_running_loop()).hold_clock()
    peers: list[Peer] = []
    try:
        await _steps(world, peers, address)
        await _calm(world, peers)
        await _end(world, peers, address)
    finally:
        for peer in peers:
            peer.close()
        world.open_gates()
        await world.server.stop(0)
        for task in world.tasks:
            task.cancel()
        await asyncio.gather(*world.tasks, *world.stopping, return_exceptions=True)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    world.check(not left, f"tasks are left over: {left}")


async def _steps(world: World, peers: list[Peer], address: Any) -> None:
    rng = world.rng
    width = rng.choice([2, 8, 30])
    stop_at = rng.randrange(1000) if rng.random() < 0.2 else -1
    for step in range(rng.choice([100, 500, 1000])):
        here = [peer for peer in peers if not peer.gone]
        if not world.stopping and len(here) < width and rng.random() < 0.3:
            peers.append(Peer(world, len(peers), address))
            here.append(peers[-1])
        if here:
            rng.choice(here).step()
        for _ in range(rng.choice([0, 0, 1, 1, 2, 6])):
            await asyncio.sleep(0)
        if world.timed and rng.random() < 0.02:
            await asyncio.sleep(rng.choice([0.001, 0.01, 0.03]))
        choice = rng.random()
        if choice < 0.01:
            for one in world.alive():
                one.ws.resume_reading()
            world.open_gates()
        elif choice < 0.04:
            publish(world, world.app)
        if step == stop_at:
            world.stop(rng)
        world.check_stats()
        _fail_if_wrong(world)


async def _calm(world: World, peers: list[Peer]) -> None:
    """Nobody does anything new, and all who read get all that was said, in both directions."""
    world.calm = True
    for peer in peers:
        peer.widen()
    deadline = time.monotonic() + LIMIT
    idle = 0
    while idle < 10 or any(map(_lacking, peers)):
        world.open_gates()
        for one in world.alive():
            one.ws.resume_reading()
        for _ in range(6):
            await asyncio.sleep(0)
        moved = [peer.settle() for peer in peers]
        idle = 0 if any(moved) else idle + 1
        if world.transport == "tcp" and idle:
            await asyncio.sleep(0.001)  # what was sent may be on its way
        if idle >= 10 and (world.timed or world.stopping):
            return
        if time.monotonic() > deadline:
            for peer in peers:
                if lacking := _lacking(peer):
                    world.wrong(f"peer {peer.ledger.number}, {peer.kind}, {lacking}")
        _fail_if_wrong(world)
    world.counts["complete"] = sum(map(_is_open, peers))


def _is_open(peer: Peer) -> bool:
    ledger = peer.ledger
    return (
        peer.opened
        and not peer.gone
        and ledger.wild_from is None
        and ledger.ws is not None
        and ledger.ws.ready_state == 1
    )


def _lacking(peer: Peer) -> str:
    """What should have arrived, on either side of an open connection, and has not."""
    ledger = peer.ledger
    if peer.shut and not _is_cut_short(peer) and len(peer.incoming) < peer.wants:
        return f"is owed {peer.wants} bytes, heard {len(peer.incoming)}"
    half_closed = peer.shut and peer.opened and ledger.wild_from is None and not _is_cut_short(peer)
    if not half_closed and not _is_open(peer):
        return ""
    lacking = ""
    if ledger.seen < len(ledger.sent):
        lacking += f"sent {len(ledger.sent)} messages, {ledger.seen} arrived; "
    if ledger.unheard():
        lacking += f"was told {len(ledger.said)} things, heard {ledger.heard}; "
    if ledger.ws is not None and ledger.ws.buffered_amount:
        lacking += f"has heard all, and {ledger.ws.buffered_amount} bytes are buffered"
    return lacking


def _is_cut_short(peer: Peer) -> bool:
    """Something else than that it has sent its last byte may have ended it."""
    world, ledger = peer.world, peer.ledger
    ended = world.timed or world.app.evicts or bool(world.stopping)
    return ended or ledger.disturbed or ledger.code not in (None, 1006)


async def _end(world: World, peers: list[Peer], address: Any) -> None:
    """Some take their leave, others just go; nothing is left of them."""
    for peer in peers:
        if not peer.gone and peer.opened and not peer.finished and world.rng.random() < 0.5:
            peer.outgoing += build_close(1000)
            peer.finished = True
            peer.settle()
    for _ in range(10):
        await asyncio.sleep(0)
        for peer in peers:
            peer.settle()
    for peer in peers:
        peer.close()
    await _until_rest(world)
    world.check_stats()
    if not world.stopping:
        closed = sum(world.app.stats()["closed"].values())
        seen = sum(ledger.closed for ledger in world.ledgers.values())
        world.check(closed == seen, f"close was called {seen} times, {closed} are counted")
    if not world.stopping and not world.timed:
        await _newcomer(world, peers, address)
    await world.server.stop(1)
    for task in world.stopping:
        await task
    for _ in range(6):
        await asyncio.sleep(0)
    world.check(not any(_held(world).values()), f"still held after stop: {_held(world)}")
    world.check(not world.tasks, f"still waiting for what has ended: {world.tasks}")
    for ledger in world.ledgers.values():
        who = f"peer {ledger.number}"
        world.check(ledger.opened == ledger.closed, f"{who}: open {ledger.opened} times, close {ledger.closed} times")
        world.check(not ledger.running, f"{who}: {ledger.running} never ended")
    for peer in peers:
        if peer.code != 0 and peer.ledger.closed:
            allowed = (peer.code or 1005, 1006)
            world.check(
                peer.ledger.code in allowed, f"peer {peer.ledger.number} was told {peer.code}, close {peer.ledger.code}"
            )
    for exported, expected in world.kept:
        world.check(bytes(exported) == expected, "what was kept of a view has changed")
    world.kept.clear()
    world.counts["peers"] = len(peers)


async def _newcomer(world: World, peers: list[Peer], address: Any) -> None:
    """Who comes when all have left finds a place, whatever the limits."""
    peer = Peer(world, len(peers), address, "honest")
    peers.append(peer)
    deadline = time.monotonic() + LIMIT
    while not peer.gone and not peer.status and time.monotonic() < deadline:
        peer.settle()
        await asyncio.sleep(0.001)
    world.check(peer.status in (101, 403, 500), f"a newcomer at the end was answered {peer.status}")
    peer.close()
    await _until_rest(world)


def _held(world: World) -> Counter[str]:
    stats = world.app.stats()
    names = ("sockets", "handshakes", "connections", "buffered_bytes", "topics")
    return Counter({name: stats[name] for name in names})


async def _until_rest(world: World) -> None:
    deadline = time.monotonic() + LIMIT
    while any(_held(world).values()):
        if time.monotonic() > deadline:
            world.wrong(f"still held after all have left: {_held(world)}")
            _fail_if_wrong(world)
        await asyncio.sleep(0.001)


def _check_references(world: World) -> None:
    """Nobody but us refers to a connection that has ended."""
    gc.collect()
    for ledger in world.ledgers.values():
        if (ws := ledger.ws) is not None:
            ledger.ws = None
            count = sys.getrefcount(ws)  # the variable and the argument
            world.check(count <= 2, f"peer {ledger.number}: its connection is referred to {count - 2} times")
