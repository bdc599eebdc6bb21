"""Peers that do not read, and servers that send to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .client import RawClient
from .server import ServerThread

CHUNK = 60_000  # bytes; below the size from which payloads are held by reference


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
