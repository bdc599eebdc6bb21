"""What very many connections cost in memory, and that nothing is left of what large messages took."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness import BINARY, build, eventually, request_bytes
from harness.programs import reserve_port, running

import fastws

CONNECTIONS = 10_000
WARM = 100
FRAME = build(BINARY, bytes(64 * 1024))

PROGRAM = """
import os, fastws
app = fastws.App(%s)
answered = 0

@app.websocket("/")
def message(ws, data):
    global answered
    answered += len(data) == 65536

@app.http("/answered")
def count(request):
    return fastws.Response(200, str(answered))

print(os.getpid(), flush=True)
app.run(port=%d)
"""


def test_the_size_of_a_connection() -> None:
    """Each byte of it costs 8, or none where there is padding: see the order of the fields in connection.pxi."""
    assert fastws.WebSocket.__basicsize__ <= 384


@contextmanager
def server(options: str = "") -> Iterator[tuple[int, int]]:
    """Its process and its port."""
    with ExitStack() as stack:
        port = stack.enter_context(reserve_port()).getsockname()[1]
        program = stack.enter_context(running("-c", PROGRAM % (options, port), port=port))
        yield int(program.read_line()), port


def resident(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def connect(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    socks = []
    for _ in range(count):
        socks.append(stack.enter_context(socket.create_connection(("127.0.0.1", port))))
        socks[-1].sendall(request_bytes())
    for sock in socks:
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 ")
    return socks


def answered(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET /answered HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return int(sock.makefile("rb").read().rpartition(b"\r\n")[2])


@pytest.mark.parametrize("at_once", [False, True], ids=["one after the other", "all at once"])
def test_what_large_messages_took_is_given_back(at_once: bool) -> None:
    with server() as (pid, port), ExitStack() as stack:
        connect(stack, port, WARM)
        before = resident(pid)
        socks = connect(stack, port, CONNECTIONS - WARM)
        idle = resident(pid) - before
        assert idle < len(socks) * 1024, f"{idle / len(socks):.0f} bytes per idle connection"
        for sock in socks if at_once else ():
            sock.sendall(FRAME[:40_000])
        if at_once:
            eventually(lambda: resident(pid) - before > len(socks) * 30_000, 10, "it holds what has come")
        for sock in socks:
            sock.sendall(FRAME[40_000:] if at_once else FRAME)
        eventually(lambda: answered(port) == len(socks), 20)
        eventually(lambda: resident(pid) - before <= idle * 1.2, 10, "back to what it was, but for a fifth")


def test_pings_take_no_memory() -> None:
    with server("ping_interval=3, ping_timeout=60") as (pid, port), ExitStack() as stack:
        socks = connect(stack, port, CONNECTIONS)
        before = resident(pid)
        for sock in socks:
            while b"\x89\0" not in sock.recv(4096):
                pass
        grown = resident(pid) - before
    assert grown < len(socks) * 100, f"{grown / len(socks):.0f} bytes per connection"
