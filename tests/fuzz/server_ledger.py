"""What is known of a round of whole-server fuzzing: what each side has said, and so what the other may hear."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from typing import Any, NamedTuple

from harness import PATIENCE, unaccounted

LONGEST = 300_000  # characters or bytes of one message

_noise = random.Random("noise")


def _text(alphabet: str) -> str:
    block = "".join(_noise.choices(alphabet, k=4099))
    return block * (2 * LONGEST // len(block) + 1)


#: Bytes, and text whose characters need one, two, three and one to four bytes in UTF-8.
NOISE: list[Any] = [
    _noise.randbytes(4099) * (2 * LONGEST // 4099 + 1),
    _text("abcdefgh 0123456789"),
    _text("aéüñþ"),
    _text("a漢字仮名€"),
    _text("aé漢🙂😀\U0010ffff"),
]


class Item(NamedTuple):
    """A message: `head` names it, a piece of NOISE[kind] follows. Where that is, the reader knows from here only."""

    kind: int
    head: str
    start: int
    size: int

    def payload(self) -> Any:
        """str or bytes."""
        rest = NOISE[self.kind][self.start : self.start + self.size]
        return self.head + rest if self.kind else self.head.encode() + rest


def make_item(rng: random.Random, head: str, limit: int = LONGEST) -> Item:
    """A message of any kind and size up to `limit` bytes."""
    kind = rng.choice([0, 0, 1, 1, 2, 3, 4])
    most = max((limit - len(head)) // (1, 1, 2, 3, 4)[kind], 0)
    size = rng.choice([0, 1, rng.randrange(20), rng.randrange(120, 130), rng.randrange(1000), rng.randrange(5000)])
    if rng.random() < 0.08:
        size = rng.choice([65_530 + rng.randrange(12), rng.randrange(LONGEST), 4096])
    return Item(kind, head, rng.randrange(4099), min(size, most))


class Ledger:
    """One peer and the connection that the server made of it, if it did."""

    def __init__(self, number: int) -> None:
        self.number = number
        # Messages from the peer to the server. From wild_from on it has sent what nobody can foretell.
        self.sent: list[Any] = []  # Items, or payloads as they are
        self.seen = 0
        self.wild_from: int | None = None
        self.pings: set[bytes] = set()
        # Messages from the server to the peer.
        self.said: list[Item] = []
        self.heard = 0
        self.loose: set[int] = set()  # of what was said, where send() raised: heard any number of times, or not
        self.latest = -1  # of what was published
        # Callbacks.
        self.running = ""
        self.opened = 0
        self.closed = 0
        self.code: int | None = None
        self.disturbed = False  # the application has closed or terminated it
        self.ws: Any = None

    def due(self) -> Any:
        """The payload that must come next from the peer; None where nothing may."""
        if self.seen >= len(self.sent):
            return None
        item = self.sent[self.seen]
        return item.payload() if isinstance(item, Item) else item

    def unheard(self) -> int:
        """How many messages to the peer it must still hear."""
        return sum(number not in self.loose for number in range(self.heard, len(self.said)))


class World:
    """What the two sides share. `inside` is for callbacks, `rng` for the rest, so that both can be told by the seed."""

    def __init__(self, name: str, loop_kind: str, transport: str, timed: bool) -> None:
        self.rng = random.Random(name)
        self.inside = random.Random("inside " + name)
        self.loop_kind = loop_kind
        self.transport = transport
        self.timed = timed  # has deadlines so short that they come
        self.app: Any = None
        self.server: Any = None
        self.ledgers: dict[int, Ledger] = {}
        self.published: list[Item] = []
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.meddles = self.rng.random() < 0.5  # the logging handler acts on connections
        self.calm = False  # callbacks do nothing any more but look
        self.stopping: list[Any] = []  # tasks of server.stop()
        self.tasks: set[Any] = set()  # of the application's own
        self.gates: list[Any] = []  # futures that callbacks wait for
        self.kept: list[tuple[Any, bytes]] = []  # exports from views, and what they must hold
        self._digest = hashlib.sha256()

    def note(self, *what: Any) -> None:
        """Something happened: the same in every run of this round."""
        self.counts[what[0]] += 1
        self._digest.update(repr(what).encode())

    def digest(self) -> str:
        return self._digest.hexdigest()

    def wrong(self, what: str) -> None:
        self.problems.append(what)

    def check(self, right: bool, what: str) -> None:
        if not right:
            self.wrong(what)

    def alive(self) -> list[Ledger]:
        return [one for one in self.ledgers.values() if one.opened and not one.closed]

    def stop(self, rng: random.Random) -> None:
        """Where the round is not of deadlines, none may come: what there is time for would differ from run to run."""
        grace = rng.choice([0, 0.02, 0.2] if self.timed else [0, 60])
        self.note("stop")
        self.stopping.append(asyncio.ensure_future(self._stop_in_time(grace)))

    async def _stop_in_time(self, grace: float) -> None:
        began = time.monotonic()
        await self.server.stop(grace)
        took = time.monotonic() - began
        self.check(took < grace + 2 * PATIENCE, f"stop({grace}) took {took:.1f} s")

    def open_gates(self) -> None:
        for gate in self.gates:
            if not gate.done():
                gate.set_result(None)
        self.gates.clear()

    def check_stats(self) -> None:
        """What is always true of them."""
        stats = self.app.stats()
        self.problems += unaccounted(stats)
        here = stats["handshakes"] + stats["connections"]
        self.check(0 <= here <= stats["sockets"] <= stats["accepted"], f"stats are impossible: {stats}")
