"""What a server listens on: hosts and ports, sockets, paths, and what is in their way."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from harness import (
    RawClient,
    Traps,
    client_of,
    echo_app,
    elsewhere,
    open_fds,
    server_end,
    serves,
    unix_client,
    unix_echoes,
    until,
)

from fastws.serving import sockets


def test_port_0(run: Any) -> None:
    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0) as server:
            assert server.port > 0
            assert server.urls == [f"http://127.0.0.1:{server.port}"]
            await serves(server.port)

    run(main)


@pytest.mark.parametrize("port", [-1, 65_536, 70_000, 2**32 + 80])
def test_a_port_that_there_is_not(run: Any, port: int) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=f"port={port} is out of range: give 0 to 65535"):
            await echo_app().start("127.0.0.1", port)

    run(main)


@pytest.mark.parametrize(
    ("host", "port", "error", "said"),
    [
        ("127.0.0.1", "80", TypeError, "port is a whole number, got '80': write port=80"),
        ("127.0.0.1", "http", TypeError, "port is a whole number, got 'http': give 0 to 65535"),
        ("127.0.0.1", True, TypeError, "port is a whole number, got True"),
        ("127.0.0.1", None, TypeError, "port is a whole number, got None"),
        ("127.0.0.1", 80.0, TypeError, "port is a whole number, got 80.0"),
        ("127.0.0.1", 80_808, ValueError, "port=80808 is out of range: give 0 to 65535, 0 for any that is free"),
        (8000, 8765, TypeError, "host is a name or an address, got 8000: write port=8000"),
        (True, 0, TypeError, "host is a name or an address, or None for every interface, got True"),
        (b"127.0.0.1", 0, TypeError, "got b'127.0.0.1'"),
        (["127.0.0.1"], 0, TypeError, "got ['127.0.0.1']"),
        ("80", 0, ValueError, "host='80' is no name or address: write port=80"),
        ("*", 0, ValueError, "host='*' is no name: write host='0.0.0.0', or host=None for every interface"),
        ("[::1]", 0, ValueError, "host='[::1]' is no name: write host='::1'"),
        ("localhost:8000", 0, ValueError, "write host='localhost', port=8000"),
        ("[::1]:8000", 0, ValueError, "write host='::1', port=8000"),
        ("http://localhost:8000/chat", 0, ValueError, "write host='localhost', port=8000"),
        ("ws://localhost", 0, ValueError, "write host='localhost'"),
        ("unix:/run/socket", 0, ValueError, "for a Unix socket write uds='/run/socket'"),
        ("/run/socket", 0, ValueError, "for a Unix socket write uds='/run/socket'"),
    ],
)
def test_what_is_no_host_or_port(run: Any, host: Any, port: Any, error: type[Exception], said: str) -> None:
    async def main() -> None:
        with pytest.raises(error) as caught:
            await echo_app().start(host, port)
        assert said in str(caught.value)

    run(main)


def closed() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


def bound(kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    return sock


def encrypted() -> socket.socket:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(bound(socket.SOCK_STREAM), server_side=True)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: 5, TypeError, "sock is a socket.socket, got 5: write socket.socket(fileno=5)"),
        (lambda: True, TypeError, "sock is a socket.socket, got True: give one that is bound"),
        (lambda: ("127.0.0.1", 80), TypeError, "sock is a socket.socket, got ('127.0.0.1', 80)"),
        (closed, ValueError, "is closed: open and bind another one"),
        (socket.socket, ValueError, "is bound to no address, and the system would choose one: bind() it first"),
        (lambda: socket.socket(socket.AF_INET6), ValueError, "is bound to no address"),
        (lambda: socket.socket(socket.AF_UNIX), ValueError, "is bound to no address"),
        (lambda: bound(socket.SOCK_DGRAM), ValueError, "is no stream socket: make it with socket.SOCK_STREAM"),
        (lambda: socket.socketpair()[0], ValueError, "is a connection: have a server adopt() it"),
        (encrypted, ValueError, "is a TLS socket: give a plain one"),
    ],
)
def test_what_is_no_socket_to_listen_on(run: Any, make: Callable[[], Any], error: type[Exception], said: str) -> None:
    """It is left as it was."""
    sock = make()
    open_before = isinstance(sock, socket.socket) and sock.fileno() >= 0

    async def main() -> None:
        with pytest.raises(error) as caught:
            await echo_app().start(sock=sock)
        assert said in str(caught.value)

    run(main)
    if isinstance(sock, socket.socket):
        assert (sock.fileno() >= 0) is open_before
        if open_before:
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        sock.close()


def test_a_socket_has_one_server(run: Any) -> None:
    async def main() -> None:
        app = echo_app()
        sock = bound(socket.SOCK_STREAM)
        other = sock.dup()
        async with await app.start(sock=sock) as server:
            for one in (app, echo_app()):
                with pytest.raises(ValueError, match=r"has a server already, .* give sock\.dup\(\)"):
                    await one.start(sock=sock)
            await serves(server.port)
        with pytest.raises(ValueError, match="is closed"):
            await app.start(sock=sock)
        async with await app.start(sock=other) as server:
            await serves(server.port)

    run(main)


@pytest.mark.parametrize("host", ["localhost", None, ""])
def test_all_addresses_of_a_host(run: Any, host: str | None) -> None:
    """With port 0, too, all of them have one port."""
    addresses = {"127.0.0.1", "::1"}
    if host:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, 0)}

    async def main() -> None:
        async with await echo_app().start(host, 0) as server:
            assert len(server.urls) == len(addresses)
            for address in addresses:
                await serves(server.port, host=address)

    run(main)


def test_a_port_that_is_free_on_one_address_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With port 0 the kernel finds one for the first address; at the second another program has it."""
    taken: list[socket.socket] = []
    open_socket = sockets.open_socket

    def raced(family: int, address: Any, *arguments: Any) -> socket.socket:
        if address[1] and len(taken) < 3:
            taken.append(open_socket(family, address, *arguments))
        return open_socket(family, address, *arguments)

    monkeypatch.setattr(sockets, "open_socket", raced)

    async def main() -> None:
        async with await echo_app().start(None, 0) as server:
            assert len(taken) == 3
            assert server.port not in [one.getsockname()[1] for one in taken]
            assert len(server.urls) == 2
        for one in taken:
            one.close()

    run(main)


