"""The application: routes, their callbacks and options, and the ways to run it."""

import inspect
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fastws import _speedups
from fastws.compression import negotiate
from fastws.http import Request, Response
from fastws.options import AppOptions, Options, RouteOptions
from fastws.routing import Router, Suggestion
from fastws.running import process
from fastws.running.runner import Loop, run
from fastws.serving.server import STOP_TIMEOUT, Server
from fastws.serving.sockets import (
    SocketFile,
    find_the_vanished,
    judge_backlog,
    listening,
    open_sockets,
    open_unix_socket,
    speaks_tcp,
    tells_of_acknowledgements,
)
from fastws.serving.stats import Stats, total

if TYPE_CHECKING:
    from typing_extensions import Buffer, Unpack

T = TypeVar("T")
HttpCallback = Callable[[Request], Response | Awaitable[Response]]
Callbacks = dict[str, Callable[..., Any] | None]

CALLBACKS = ("upgrade", "open", "message", "drain", "ping", "pong", "close")


class App:
    """A set of routes. `App(**options)` sets the options of the App, and the defaults of its routes: see
    `fastws.Options`. TypeError for an unknown option or a value of a wrong type, ValueError for one out of range."""

    def __init__(self, **options: "Unpack[AppOptions]") -> None:
        self.options = Options(**options)
        self._websockets: Router[_speedups.Route] = Router()
        self._routes: list[tuple[str, Callbacks, RouteOptions]] = []  # with the options of their own
        self._http: Router[tuple[str, HttpCallback]] = Router()  # with the path as it was given
        self._servers: list[Server] = []
        self._hub = _speedups.Hub()
        self._past = total(())  # what servers that have ended have counted

    # routes

    def websocket(self, path: str, **options: "Unpack[RouteOptions]") -> Callable[[T], T]:
        """Serve WebSocket connections at `path` with the decorated handler. In "/chat/{room}", the parameter is one
        segment, decoded: a "%2F" in it is a slash of its value. "{rest:path}" at the end is all that remains.

        The handler is a class, instantiated once without arguments, or any object, whose methods `upgrade`, `open`,
        `message`, `drain`, `ping`, `pong` and `close` are the callbacks, all of them optional; or a function or
        another callable, which is the `message` callback. `options` are those of this route. TypeError or
        ValueError for a handler without callbacks, an unknown option, a value out of range, a malformed path.
        """
        self.options.for_route(options)  # a mistake in them raises before the handler is made

        def register(handler: T) -> T:
            callbacks = _callbacks(handler)
            self._websockets.add(path, _route(path, callbacks, self.options.for_route(options)))
            self._routes.append((path, callbacks, options))
            return handler

        return register

    def http(self, path: str) -> Callable[[T], T]:
        """Answer plain GET and HEAD requests at `path` with what the decorated function (`def` or `async def`) returns
        for a `Request`: a `Response`, or an awaitable of one within `http_timeout`. For small answers; the connection
        is closed after each. HTTP/1.0 is answered as well, without a Host unless `allowed_hosts` is set, and OPTIONS
        without a call: load balancers check health that way."""

        def register(callback: T) -> T:
            if not callable(callback):
                raise TypeError(f"an http callback is a function of the request, got {callback!r}")
            self._http.add(path, (path, cast(HttpCallback, callback)))
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
        uds: str | None = None,
        sock: socket.socket | None = None,
        listen: EllipsisType | None = ...,
        backlog: int = 4096,
        reuse_port: bool = False,
    ) -> Server:
        """Start to serve on the running event loop.

        host: a name or address, all whose addresses are bound; None or "" is every interface. port: 0 picks a free
        one, see `Server.port`. Or `uds`, the path of a Unix socket, or `sock`, a bound stream socket. `listen=None`: on
        none of these; the server has the connections that `Server.adopt` gives it. OSError where an address cannot be
        bound.

        Servers of this app whose loop was closed without `Server.stop` are ended first: their sockets are closed, and
        no callback is called.
        """
        self._abandon_lost()
        socket_file: SocketFile | None = None
        if sock is not None and uds is not None:
            raise ValueError("there is a path in uds= and a socket in sock=: give one of them")
        if listen is not None and listen is not ...:
            raise TypeError(f"listen={listen!r}: None is for a server without a listener; leave it out otherwise")
        if listen is None and (sock is not None or uds is not None):
            raise ValueError("listen=None is for a server without a listener: leave out uds= and sock=, or listen=")
        judge_backlog(backlog)
        sockets: list[socket.socket] = []
        if listen is None:
            pass
        elif sock is not None:
            sockets = [listening(sock, backlog)]
        elif uds is not None:
            opened, socket_file = open_unix_socket(uds, backlog)
            sockets = [opened]
        else:
            sockets = await open_sockets(host, port, backlog=backlog, reuse_port=reuse_port)
        options = self.options
        try:
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
            server = Server(
                service,
                sockets,
                tick=tick,
                max_pending_handshakes=max_pending_handshakes,
                user_timeout=options.tcp_user_timeout,
                on_stop=self._ended,
                socket_file=socket_file,
            )
        except BaseException:
            if socket_file is not None:
                socket_file.remove()
            for one in sockets:
                one.close()
            raise
        self._servers.append(server)
        return server

    def run(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8765,
        *,
        uds: str | None = None,
        loop: Loop = "auto",
        backlog: int = 4096,
        shutdown_timeout: float = STOP_TIMEOUT,
    ) -> None:
        """Serve until SIGINT or SIGTERM; then close all connections with 1001, by force those that have not closed
        within `shutdown_timeout` seconds, and return. A second signal ends at once.

        loop "auto" is uvloop where it is installed, else asyncio's own. For the main thread, where signals arrive, and
        outside of a running event loop: there `await app.start()`. For large messages, glibc's allocator is set to
        keep up to 16 MiB of freed memory until a second or two have passed without any, unless
        MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or GLIBC_TUNABLES is in the environment. The limit of open files
        is raised as far as the system lets the process raise it.
        """
        run(partial(self.start, host, port, uds=uds, backlog=backlog), loop, shutdown_timeout)

    # topics

    def publish(
        self, topic: str, data: "str | Buffer | _speedups.PreparedMessage", *, compress: bool | None = None
    ) -> int:
        """Send a message, as `WebSocket.send` takes it, to every subscriber of the topic, over all servers of this app.

        May be called from any thread; servers in other threads get it when their loop comes round. Returns how many
        connections of this thread's servers took it. For subscribers with compression it is compressed once;
        `compress=False` leaves it as it is, and True compresses also what is below the threshold.
        """
        return self._hub.publish(topic, data, compress)

    def num_subscribers(self, topic: str) -> int:
        """How many connections are subscribed to the topic."""
        return self._hub.num_subscribers(topic)

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


def _callbacks(handler: object) -> Callbacks:
    if inspect.isclass(handler):
        handler = handler()
    callbacks: Callbacks = {name: getattr(handler, name, None) for name in CALLBACKS}
    if inspect.isroutine(handler) or (callable(handler) and all(one is None for one in callbacks.values())):
        callbacks = {**dict.fromkeys(CALLBACKS), "message": cast(Callable[..., Any], handler)}
    if all(one is None for one in callbacks.values()):
        raise TypeError(f"{handler!r} has none of the callbacks {', '.join(CALLBACKS)}")
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise TypeError(f"the callback {name} is not callable: {callback!r}")
    return callbacks


def _route(path: str, callbacks: Callbacks, options: Options) -> _speedups.Route:
    if options.binary == "view" and _is_async(callbacks["message"]):
        raise TypeError('binary="view" ends with the callback, so `message` cannot be an async def: use binary="bytes"')
    deflate = options.deflate
    # Most clients offer the same.
    agree = None if deflate is None else lru_cache(maxsize=64)(partial(negotiate, deflate))
    return _speedups.Route(path, callbacks, options, agree)


def _is_async(callback: object) -> bool:
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004
