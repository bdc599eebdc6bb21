"""Peers that do not read, and servers that send to them."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from .client import RawClient
from .leaks import open_fds
from .server import ServerThread, eventually

CHUNK = 60_000  # bytes; below the size from which payloads are held by reference
#: Options for what is sent to peers that do not read, and is not to end them.
ROOMY = {"max_backpressure": 1 << 40, "send_timeout": 0}


def slow_client(server: ServerThread, path: str = "/") -> RawClient:
    """An open connection whose kernel takes next to nothing for a client that does not read."""
    client = RawClient.connect(server.port, receive_buffer=4096, timeout=20.0)
    client.handshake(path)
    return client


def newest(server: ServerThread) -> Any:
    """The server's end of the connection that was opened last."""
    return server.call(lambda: next(iter(server.server.connections)))


def fill(server: ServerThread, ws: Any, make: Callable[[int], Any] | None = None, most: int = 2000) -> list[Any]:
    """Sends numbered messages, each in a turn of the loop of its own, until one is QUEUED; returns all of them."""
    from fastws import QUEUED, SENT

    sent: list[Any] = []
    while len(sent) < most:
        message = make(len(sent)) if make else b"%08d" % len(sent) + bytes(CHUNK)
        sent.append(message)
        status = server.call(ws.send, message)
        if status == QUEUED:
            return sent
        assert status == SENT, status
    raise AssertionError(f"the kernel took {most} messages")


def small_buffers(size: int = 16_384) -> socket.socket:
    """A socket to serve on whose connections' kernel buffers hold next to nothing that is sent."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    sock.bind(("127.0.0.1", 0))
    return sock


def thrifty_client(port: int, room: int = 16_384, segment: int = 1400) -> RawClient:
    """A connection with a small receive buffer and a segment size as that of a network, so that its window opens in
    small steps. On loopback, segment=0, a segment holds 64 KB, and a window below that is served by a timer."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    if segment:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
    sock.connect(("127.0.0.1", port))
    return RawClient(sock, 20.0)


def amount(server: ServerThread, ws: Any) -> int:
    return int(server.call(lambda: ws.buffered_amount))


def read_slowly(
    client: RawClient,
    rate: float,
    size: float = math.inf,
    at_once: int = 4096,
    pass_time: Callable[[float], object] = time.sleep,
) -> None:
    """Reads on at so many bytes a second, until `size` are there or the server has ended its side; a reset raises. With
    `pass_time=server.advance` the seconds are those of the server's clock."""
    while len(client.buffer) < size and not client.ended:
        data = client.sock.recv(at_once)
        client.ended = not data
        client.buffer += data
        pass_time(len(data) / rate)


def quiet(server: ServerThread) -> bool:
    """Whether the server's poller, and every other of this process, comes to have nothing to tell. What is told and not
    seen to is told again and again, as pollers are level-triggered: the loop would spin."""
    pollers = [fd for fd, what in open_fds().items() if what == "anon_inode:[eventpoll]"]
    server.settle()
    return bool(eventually(lambda: not any(select.select(pollers, [], [], 0)[0] for _ in range(50))))
