"""A running server: its listening sockets, its connections, and its end."""

import asyncio
import errno
import logging
import os
import socket
import stat
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from fastws import _speedups
from fastws._speedups import WebSocket
from fastws.logs import Log, write
from fastws.stats import Stats, total
from fastws.tasks import Starter

log = logging.getLogger("fastws")

INTERNET = (socket.AF_INET, socket.AF_INET6)
GOING_AWAY = 1001  # RFC 6455 section 7.4.1
STOP_TIMEOUT = 10.0  # seconds for connections to close when a server stops
CANCEL_TIMEOUT = 1.0  # seconds for cancelled callbacks to end when a server stops


class Connections(Collection[WebSocket]):
    """The open connections of a server, live: `len()`, iteration over a snapshot, `in`."""

    __slots__ = ("_service",)

    def __init__(self, service: _speedups.Service) -> None:
        self._service = service

    def __len__(self) -> int:
        return _speedups.count_connections(self._service)

    def __iter__(self) -> Iterator[WebSocket]:
        return iter(_speedups.list_connections(self._service))

    def __contains__(self, ws: object) -> bool:
        return ws in _speedups.list_connections(self._service)

    def __repr__(self) -> str:
        return f"<{len(self)} connections>"


class Server:
    """Made by `App.start`. `async with` stops it at the end."""

    def __init__(
        self,
        service: _speedups.Service,
        sockets: list[socket.socket],
        *,
        tick: float,
        max_pending: int,
        keeps_memory: bool,
        on_stop: Callable[["Server"], None],
        socket_file: "SocketFile | None" = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._log = Log(log, loop)
        self._reactor = _speedups.Reactor(loop, self._log, tick, max_pending, keeps_memory)
        self._starter = Starter(loop)
        self._names = [(sock.family, sock.getsockname()) for sock in sockets]
        self._socket_file = socket_file
        self._on_stop = on_stop
        self._stopping = False
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._service = service
        self._is_parents = False  # this process is the child of a fork, and the server its parent's
        self.connections = Connections(service)
        for sock in sockets:
            _speedups.listen(self._reactor, sock, service)
        _speedups.attach(service, self._reactor, self._starter)
        _running.add(self)

    @property
    def port(self) -> int:
        """The TCP port that is listened on; 0 on a Unix socket, and where else there is none."""
        return next((name[1] for family, name in self._names if family in INTERNET), 0)

    @property
    def urls(self) -> list[str]:
        """What is listened on, as addresses that a browser or a curl understands, where there are such."""
        return [_url(family, name) for family, name in self._names]

    def stats(self) -> Stats:
        """As `App.stats`, for this server; all 0 in the child of a fork."""
        return total(()) if self._is_parents else _speedups.stats(self._service)

    async def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Accept no more, close every connection with 1001, and return when all have ended.

        After `timeout` seconds the rest are terminated and their async callbacks cancelled. May be called again, with
        a shorter timeout for instance. If it is cancelled, the server stops all the same once its connections end.
        In the child of a fork it does nothing: there is no server, see README. RuntimeError if it is called in another
        event loop, unless the server's is closed.
        """
        if self._is_parents:
            return
        if self.is_abandoned():
            self.abandon()
        if not self._stopped.done() and asyncio.get_running_loop() is not self._reactor.loop:
            raise RuntimeError(
                "a server belongs to its event loop: use asyncio.run_coroutine_threadsafe(server.stop(), loop)"
            )
        if not self._stopping:
            file, self._socket_file = self._socket_file, None
            if file is not None:
                file.remove()  # while its socket is open, no other file can have its inode
            self._reactor.stop_listening()
            # Not in the middle of the turn in which the last one ends.
            self._reactor.on_empty = lambda: self._reactor.loop.call_soon(self._finish)
            _speedups.close_all(self._service, GOING_AWAY, "server is stopping")
            self._stopping = True  # not before: what has failed on the way (for lack of memory, say) is done again
        if not self._reactor.socket_count:
            self._finish()
        if not await self._ended_within(timeout):
            for _ in range(2):  # the second time it is the `close` callbacks that the first has brought about
                _speedups.terminate_all(self._service)
                if await self._ended_within(CANCEL_TIMEOUT):
                    break
            else:
                write(log, logging.ERROR, "a callback ignores its cancellation; the server stops without it")
                self._finish()
        await asyncio.sleep(0)  # what the reactor's end has put on the loop

    def is_abandoned(self) -> bool:
        """Whether its loop was closed before it was stopped, so that it still listens and serves nobody."""
        return self._reactor.loop.is_closed() and not self._stopped.done()

    def abandon(self) -> None:
        """End it without its loop, and so without calling anybody's `close`."""
        if self._socket_file is not None and not self._stopping:
            self._socket_file.remove()
        self._stopping = True
        _speedups.abandon(self._service)
        self._starter.close()
        with suppress(RuntimeError):  # from that loop, for those who wait in it
            self._stopped.set_result(None)
        self._leave()
        self._log.flush()  # last, as a log handler may raise

    async def _ended_within(self, timeout: float) -> bool:
        if not self._stopped.done():
            await asyncio.wait((self._stopped,), timeout=timeout)
        return self._stopped.done()

    def _finish(self) -> None:
        if not self._is_parents and not self._stopped.done():
            try:
                self._reactor.close()  # writes what is to be logged
            except MemoryError:  # it is whole still, and closed when stop() is called again
                raise
            except BaseException:  # a log handler's: the rest is done all the same
                self._conclude()
                raise
            self._conclude()

    def _conclude(self) -> None:
        self._reactor.on_empty = None
        self._starter.close()
        self._leave()
        self._stopped.set_result(None)
        self._log.flush()  # last, as a log handler may raise

    def _leave(self) -> None:
        _running.discard(self)
        self._on_stop(self)
        _speedups.detach(self._service)

    def _leave_to_parent(self) -> None:
        self._is_parents = True
        _speedups.leave_to_parent(self._service)
        self._leave()

    async def wait_closed(self) -> None:
        """Wait until the server has been stopped."""
        if not self._is_parents:
            await asyncio.shield(self._stopped)

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


#: The servers of this process, for its forks.
_running: weakref.WeakSet[Server] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for server in list(_running):
        server._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork_in_child)


