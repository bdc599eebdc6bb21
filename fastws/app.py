"""The application: routes, their callbacks and options, and the ways to run it."""

import asyncio
import inspect
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeVar, cast

from fastws import _speedups
from fastws.http import Request, Response
from fastws.options import Options
from fastws.routing import Router
from fastws.server import Server, open_sockets

T = TypeVar("T")
HttpCallback = Callable[[Request], Response | Awaitable[Response]]
Loop = Literal["auto", "uvloop", "asyncio"]

CALLBACKS = ("upgrade", "open", "message", "drain", "ping", "pong", "close")

log = logging.getLogger("fastws")


class App:
    """A set of routes. `App(**options)` sets the defaults of every route; see `fastws.Options`."""

    def __init__(self, **options: Any) -> None:
        self.options = Options().for_route({}) if not options else _options(options)
        self._websockets: Router[_speedups.Route] = Router()
        self._http: Router[HttpCallback] = Router()
        self._servers: list[Server] = []
        self._shortest = self.options.shortest_timeout()

    # routes

    def websocket(self, path: str, **options: Any) -> Callable[[T], T]:
        """Serve WebSocket connections at `path` ("/chat/{room}" has a parameter) with the decorated handler.

        The handler is a class, instantiated once without arguments, or any object, whose methods `upgrade`, `open`,
        `message`, `drain`, `ping`, `pong` and `close` are the callbacks, all of them optional; or a function or another
        callable without them, which is the `message` callback. `options` are those of this route. TypeError or
        ValueError for a handler without callbacks, an unknown option, a value out of range, a malformed path.
        """
        own = self.options.for_route(options)

        def register(handler: T) -> T:
            self._websockets.add(path, _route(handler, own))
            self._shortest = min(self._shortest, own.shortest_timeout())
            return handler

        return register

    def http(self, path: str) -> Callable[[T], T]:
        """Answer plain GET and HEAD requests at `path` with what the decorated function (`def` or `async def`) returns
        for a `Request`: a `Response`. For small answers; the connection is closed after each."""

        def register(callback: T) -> T:
            if not callable(callback):
                raise TypeError(f"an http callback is a function of the request, got {callback!r}")
            self._http.add(path, cast(HttpCallback, callback))
            return callback

        return register

    # running

    async def start(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8765,
        *,
        uds: str | None = None,
        sock: socket.socket | None = None,
        backlog: int = 4096,
        reuse_port: bool = False,
    ) -> Server:
        """Start to serve on the running event loop.

        host: a name or address, all whose addresses are bound; None or "" is every interface. port: 0 picks a free
        one, see `Server.port`. Or `uds`, the path of a Unix socket, or `sock`, a bound stream socket. OSError where an
        address cannot be bound.
        """
        sockets = await open_sockets(host, port, uds=uds, sock=sock, backlog=backlog, reuse_port=reuse_port)
        options = self.options
        service = _speedups.Service(
            find_websocket=self._websockets.find,
            find_http=self._http.find,
            allowed_hosts=options.allowed_hosts,
            max_header_size=options.max_header_size,
            max_request_line=options.max_request_line,
            max_headers=options.max_headers,
            handshake_timeout=options.handshake_timeout,
            close_timeout=options.close_timeout,
        )
        # Deadlines are kept to an eighth of the shortest, but nobody needs to be looked after more often than that.
        tick = min(max(self._shortest / 8, 0.01), 1.0)
        server = Server(service, sockets, tick=tick, on_stop=self._servers.remove)
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
        shutdown_timeout: float = 10.0,
    ) -> None:
        """Serve until SIGINT or SIGTERM; then close all connections with 1001 and return within `shutdown_timeout`
        seconds. A second signal ends at once. loop "auto" is uvloop where it is installed, else asyncio's own.
        """
        if not log.hasHandlers():
            logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
        _run(self._serve(host, port, uds, backlog, shutdown_timeout), loop)

    async def _serve(self, host: str | None, port: int, uds: str | None, backlog: int, shutdown_timeout: float) -> None:
        loop = asyncio.get_running_loop()
        first, second = asyncio.Event(), asyncio.Event()

        def interrupt() -> None:
            (second if first.is_set() else first).set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        server = await self.start(host, port, uds=uds, backlog=backlog)
        for url in server.urls:
            log.info("fastws listening on %s", url)
        await first.wait()
        log.info("stopping: %d connections to close", len(server.connections))
        stopping = asyncio.ensure_future(server.stop(shutdown_timeout))
        forced = asyncio.ensure_future(second.wait())
        await asyncio.wait((stopping, forced), return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            await server.stop(0)
        forced.cancel()
        await stopping

    # figures

    def stats(self) -> dict[str, int]:
        """What the app's servers hold and have done: connections accepted, sockets held, handshakes under way,
        connections open, bytes buffered for them (unsent output, input that waits, parts of messages)."""
        total = dict.fromkeys(("accepted", "sockets", "handshakes", "connections", "buffered_bytes"), 0)
        for server in self._servers:
            for name, value in server.stats().items():
                total[name] += value
        return total


def _options(options: dict[str, Any]) -> Options:
    try:
        return Options(**options)
    except TypeError as error:
        raise TypeError(str(error).replace("Options.__init__()", "App()")) from None


def _route(handler: object, options: Options) -> _speedups.Route:
    if inspect.isclass(handler):
        handler = handler()
    callbacks = {name: getattr(handler, name, None) for name in CALLBACKS}
    if inspect.isroutine(handler) or (callable(handler) and not any(callbacks.values())):
        callbacks = dict.fromkeys(CALLBACKS) | {"message": handler}
    if not any(callbacks.values()):
        raise TypeError(f"{handler!r} has none of the callbacks {', '.join(CALLBACKS)}")
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise TypeError(f"the callback {name} is not callable: {callback!r}")
    if options.binary == "view" and inspect.iscoroutinefunction(callbacks["message"]):
        raise TypeError('binary="view" ends with the callback, so `message` cannot be an async def: use binary="bytes"')
    return _speedups.Route(
        **callbacks,
        origins=options.origins,
        max_message_size=options.max_message_size,
        max_fragments=options.max_fragments,
        high_water=options.high_water,
        low_water=options.low_water,
        max_backpressure=options.max_backpressure,
        max_waiting=options.max_waiting,
        close_timeout=options.close_timeout,
        message_timeout=options.message_timeout,
        ping_interval=options.ping_interval,
        ping_timeout=options.ping_timeout,
        send_timeout=options.send_timeout,
        text_as_utf8=options.text == "utf8",
        binary_as_view=options.binary == "view",
        drop_when_slow=options.slow_consumer == "drop",
        keep_request=options.keep_request,
    )


def _run(main: Coroutine[Any, Any, None], loop: Loop) -> None:
    if loop not in ("auto", "uvloop", "asyncio"):
        raise ValueError(f"loop={loop!r} is not known: give 'auto', 'uvloop' or 'asyncio'")
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError:
            if loop == "uvloop":
                main.close()
                raise
        else:
            uvloop.run(main)
            return
    asyncio.run(main)
