"""Clients of the soak that are owed something: it fails where they do not get that, or get more."""

from __future__ import annotations

import math
import select
import socket
import time
from typing import Any

from harness import BINARY, CLOSE, PATIENCE, PING, PONG, TEXT, build, close_code, request_bytes
from harness.frames import frames

from soak import talks
from soak.client import Client

LIMIT = 10 * PATIENCE  # seconds of the crowd's clock
PAUSE = 1.0  # seconds; the server's close_timeout is 2


class Owed(Client):
    """Does not leave while it is owed something. It must be `paid` in time, and before the server ends it."""

    owed = ""
    due_at = 0.0

    def owe(self, what: str) -> None:
        self.owed, self.due_at = what, self.crowd.clock + LIMIT

    def paid(self) -> None:
        self.owed = ""
        self.crowd.counts["paid"] += 1

    def act(self) -> float:
        if self.owed and self.crowd.clock > self.due_at:
            self.wrong("waits in vain")
        return 1.0

    def ended(self, how: str) -> None:
        if self.owed:
            self.wrong(how)
        super().ended(how)

    def leave(self) -> None:
        if self.owed:
            self.act()
        else:
            super().leave()

    def wrong(self, what: str) -> None:
        self.crowd.fail(
            f"{type(self).__name__} on {self.path} {what}" + (f", is owed {self.owed}" if self.owed else "")
        )


class Silent(Owed):
    """Sends no request: the server must end it."""

    lifetime = 0.1

    def request(self) -> bytes:
        self.owe("its end, by handshake_timeout")
        return b""

    def ended(self, how: str) -> None:
        self.paid()
        super().ended(how)


class Nowhere(Owed):
    """Asks for what is not there, and must be told so; that is logged, too."""

    path = "/nowhere"
    lifetime = 0.1

    def request(self) -> bytes:
        self.owe("a 404")
        return request_bytes(self.path)

    def answered(self) -> None:
        if self.head.startswith(b"HTTP/1.1 404 "):
            self.paid()
        else:
            self.wrong(f"was answered {self.head!r:.100}")


class Framed(Owed):
    """Reads frames, of which none may follow on a Close frame."""

    answers = True  # Pings

    def began(self) -> None:
        self.incoming = bytearray()
        self.code: int | None = 0  # of the Close frame, None where that has none; 0 before it comes

    def heard(self, data: bytes) -> None:
        self.incoming += data
        for _, opcode, payload in frames(self.incoming):
            if self.code != 0:
                self.wrong(f"heard {opcode} {payload!r:.50} behind a Close frame with {self.code}")
            if opcode == CLOSE:
                self.code = close_code(payload)
                self.crowd.counts["closed by the server"] += 1
            elif opcode == PING and self.answers:
                self.send(build(PONG, payload))
            self.frame(opcode, payload)

    def frame(self, opcode: int, payload: bytes) -> None:
        """What came; of a Close frame the code is known."""


class Forker(Framed):
    """Has the server fork."""

    path = "/fork"
    lifetime = 3.0

    def act(self) -> float:
        if self.is_open and not self.owed:
            self.owe(self.rng.choice(["run", "run", "preexec", "hold"]))
            self.send(build(TEXT, self.owed.encode()))
        return super().act()

    def frame(self, opcode: int, payload: bytes) -> None:
        if payload != self.owed.encode():
            self.wrong(f"heard {payload!r:.50}")
        self.paid()


class Deep(Framed):
    """Sends what makes the callback run out of stack."""

    def __init__(self, crowd: Any) -> None:
        self.path = f"/deep/{crowd.rng.choice(['send', 'close'])}/{crowd.rng.choice(['now', 'later'])}"
        super().__init__(crowd)

    def act(self) -> float:
        if self.is_open and not self.owed and self.code == 0:
            self.owe("an answer")
            self.send(talks.BRACKETS)
        return 1 + super().act()

    def frame(self, opcode: int, payload: bytes) -> None:
        closes = self.path.startswith("/deep/close")
        if payload != (b"\x03\xf0too deep" if closes else b"too deep"):
            self.wrong(f"heard {payload!r:.50}")
        if self.owed:  # a send that raised may have sent
            self.paid()


class Viewer(Framed):
    """Sees the log."""

    path = "/log"

    def frame(self, opcode: int, payload: bytes) -> None:
        self.crowd.counts["log lines seen" if opcode == TEXT else "log viewers closed"] += 1


class SlowViewer(Viewer):
    """Reads nothing for some time, so that it is closed while something is logged. Then it reads all that has come."""

    receive_buffer = 4096
    segment = 536

    def began(self) -> None:
        super().began()
        self.waits = self.rng.randrange(1, 8)
        self.crowd.epoll.modify(self.fd, 0)

    def act(self) -> float:
        if self.is_open:
            self.waits -= 1
            if self.waits == 0:
                self.crowd.epoll.modify(self.fd, select.EPOLLIN)
        return super().act()


