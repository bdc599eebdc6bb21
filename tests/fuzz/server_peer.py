"""The peers of whole-server fuzzing: honest, slow, broken and hostile, on non-blocking sockets, a step at a time."""

from __future__ import annotations

import contextlib
import functools
import socket
from typing import Any

from harness import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    WIRE_CODES,
    build,
    build_close,
    close_code,
    request_bytes,
    reset_at_close,
)
from harness.deflating import RSV1, AnySender, compressed, deflate, random_offer
from harness.frames import in_fragments, random_sizes
from harness.peer import Peer as AnyPeer
from oracles.corpus import CASES

from .server_ledger import Ledger, World, make_item

#: Streams of whole frames, right and wrong, for a server with default limits.
STREAMS = [case for case in CASES if not case.options]

#: What a peer is like: how often it reads, sends, breaks the rules and leaves, and how many bytes it reads and sends at
#: once.
KINDS: dict[str, tuple[float, float, float, float, int, int]] = {
    "honest": (0.5, 0.5, 0, 0, 300_000, 100_000),
    "cautious": (0.5, 0.5, 0, 0, 3000, 50),
    "slow": (0.05, 0.6, 0, 0.003, 500, 100_000),
    "deaf": (0, 0.9, 0, 0.002, 0, 300_000),
    "vandal": (0.4, 0.5, 0.05, 0.01, 300_000, 10_000),
    "visitor": (0.4, 0.5, 0, 0.05, 300_000, 10_000),
    "flood": (0.1, 0.9, 0, 0.005, 100_000, 300_000),
    "stranger": (0.4, 0.5, 1, 0.05, 10_000, 200),
}
STATUSES = {101, 200, 400, 403, 404, 405, 414, 426, 431, 500, 503, 505}


@functools.cache
def bomb(size: int) -> bytes:
    """A compressed message of so many zeros."""
    return deflate(bytes(size), 9, level=9)


