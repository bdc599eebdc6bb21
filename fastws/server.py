"""A running server: its listening sockets, its connections, and its end."""

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Callable, Collection, Iterator
from types import TracebackType

from fastws import _speedups
from fastws._speedups import WebSocket
from fastws.tasks import Starter

log = logging.getLogger("fastws")

GOING_AWAY = 1001  # RFC 6455 section 7.4.1
CANCEL_TIMEOUT = 1.0  # seconds for cancelled callbacks to end when a server stops


class Connections(Collection[WebSocket]):
    """The open connections of a server, live: `len()`, iteration over a snapshot, `in`."""

    __slots__ = ("_reactor",)

    def __init__(self, reactor: _speedups.Reactor) -> None:
        self._reactor = reactor

    def __len__(self) -> int:
        return _speedups.count_connections(self._reactor)

    def __iter__(self) -> Iterator[WebSocket]:
        return iter(_speedups.list_connections(self._reactor))

    def __contains__(self, ws: object) -> bool:
        return ws in _speedups.list_connections(self._reactor)

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
        on_stop: Callable[["Server"], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._reactor = _speedups.Reactor(loop, Starter(loop), log, tick)
        self._names = [sock.getsockname() for sock in sockets]
        self._families = [sock.family for sock in sockets]
        self._on_stop = on_stop
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._stopping = False
        self._empty = asyncio.Event()
        self.connections = Connections(self._reactor)
        for sock in sockets:
            _speedups.listen(self._reactor, sock, service)

    @property
    def port(self) -> int:
        """The TCP port that is listened on; 0 on a Unix socket."""
        return next((name[1] for name in self._names if isinstance(name, tuple)), 0)

    @property
    def urls(self) -> list[str]:
        """What is listened on, as addresses that a browser or a curl understands."""
        return [
            f"unix:{name}"
            if isinstance(name, str)
            else f"http://[{name[0]}]:{name[1]}"
            if family == socket.AF_INET6
            else f"http://{name[0]}:{name[1]}"
            for name, family in zip(self._names, self._families, strict=True)
        ]

    def stats(self) -> dict[str, int]:
        """As `App.stats`, for this server."""
        return _speedups.stats(self._reactor)

    async def stop(self, timeout: float = 10.0) -> None:
        """Accept no more, close every connection with 1001, and return when all have ended.

        After `timeout` seconds the rest are terminated and their async callbacks cancelled. May be called again, with
        a shorter timeout for instance.
        """
        if self._stopped.done():
            return
        reactor = self._reactor
        if not self._stopping:
            self._stopping = True
            reactor.stop_listening()
            reactor.on_empty = self._empty.set
            _speedups.close_all(reactor, GOING_AWAY, "server is stopping")
        if not await self._emptied(timeout):
            _speedups.terminate_all(reactor)
            if not await self._emptied(CANCEL_TIMEOUT) and not self._stopped.done():
                log.error("a callback ignores its cancellation; the server stops without it")
        if not self._stopped.done():
            self._stopped.set_result(None)
            reactor.close()
            self._on_stop(self)
            await asyncio.sleep(0)  # what the reactor's end has put on the loop
            for name in self._names:
                if isinstance(name, str):
                    _remove_socket_file(name)

    async def _emptied(self, timeout: float) -> bool:
        """Wait until no socket and no callback is left; False when the time is up."""
        if self._reactor.socket_count:
            try:
                await asyncio.wait_for(self._empty.wait(), timeout)
            except asyncio.TimeoutError:
                return False
        return True

    async def wait_closed(self) -> None:
        """Wait until the server has been stopped."""
        await asyncio.shield(self._stopped)

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def open_sockets(
    host: str | None,
    port: int,
    *,
    uds: str | None,
    sock: socket.socket | None,
    backlog: int,
    reuse_port: bool,
) -> list[socket.socket]:
    """Listening, non-blocking sockets; OSError, with the address in it, where one cannot be had."""
    if sock is not None:
        sockets = [sock]
    elif uds is not None:
        _remove_socket_file(uds)
        sockets = [_bind(socket.AF_UNIX, uds)]
    else:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets = []
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            # With port 0 the second family gets the port that the first was given.
            chosen = sockets[0].getsockname()[1] if sockets and port == 0 else address[1]
            try:
                sockets.append(_bind(family, (address[0], chosen, *address[2:]), reuse_port))
            except OSError:
                for opened in sockets:
                    opened.close()
                raise
    for one in sockets:
        one.setblocking(False)
        one.listen(backlog)
    return sockets


def _bind(family: int, address: object, reuse_port: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit it (tcp(7) on Linux), which saves a system call for each.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)  # type: ignore[arg-type]
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    return sock


def _remove_socket_file(path: str) -> None:
    """The file of a Unix socket outlives its server."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