class Logged(Framed):
    """Does what is logged, and has the logging handler act on this connection."""

    path = "/logged"
    lifetime = 2.0

    def began(self) -> None:
        super().began()
        self.answers = self.rng.random() < 0.5

    def ended(self, how: str) -> None:
        if self.owed:
            self.paid()
        super().ended(how)

    def leave(self) -> None:
        if self.is_open and not self.owed:
            self.owe("its end")
            self.send(self.rng.choice(talks.BAD))
        else:
            super().leave()


class Hollow(Framed):
    """Sends compressed messages that inflate to nothing. What is out of all proportion may be refused."""

    def __init__(self, crowd: Any) -> None:
        self.path = crowd.rng.choice(["/deflate", "/deflate/takeover"])
        super().__init__(crowd)

    def request(self) -> bytes:
        return request_bytes(self.path, headers=[("Sec-WebSocket-Extensions", talks.OFFERS[0])])

    def act(self) -> float:
        if self.is_open and not self.owed and self.code == 0:
            self.message = self.rng.choice(talks.HOLLOW)
            self.opcode = self.rng.choice([TEXT, BINARY])
            self.owe("an empty message")
            self.send(build(self.opcode, self.message, rsv=4))
        return 1 + super().act()

    def frame(self, opcode: int, payload: bytes) -> None:
        refused = opcode == CLOSE and self.code in (1007, 1008, 1009) and len(self.message) > 100_000
        if not refused and (opcode, payload) != (self.opcode, b""):
            self.wrong(f"heard {opcode} {payload!r:.50}")
        self.paid()


class Steady(Owed):
    """Reads slowly, but never pauses: its answer is under way for longer than close_timeout, and must be whole."""

    receive_buffer = 16_384
    segment = 1400
    expected = talks.FAREWELL

    def request(self) -> bytes:
        self.owe("all of its answer")
        self.due_at += 2 * LIMIT
        self.dies_at = math.inf
        self.answer = b""
        self.read_at = 0.0
        return super().request()

    def on_writable(self) -> None:
        super().on_writable()
        if not self.outgoing:
            self.crowd.epoll.modify(self.fd, 0)

    def on_readable(self) -> None:
        """All is over, or something is wrong."""
        self.act()

    def act(self) -> float:
        now = time.monotonic()
        if not self.outgoing:
            if self.read_at and now - self.read_at > PAUSE and self.owed:
                self.owed = ""  # as this process was held up
                self.crowd.counts["held up"] += 1
            self.read_at = now
            data = self.sock.recv(30_000)
            self.answer += data
            self.take(self.answer.partition(b"\r\n\r\n")[2])
            if not data:
                self.ended("ended by the server")
        super().act()
        return 0.15

    def take(self, answer: bytes) -> None:
        if len(answer) >= len(self.expected) and self.owed:
            if answer != self.expected:
                self.wrong("heard something else")
            self.paid()
        if not self.owed:
            self.dies_at = 0.0


class SlowPage(Steady):
    path = "/page"


class SlowReader(Steady):
    path = "/farewell"
    expected = talks.frame(BINARY, talks.FAREWELL) + talks.frame(CLOSE, b"\x03\xe8bye")

    def request(self) -> bytes:
        return super().request() + talks.BYE


class HalfClosed(Owed):
    """Sends its last byte at once, which is no reason not to answer."""

    shut = False  # once is enough: where all has come meanwhile, shutdown() fails

    def request(self) -> bytes:
        self.path = self.rng.choice(["/page", "/soon"])
        self.owe("all of its answer")
        return super().request()

    def act(self) -> float:
        if not self.outgoing and not self.shut:
            self.shut = True
            self.sock.shutdown(socket.SHUT_WR)
        return super().act()

    def answered(self) -> None:
        body = self.head.partition(b"\r\n\r\n")[2]
        if len(body) >= len(talks.FAREWELL) and self.owed:
            if body != talks.FAREWELL:
                self.wrong("heard something else")
            self.paid()


class HalfClosedTalker(Owed):
    """Sends its last byte behind its messages, which are answered by tasks."""

    path = "/later"
    shut = False  # as above

    def began(self) -> None:
        self.owe("all of its answer")
        talk = self.rng.choice(talks.TALKS)
        self.expected, self.answer = talk.answer, b""
        self.send(talk.wire)

    def act(self) -> float:
        if self.is_open and not self.outgoing and not self.shut:
            self.shut = True
            self.sock.shutdown(socket.SHUT_WR)
        return super().act()

    def heard(self, data: bytes) -> None:
        self.answer += data
        self.due_at = self.crowd.clock + LIMIT  # each message may have to wait for a turn of the server's
        if len(self.answer) >= len(self.expected) and self.owed:
            if not self.answer.startswith(self.expected):
                self.wrong("heard something else")
            self.paid()