class Resolving(asyncio.SelectorEventLoop):
    """Knows a name with two addresses, of which the first is not of this machine."""

    async def getaddrinfo(self, *arguments: Any, **options: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        ]


def test_an_address_that_is_not_here_beside_one_that_is(no_leaked_fds: None, traps: Traps) -> None:
    """As where localhost is ::1, too, and IPv6 is switched off."""

    async def main() -> None:
        async with await echo_app().start("somewhere", 0) as server:
            assert server.urls == [f"http://127.0.0.1:{server.port}"]

    loop = Resolving()
    loop.run_until_complete(main())
    loop.close()


def test_a_socket(run: Any) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        async with await echo_app().start(sock=sock) as server:
            assert server.port == port
            await serves(port)
        assert sock.fileno() == -1  # it was the server's

    run(main)


SEEN = [
    *("SO_REUSEADDR", "SO_KEEPALIVE", "TCP_NODELAY"),
    *("TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"),
]


def options_of(sock: socket.socket) -> dict[str, int]:
    levels = {"SO": socket.SOL_SOCKET, "TCP": socket.IPPROTO_TCP}
    return {name: sock.getsockopt(levels[name.partition("_")[0]], getattr(socket, name)) for name in SEEN}


async def options_of_a_connection(port: int, host: str) -> dict[str, int]:
    client = await client_of(port, host=host)
    with server_end(client) as sock:
        found = options_of(sock)
    client.close()
    return found


