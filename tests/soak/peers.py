"""A process full of clients of the soak: `python tests/soak/peers.py PORT --count 1000`, until SIGTERM, then all leave.

It connects at most --churn times a second and uses at most --budget of a core; it says what it has done in one line of
JSON, and fails where an answer is wrong.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import resource
import select
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from harness import BINARY, TEXT, build, request_bytes  # noqa: E402
from harness.deflating import AnySender, Params, Receiver, agree  # noqa: E402
from harness.frames import deflated_frames  # noqa: E402

from soak import owed, talks  # noqa: E402
from soak.client import Client, Leaving  # noqa: E402


class Talker(Client):
    """One talk after the other; the answer is compared byte by byte."""

    talks = talks.TALKS + talks.TALKS_WITH_PINGS
    pace = 0.6

    def began(self) -> None:
        self.expected: bytes = b""
        self.at = 0

    def act(self) -> float:
        if self.is_open and self.at == len(self.expected):
            talk = self.rng.choice(self.talks)
            self.expected, self.at = talk.answer, 0
            self.due_at = self.crowd.clock + owed.LIMIT
            self.send(talk.wire)
            self.crowd.counts["talks"] += 1
        elif self.is_open and self.crowd.clock > self.due_at:
            self.crowd.fail(f"{type(self).__name__} on {self.path} heard {self.at} bytes of {len(self.expected)}")
        return self.rng.expovariate(1 / self.pace)

    def heard(self, data: bytes) -> None:
        end = self.at + len(data)
        if data != self.expected[self.at : end]:
            self.crowd.fail(f"{type(self).__name__} on {self.path} heard {data!r:.100}")
        self.at = end
        self.due_at = self.crowd.clock + owed.LIMIT  # each message may have to wait for a turn of the server's


class BurstTalker(Talker):
    talks = talks.BURSTS
    pace = 3.0


class ViewTalker(Talker):
    path = "/view"
    # utf8 text is bytes there, which are sent as binary
    talks = [talk for talk in talks.TALKS if talk.wire[0] == 0x82 and len(talk.answer) > 60_000]


class LaterTalker(Talker):
    path = "/later"
    talks = talks.TALKS


class GuardedTalker(Talker):
    path = "/guarded?yes"


class Refused(Client):
    path = "/guarded"

    def answered(self) -> None:
        self.head = b""


class Subscriber(Client):
    def __init__(self, crowd: Crowd) -> None:
        self.path = f"/{crowd.rng.choice(['topic', 'drop'])}/{crowd.rng.choice(['a', 'b', 'c', 'd', 'ended'])}"
        super().__init__(crowd)

    def heard(self, data: bytes) -> None:
        self.crowd.counts["bytes published to"] += len(data)


class Publisher(Subscriber):
    def act(self) -> float:
        if self.is_open:
            self.send(self.rng.choice(talks.PUBLISHED))
            self.crowd.counts["published"] += 1
        return 0.2


class Compressing(Client):
    """Has agreed on compression, and inflates what it hears."""

    def request(self) -> bytes:
        self.offer = self.rng.choice(talks.OFFERS)
        self.incoming = bytearray()
        return request_bytes(self.path, headers=[("Sec-WebSocket-Extensions", self.offer)])

    def began(self) -> None:
        self.sender, self.receiver = AnySender(self.agreed, self.rng), Receiver(self.agreed)

    def answered(self) -> None:
        (answer,) = (line[26:] for line in self.head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Extensions: "))
        self.agreed = agree(Params.read(self.offer, is_offer=True), Params.read(answer.decode()))
        super().answered()

    def heard(self, data: bytes) -> None:
        self.incoming += data
        for frame, compressed in deflated_frames(self.incoming):
            self.crowd.counts["compressed"] += compressed
            self.message(frame.opcode, self.receiver.message(frame.payload) if compressed else frame.payload)

    def message(self, opcode: int, payload: bytes) -> None:
        self.crowd.counts["bytes published to"] += len(payload)


class CompressingTalker(Compressing):
    """Compares what it hears with what it has said, message by message."""

    path = "/deflate"

    def began(self) -> None:
        super().began()
        self.expected: list[tuple[int, bytes]] = []

    def act(self) -> float:
        if self.is_open and not self.expected:
            talk = self.rng.choice(talks.MESSAGES)
            for opcode, payload in talk:
                wire, rsv = (payload, 0) if self.rng.random() < 0.2 else (self.sender.message(payload), 4)
                self.send(build(opcode, wire, rsv=rsv))
            self.expected = talk[::-1]
            self.crowd.counts["talks"] += 1
        return self.rng.expovariate(1 / 0.6)

    def message(self, opcode: int, payload: bytes) -> None:
        if opcode in (TEXT, BINARY) and self.expected.pop() != (opcode, payload):
            self.crowd.fail(f"{type(self).__name__} on {self.path} heard {payload!r:.100}")


class TakeoverTalker(CompressingTalker):
    path = "/deflate/takeover"


class CompressingSubscriber(Compressing):
    def __init__(self, crowd: Crowd) -> None:
        self.path = f"/topic/{crowd.rng.choice('abcd')}"
        super().__init__(crowd)


class Bomber(CompressingTalker):
    """Leaves with a message that is too large, or corrupt."""

    lifetime = 2.0

    def leave(self) -> None:
        if self.is_open:
            self.send(build(BINARY, self.rng.choice(talks.BOMBS), rsv=4))
            self.become(Leaving)
        else:
            super().leave()


class Quiet(Client):
    """Says nothing but Pongs, and one in two not even that: the server ends it."""

    path = "/quiet"

    def began(self) -> None:
        self.answers = self.rng.random() < 0.5

    def heard(self, data: bytes) -> None:
        if self.answers and data.startswith(talks.EMPTY_PING):
            self.send(talks.EMPTY_PONG)
            self.crowd.counts["pongs"] += 1


class Slow(Client):
    """Asks for much, reads a little every now and then."""

    path = "/slow"
    receive_buffer = 4096

    def began(self) -> None:
        self.send(talks.BACKLOG.wire)
        self.crowd.epoll.modify(self.fd, 0)

    def act(self) -> float:
        if self.is_open and not self.sock.recv(3000):
            self.crowd.part(self, "ended by the server")
        return 1.0

    def leave(self) -> None:
        self.crowd.part(self, "reset")  # which is what closing on unread input is


class Deaf(Slow):
    """Reads nothing: neither its answers nor what is published."""

    def __init__(self, crowd: Crowd) -> None:
        self.path = crowd.rng.choice(["/slow", "/topic/a", "/drop/a"])
        super().__init__(crowd)

    def act(self) -> float:
        return 5.0


class Rude(Client):
    """Ends its connection by what it does: leaves a message unfinished, floods with Pings, or asks to be closed."""

    path = "/strict"

    def began(self) -> None:
        self.send(self.rng.choice([talks.HALF, talks.PINGS, talks.BYE]))


class Vandal(Talker):
    lifetime = 2.0

    def leave(self) -> None:
        if self.is_open:
            self.send(self.rng.choice(talks.BAD))
            self.become(Leaving)
        else:
            super().leave()


class Stranger(Client):
    """A broken handshake, half of one, or none; or a question in plain HTTP."""

    lifetime = 3.0

    def request(self) -> bytes:
        whole = super().request()
        return self.rng.choice(
            [
                whole[: self.rng.randrange(len(whole))],
                self.rng.randbytes(100),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                request_bytes(self.path, method="POST"),
                request_bytes(self.path, without=("sec-websocket-version",)),
                request_bytes("/nowhere"),
                request_bytes(self.path, headers=[("Origin", "https://other.example")]),
                request_bytes(self.path, headers=[("X", "x" * 20_000)]),
                b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n",
            ]
        )

    def answered(self) -> None:
        self.head = b""


#: Of so many clients in all.
KINDS: dict[type[Client], int] = {
    Talker: 23,
    Bomber: 1,
    CompressingTalker: 5,
    TakeoverTalker: 5,
    CompressingSubscriber: 3,
    LaterTalker: 8,
    ViewTalker: 3,
    GuardedTalker: 5,
    Refused: 2,
    Subscriber: 18,
    Publisher: 2,
    Quiet: 8,
    Slow: 2,
    Deaf: 2,
    Rude: 3,
    Vandal: 5,
    Stranger: 5,
    BurstTalker: 1,
    owed.Silent: 1,
    owed.Nowhere: 1,
    owed.Forker: 1,
    owed.Deep: 1,
    owed.Viewer: 1,
    owed.SlowViewer: 1,
    owed.Logged: 1,
    owed.Hollow: 1,
    owed.SlowReader: 1,
    owed.SlowPage: 1,
    owed.HalfClosed: 1,
    owed.HalfClosedTalker: 1,
}


class Crowd:
    """The clients of this process, on one epoll."""

    def __init__(self, port: int, seed: int, kinds: dict[type[Client], int]) -> None:
        self.port = port
        self.kinds = kinds
        self.rng = random.Random(seed)
        self.epoll = select.epoll()
        self.clients: dict[int, Client] = {}
        self.due: list[tuple[float, int, Client]] = []
        self.order = itertools.count()
        self.counts: Counter[str] = Counter()
        self.leaving = False
        self.clock = 0.0  # seconds; it stands still while this process is held up
        self._turned_at = time.monotonic()

    def join(self, client: Client, request: bytes) -> None:
        client.outgoing = request  # leaves as soon as it is connected
        self.clients[client.fd] = client
        self.epoll.register(client.fd, select.EPOLLIN | select.EPOLLOUT)
        self.wake(client, self.rng.random())

    def wake(self, client: Client, after: float) -> None:
        heapq.heappush(self.due, (time.monotonic() + after, next(self.order), client))

    def part(self, client: Client, how: str) -> None:
        if self.clients.pop(client.fd, None) is not None:
            self.counts[how] += 1
            client.sock.close()

    def fail(self, what: str) -> None:
        print(f"peers: {what}", file=sys.stderr)
        sys.exit(1)

    def newcomer(self) -> None:
        (kind,) = self.rng.choices(list(self.kinds), list(self.kinds.values()))
        kind(self)
        self.counts["connects"] += 1

    def turn(self) -> None:
        for fd, events in self.epoll.poll(0.01):
            client = self.clients.get(fd)
            if client is None:
                continue
            try:
                if events & select.EPOLLOUT and client.outgoing:
                    client.on_writable()
                if events & ~select.EPOLLOUT and fd in self.clients:
                    client.on_readable()
            except BlockingIOError:
                pass
            except OSError:
                client.ended("lost")
        now = time.monotonic()
        self.clock += min(now - self._turned_at, 0.5)
        self._turned_at = now
        while self.due and self.due[0][0] < now:
            client = heapq.heappop(self.due)[2]
            if self.clients.get(client.fd) is not client:
                continue
            after = 1.0
            try:
                if now > client.dies_at:
                    client.leave()
                else:
                    after = client.act()
            except BlockingIOError:
                pass
            except OSError:
                client.ended("lost")
            if client.fd in self.clients:
                self.wake(client, after)

    def run(self, count: int, churn: float, budget: float) -> None:
        connected_at = time.monotonic()
        pace = 5 * churn  # until all are here
        while not self.leaving:
            began, used = time.monotonic(), time.process_time()
            while len(self.clients) < count and connected_at < began:
                self.newcomer()
                connected_at += 1 / pace
            connected_at = max(connected_at, began - 0.1)
            pace = churn if len(self.clients) == count else pace
            self.turn()
            # So much rest that the work is `budget` of the time.
            rest = (time.process_time() - used) / budget - (time.monotonic() - began)
            if rest > 0:
                time.sleep(rest)
        for client in list(self.clients.values()):
            self.part(client, "left at the end")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--churn", type=float, default=80)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=[], help="only these, by the names of their classes")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(options.count + 100, 1024), most), most))
    kinds = {kind: weight for kind, weight in KINDS.items() if kind.__name__ in options.kinds or not options.kinds}
    crowd = Crowd(options.port, options.seed, kinds)

    def leave(*arguments: Any) -> None:
        crowd.leaving = True

    signal.signal(signal.SIGTERM, leave)
    print("ready", flush=True)
    crowd.run(options.count, options.churn, options.budget)
    print(json.dumps(crowd.counts), flush=True)


if __name__ == "__main__":
    main()
