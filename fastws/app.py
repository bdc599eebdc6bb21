"""The application: routes, their options, and the ways to run it."""

import asyncio
import importlib
import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from fastws import _speedups
from fastws.compression import negotiate
from fastws.handlers import Callbacks, H, HttpCallback, P, callbacks_of, is_async, judge_http, judge_path
from fastws.options import LONGEST, AppOptions, Options, RouteOptions, judge_number
from fastws.routing import Router, Suggestion
from fastws.running import process
from fastws.running.runner import Loop, run
from fastws.serving.lifespan import Lifespan, LifespanFunction, maker_of
from fastws.serving.logs import write
from fastws.serving.server import CANCEL_TIMEOUT, STOP_TIMEOUT, Server
from fastws.serving.sockets import (
    SocketFile,
    find_the_vanished,
    judge_backlog,
    judge_permissions,
    judge_socket,
    listen_late,
    open_given,
    open_sockets,
    open_unix_socket,
    path_of,
    shares_port,
    speaks_tcp,
    tells_of_acknowledgements,
)
from fastws.serving.stats import Stats, total

if TYPE_CHECKING:
    from typing_extensions import Buffer, Unpack

log = logging.getLogger("fastws")


class App:
    """A set of routes. `App(**options)` sets the options of the App, and the defaults of its routes: see
    `fastws.Options`. TypeError for an unknown option or a value of a wrong type, ValueError for one out of range.

    lifespan: a function that is called with the App and gives an async context manager, or an async generator function
    with one `yield`. It is entered before the first connection is accepted, and left after the last has gone and its
    callbacks have ended. What it gives is `app.state`. Servers on one event loop share it; each loop has its own, as
    each process has. What it raises on entry is raised by `start` and `run`, and nothing is left listening; what it
    raises later is raised by `Server.stop` and `run` once all is closed. If it fails while a server runs, as where a
    task of its `asyncio.TaskGroup` fails, the server stops. TypeError for what is no such function.

    debug: warn of each line of a callback that sets an attribute on its handler, a class, rather than once of each
    attribute. `python -X dev` does so, too.
    """

    def __init__(
        self, *, lifespan: LifespanFunction | None = None, debug: bool = False, **options: "Unpack[AppOptions]"
    ) -> None:
        if not isinstance(debug, bool):
            raise TypeError(f"debug is True or False, got {debug!r}")
        self._debug = debug or sys.flags.dev_mode
        self.options = Options(**options)
        self._lifespan = maker_of(lifespan)
        self._lifespans: dict[asyncio.AbstractEventLoop, Lifespan] = {}  # those that are not over
        self._websockets: Router[_speedups.Route] = Router()
        self._routes: list[tuple[str, Callbacks, RouteOptions]] = []  # with the options of their own
        self._http: Router[tuple[str, HttpCallback]] = Router()  # with its title in the log
        self._servers: list[Server] = []
        self._hub = _speedups.Hub()
        self._past = total(())  # what servers that have ended have counted

    def __reduce__(self) -> tuple[Callable[[str, str], "App"], tuple[str, str]]:
        """By its name, as functions are: `multiprocessing.Process(target=app.run)` has the child import the module.
        pickle.PicklingError for one without a name at the top of a module."""
        # Of the names in several modules rather one of an imported module, which is there in the child in any case.
        for module in sorted(sys.modules.copy(), key=("__main__", "__mp_main__").__contains__):
            for name, value in list(getattr(sys.modules.get(module), "__dict__", {}).items()):
                if value is self:
                    return _named, (module, name)
        raise pickle.PicklingError(
            "an App is pickled by its name: assign it to a name at the top of its module, or have the function that "
            "the other process calls import or make it"
        )

    def __copy__(self, *_: object) -> NoReturn:
        raise TypeError("an App cannot be copied: for another one, call a function that makes it with its routes")

    __deepcopy__ = __copy__

    # routes

    def websocket(self, path: str, **options: "Unpack[RouteOptions]") -> Callable[[H], H]:
        """Serve WebSocket connections at `path` with the decorated handler. In "/chat/{room}", the parameter is one
        segment, decoded: a "%2F" in it is a slash of its value. "{rest:path}" at the end is all that remains. The
        path is written as in a URL, with "%20" for a space; what is not ASCII may stand as it is.

        The handler is a class, instantiated once without arguments, or any object, whose methods `upgrade`, `open`,
        `message`, `drain`, `ping`, `pong` and `close` are the callbacks, all of them optional; or a function or
        another callable, which is the `message` callback. What belongs to a connection is kept in `ws.data`, as an
        attribute of the handler is everybody's. `options` are those of this route. TypeError or ValueError for a
        handler without callbacks, a callback that takes other arguments than it is called with, an unknown option, a
        value out of range, a malformed path.
        """
        judge_path(path, "websocket")
        self.options.for_route(options)  # a mistake in them raises before the handler is made

        def register(handler: H) -> H:
            callbacks = callbacks_of(handler, self._debug)
            self._websockets.add(path, _route(path, callbacks, self.options.for_route(options)))
            self._routes.append((path, callbacks, options))
            return handler

        return register

    def http(self, path: str) -> Callable[[P], P]:
        """Answer plain GET and HEAD requests at `path` with what the decorated function (`def` or `async def`) returns
        for a `Request`: a `Response`, or an awaitable of one within `http_timeout`. For small answers; the connection
        is closed after each. HTTP/1.0 is answered as well, without a Host unless `allowed_hosts` is set, and OPTIONS
        without a call: load balancers check health that way. TypeError for a callback that cannot be called with the
        request alone."""
        judge_path(path, "http")

        def register(callback: P) -> P:
            judge_http(callback)
            self._http.add(path, (_speedups.http_title(path, callback), callback))
            return callback

        return register

    @property
    def routes(self) -> dict[str, RouteOptions]:
        """The paths of the WebSocket routes, each with the options that it sets for itself."""
        return {path: cast(RouteOptions, dict(own)) for path, _, own in self._routes}

    def configure(self, path: str | None = None, /, **options: "Unpack[AppOptions]") -> None:
        """Change options of the app, its routes made before included; what a route sets for itself stays. With a path,
        change those of that route instead. For what is known at the start only, from a command line say.

        Errors as from `App()` and `websocket()`; ValueError for a path without a route, RuntimeError while a server
        runs. Where one is raised, nothing has changed.
        """
        self._abandon_lost()
        if self._servers:
            raise RuntimeError("configure() is for before the start: stop the server first")
        changed = self.options if path is not None else self.options.replaced(options)
        routes = self._routes
        if path is not None:
            if not isinstance(path, str):
                raise TypeError(f"configure() takes the path of a route, got {path!r:.100}: give options by name")
            if path not in (known := [route[0] for route in routes]):
                raise ValueError(f"there is no route {path!r}: the routes are {', '.join(map(repr, known)) or 'none'}")
            changed.for_route(options)
            routes = [
                (one, callbacks, cast(RouteOptions, {**own, **options}) if one == path else own)
                for one, callbacks, own in routes
            ]
        websockets: Router[_speedups.Route] = Router()
        for one, callbacks, own in routes:
            websockets.add(one, _route(one, callbacks, changed.for_route(own)))
        self.options, self._routes, self._websockets = changed, routes, websockets

    # running

    async def start(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8765,
        *,
        uds: str | os.PathLike[str] | None = None,
        uds_permissions: int | None = None,
        sock: socket.socket | None = None,
        listen: EllipsisType | None = ...,
        backlog: int = 4096,
        reuse_port: bool = False,
    ) -> Server:
        """Start to serve on the running event loop.

        host: a name or address, all whose addresses are bound; None or "" is every interface. port: 0 picks a free
        one, see `Server.port`. Or `uds`, the path of a Unix socket, or `sock`, a bound stream socket, which the server
        closes at its end. `listen=None`: on none of these; the server has the connections that `Server.adopt` gives it.

        uds_permissions: those of the Unix socket, 0o660 say. Who may not write to it cannot connect. None: what the
        umask leaves, which is mostly that only this user connects. backlog: connections that wait to be accepted.

        reuse_port: other processes of this user may listen on the same port, and the kernel deals new connections out
        to them. `publish`, the limits and the stats are those of one process: a message to a topic reaches only the
        subscribers whose connections this process has.

        OSError where an address cannot be bound or is in use, also a Unix socket on which a program listens; TypeError
        or ValueError for a host, port, path, socket or number that can be none.

        The address is taken first, then the `lifespan` is entered, then connections are accepted: those that come
        meanwhile wait, or with `reuse_port` go to the other processes. If start() is cancelled, so is the lifespan's
        entry, unless another start() waits for it.

        Servers of this app whose loop was closed without `Server.stop` are ended first: their sockets are closed, no
        callback is called, and the lifespan is not left.
        """
        self._abandon_lost()
        socket_file: SocketFile | None = None
        if sock is not None and uds is not None:
            raise ValueError("there is a path in uds= and a socket in sock=: give one of them")
        if listen is not None and listen is not ...:
            raise TypeError(f"listen={listen!r}: None is for a server without a listener; leave it out otherwise")
        if listen is None and (sock is not None or uds is not None):
            raise ValueError("listen=None is for a server without a listener: leave out uds= and sock=, or listen=")
        path = None if uds is None else path_of(uds)
        judge_backlog(backlog)
        judge_permissions(uds_permissions, path)
        if sock is not None:
            judge_socket(sock)
        if not isinstance(reuse_port, bool):
            raise TypeError(f"reuse_port is True or False, got {reuse_port!r:.100}")
        if reuse_port and (path is not None or sock is not None or listen is None):
            raise ValueError("reuse_port is for a host and a port: leave it out, or set SO_REUSEPORT on a sock")
        sockets: list[socket.socket] = []
        if listen is None:
            pass
        elif sock is not None:
            sockets = [open_given(sock, backlog)]
        elif path is not None:
            opened, socket_file = open_unix_socket(path, backlog, uds_permissions)
            sockets = [opened]
        else:
            sockets = await open_sockets(host, port, backlog=backlog, reuse_port=reuse_port)
        lifespan: Lifespan | None = None
        try:
            lifespan = await self._enter_lifespan()
            options = self.options
            max_connections, max_pending_handshakes = process.room(options)
            service = _speedups.Service(
                options,
                hub=self._hub,
                find_websocket=self._websockets.find,
                find_http=self._http.find,
                suggest=partial(Suggestion, self._websockets.patterns),
                max_connections=max_connections,
                user_timeout=options.tcp_user_timeout if all(map(tells_of_acknowledgements, sockets)) else 0,
            )
            every = (options, *(options.for_route(own) for *_, own in self._routes))
            shortest = min(one.shortest_timeout() for one in every)
            # Deadlines are kept to an eighth of the shortest, and to a second at most.
            tick = min(max(shortest / 8, 0.01), 1.0)
            for one in sockets:
                if options.tcp_user_timeout and speaks_tcp(one):
                    find_the_vanished(one, options.tcp_user_timeout)
                if shares_port(one):
                    listen_late(one, backlog)
            server = Server(
                service,
                sockets,
                tick=tick,
                max_pending_handshakes=max_pending_handshakes,
                user_timeout=options.tcp_user_timeout,
                on_stop=self._ended,
                socket_file=socket_file,
                lifespan=lifespan,
            )
        except BaseException:
            if socket_file is not None:
                socket_file.remove()
            for one in sockets:
                one.close()
            if lifespan is not None:
                lifespan.leave()
                await lifespan.end(STOP_TIMEOUT, CANCEL_TIMEOUT)
            raise
        self._servers.append(server)
        try:
            for url in server.urls:
                loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
                write(log, logging.INFO, "listening on %s (%s)", url, loop)
            if reuse_port:
                what = "reuse_port: other processes may share port %d; topics, limits and stats are of this one alone"
                write(log, logging.INFO, what, server.port)
        except BaseException:  # a log handler's: the caller does not get the server
            await server.stop(0)
            raise
        return server

    def run(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8765,
        *,
        uds: str | os.PathLike[str] | None = None,
        uds_permissions: int | None = None,
        sock: socket.socket | None = None,
        loop: Loop = "auto",
        backlog: int = 4096,
        reuse_port: bool = False,
        shutdown_timeout: float = STOP_TIMEOUT,
    ) -> None:
        """Serve until SIGINT or SIGTERM; then close all connections with 1001, by force those that have not closed
        within `shutdown_timeout` seconds, and return. A second signal ends at once. The `lifespan` is left at the end,
        for which it has `shutdown_timeout` seconds as well; then it is cancelled. A signal while it is entered cancels
        that. What is listened on: as `start`.

        Where no logging is configured, log lines from INFO on go to stderr, those of the application included.

        loop "auto" is uvloop where it is installed, else asyncio's own. For the main thread, where signals arrive, and
        outside of a running event loop: there `await app.start()`. For large messages, glibc's allocator is set to
        keep up to 16 MiB of freed memory until a second or two have passed without any, unless
        MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or GLIBC_TUNABLES is in the environment. The limit of open files
        is raised as far as the system lets the process raise it.
        """
        judge_number("shutdown_timeout", shutdown_timeout, 0, LONGEST)
        start = partial(
            self.start,
            host,
            port,
            uds=uds,
            uds_permissions=uds_permissions,
            sock=sock,
            backlog=backlog,
            reuse_port=reuse_port,
        )
        run(start, loop, shutdown_timeout)

    @property
    def state(self) -> Any:
        """What the `lifespan` has given on this thread's event loop; in a thread without one (`asyncio.to_thread`), on
        the loop of the servers, if that is one. RuntimeError before it is entered, after it is left, in the child of a
        fork, and without a lifespan."""
        try:
            found = self._lifespans.get(asyncio.get_running_loop())
        except RuntimeError:
            entered = [one for one in list(self._lifespans.values()) if one.is_open]
            found = entered[0] if len(entered) == 1 else None
        if found is not None and found.is_open:
            return found.state
        if self._lifespan is None:
            raise RuntimeError("app.state is what the lifespan gives: this App has none, write App(lifespan=...)")
        raise RuntimeError("app.state is there once the lifespan is entered, until it is left, on its event loop")

    async def _enter_lifespan(self) -> Lifespan | None:
        """The running loop's, for one more server."""
        if self._lifespan is None:
            return None
        loop = asyncio.get_running_loop()
        if (found := self._lifespans.get(loop)) is not None and asyncio.current_task() is found.task:
            raise RuntimeError("app.start() in the app's own lifespan waits for itself: start the server elsewhere")
        while (found := self._lifespans.get(loop)) is not None and found.is_ending:
            await asyncio.wait((found.task,))
        if found is None:
            found = self._lifespans[loop] = Lifespan(self._lifespan, self, self._forget_lifespan)
        await found.enter()
        return found

    def _forget_lifespan(self, lifespan: Lifespan) -> None:
        for loop, one in list(self._lifespans.items()):
            if one is lifespan:
                del self._lifespans[loop]

    # topics

    def publish(
        self, topic: str, data: "str | Buffer | _speedups.PreparedMessage", *, compress: bool | None = None
    ) -> int:
        """Send a message, as `WebSocket.send` takes it, to every subscriber of the topic, over all servers of this app
        in this process. Those of other processes, with `reuse_port` say, do not get it.

        May be called from any thread; servers in other threads get it when their loop comes round. Returns how many
        connections of this thread's servers took it. For subscribers with compression it is compressed once;
        `compress=False` leaves it as it is, and True compresses also what is below the threshold.
        """
        return self._hub.publish(topic, data, compress)

    def num_subscribers(self, topic: str) -> int:
        """How many connections of this process are subscribed to the topic."""
        return self._hub.num_subscribers(topic)

    def subscribers(self, topic: str) -> list[_speedups.WebSocket]:
        """The open connections that are subscribed to the topic, in no order, of all servers of this app in this
        process. TypeError or ValueError for what is no topic's name, as from `WebSocket.subscribe`.

        May be called from any thread, but each connection belongs to the thread of its loop: from another one use
        `loop.call_soon_threadsafe(ws.send, data)`. The list is the caller's, and does not change with the topic.
        """
        return self._hub.subscribers(topic)

    # figures

    def stats(self) -> Stats:
        """What the app's servers hold and have done, those that have ended included: see `fastws.Stats`."""
        return total((self._past, *(server.stats() for server in self._servers)))

    def _abandon_lost(self) -> None:
        for server in [one for one in self._servers if one.is_abandoned()]:
            server.abandon()

    def _ended(self, server: Server) -> None:
        past = total((self._past, server.stats()))
        self._servers.remove(server)
        self._past = past


def _named(module: str, name: str) -> App:
    """The App that was pickled."""
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, App):
        raise pickle.UnpicklingError(
            f"there is no App {module}.{name} in this process: assign it at the top of its module, outside of "
            'functions and of `if __name__ == "__main__":`'
        )
    return found


def _route(path: str, callbacks: Callbacks, options: Options) -> _speedups.Route:
    if options.binary == "view" and is_async(callbacks["message"]):
        raise TypeError('binary="view" ends with the callback, so `message` cannot be an async def: use binary="bytes"')
    deflate = options.deflate
    # Most clients offer the same.
    agree = None if deflate is None else lru_cache(maxsize=64)(partial(negotiate, deflate))
    return _speedups.Route(path, callbacks, options, agree)