class SocketFile:
    """The file of a Unix socket, which outlives its server."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # the server may change its directory
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def remove(self) -> None:
        """Remove it, unless a server that was started since has put its own there."""
        if self._look() == self._identity is not None:
            os.unlink(self._path)


def open_unix_socket(path: str, backlog: int) -> tuple[socket.socket, SocketFile | None]:
    """A listening Unix socket and its file, in place of one that an earlier server left; OSError if something else is
    there. A path that begins with a NUL is an abstract name, without a file (unix(7))."""
    if path.startswith("\0"):
        return open_socket(socket.AF_UNIX, path, backlog), None
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        pass
    else:
        if not is_socket:
            raise FileExistsError(errno.EEXIST, f"cannot listen on {path}: a file that is no socket is there")
        os.unlink(path)
    return open_socket(socket.AF_UNIX, path, backlog), SocketFile(path)


async def open_sockets(host: str | None, port: int, *, backlog: int, reuse_port: bool) -> list[socket.socket]:
    """Listening sockets on all addresses of a host; OSError, with the address in it, where one cannot be had."""
    if not 0 <= port <= 65_535:  # getaddrinfo() would take it modulo 65,536
        raise ValueError(f"port={port} is out of range: give 0 to 65535, 0 for any that is free")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:  # the latter for a name that cannot be one, too long say
        reason = error.strerror if isinstance(error, socket.gaierror) else error
        raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {host} port {port}: {reason}") from None
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            # With port 0 the second family gets the port that the first was given.
            chosen = sockets[0].getsockname()[1] if sockets and port == 0 else address[1]
            try:
                sockets.append(open_socket(family, (address[0], chosen, *address[2:]), backlog, reuse_port))
            except OSError as error:
                # "localhost" is ::1, too, where IPv6 is off.
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def open_socket(family: int, address: Any, backlog: int, reuse_port: bool = False) -> socket.socket:
    """A listening, non-blocking socket."""
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        return listening(sock, backlog)
    except OSError as error:
        if sock is not None:
            sock.close()
        where = f"{address[0]} port {address[1]}" if isinstance(address, tuple) else address
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror or error}") from None


def listening(sock: socket.socket, backlog: int) -> socket.socket:
    """The bound socket, ready to accept. It may be listening already, as where systemd has opened it."""
    sock.setblocking(False)
    if speaks_tcp(sock):
        # Connections of ours that linger in TIME_WAIT inherit it, and only then can the next server bind.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it (tcp(7) on Linux), which saves a system call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.listen(backlog)
    return sock


def speaks_tcp(sock: socket.socket) -> bool:
    """Whether it has the options of TCP. Multipath TCP has most of them; SCTP and Unix sockets have none."""
    return sock.family in INTERNET and sock.proto in (0, socket.IPPROTO_TCP, socket.IPPROTO_MPTCP)


def tells_of_acknowledgements(sock: socket.socket) -> bool:
    """Whether the kernel tells when the peer acknowledged something last. Of Multipath TCP it tells only what the first
    path knows."""
    return speaks_tcp(sock) and sock.proto != socket.IPPROTO_MPTCP


def find_the_vanished(sock: socket.socket, seconds: float) -> None:
    """Have the kernel ask the peer's system whether it is there, once nothing has been under way for half of `seconds`,
    and end the connection if no answer comes within the rest. It does not ask while something is under way; then the
    server looks itself (deadlines.pyx). Accepted sockets inherit this from the listening one.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    half = min(max(1, round(seconds / 2)), 32_767)  # the most that Linux takes
    between = max(1, half // 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, half)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, between)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, max(1, round((seconds - half) / between)))


def _url(family: int, name: Any) -> str:
    """`name` is what getsockname() gives; "vsock:3:8765" is one of a family that nobody has URLs for."""
    if family in INTERNET:
        return f"http://[{name[0]}]:{name[1]}" if ":" in name[0] else f"http://{name[0]}:{name[1]}"
    if family == socket.AF_UNIX:
        # An abstract Unix socket has bytes for a name, with a NUL in front, which is written as an @.
        return f"unix:{name}" if isinstance(name, str) else f"unix:@{os.fsdecode(name[1:])}"
    parts = name if isinstance(name, tuple) else (name,)
    return ":".join(map(str, (getattr(family, "name", f"family {family}").removeprefix("AF_").lower(), *parts)))
