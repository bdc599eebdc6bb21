"""A server, its clients and its callbacks in one thread, so that a test says what happens when: what a client sends has
arrived when send() returns, and the server looks at it when the test has the loop turn.

Run as a program by test_memory.py and test_kernel.py, as what they do to a process is not for pytest's own.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

from harness import PATIENCE, TEXT, build, open_fds, request_bytes, small_buffers, unaccounted
from harness.deflating import Params, Sender, compressed
from harness.frames import CLOSE, PING, PONG, build_close, close_code
from harness.peer import Peer as AnyPeer

import fastws

TURNS = 8  # of the loop, after which all that had come has been answered
PATIENT_TURNS = int(1_000 * PATIENCE)  # what needs a deadline takes a while
OFFER = "permessage-deflate"
DEFLATE = (("Sec-WebSocket-Extensions", OFFER),)


class Peer(AnyPeer):
    """A client that never waits. It knows a server's stream: whole frames and then, perhaps, the end."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock, OFFER)
        self.reads = True
        self.closed_with: int | None = None  # by a Close frame; 0 for one without a code
        self.messages: list[bytes] = []
        self.controls = 0
        self._asked = False
        self._senders = {
            takeover: Sender(Params(client_no_context_takeover=not takeover)) for takeover in (True, False)
        }

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except BlockingIOError:
            raise AssertionError("too much for the kernel") from None
        except OSError:  # the server has gone, or we have
            pass

    def say(self, data: bytes) -> None:
        self.send(build(TEXT, data))

    def deflated(self, data: bytes, takeover: bool) -> bytes:
        return compressed(TEXT, self._senders[takeover].message(data))

    def ask(self) -> bool:
        """Whether it is served: it gets an echo."""
        if not self._asked and self.status == 101 and self.closed_with is None:
            self._asked = True
            self.say(b"after")
        return self.messages[-1:] == [b"after"]

    def read_all(self) -> None:
        while self.reads and not self.gone and self.read():
            pass

    def heard(self, fin: bool, opcode: int, payload: bytes, wire: int | None) -> None:
        assert self.closed_with is None, "something behind the Close"
        if opcode == CLOSE:
            assert not self.incoming, "something behind the Close"
            self.closed_with = close_code(payload) or 0
            self.send(build_close(1000))
        elif opcode in (PING, PONG):
            self.controls += 1
            if opcode == PING:
                self.send(build(PONG, payload))
        else:
            self.messages.append(payload)

    def ended(self) -> None:
        self.close()

    @property
    def has_half(self) -> bool:
        return bool(self.incoming) and self.opened


class Callbacks:
    """Answers each message with itself. What it counts, it counts without memory."""

    def __init__(self, others: Callbacks | None = None) -> None:
        self.opened: bytearray = others.opened if others else bytearray(64)  # by connection
        self.closed: bytearray = others.closed if others else bytearray(64)
        self.sockets: dict[int, Any] = others.sockets if others else {}

    def open(self, ws: Any) -> None:
        self.opened[ws.id] += 1
        self.sockets[ws.id] = ws

    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closed[ws.id] += 1


class AsyncCallbacks(Callbacks):
    """The same, after a wait if the message asks for one."""

    def __init__(self, others: Callbacks) -> None:
        super().__init__(others)
        self.wait = asyncio.Event()

    async def message(self, ws: Any, data: Any) -> None:  # type: ignore[override]
        if data in ("wait", b"wait"):
            await self.wait.wait()
        ws.send(data)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage() + (f" ({record.exc_info[0]})" if record.exc_info else ""))