@pytest.mark.parametrize("state", ["bound", "listening", "of another program"])
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("protocol", [0, socket.IPPROTO_MPTCP], ids=["tcp", "mptcp"])
def test_a_socket_has_the_options_of_ours(run: Any, state: str, family: int, host: str, protocol: int) -> None:
    """Among them TCP_NODELAY, without which the second of two answers waits for the peer to acknowledge the first."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM, protocol)
        sock.bind((host, 0))
    except OSError as error:
        pytest.skip(str(error))
    if state != "bound":
        sock.listen()
    if state == "of another program":
        sock = socket.socket(fileno=sock.detach())  # it knows family and protocol from the kernel

    async def main() -> None:
        async with await echo_app().start(host, 0) as server:
            expected = await options_of_a_connection(server.port, host)
        assert expected["TCP_NODELAY"] and expected["SO_REUSEADDR"] and expected["SO_KEEPALIVE"]
        async with await echo_app().start(sock=sock) as server:
            assert await options_of_a_connection(server.port, host) == expected

    run(main)


def test_a_unix_socket_has_no_such_options(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "socket"))
        async with await echo_app().start(sock=sock):
            await unix_echoes(str(tmp_path / "socket"))
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)

    run(main)


def test_a_port_whose_connections_linger(run: Any) -> None:
    """Where a server has ended its connections, the next one gets the port at once, whoever made the socket."""

    async def main() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        async with await echo_app().start(sock=sock) as server:
            client = await client_of(server.port)
            next(iter(server.connections)).terminate()
            assert await elsewhere(client.eof)
            client.close()
        async with await echo_app().start("127.0.0.1", server.port):
            pass

    run(main)


@pytest.mark.parametrize("seconds", [0, 1, 10, 60, 86_400])
def test_the_kernel_only_probes_for_a_peer(run: Any, seconds: float) -> None:
    """The last of the keepalive probes is due at about that time, as far as Linux counts. It has no TCP_USER_TIMEOUT,
    which would end peers that read."""

    async def main() -> None:
        async with await echo_app(tcp_user_timeout=seconds).start("127.0.0.1", 0) as server:
            found = await options_of_a_connection(server.port, "127.0.0.1")
        assert found["TCP_USER_TIMEOUT"] == 0
        assert bool(found["SO_KEEPALIVE"]) == (seconds > 0)
        if 1 < seconds < 65_536:
            last = found["TCP_KEEPIDLE"] + found["TCP_KEEPINTVL"] * found["TCP_KEEPCNT"]
            assert abs(last - seconds) <= seconds / 10

    run(main)


@pytest.mark.parametrize("waiting", [1, 3])
def test_connections_that_came_before_the_server(run: Any, waiting: int) -> None:
    """As where a service manager starts it for the first of them. The last is of those that came later."""

    async def main() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        early = [RawClient.connect(port) for _ in range(waiting)]
        async with await echo_app().start(sock=sock) as server:
            expected = await options_of_a_connection(server.port, "127.0.0.1")
            for client in early:
                await elsewhere(client.handshake)
                with server_end(client) as accepted:
                    assert options_of(accepted) == expected
                client.close()
        assert expected["TCP_NODELAY"] and expected["SO_KEEPALIVE"]

    run(main)


def test_a_socket_and_a_path(run: Any) -> None:
    async def main() -> None:
        with socket.socket() as sock, pytest.raises(ValueError, match="give one of them"):
            await echo_app().start(sock=sock, uds="/tmp/socket")
        with pytest.raises(ValueError, match="without a listener"):
            await echo_app().start(sock=sock, listen=None)
        for listen in (False, 0, "x"):
            with pytest.raises(TypeError, match="listen="):
                await echo_app().start(listen=listen)
        with pytest.raises(ValueError, match="uds is empty"):
            await echo_app().start(uds="")

    run(main)


def test_unix_socket(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        async with await echo_app().start(uds=str(path)) as server:
            assert (server.port, server.urls) == (0, [f"unix:{path}"])
            assert path.is_socket()
            await unix_echoes(str(path))
        assert not path.exists()

    run(main)


def test_unix_socket_of_an_earlier_server(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.is_socket()

    async def main() -> None:
        async with await echo_app().start(uds=str(path)):
            await unix_echoes(str(path))

    run(main)
    assert not path.exists()


def test_unix_socket_that_another_server_took_over(run: Any, tmp_path: Path) -> None:
    """A restart without a gap: the new server puts its own file there before the old one stops, or while it does."""
    path = tmp_path / "socket"

    async def main() -> None:
        old = await echo_app().start(uds=str(path))
        path.unlink()  # as somebody does who knows what comes
        async with await echo_app().start(uds=str(path)):
            await old.stop()
            await unix_echoes(str(path))
        assert not path.exists()
        old = await echo_app().start(uds=str(path))
        client = unix_client(str(path))
        await elsewhere(client.handshake)
        stopping = asyncio.ensure_future(old.stop(0.2))
        await elsewhere(client.recv_frame)
        assert not path.exists()
        async with await echo_app().start(uds=str(path)):
            await stopping
            await unix_echoes(str(path))
        client.close()

    run(main)


def test_unix_socket_in_use(run: Any, tmp_path: Path) -> None:
    """Also under another name, and while the server is too busy to accept."""
    path = tmp_path / "socket"

    async def main() -> None:
        app = echo_app()
        async with await app.start(uds=path, backlog=1) as server:
            mine = path.stat()
            (tmp_path / "other").hardlink_to(path)
            for busy in (False, True):
                waiting = [unix_client(str(path)) for _ in range(2)] if busy else []
                for name in ("socket", "other"):
                    for one in (app, echo_app()):
                        with pytest.raises(OSError) as caught:
                            await one.start(uds=str(tmp_path / name))
                        assert caught.value.errno == errno.EADDRINUSE
                        said = f"cannot listen on {tmp_path / name}: the socket is already in use by a running program"
                        assert said in str(caught.value)
                for client in waiting:
                    client.close()
                assert os.path.samestat(path.stat(), mine)
                await unix_echoes(str(path))
            assert server.stats()["refused"]["error"] == 0
        assert not path.exists()

    run(main)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_unix_socket_of_another_kind_in_use(run: Any, tmp_path: Path, kind: int) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX, kind) as other:
            other.bind(str(path))
            with pytest.raises(OSError, match="already in use") as caught:
                await echo_app().start(uds=path)
            assert caught.value.errno == errno.EADDRINUSE and path.is_socket()
        async with await echo_app().start(uds=path):  # once it is gone
            await unix_echoes(str(path))

    run(main)


def test_one_of_two_takes_a_stale_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers are started at once where one was killed. The second comes when the first has bound its socket and
    does not listen yet, as when nobody listens."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    monkeypatch.setattr(sockets, "LOCK_TIMEOUT", 60.0)
    chmod, bound_first = os.chmod, threading.Event()

    def pausing(*arguments: Any) -> None:
        bound_first.set()
        wait([second], timeout=0.3)  # it has to wait for us
        chmod(*arguments)

    monkeypatch.setattr(os, "chmod", pausing)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(lambda: bound_first.wait(10) and sockets.open_unix_socket(path, 10, None))
        sock, file = sockets.open_unix_socket(path, 10, 0o600)
        with pytest.raises(OSError, match="already in use"):
            second.result(60)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        sock.accept()[0].close()
    assert file is not None
    file.remove()
    sock.close()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_another_program_has_locked(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "LOCK_TIMEOUT", 0.05)

    async def main() -> None:
        folder = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        async with await echo_app().start(uds=tmp_path / "socket"):
            await unix_echoes(str(tmp_path / "socket"))
        os.close(folder)
        assert os.listdir(tmp_path) == []

    run(main)


@pytest.mark.parametrize("permissions", [0o600, 0o660, 0o666, 0o777, 0, None])
def test_permissions_of_a_unix_socket(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, permissions: int | None
) -> None:
    """They are there before anybody can connect, whatever the umask is."""
    path = tmp_path / "socket"
    seen: list[int] = []
    chmod = os.chmod

    def watched(*arguments: Any) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            seen.append(client.connect_ex(str(path)))
        chmod(*arguments)

    monkeypatch.setattr(os, "chmod", watched)

    async def main() -> None:
        before = os.umask(0o027)
        try:
            server = await echo_app().start(uds=path, uds_permissions=permissions)
        finally:
            os.umask(before)
        async with server:
            assert path.stat().st_mode & 0o777 == (0o750 if permissions is None else permissions)
        assert not path.exists()
        assert seen == ([] if permissions is None else [errno.ECONNREFUSED])

    run(main)


@pytest.mark.parametrize(
    ("permissions", "error", "said"),
    [
        (666, ValueError, "uds_permissions=666 is out of range: write 0o666"),
        (0o1777, ValueError, "uds_permissions=1023 is out of range: write 0o660 for yourself and your group, say"),
        (-1, ValueError, "uds_permissions=-1 is out of range"),
        ("660", TypeError, "uds_permissions is a whole number, got '660': write 0o660"),
        ("0o660", TypeError, "got '0o660': write 0o660"),
        ("rw", TypeError, "got 'rw': write 0o660 for yourself and your group, say"),
        (True, TypeError, "got True"),
        (6.5, TypeError, "got 6.5"),
    ],
)
def test_permissions_that_are_none(
    run: Any, tmp_path: Path, permissions: Any, error: type[Exception], said: str
) -> None:
    async def main() -> None:
        with pytest.raises(error) as caught:
            await echo_app().start(uds=tmp_path / "socket", uds_permissions=permissions)
        assert said in str(caught.value)
        for where in ({}, {"uds": "\0abstract"}, {"listen": None}):
            with pytest.raises(ValueError, match="uds_permissions are those of a Unix socket's file"):
                await echo_app().start(uds_permissions=0o600, **where)

    run(main)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        (b"socket", TypeError, "uds is the path of a Unix socket, a str or a Path, got b'socket'"),
        (5, TypeError, "got 5"),
        (True, TypeError, "got True"),
        ("a\0b", ValueError, "uds='a\\x00b' has a NUL in it"),
    ],
)
def test_paths_that_are_none(run: Any, path: Any, error: type[Exception], said: str) -> None:
    async def main() -> None:
        with pytest.raises(error) as caught:
            await echo_app().start(uds=path)
        assert said in str(caught.value)

    run(main)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_something_else_in_the_place_of_a_unix_socket(run: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "precious"
    live = socket.socket(socket.AF_UNIX)
    if kind == "link":
        live.bind(str(tmp_path / "live"))
        path.symlink_to("live")
    else:
        path.mkdir() if kind == "directory" else path.write_text("data")

    async def main() -> None:
        with pytest.raises(FileExistsError) as caught:
            await echo_app().start(uds=str(path))
        assert caught.value.strerror == f"cannot listen on {path}: a file that is no socket is there"

    run(main)
    live.close()
    if kind == "link":
        assert path.readlink() == Path("live") and path.is_socket()
    else:
        assert path.is_dir() if kind == "directory" else path.read_text() == "data"


def test_a_start_that_fails_leaves_no_file(run: Any, tmp_path: Path) -> None:
    """There is a descriptor for the socket, and none for the poller."""
    path = tmp_path / "socket"

    async def main() -> None:
        app = echo_app()
        free = os.dup(0)
        os.close(free)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
        try:
            with pytest.raises(OSError, match="cannot open a poller: Too many open files"):
                await app.start(uds=str(path))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not path.exists()
        async with await app.start(uds=str(path)):
            await unix_echoes(str(path))

    run(main)


def test_unix_socket_and_a_change_of_directory(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with await echo_app().start(uds="socket"):
            monkeypatch.chdir("/")
        assert not (tmp_path / "socket").exists()

    run(main)


def test_unix_socket_without_a_file(run: Any) -> None:
    name = f"\0fastws-test-{os.getpid()}"

    async def main() -> None:
        async with await echo_app().start(uds=name) as server:
            assert (server.port, server.urls) == (0, [f"unix:@{name[1:]}"])
            await unix_echoes(name)

    run(main)


@pytest.mark.parametrize("name", ["missing/socket", "x" * 200])
def test_unix_socket_that_cannot_be(run: Any, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)

    async def main() -> None:
        with pytest.raises(OSError) as caught:
            await echo_app().start(uds=path)
        assert f"cannot listen on {path}: " in str(caught.value)
        assert "None" not in str(caught.value)[-10:]

    run(main)


@pytest.mark.parametrize("file", [True, False])
def test_the_longest_path(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: bool) -> None:
    monkeypatch.chdir(tmp_path)
    longest = "x" * 107 if file else "\0" + "x" * 107

    async def main() -> None:
        async with await echo_app().start(uds=longest):
            await unix_echoes(longest)
        said = r"cannot listen on .*x: a Unix socket's path has at most 107 bytes: shorten it, or give a relative one"
        with pytest.raises(OSError, match=said) as caught:
            await echo_app().start(uds=longest + "x")
        assert caught.value.errno == errno.ENAMETOOLONG

    run(main)


@pytest.mark.parametrize(
    ("family", "name", "url"),
    [
        (socket.AF_INET, ("127.0.0.1", 80), "http://127.0.0.1:80"),
        (socket.AF_INET6, ("::1", 80, 0, 0), "http://[::1]:80"),
        (socket.AF_UNIX, "/run/socket", "unix:/run/socket"),
        (socket.AF_UNIX, b"\0name\xff", "unix:@name\udcff"),
        (socket.AF_VSOCK, (3, 8765), "vsock:3:8765"),
        (31, ("00:11:22:33:44:55", 1), "family 31:00:11:22:33:44:55:1"),
        (socket.AF_TIPC, (1, 2, 3, 4, 1), "tipc:1:2:3:4:1"),
        (socket.AF_NETLINK, 7, "netlink:7"),
        (99, (99, b"?"), "family 99:99:b'?'"),  # as Python gives what it does not know
        (99, None, "family 99:None"),
    ],
)
def test_urls(family: int, name: Any, url: str) -> None:
    assert sockets.url(family, name) == url


def test_a_socket_to_virtual_machines(run: Any) -> None:
    try:
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        sock.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
    except OSError as error:
        pytest.skip(f"no AF_VSOCK: {error}")
    cid, port = sock.getsockname()

    async def main() -> None:
        async with await echo_app().start(sock=sock) as server:
            assert (server.port, server.urls) == (0, [f"vsock:{cid}:{port}"])

    run(main)


def test_port_in_use(run: Any) -> None:
    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0) as server:
            for host in ("127.0.0.1", "localhost", None):
                with pytest.raises(OSError) as caught:
                    await echo_app().start(host, server.port)
                assert caught.value.errno == errno.EADDRINUSE
                said = rf"cannot listen on (127\.0\.0\.1|0\.0\.0\.0) port {server.port}: Address already in use"
                assert caught.match(said)

    run(main)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", "cannot listen on 192.0.2.1 port 0: Cannot assign requested address"),
        ("no.such.name.invalid", "cannot listen on no.such.name.invalid port 0: "),
        ("x" * 64 + ".example", "cannot listen on xxxx"),
    ],
)
def test_hosts_that_are_not_here(run: Any, host: str, said: str) -> None:
    async def main() -> None:
        with pytest.raises(OSError) as caught:
            await echo_app().start(host, 0)
        assert said in str(caught.value)

    run(main)


def test_reuse_port(run: Any) -> None:
    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0, reuse_port=True) as one:
            async with await echo_app().start("127.0.0.1", one.port, reuse_port=True) as two:
                clients = [await client_of(one.port) for _ in range(40)]
                await until(lambda: len(one.connections) + len(two.connections) == 40)
                assert one.connections and two.connections  # 2^-39 that the kernel means it so
                for client in clients:
                    client.close()

    run(main)


def test_reuse_port_is_logged(run: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level("INFO", "fastws")

    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0, reuse_port=True) as server:
            told = f"other processes may share port {server.port}; topics, limits and stats are of this one alone"
            assert [line for line in caplog.messages if "reuse_port" in line] == [f"reuse_port: {told}"]
        caplog.clear()
        async with await echo_app().start("127.0.0.1", 0):
            assert not [line for line in caplog.messages if "reuse_port" in line]
        with bound(socket.SOCK_STREAM) as sock:
            for where in ({"sock": sock}, {"uds": tmp_path / "socket"}, {"listen": None}):
                with pytest.raises(ValueError, match="reuse_port is for a host and a port"):
                    await echo_app().start(reuse_port=True, **where)
        wrong: Any
        for wrong in ("no", 1, None):  # a port would be shared for a text that says "no"
            with pytest.raises(TypeError, match=f"^reuse_port is True or False, got {wrong!r}$"):
                await echo_app().start("127.0.0.1", 0, reuse_port=wrong)

    run(main)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("backlog", "error"), [(0, ValueError), (2**40, ValueError), ("x", TypeError), (True, TypeError), (None, TypeError)]
)
def test_a_backlog_that_is_none_leaves_nothing(run: Any, tmp_path: Path, backlog: Any, error: type[Exception]) -> None:
    async def start() -> None:
        with pytest.raises(error, match=f"backlog.*{re.escape(repr(backlog))}.*give 1 to "):
            await echo_app().start(uds=str(tmp_path / "here"), backlog=backlog)

    run(start)
    assert list(tmp_path.iterdir()) == []


def test_backlog(run: Any) -> None:
    """While the loop is held, the kernel keeps no more than this waiting (listen(2): it rounds up by one)."""

    async def main() -> None:
        async with await echo_app().start("127.0.0.1", 0, backlog=2) as server:
            connected = []
            for _ in range(8):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", server.port))
                connected.append(sock)
                time.sleep(0.05)  # for the handshake of this one (RFC 9293 section 3.5) to be over before the next
            up = [sock for sock in connected if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) and is_up(sock)]
            assert len(up) == 3
            for sock in connected:
                sock.close()

    run(main)


def is_up(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def test_no_descriptor_for_the_poller(run: Any) -> None:
    """The sockets that were opened for it are closed."""

    async def main() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 2, hard))
        fillers = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            os.close(fillers.pop())
            with pytest.raises(OSError) as caught:
                await echo_app().start("127.0.0.1", 0)
            assert caught.value.errno == errno.EMFILE
            fillers.append(os.dup(0))  # it is free again
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)

    run(main)
