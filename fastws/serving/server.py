"""A running server: its listening sockets, its connections, and its end."""

import asyncio
import logging
import math
import os
import socket
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from types import TracebackType

from fastws import _speedups
from fastws._speedups import WebSocket
from fastws.serving.lifespan import Lifespan
from fastws.serving.logs import Log, write
from fastws.serving.reactors import reactor_of
from fastws.serving.sockets import INTERNET, SocketFile, address_of, prepare_connection, take_over, url
from fastws.serving.stats import Stats, total
from fastws.serving.tasks import Starter

log = logging.getLogger("fastws")

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
        return _speedups.is_connection(self._service, ws)

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
        max_pending_handshakes: int,
        user_timeout: float,
        on_stop: Callable[["Server"], None],
        socket_file: SocketFile | None = None,
        lifespan: Lifespan | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._log = Log(log, loop)
        self._loop = loop
        self._user_timeout = user_timeout
        self._starter = Starter(loop)
        self._names = [(sock.family, sock.getsockname()) for sock in sockets]
        self._socket_file = socket_file
        self._on_stop = on_stop
        self._lifespan = lifespan
        self._giving_up: asyncio.Task[None] | None = None
        self._stopping = False
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._service = service
        self._is_parents = False  # this process is the child of a fork, and the server its parent's
        self.connections = Connections(service)
        _speedups.join(service, reactor_of(loop), self._starter, self._log, tick, max_pending_handshakes)
        service.server = self  # which lives as long as the loop serves it, for the sake of forks
        try:
            for sock in sockets:
                _speedups.listen(service, sock)
        except BaseException:
            service.server = None
            _speedups.leave(service)
            raise
        _speedups.attach(service)
        _running.add(self)
        if lifespan is not None:
            lifespan.task.add_done_callback(self._lifespan_ended)

    @property
    def port(self) -> int:
        """The TCP port that is listened on; 0 on a Unix socket, and where else there is none."""
        return next((name[1] for family, name in self._names if family in INTERNET), 0)

    @property
    def urls(self) -> list[str]:
        """What is listened on, as addresses that a browser or a curl understands, where there are such."""
        return [url(family, name) for family, name in self._names]

    def adopt(self, sock: socket.socket, data: bytes = b"", *, peer: tuple[str, int] | None = None) -> None:
        """Serve a connected stream socket as if it had been accepted here.

        The socket is taken over: `sock` is detached, and its descriptor closed where this raises. `data` is what has
        been read from it already, as it came off the wire, at most 256 KiB. `peer` is the address of the client, for
        one that has none or whose own is a proxy's; by default it is the socket's. Limits hold as for any other: over
        `max_connections` it is answered with 503, and while more than `max_pending_handshakes` wait for their first
        bytes, the oldest are closed. RuntimeError in another loop than the server's, or once the server is stopping;
        ValueError for what is closed, is no stream socket, is a TLS one, for more data, or for what is no address;
        OSError where the socket is not connected.
        """
        own = take_over(sock)
        try:
            if self._is_parents or self._stopped.done() or self._stopping:
                raise RuntimeError("the server is stopping or has stopped: start another one to adopt connections")
            if not self._runs_here():
                raise RuntimeError("a server belongs to its event loop: adopt in it, by loop.call_soon_threadsafe say")
            host, port = address_of(own, peer)
            prepare_connection(own, self._user_timeout)
            try:
                read = bytes(memoryview(data))
            except TypeError:
                what = f"data is what was read from the socket, a bytes-like object, got {data!r:.100}"
                raise TypeError(f'{what}: leave it out, or give b"" for nothing') from None
            _speedups.adopt(self._service, own, read, host, port)
        except BaseException:
            own.close()  # nothing, where the connection has it already
            raise

    def _runs_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:  # a thread without a loop
            return False

    def stats(self) -> Stats:
        """As `App.stats`, for this server; all 0 in the child of a fork."""
        return total(()) if self._is_parents else _speedups.stats(self._service)

    async def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Accept no more, close every connection with 1001, and return when all have ended.

        After `timeout` seconds the rest are terminated and their async callbacks cancelled. May be called again, with
        a shorter timeout for instance. If it is cancelled, the server stops all the same once its connections end.
        In the child of a fork it does nothing: there is no server, see docs/running.md. RuntimeError if it is called in
        another event loop, unless the server's is closed; TypeError, before anything is done, for a timeout that is no
        number.

        After the last server of the App on this loop, the App's `lifespan` is left, which has `timeout` seconds as
        well, and 1 at least; then it is cancelled. What it raises is raised here.
        """
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout):
            raise TypeError(f"timeout is a number of seconds, got {timeout!r:.100}: give 0 to end all at once")
        if self._is_parents:
            return
        if self.is_abandoned():
            self.abandon()
        has_ended = self._stopped.done() and (self._lifespan is None or self._lifespan.task.done())
        if not has_ended and not self._runs_here():
            raise RuntimeError(
                "a server belongs to its event loop: use asyncio.run_coroutine_threadsafe(server.stop(), loop)"
            )
        if not self._stopping:
            file, self._socket_file = self._socket_file, None
            if file is not None:
                file.remove()  # while its socket is open, no other file can have its inode
            self._service.stop_listening()
            # Not in the middle of the turn in which the last one ends.
            self._service.on_empty = lambda: self._loop.call_soon(self._finish)
            _speedups.close_all(self._service, GOING_AWAY, "server is stopping")
            self._stopping = True  # not before: what has failed on the way (for lack of memory, say) is done again
        if not self._service.socket_count:
            self._finish()
        if not await self._ended_within(timeout):
            late = self._who_is_late(timeout) if timeout else ""  # with 0 all end at once
            for _ in range(2):  # the second time it is the `close` callbacks that the first has brought about
                _speedups.terminate_all(self._service)
                if late:
                    write(log, logging.WARNING, "%s", late)
                    late = ""
                if await self._ended_within(CANCEL_TIMEOUT):
                    break
            else:
                busy = " and the ".join(sorted(set(_speedups.busy_callbacks(self._service)))) or "callback"
                write(log, logging.ERROR, "the %s ignores its cancellation; the server stops without it", busy)
                self._finish()
        await asyncio.sleep(0)  # what the reactor's end has put on the loop
        if self._lifespan is not None:
            await self._lifespan.end(max(timeout, CANCEL_TIMEOUT), CANCEL_TIMEOUT)

    def _who_is_late(self, timeout: float) -> str:
        busy = sorted(set(_speedups.busy_callbacks(self._service)))
        cancelled = "; cancelled: the " + ", the ".join(busy) if busy else ""
        return f"connections that have not ended within {timeout:g} s: {self._service.socket_count}{cancelled}"

    def _lifespan_ended(self, task: asyncio.Task[None]) -> None:
        if self._stopping:
            return
        if task.cancelled():  # as asyncio.run() does at its end, where no task could go on
            write(log, logging.WARNING, "the lifespan is cancelled while the server runs: stop the server first")
            return
        error = task.exception()
        what = "ended" if error is None else "failed"
        write(log, logging.ERROR, "the lifespan has %s, so the server stops", what, error=error)
        self._giving_up = self._loop.create_task(self.stop())
        # It raises the same error, which the next stop() raises again.
        self._giving_up.add_done_callback(lambda task: task.cancelled() or task.exception())

    def is_abandoned(self) -> bool:
        """Whether the loop was closed before stop(): then the sockets listen and nothing is served."""
        return self._loop.is_closed() and not self._stopped.done()

    def abandon(self) -> None:
        """End it without its loop, and so without calling any `close`."""
        if self._socket_file is not None and not self._stopping:
            self._socket_file.remove()
        self._stopping = True
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            lifespan.abandon()
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
            self._service.on_empty = None  # a log handler may run the loop, and find it empty again
            try:
                _speedups.leave(self._service)  # writes what is to be logged
            except MemoryError:  # it is whole still, and closed when stop() is called again
                raise
            except BaseException:  # a log handler's: the rest is done all the same
                self._conclude()
                raise
            self._conclude()

    def _conclude(self) -> None:
        if self._stopped.done():  # a loop that a log handler ran has come here before
            return
        self._starter.close()
        self._leave()
        if self._lifespan is not None:
            self._lifespan.leave()
        self._stopped.set_result(None)
        self._log.flush()  # last, as a log handler may raise

    def _leave(self) -> None:
        _running.discard(self)
        self._service.server = None
        self._on_stop(self)
        _speedups.detach(self._service)

    def _leave_to_parent(self) -> None:
        self._is_parents = True
        if self._lifespan is not None:
            self._lifespan.leave_to_parent()
        _speedups.leave_to_parent(self._service)
        self._leave()

    async def wait_closed(self) -> None:
        """Wait until the server has been stopped, and the `lifespan` left where it was the last server. What that has
        raised is raised here."""
        if not self._is_parents:
            await asyncio.shield(self._stopped)
            if self._lifespan is not None and self._lifespan.is_ending:
                await self._lifespan.wait()

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