class World:
    """A server on its loop, which turns when it is told to."""

    impatient = False  # its deadlines are short

    def __init__(self, loop: asyncio.AbstractEventLoop, app: fastws.App) -> None:
        self.loop = loop
        self._open_before = open_fds().keys()
        self.lines = Lines()
        logging.getLogger().addHandler(self.lines)
        self.errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        self.app = app
        sock = small_buffers(4096)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server = loop.run_until_complete(app.start(sock=sock))
        self.port = self.server.port
        self.peers: list[Peer] = []
        self.stops = False
        self.release: Callable[[], object] = lambda: None  # ends the callbacks that wait

    def turn(self, turns: int = TURNS) -> None:
        for _ in range(turns):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            for peer in self.peers:
                peer.read_all()

    def on_loop(self, action: Callable[[], Any]) -> Any:
        """The result of action(), called by the loop; what it raises is raised."""
        result: list[Any] = [None, None]

        def run() -> None:
            try:
                result[0] = action()
            except BaseException as error:
                result[1] = error
            self.loop.stop()

        self.loop.call_soon(run)
        self.loop.run_forever()
        if result[1] is not None:
            raise result[1]
        return result[0]

    def until(self, check: Callable[..., Any], what: str) -> None:
        for turns in range(PATIENT_TURNS):
            if check():
                return
            if turns < TURNS:
                self.turn(1)
                continue
            self.loop.call_later(0.001, self.loop.stop)
            self.loop.run_forever()
            for peer in self.peers:
                peer.read_all()
        raise AssertionError(f"not {what}")

    def connect(self, **how: Any) -> Peer:
        peer = Peer(self.port, **how)
        self.peers.append(peer)
        return peer

    def open(self, path: str = "/", *, headers: Any = (), **how: Any) -> Peer:
        peer = self.connect(**how)
        peer.send(request_bytes(path, headers=headers))
        self.turn()
        assert peer.status == 101, peer.status
        return peer

    def timer_is_set(self) -> bool:
        """Whether a deadline can come: the reactor's one timer runs, or has rung."""
        timer = next(fd for fd, what in sorted(open_fds().items(), reverse=True) if "timerfd" in what)
        with open(f"/proc/self/fdinfo/{timer}") as file:
            text = file.read()
        ticks = int(re.search(r"^ticks: (\d+)", text, re.M)[1])  # type: ignore[index]
        return ticks > 0 or "it_value: (0, 0)" not in text

    # what must be true after anything

    def check(self, expected: dict[Peer, Sequence[bytes]], waits: set[Peer], misses: bool = False) -> None:
        """Each peer has got what it should, whole and in order, and is served; or got the beginning of it, and the
        end. `misses`: the application was told that something was not sent."""
        for peer in self.peers:
            peer.reads = True
        self.turn(TURNS * 2)
        for peer in set(self.peers) - waits:
            peer.ask()
        self.turn(TURNS)
        accepted = self.server.stats()["accepted"]
        fresh = self.connect()  # its deadline is the timer's business
        fresh.send(b"GET")
        # A busy machine may bring the last packet of the handshake later than connect() returns.
        self.until(lambda: self.server.stats()["accepted"] > accepted, "accepted")
        # Where deadlines are short, a very busy machine is held up until this one has come.
        self.until(lambda: fresh.gone or self.timer_is_set(), "under a deadline")
        # Where the send that fails is that of its 408, it ends with nothing.
        assert not fresh.gone or (self.impatient and fresh.status in (0, 408)), f"turned away with {fresh.status}"
        for peer in self.peers:
            want = expected.get(peer, [])
            if peer is fresh or (peer in waits and not peer.gone):
                continue
            self.until(lambda peer=peer: peer.gone or peer.ask(), "served or ended")
            got = [one for one in peer.messages if one != b"after"]
            if not peer.gone:
                assert not peer.has_half, "half a frame"
                assert got == want or (misses and is_part(got, want)), f"{got!r:.300} instead of {want!r:.300}"
            else:
                assert got == want[: len(got)] or (misses and is_part(got, want)), f"{got!r:.300} not of {want!r:.300}"
        self.release()
        self.turn(TURNS)
        alive = sum(not peer.gone for peer in self.peers)
        self.until(lambda: self.server.stats()["sockets"] == alive, f"{alive} sockets, but {self.server.stats()}")
        stats = self.server.stats()
        assert not unaccounted(stats), unaccounted(stats)
        assert stats["connections"] == sum(not peer.gone and peer.status == 101 for peer in self.peers)

    def end(self) -> None:
        self.release()
        stopping = self.loop.create_task(self.server.stop(5.0))
        self.until(stopping.done, "stopped")
        try:
            stopping.result()
        except MemoryError:
            self.loop.run_until_complete(self.server.stop(1.0))
        for peer in self.peers:
            peer.close()
        stats = self.app.stats()
        assert not unaccounted(stats), unaccounted(stats)
        assert not any(stats[name] for name in ("connections", "handshakes", "sockets", "buffered_bytes")), stats

    def leave(self) -> None:
        """Closes its clients, and hears no more of the loop and the log."""
        logging.getLogger().removeHandler(self.lines)
        self.loop.set_exception_handler(None)
        for peer in self.peers:
            peer.close()

    def check_descriptors(self) -> None:
        """After leave(): none is open that was not there before."""
        left = open_fds().keys() - self._open_before
        assert not left, f"descriptors: {left}"


def is_part(got: Sequence[bytes], want: Sequence[bytes]) -> bool:
    """Some of them, in their order."""
    rest = iter(want)
    return all(one in rest for one in got)
