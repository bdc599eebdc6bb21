"""Thousands of clients in one thread: non-blocking sockets, one epoll."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from .client import KEY, request_bytes, reset_at_close
from .server import PATIENCE


class Member:
    """One of them: what it has got so far, and whether the server has ended it, in order or by a reset."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unsent = bytearray()
        self.got = bytearray()
        self.ended = False

    @property
    def status(self) -> int:
        """Of the HTTP response; 0 as long as its head is not whole."""
        return int(self.got[9:12]) if b"\r\n\r\n" in self.got else 0

    @property
    def rest(self) -> bytes:
        """What came after the head of the response."""
        return bytes(self.got.partition(b"\r\n\r\n")[2])

    def send(self, data: bytes) -> None:
        self.unsent += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self.unsent:
                del self.unsent[: self.sock.send(self.unsent)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = True

    def _fill(self) -> None:
        try:
            while data := self.sock.recv(65536):
                self.got += data
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = True

    def leave(self, *, reset: bool = False) -> None:
        if reset:
            reset_at_close(self.sock)
        self.sock.close()


class Crowd:
    """`join` adds clients, `until` reads whatever comes; all leave at the end of the `with`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.members: list[Member] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.leave()

    def join(self, count: int, send: bytes = b"", *, source: str = "127.0.0.1") -> list[Member]:
        """So many more, all connecting before any is answered; each sends `send` as soon as it is connected."""
        joined = []
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        for _ in range(count):
            sock = socket.socket(family)
            sock.setblocking(False)
            if source != "127.0.0.1":
                sock.bind((source, 0))
            try:
                sock.connect(("::1" if ":" in source else "127.0.0.1", self.port))
            except BlockingIOError:
                pass
            member = Member(sock)
            self.members.append(member)  # before anything can fail: it is closed at the end
            joined.append(member)
            member.send(send)
        return joined

    def until(self, check: Callable[..., object], of: Iterable[Member] | None = None, within: float = 10.0) -> None:
        """Reads and sends until `check` is true of all of them, or of all `of` them."""
        waiting = {member.sock.fileno(): member for member in (self.members if of is None else of)}
        deadline = time.monotonic() + within * PATIENCE
        left = {fd for fd, member in waiting.items() if not check(member)}
        with select.epoll() as epoll:
            for fd in waiting:
                epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
            while left:
                late = time.monotonic() > deadline
                for fd, _ in epoll.poll(0.05):
                    member = waiting[fd]
                    member._flush()
                    member._fill()
                    if check(member):
                        left.discard(fd)
                assert not late or not left, f"{len(left)} wait; one of them got {bytes(waiting[min(left)].got)!r}"

    def leave(self, members: Iterable[Member] | None = None, *, reset: bool = False) -> None:
        gone = list(self.members if members is None else members)
        for member in gone:
            member.leave(reset=reset)
        away = set(map(id, gone))
        self.members = [member for member in self.members if id(member) not in away]


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Lets this process have so many descriptors open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        import pytest

        pytest.skip(f"the hard limit of open files is {hard}, not {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


REQUEST = request_bytes(key=KEY)
