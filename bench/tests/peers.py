"""The load generator as the tests start it, and the false servers that it is to see through."""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

OK_101 = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo= \r\n\r\n"
)
SIZE = 300
FRAME = 8 + SIZE  # of the client: 2 bytes, 2 of extended length, 4 of mask


def load(built: Path, port: int, *options: str, limit: int = 20) -> subprocess.CompletedProcess[str]:
    command = [str(built / "loadgen"), *options, "--port", str(port), "--limit", str(limit)]
    return subprocess.run(command, input="go\n", capture_output=True, text=True, timeout=60, check=False)


def read_exactly(s: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def until_it_leaves(peer: socket.socket) -> None:
    """Reads until the peer leaves. Closing a socket with unread bytes resets the connection, and the peer may lose what
    was sent to it."""
    with suppress(ConnectionError):
        while peer.recv(65536):
            pass


def answer(frame: bytes) -> bytes:
    key = frame[4:8]
    return frame[:1] + bytes([frame[1] & 127]) + frame[2:4] + bytes(b ^ key[i % 4] for i, b in enumerate(frame[8:]))


def requested(listener: socket.socket) -> socket.socket:
    """The next connection, when its request for an upgrade has come."""
    peer, _ = listener.accept()
    peer.settimeout(20)
    while not peer.recv(4096).endswith(b"\r\n\r\n"):
        pass
    return peer


def flipped(frame: bytes) -> bytes:
    return frame[:-1] + bytes([frame[-1] ^ 1])


Behaviour = Callable[[socket.socket], None]
Serve = Callable[[Behaviour], int]


def alone(behaviour: Behaviour) -> Behaviour:
    """The server that has one connection and behaves so on it."""

    def work(listener: socket.socket) -> None:
        with requested(listener) as peer:
            behaviour(peer)
            until_it_leaves(peer)

    return work


def several(change: Callable[[int, bytes], bytes], size: int = FRAME) -> Behaviour:
    """The server of many connections: `change` makes the answer of a connection, counted from 0, to a frame."""

    def work(listener: socket.socket) -> None:
        with ExitStack() as open_sockets, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            count = 0
            while ready := selector.select(20):
                for key, _ in ready:
                    if key.fileobj is not listener:
                        peer = cast(socket.socket, key.fileobj)
                        peer.sendall(change(key.data, read_exactly(peer, size)))
                        continue
                    peer = open_sockets.enter_context(requested(listener))
                    selector.register(peer, selectors.EVENT_READ, count)
                    peer.sendall(OK_101)
                    count += 1

    return work


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Of a run without a surprise."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[1])
    return found
