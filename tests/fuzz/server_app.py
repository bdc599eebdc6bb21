"""The application of whole-server fuzzing: routes with any options, whose callbacks do anything to any connection."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import fastws

from .server_ledger import Ledger, World, make_item
from .states import COMPRESS, random_deflate

TOPICS = ["a", "b", "c", "é" * 100]


class Boom(Exception):
    """What callbacks raise, and the only traceback that may be logged."""


class Meddled(Exception):
    """What the logging handler raises, and nobody may be told of by the log."""


def random_options(rng: random.Random, timed: bool) -> dict[str, Any]:
    high, low = rng.choice([(0, 0), (10, 0), (1000, 100), (65536, 16384), (65536, 16384)])
    options: dict[str, Any] = {
        "max_message_size": rng.choice([64, 1000, 70_000, 1 << 20]),
        "max_fragments": rng.choice([2, 8, 16_384]),
        "high_water": high,
        "low_water": low,
        "max_backpressure": rng.choice([0, 1000, 300_000, 1 << 20]),
        "max_burst": rng.choice([0, 100_000, 16 << 20]),
        "slow_consumer": rng.choice(["drop", "close"]),
        "max_waiting": rng.choice([1, 2, 16]),
        "max_topics": rng.choice([0, 1, 1024]),
        "text": rng.choice(["str", "utf8"]),
        "keep_request": rng.random() < 0.2,
        "ping_interval": 0,
        "max_control_rate": 0,
        "compression": None if rng.random() < 0.5 else random_deflate(rng, 0.01 if timed else 0),
    }
    if timed:
        options |= {
            "message_timeout": rng.choice([0, 0.02, 60]),
            "ping_interval": rng.choice([0, 0.01, 0.03]),
            "ping_timeout": rng.choice([0.01, 0.03]),
            "send_timeout": rng.choice([0, 0.02, 10]),
            "close_timeout": rng.choice([0.01, 0.05]),
            "max_control_rate": rng.choice([0, 0.5, 20, 100]),
            "max_message_rate": rng.choice([0, 0, 0.5, 20]),
        }
    return options


class Handler:
    """The callbacks of one route; whichever are there are `def` or `async def`."""

    path: str

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.options = random_options(rng, world.timed)
        self.activity = rng.choice([0.1, 0.5, 0.9])
        self.echoes = rng.choice([0.0, 0.8])
        asynchronous = {name: rng.random() < 0.35 for name in ("open", "message", "drain", "ping", "pong", "close")}
        self.is_plain = not any(asynchronous.values())
        if not asynchronous["message"] and rng.random() < 0.5:
            self.options["binary"] = "view"
        for name, later in asynchronous.items():
            if name in ("open", "message", "close") or rng.random() < 0.7:
                setattr(self, name, self._later(name) if later else self._now(name))
        if rng.random() < 0.4:
            self.upgrade = self._upgrade_later if rng.random() < 0.5 else self._upgrade_now

    # the hook

    def _decide(self, request: Any) -> Any:
        world, choice = self.world, self.world.inside.random()
        world.note("upgrade", request.query_string)
        if world.calm or choice < 0.7:
            return None if choice < 0.3 else request.accept(subprotocol=(request.subprotocols or [None])[0])
        if choice < 0.8:
            return request.reject(403, "no")
        if choice < 0.85:
            raise Boom
        if choice < 0.9:
            return "nonsense"
        for one in world.alive()[:3]:
            one.disturbed = True
            one.ws.terminate()
        return request.accept(data="given")

    def _upgrade_now(self, request: Any) -> Any:
        return self._decide(request)

    async def _upgrade_later(self, request: Any) -> Any:
        await self._wait(None)
        return self._decide(request)

    # the callbacks

    def _now(self, name: str) -> Any:
        def callback(ws: Any, *arguments: Any) -> None:
            with self._entered(name, ws, arguments) as ledger:
                self.world.check(not self.world.counts["inside"], f"{name} was called inside another callback")
                self.world.counts["inside"] = 1
                try:
                    self._act(ws, ledger, name)
                finally:
                    self.world.counts["inside"] = 0

        return callback

    def _later(self, name: str) -> Any:
        async def callback(ws: Any, *arguments: Any) -> None:
            with self._entered(name, ws, arguments) as ledger:
                try:
                    for _ in range(self.world.inside.randrange(3)):
                        await self._wait(ws)
                        self._act(ws, ledger, name)
                    self._act(ws, ledger, name)
                except asyncio.CancelledError:
                    self._act(ws, ledger, name)
                    if self.world.inside.random() < 0.8:
                        raise

        return callback

    async def _wait(self, ws: Any) -> None:
        choice = 0 if self.world.calm else self.world.inside.randrange(12)
        if choice < 8 or ws is None:
            await asyncio.sleep(0)
        elif choice == 8 and self.world.timed:
            await asyncio.sleep(self.world.inside.choice([0.001, 0.02]))
        elif choice == 9:
            await ws.drained()
        elif choice == 10:
            gate = asyncio.get_running_loop().create_future()
            self.world.gates.append(gate)
            await gate
        else:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ws.drained(), 1000)

    @contextlib.contextmanager
    def _entered(self, name: str, ws: Any, arguments: tuple[Any, ...]) -> Iterator[Ledger]:
        """Checks what holds when a callback begins, and that no other of its connection does before it ends."""
        world = self.world
        ledger = world.ledgers[int(ws.query_string)]
        who = f"{name} of peer {ledger.number}"
        world.note(name, ledger.number)
        world.check(not ledger.running, f"{who} began inside {ledger.running}")
        world.check(not ledger.closed, f"{who} came after close")
        world.check(ledger.opened == (name != "open"), f"{who} came after open was called {ledger.opened} times")
        world.check(ledger.ws is None or ledger.ws is ws, f"{who} is for another connection")
        ledger.running = name
        ledger.ws = ws
        if name == "open":
            ledger.opened += 1
        elif name == "close":
            ledger.closed += 1
            ledger.code = arguments[0]
            world.check(ws.ready_state == 3, f"{who} in state {ws.ready_state}")
        elif name == "message":
            self._check_message(ledger, ws, arguments[0], who)
        elif name == "ping" and ledger.wild_from is None:
            world.check(arguments[0] in ledger.pings, f"{who} of {arguments[0]!r}, which it never sent")
        elif name == "drain" and self.is_plain:
            most = self.options["low_water"] + 127  # the Pong that waited has just been added
            world.check(ws.buffered_amount <= most, f"{who} with {ws.buffered_amount} bytes unsent")
        try:
            yield ledger
        finally:
            ledger.running = ""

    def _check_message(self, ledger: Ledger, ws: Any, data: Any, who: str) -> None:
        world, expected = self.world, ledger.due()
        if ledger.wild_from is not None and ledger.seen >= ledger.wild_from:
            return
        if expected is None:
            world.wrong(f"{who}: {data!r:.60} was never sent, or after what must have ended it")
            return
        ledger.seen += 1
        kind = type(data)
        if isinstance(expected, str):
            world.check(ws.is_text, f"{who}: text was told to be binary")
            if self.options["text"] == "utf8":
                expected = expected.encode()
        else:
            world.check(not ws.is_text, f"{who}: binary was told to be text")
            if self.options.get("binary") == "view":
                kind = bytes if isinstance(data, memoryview) else kind
                if world.inside.random() < 0.03 and len(world.kept) < 8:
                    part = slice(world.inside.randrange(5), None)
                    world.kept.append((data[part], expected[part]))
        world.check(
            kind is type(expected) and data == expected,
            f"{who}: {data!r:.60} where message {ledger.seen - 1}, {expected!r:.60}, was due",
        )

    # what they do

    def _act(self, ws: Any, ledger: Ledger, name: str) -> None:
        world, rng = self.world, self.world.inside
        if name == "message" and rng.random() < self.echoes:
            say(world, ledger, ws)
        while not world.calm and rng.random() < self.activity:
            one = world.ledgers[rng.choice([ledger.number, rng.randrange(len(world.ledgers))])]
            if one.ws is not None:
                act(world, one, one.ws)
            if rng.random() < 0.004:
                raise Boom
            if rng.random() < 0.001:
                raise asyncio.CancelledError


def say(world: World, ledger: Ledger, ws: Any) -> None:
    """Sends what the peer must hear next, in any of the ways there are."""
    rng = world.inside
    item = make_item(rng, f"{len(ledger.said)}:")
    payload: Any = item.payload()
    way, how = rng.randrange(5), {"compress": rng.choice(COMPRESS)}
    if way == 0:
        taken = ws.send(fastws.prepare(payload), **how)
    elif isinstance(payload, str):
        taken = ws.send_text(payload.encode(), **how) if way == 1 else ws.send(payload, **how)
    elif way == 1:
        mutable = bytearray(payload)
        taken = ws.send(mutable, **how)
        mutable[:] = b"x" * len(mutable)  # what was sent has been copied
    else:
        taken = ws.send(memoryview(payload) if way == 2 else payload, **how)
    if ledger.closed:
        world.check(taken == fastws.DROPPED, f"send to peer {ledger.number} gave {taken} after close")
    if taken != fastws.DROPPED:
        ledger.said.append(item)


def publish(world: World, publisher: Any) -> None:
    item = make_item(world.inside, f"p{len(world.published)}:")
    world.published.append(item)
    payload = item.payload()
    if world.inside.random() < 0.3:
        payload = fastws.prepare(payload)
    publisher.publish(world.inside.choice(TOPICS), payload, compress=world.inside.choice(COMPRESS))


def act(world: World, ledger: Ledger, ws: Any) -> None:
    """One thing done to a connection, open or not."""
    rng = world.inside
    choice = rng.randrange(103)
    if choice < 30:
        for _ in range(rng.choice([1, 1, 1, 3, 40])):
            say(world, ledger, ws)
    elif choice < 40:
        publish(world, rng.choice([ws, world.app]))
    elif choice < 52:
        with contextlib.suppress(RuntimeError):  # over max_topics
            world.check(not (ws.subscribe(rng.choice(TOPICS)) and ledger.closed), "subscribed after close")
    elif choice < 58:
        ws.unsubscribe(rng.choice(TOPICS))
    elif choice < 64:
        ws.pause_reading()
    elif choice < 72:
        ws.resume_reading()
    elif choice < 77:
        ws.ping(b"s" * rng.choice([0, 5, 125]))
    elif choice < 79:
        ledger.disturbed = True
        ws.close(rng.choice([1000, 1001, 1005, 4000]))
    elif choice < 80:
        ledger.disturbed = True
        ws.terminate()
    elif choice < 84:
        world.open_gates()
    elif choice < 88:
        look(world, ws)
    elif choice < 94:
        asyncio.get_running_loop().call_soon(_unless_calm, world, ledger, ws)
    elif choice < 98:
        task = asyncio.ensure_future(_afterwards(world, ledger, ws))
        world.tasks.add(task)
        task.add_done_callback(world.tasks.discard)
    elif choice == 99 and rng.random() < 0.02:
        world.stop(rng)
    elif choice == 100:
        act_at_end_of_stack(world, ledger, ws)
    elif choice == 101:
        ws.pause_reading()
        time.sleep(0.02 if world.timed else 0.002)  # longer than a sweep takes to come, or the clock to change
        for one in world.alive()[:3]:
            one.ws.pause_reading()
        asyncio.get_running_loop().call_soon(ws.resume_reading)


def act_at_end_of_stack(world: World, ledger: Ledger, ws: Any) -> None:
    """Something that has to be done whole, or not at all, or told to have failed."""
    world.note("end of stack", ledger.number)
    rng = world.inside
    choice = rng.randrange(8)
    if choice < 3:
        item = make_item(rng, f"{len(ledger.said)}:")
        ledger.loose.add(len(ledger.said))
        ledger.said.append(item)
        at_end_of_stack(functools.partial(ws.send, item.payload()))
    elif choice == 3:
        at_end_of_stack(functools.partial(publish, world, rng.choice([ws, world.app])))
    elif choice == 4:
        at_end_of_stack(ws.resume_reading)
    elif choice == 5:
        at_end_of_stack(functools.partial(ws.ping, b"s"))
    elif rng.random() < 0.5:
        ledger.disturbed = True
        at_end_of_stack(functools.partial(ws.close, 4000) if choice == 6 else ws.terminate)


def at_end_of_stack(what: Callable[[], Any]) -> None:
    """Does it in the innermost call, and again one call further out while that raises."""
    try:
        at_end_of_stack(what)
    except RecursionError:
        what()


def meddle(world: World) -> None:
    """What a logging handler does, in the middle of whatever it is that is logged."""
    rng = world.inside
    here = world.alive()
    if not world.meddles or world.calm or not here:
        return
    ledger = rng.choice(here)
    choice = rng.randrange(10)
    world.note("meddle", ledger.number, choice)
    if choice < 2:
        say(world, ledger, ledger.ws)
    elif choice < 5:
        publish(world, world.app)
    elif choice == 5:
        raise Meddled
    elif choice < 8:
        ledger.disturbed = True
        ledger.ws.close(4001, "logged")
    elif choice == 8:
        ledger.disturbed = True
        ledger.ws.terminate()


def _unless_calm(world: World, ledger: Ledger, ws: Any) -> None:
    if not world.calm:
        act(world, ledger, ws)


async def _afterwards(world: World, ledger: Ledger, ws: Any) -> None:
    """A task of the application's own, which no end of a connection cancels."""
    await (ws.drained() if world.inside.random() < 0.5 else asyncio.sleep(0))
    _unless_calm(world, ledger, ws)


def look(world: World, ws: Any) -> None:
    """Everything that can be asked of it has an answer."""
    (
        repr(ws),
        ws.id,
        ws.path,
        ws.path_params,
        ws.subprotocol,
        hasattr(ws, "request"),
        ws.data,
        ws.is_text,
        ws.subscriptions,
    )
    ws.remote_address, ws.local_address, ws.is_subscribed("a")
    world.check(ws.buffered_amount >= 0, "less than nothing is buffered")
    len(world.server.connections)
    world.check((ws in world.server.connections) == (ws.ready_state in (1, 2)), f"{ws!r} and server.connections")
    ws.data = ws
    ws.data = None
    world.app.num_subscribers("a")
    world.check_stats()
