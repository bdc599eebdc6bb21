"""Where a peer comes from and where it arrived, over IPv4, IPv6 and Unix sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import RawClient, Serving, eventually, make_app


class Noting:
    def __init__(self) -> None:
        self.ws: Any = None
        self.seen: list[Any] = []

    def upgrade(self, request: Any) -> None:
        self.seen.append((request.remote_address, request.local_address))

    def open(self, ws: Any) -> None:
        self.ws = ws
        self.seen.append((ws.remote_address, ws.local_address))

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.seen.append((ws.remote_address, ws.local_address))


@pytest.fixture
def ipv6() -> Iterator[None]:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    yield


def check(serve: Serving, sock: socket.socket, name: Any, told: slice | None, url: str, **where: Any) -> None:
    """`told` is what is told of the names that the kernel gives the client's socket."""
    handler = Noting()
    thread = serve(make_app(handler))
    server = thread.call(lambda: thread.app.start(**where))
    assert server.urls == [url.format(server.port)]
    sock.settimeout(5)
    sock.connect(name if name is not None else (where["host"], server.port))
    client = RawClient(sock)
    client.handshake()
    here, there = (name[told] if told else None for name in (sock.getsockname(), sock.getpeername()))
    client.reset()
    eventually(lambda: len(handler.seen) == 3)
    assert handler.seen == [(here, there)] * 2 + [(here, None)]
    assert thread.call(lambda: (handler.ws.remote_address, handler.ws.local_address)) == (here, None)
    thread.call(server.stop)


def test_ipv4(serve: Serving) -> None:
    check(serve, socket.socket(), None, slice(2), url="http://127.0.0.1:{}", host="127.0.0.1", port=0)


def test_ipv6(serve: Serving, ipv6: None) -> None:
    check(serve, socket.socket(socket.AF_INET6), None, slice(2), url="http://[::1]:{}", host="::1", port=0)


def test_a_unix_socket_has_none(serve: Serving, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    check(serve, socket.socket(socket.AF_UNIX), path, None, url=f"unix:{path}", uds=path)
    assert not Path(path).exists()


def test_each_connection_has_its_own(serve: Serving) -> None:
    found: dict[str, Any] = {}

    def note(ws: Any, data: str) -> None:
        found[data] = ws.remote_address

    thread = serve(make_app(note))
    expected = {}
    for number in range(20):
        client = RawClient.open(thread.port)
        expected[str(number)] = client.sock.getsockname()
        client.send(str(number))
    eventually(lambda: found == expected)
