"""A client of the soak: what all of them do; `crowd`, to which it belongs, runs them."""

from __future__ import annotations

import random
import select
import socket
import time
from typing import Any

from harness import build_close, request_bytes, reset_at_close

READ_SIZE = 262_144


class Client:
    """Connects, sends its request, and leaves when its time has come; the kinds below say what it does between."""

    path = "/echo"
    lifetime = 20.0  # seconds, on average
    receive_buffer = 0  # bytes; 0 is what the kernel thinks best
    segment = 0  # bytes; where they are small, the server's kernel buffers little, else up to some megabytes

    def __init__(self, crowd: Any) -> None:
        self.crowd = crowd
        self.rng: random.Random = crowd.rng
        self.sock = socket.socket()
        self.outgoing = b""
        self.head = b""
        self.is_open = False
        self.dies_at = time.monotonic() + self.rng.expovariate(1 / self.lifetime)
        self.sock.setblocking(False)
        if self.receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        if self.segment:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, self.segment)
        self.sock.bind((f"127.0.{self.rng.randrange(1, 200)}.{self.rng.randrange(1, 250)}", 0))
        self.sock.connect_ex(("127.0.0.1", crowd.port))
        self.fd = self.sock.fileno()
        crowd.join(self, self.request())

    def request(self) -> bytes:
        return request_bytes(self.path)

    def began(self) -> None:
        """The connection is open."""

    def act(self) -> float:
        """Does what is due; in how many seconds the next will be."""
        return 1.0

    def heard(self, data: bytes) -> None:
        """Bytes behind the 101."""

    def ended(self, how: str) -> None:
        """The server has ended it."""
        self.crowd.part(self, how)

    def leave(self) -> None:
        choice = self.rng.random()
        if self.is_open and choice < 0.5:
            self.send(build_close(1000))
            self.become(Leaving)
        elif choice < 0.7:
            reset_at_close(self.sock)
            self.crowd.part(self, "reset")
        elif choice < 0.85:
            self.sock.shutdown(socket.SHUT_WR)
            self.become(Leaving)
        else:
            self.crowd.part(self, "closed")

    def become(self, kind: type[Client]) -> None:
        self.__class__ = kind
        self.dies_at = time.monotonic() + 10

    def send(self, data: bytes) -> None:
        if not self.outgoing:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                pass
        if data and not self.outgoing:
            self.crowd.epoll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)
        self.outgoing += data

    def on_writable(self) -> None:
        self.outgoing = self.outgoing[self.sock.send(self.outgoing) :]
        if not self.outgoing:
            self.crowd.epoll.modify(self.fd, select.EPOLLIN)

    def on_readable(self) -> None:
        data = self.sock.recv(READ_SIZE)
        if not data:
            self.ended("ended by the server")
        elif self.is_open:
            self.heard(data)
        else:
            self.head += data
            if b"\r\n\r\n" in self.head:
                self.answered()

    def answered(self) -> None:
        head, _, rest = self.head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            self.crowd.fail(f"{type(self).__name__} was answered {head!r}")
        self.is_open = True
        self.head = b""
        self.crowd.counts["opened"] += 1
        self.began()
        if rest:
            self.heard(rest)


class Leaving(Client):
    """Has said goodbye, and reads what still comes."""

    def answered(self) -> None:
        self.head = b""