class Peer(AnyPeer):
    def __init__(self, world: World, number: int, address: Any, kind: str = "") -> None:
        rng = world.rng
        self.world, self.rng = world, rng
        self.ledger = world.ledgers[number] = Ledger(number)
        self.kind = kind or rng.choice(list(KINDS))
        self.reads, self.sends, self.breaks, self.leaves, self.read_size, self.send_size = KINDS[self.kind]
        self.route = rng.choice(world.app.handlers)
        self.limit = self.route.options["max_message_size"]
        self.fragments = min(self.route.options["max_fragments"], 30)
        sock = self._connect(address)
        super().__init__(sock, random_offer(rng) if self.kind != "stranger" and rng.random() < 0.6 else "")
        self.finished = False  # it will send nothing more that counts
        self.ending = False  # once all is sent, it will be half-closed
        self.shut = False  # it is, and all was sent before
        self.wants = 0  # bytes of an answer in plain HTTP
        self.code: int | None = 0  # of the server's Close frame; None for an empty one
        self.outgoing = bytearray(self._request())

    def _connect(self, address: Any) -> socket.socket:
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        sock = socket.socket(family)
        if family == socket.AF_INET:
            # Each from an address of its own, and with small buffers, so that they fill.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.rng.choice([2048, 30_000, 300_000]))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((f"127.0.{self.rng.randrange(1, 5)}.{self.rng.randrange(1, 255)}", 0))
        sock.connect(address)  # the kernel's work: nobody need accept
        return sock

    # what it says

    def _request(self) -> bytes:
        rng, path = self.rng, f"{self.route.path}?{self.ledger.number}"
        headers = [("Sec-WebSocket-Protocol", "chat, other")] if rng.random() < 0.3 else []
        headers += [("Sec-WebSocket-Extensions", self.offer)] if self.offer else []
        request = request_bytes(path, headers=headers)
        if self.kind != "stranger":
            return request
        self.ledger.wild_from, self.finished = 0, True
        if rng.random() < 0.15:
            self.wants, self.ending = 300_000, rng.random() < 0.7
            self.leaves = 0 if self.ending else self.leaves  # before it has all of it
            return b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n"
        return [
            request[: rng.randrange(len(request))],
            rng.randbytes(rng.randrange(1, 300)),
            request_bytes(path, method=rng.choice(["POST", "HEAD", "OPTIONS", "GE T"])),
            request_bytes(path, version=rng.choice(["HTTP/1.0", "HTTP/2.0", "HTTP/1.1x"])),
            request_bytes(path, without=(rng.choice(["host", "upgrade", "connection", "sec-websocket-version"]),)),
            request_bytes("/" + "x" * rng.choice([10, 9000])),
            request_bytes(path, headers=[("X", "y" * rng.choice([100, 17_000]))] * rng.choice([1, 101])),
            request_bytes(path, headers=[("Origin", rng.choice(["null", "http://localhost", "http://x.example"]))]),
            request_bytes(path, key=rng.choice([b"", b"short", b"=" * 24])),
            b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n" * rng.choice([1, 2]),
            b"HEAD /later HTTP/1.1\r\nHost: x\r\n\r\n",
            self._flipped(request),
        ][rng.randrange(12)]

    def _flipped(self, request: bytes) -> bytes:
        """With some bits changed, none of them in its number: what it does would be put down to another."""
        rng = self.rng
        before, number, after = request.partition(b"?%d " % self.ledger.number)
        before, after = (
            bytes(byte ^ (rng.random() < 0.01) * (1 << rng.randrange(8)) for byte in part) for part in (before, after)
        )
        return before + number + after

    def _more(self) -> None:
        """Adds to what it is going to send."""
        rng, choice = self.rng, self.rng.random()
        if self.finished:
            return
        if rng.random() < self.breaks:
            self._break()
        elif choice < 0.8:
            for _ in range(rng.choice([1, 1, 3, 30])):
                self._message()
        elif choice < 0.9:
            for _ in range(rng.choice([1, 1, 100]) if self.kind == "flood" else 1):
                self.outgoing += self._ping()
        elif choice < 0.93:
            self.outgoing += build(PONG, b"unasked")
        elif choice < 0.94:
            self._close()

    def _ping(self) -> bytes:
        body = b"p%d" % len(self.ledger.pings)
        self.ledger.pings.add(body)
        return build(PING, body)

    def _close(self) -> None:
        self.finished = True
        self.outgoing += build_close(self.rng.choice([None, *WIRE_CODES]))
        if self.rng.random() < 0.2:
            self.outgoing += build(TEXT, b"after the end")

    def _message(self) -> None:
        rng = self.rng
        item = make_item(rng, f"{len(self.ledger.sent)}:", min(self.limit, 300_000))
        self.ledger.sent.append(item)
        payload = item.payload()
        opcode = TEXT if isinstance(payload, str) else BINARY
        body = payload.encode() if isinstance(payload, str) else payload
        # What is sent is limited, too, so what grows must not be at the limit.
        shrinks = self.agreed is not None and len(body) * 9 // 8 + 100 < self.limit and rng.random() < 0.7
        body = self.sender.message(body) if shrinks else body
        mask = rng.choice([b"\0\0\0\0", b"\xff\0\x80\x01", rng.randbytes(4)])
        sizes = random_sizes(rng, len(body), rng.choice([0, 0, 0, 1, self.fragments - 1]))
        pings = [self._ping() if rng.random() < 0.3 else b"" for _ in sizes]
        self.outgoing += in_fragments(opcode, body, sizes, between=pings, mask=mask, rsv=RSV1 if shrinks else 0)

    def _break(self) -> None:
        """Breaks a rule, after which nothing more of what it sends may arrive."""
        rng, ledger, choice = self.rng, self.ledger, self.rng.random()
        self.finished = True
        if self.agreed is not None and rng.random() < 0.5:
            self._break_compression()
        elif choice < 0.6:
            case = rng.choice(STREAMS)
            ledger.sent += case.messages
            if self.agreed is not None:
                ledger.wild_from = len(ledger.sent)  # the reserved bit that is wrong there is right here
            ledger.pings |= {event[1] for event in case.events if event[0] == "ping"}
            self.outgoing += case.stream
        elif choice < 0.7:
            self.outgoing += build(BINARY, length=self.limit + rng.choice([1, 2**31, 2**63 - 1 - self.limit]))
        else:
            ledger.wild_from = len(ledger.sent)
            wild = bytearray(build(rng.choice([TEXT, BINARY, PING]), rng.randbytes(rng.randrange(300))))
            for _ in range(rng.randrange(1, 4)):
                wild[rng.randrange(min(len(wild), 14))] ^= 1 << rng.randrange(8)
            self.outgoing += wild + rng.randbytes(rng.choice([0, 10, 2000]))

    def _break_compression(self) -> None:
        """A message that is corrupt, or is too large, or has a bit changed."""
        rng, choice = self.rng, self.rng.randrange(4)
        if choice == 0:
            wire = b"\xff" * rng.randrange(1, 300)  # RFC 1951 section 3.2.3: a reserved type of block
        elif choice == 1:
            wire = bomb(self.limit * rng.choice([1, 3, 20]) + 1)
        else:
            self.ledger.wild_from = len(self.ledger.sent)
            changed = bytearray(self.sender.message(rng.randbytes(200) + bytes(200)))
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            wire = bytes(changed)
        self.outgoing += compressed(rng.choice([TEXT, BINARY]), wire, sizes=[rng.randrange(len(wire))])

    # what it does

    def step(self) -> None:
        if self.gone:
            return
        rng = self.rng
        try:
            if rng.random() < self.sends:
                if not self.outgoing and (self.opened or rng.random() < 0.05):
                    self._more()
                self._send(rng.choice([1, 7, self.send_size, self.send_size]))
            if rng.random() < self.reads:
                self.read(rng.randrange(1, self.read_size + 1))
            if rng.random() < self.leaves and not self.gone:
                self._leave()
        except BlockingIOError:
            pass
        except OSError:  # the server has reset it
            self.close()

    def _send(self, size: int) -> None:
        if self.outgoing:
            try:
                sent = self.sock.send(self.outgoing[:size])
            except BrokenPipeError:  # what the server has sent before can still be read
                self.outgoing.clear()
                self.finished, self.ending = True, False
                return
            del self.outgoing[:sent]
        if self.ending and not self.outgoing and not self.shut:
            self.shut = True
            with contextlib.suppress(OSError):  # the server has reset it
                self.sock.shutdown(socket.SHUT_WR)

    def _leave(self) -> None:
        how = self.rng.choice(["reset", "close", "shut", "shut when sent", "shut when sent", "Close", "Close"])
        if how == "shut":
            self.leaves, self.finished = 0, True
            self.outgoing.clear()
            self.sock.shutdown(socket.SHUT_WR)
        elif how == "shut when sent":
            self.leaves, self.finished, self.ending = 0, True, True
        elif how == "Close":
            self._close()
        else:
            if how == "reset":
                reset_at_close(self.sock)
            self.close()

    def close(self) -> None:
        self.finished = True
        super().close()

    ended = close

    def read(self, size: int = 300_000) -> bool:
        try:
            return super().read(size)
        except (AssertionError, UnicodeDecodeError) as error:
            self._wrong(f"was sent {error}")
            return True

    def widen(self) -> None:
        """Has room for what is on its way. While the window is below a segment, TCP sends 1 KB in 200 ms by a timer
        (RFC 9293 section 3.8.6.2.1)."""
        if not self.gone and self.world.transport == "tcp":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 300_000)

    def settle(self) -> bool:
        """Sends and reads what can be; whether anything could."""
        moved = False
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while not self.gone and (self.outgoing or (self.ending and not self.shut)):
                self._send(100_000)
                moved = True
        while not self.gone and self.read():
            moved = True
        return moved

    # what it hears

    def _wrong(self, what: str) -> None:
        self.world.wrong(f"peer {self.ledger.number}, {self.kind}, {what}")

    def answered(self, head: bytes) -> None:
        """RFC 6455 section 4.2.2."""
        self.world.note("answered", self.ledger.number, self.status)
        lines = head.lower().split(b"\r\n")[1:]
        if self.opened:
            if b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" not in lines and self.ledger.wild_from is None:
                self._wrong(f"was sent another key's answer: {head!r}")
            if bool(self.agreed) != bool(self.offer and self.route.options["compression"]):
                self._wrong(f"offered {self.offer!r} and was answered {head!r}")
            if self.agreed is not None:
                self.sender = AnySender(self.agreed, self.rng)
        elif self.status not in STATUSES or not any(line.startswith(b"connection: close") for line in lines):
            self._wrong(f"was answered {head!r}")
        elif not self._may_be_refused():
            self._wrong(f"was refused: {head!r}")

    def _may_be_refused(self) -> bool:
        by_app = hasattr(self.route, "upgrade") and self.status in (403, 500)
        late = hasattr(self.route, "upgrade") and self.world.timed and self.status == 503
        return self.kind == "stranger" or by_app or late or (self.world.app.is_limited and self.status == 503)

    def heard(self, fin: bool, opcode: int, payload: bytes, wire: int | None) -> None:
        ledger = self.ledger
        self.world.counts["compressed"] += wire is not None
        if self.code != 0:
            self._wrong(f"was sent {payload!r:.60} after a Close frame")
        if opcode in (TEXT, BINARY):
            if not fin:
                self._wrong("was sent a fragment")
            self._heard(opcode == TEXT, payload)
        elif opcode == CONT:
            self._wrong("was sent a continuation")
        elif opcode == PONG:
            if payload not in ledger.pings and ledger.wild_from is None:
                self._wrong(f"was sent a Pong of {payload!r}, which it did not ask for")
        elif opcode == PING:
            if not self.finished and self.kind != "deaf":
                self.outgoing += build(PONG, payload)
        elif opcode == CLOSE:
            self.code = close_code(payload)
            self.world.note("Close", ledger.number, self.code)
            if self.code in (1002, 1003, 1007, 1009) and self.breaks == 0 and not self.finished:
                self._wrong(f"was closed with {self.code} {payload[2:]!r}, and had done nothing wrong")
            if payload[2:] == b"message_timeout" and self.route.options.get("message_timeout") != 0.02:
                self._wrong("was closed with message_timeout, for which it was too early")
            if not self.finished and self.rng.random() < 0.9:
                self.outgoing += build(CLOSE, payload)
            self.finished = True

    def _heard(self, is_text: bool, payload: bytes) -> None:
        ledger, world = self.ledger, self.world
        head = payload.partition(b":")[0]
        if head.startswith(b"p"):
            number = int(head[1:])
            item = world.published[number]
            if number <= ledger.latest:
                self._wrong(f"heard {head!r} after {ledger.latest}")
            ledger.latest = number
            world.counts["published to"] += 1
        elif int(head) in ledger.loose and int(head) == ledger.heard - 1:
            item = ledger.said[int(head)]
        else:
            while ledger.heard in ledger.loose and ledger.heard != int(head):
                ledger.heard += 1
            if ledger.heard == len(ledger.said):
                self._wrong(f"heard {payload!r:.60}, which nobody said")
                return
            item = ledger.said[ledger.heard]
            ledger.heard += 1
            world.counts["heard"] += 1
        expected = item.payload()
        if is_text != isinstance(expected, str):
            self._wrong(f"heard {head!r} as the other kind")
        if payload != (expected.encode() if is_text else expected):
            self._wrong(f"heard {payload!r:.60} where {item} was due")
