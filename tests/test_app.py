"""The application: what can be decorated, what each kind of route answers, what a callback sees of its connection."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import logging
import pickle
import socket
import weakref
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from harness import RawClient, Recorder, Serving, eventually, new_loop, open_fds, request_bytes

import fastws
from fastws import _speedups
from fastws.tasks import Starter

# Decorators


class Callable_:
    def __call__(self, ws: Any, data: Any) -> None:
        ws.send(data)


class AsyncCallable:
    async def __call__(self, ws: Any, data: Any) -> None:
        await asyncio.sleep(0)
        ws.send(data)


class WithMethods:
    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)


class WithAttributes:
    def __init__(self) -> None:
        self.message = lambda ws, data: ws.send(data)
        self.open = None  # counts as absent


class Static:
    @staticmethod
    def message(ws: Any, data: Any) -> None:
        ws.send(data)

    @classmethod
    async def open(cls, ws: Any) -> None:
        assert cls is Static


def echo(ws: Any, data: Any) -> None:
    ws.send(data)


async def echo_later(ws: Any, data: Any) -> None:
    await asyncio.sleep(0)
    ws.send(data)


def echo_with(prefix: str, ws: Any, data: Any) -> None:
    ws.send(prefix + data)


def with_attributes() -> Any:
    def function(ws: Any, data: Any) -> None:
        ws.send(data)

    function.open = 5  # type: ignore[attr-defined]
    return function


HANDLERS: dict[str, Any] = {
    "class": WithMethods,
    "instance": WithMethods(),
    "attributes": WithAttributes(),
    "static": Static,
    "function": echo,
    "async function": echo_later,
    "lambda": lambda ws, data: ws.send(data),
    "partial": functools.partial(echo_with, ""),
    "async partial": functools.partial(echo_later),
    "callable": Callable_(),
    "class of callables": Callable_,
    "async callable": AsyncCallable(),
    "bound method": WithMethods().message,
    "function with attributes": with_attributes(),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_handlers(serve: Serving, name: str) -> None:
    app = fastws.App()
    assert app.websocket("/")(HANDLERS[name]) is HANDLERS[name]
    server = serve(app)
    with RawClient.open(server.port) as client:
        client.send("hello")
        assert client.recv() == "hello"


def test_a_class_is_instantiated_once(serve: Serving) -> None:
    made = []
    app = fastws.App()

    @app.websocket("/")
    class Handler:
        def __init__(self) -> None:
            made.append(self)

        def message(self, ws: Any, data: Any) -> None:
            ws.send(f"{len(made)} {self is made[0]}")

    server = serve(app)
    for _ in range(3):
        with RawClient.open(server.port) as client:
            client.send("?")
            assert client.recv() == "1 True"


class Nothing:
    pass


class NotCallable:
    message = "hello"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (Nothing, "has none of the callbacks upgrade, open, message, drain, ping, pong, close"),
        (Nothing(), "has none of the callbacks"),
        (None, "None has none of the callbacks"),
        (5, "5 has none of the callbacks"),
        ("echo", "'echo' has none of the callbacks"),
        (NotCallable, "the callback message is not callable: 'hello'"),
    ],
)
def test_handlers_that_are_none(handler: Any, message: str) -> None:
    app = fastws.App()
    with pytest.raises(TypeError) as caught:
        app.websocket("/")(handler)
    assert message in str(caught.value)
    app.websocket("/")(echo)  # nothing was left there


def test_a_class_that_needs_arguments() -> None:
    class Handler:
        def __init__(self, database: Any) -> None:
            pass

        message = echo

    with pytest.raises(TypeError, match="database"):
        fastws.App().websocket("/")(Handler)


@pytest.mark.parametrize("handler", [echo_later, AsyncCallable(), AsyncCallable, functools.partial(echo_later)])
def test_a_view_ends_with_the_callback(handler: Any) -> None:
    app = fastws.App(binary="view")
    with pytest.raises(TypeError, match=r'binary="view" ends with the callback.*: use binary="bytes"'):
        app.websocket("/")(handler)
    app.websocket("/", binary="bytes")(handler)


def test_wrong_options_of_a_route() -> None:
    app = fastws.App()
    with pytest.raises(TypeError, match="unknown option 'max_size': the options are allowed_hosts, binary, "):
        app.websocket("/", max_size=5)
    with pytest.raises(ValueError, match="max_message_size=-1 is out of range: give 0 to "):
        app.websocket("/", max_message_size=-1)
    with pytest.raises(TypeError, match="allowed_hosts is an option of the whole App, not of one route"):
        app.websocket("/", allowed_hosts=["a"])


def test_wrong_paths() -> None:
    app = fastws.App()
    app.websocket("/a/{b}")(echo)
    app.http("/a/{b}")(lambda request: fastws.Response())  # each kind has paths of its own
    for add in (app.websocket, app.http):
        with pytest.raises(ValueError, match="pattern already"):
            add("/a/{c}")(echo)
        with pytest.raises(ValueError, match="'a' does not start with a slash"):
            add("a")(echo)
        with pytest.raises(ValueError, match="a parameter is a whole segment"):
            add("/x{y}")(echo)


def test_an_http_callback_is_a_function() -> None:
    app = fastws.App()
    wrong: list[Any] = [None, fastws.Response(), "ok"]
    for callback in wrong:
        with pytest.raises(TypeError, match="an http callback is a function of the request, got "):
            app.http("/")(callback)


# Options


def test_options_of_the_app_and_of_a_route(serve: Serving) -> None:
    app = fastws.App(max_message_size=10, text="utf8")
    seen = []

    def note(ws: Any, data: Any) -> None:
        seen.append(data)
        ws.send(b"got")

    app.websocket("/app")(note)
    app.websocket("/route", max_message_size=20, text="str")(note)
    server = serve(app)
    for path, limit in (("/app", 10), ("/route", 20)):
        client = RawClient.open(server.port, path)
        client.send("x" * limit)
        assert client.recv() == b"got"
        client.send("x" * (limit + 1))
        client.expect_close(1009, reason=b"message over max_message_size")
    assert seen == [b"x" * 10, "x" * 20]


def test_routes_that_are_added_while_serving(serve: Serving) -> None:
    app = fastws.App()
    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/late"))
    client.expect_reject(404)
    server.call(lambda: app.websocket("/late")(echo) and None)
    RawClient.open(server.port, "/late").close()


# Plain HTTP


def ask(port: int, path: str, *, method: str = "GET", headers: Any = (), body: bytes = b"") -> RawClient:
    client = RawClient.connect(port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "localhost"), *headers])
    client.send_raw(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    return client


def test_http(serve: Serving) -> None:
    app = fastws.App()

    @app.http("/def")
    def plain(request: fastws.Request) -> fastws.Response:
        return fastws.Response(201, f"{request.method} {request.path}", headers={"X-A": "b"})

    @app.http("/async/{name}")
    async def later(request: fastws.Request) -> fastws.Response:
        await asyncio.sleep(0.01)
        return fastws.Response(200, request.path_params["name"].encode(), content_type="text/html")

    @app.http("/at-once")
    async def at_once(request: fastws.Request) -> fastws.Response:
        return fastws.Response(204)

    server = serve(app)
    response = ask(server.port, "/def").expect_reject(201)
    assert (response.body, response.headers["x-a"]) == (b"GET /def", "b")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    response = ask(server.port, "/async/f%C3%BCr").expect_reject(200)
    assert (response.body, response.headers["content-type"]) == ("für".encode(), "text/html")
    client = ask(server.port, "/at-once")
    assert client.recv_until(b"\r\n\r\n") == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    client.expect_eof()


def test_http_head(serve: Serving) -> None:
    app = fastws.App()
    app.http("/")(lambda request: fastws.Response(200, request.method * 100))
    client = ask(serve(app).port, "/", method="HEAD")
    head = client.recv_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 400\r\n" in head
    client.expect_eof()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_http_other_methods(serve: Serving, method: str) -> None:
    app = fastws.App()
    app.http("/")(lambda request: fastws.Response())
    server = serve(app)
    client = ask(server.port, "/", method=method, headers=[("Content-Length", "5")], body=b"hello")
    assert client.expect_reject(405).headers["allow"] == "GET, HEAD"
    ask(server.port, "/nowhere", method=method).expect_reject(404)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("result", [None, "ok", b"ok", (200, b"ok"), 200, fastws.Response])
def test_http_wrong_return_type(serve: Serving, result: Any, asynchronous: bool) -> None:
    app = fastws.App()

    async def later(request: Any) -> Any:
        await asyncio.sleep(0)
        return result

    app.http("/")(later if asynchronous else lambda request: result)
    server = serve(app)
    serve.traps.expect(None)
    assert ask(server.port, "/").expect_reject(500).body == b"internal error\n"
    assert f"the http callback must return a fastws.Response, not {result!r}" in serve.traps.records[0].getMessage()


@pytest.mark.parametrize("body", [5, None, [1, 2], {}, True])
def test_http_bodies_that_are_none(body: Any) -> None:
    with pytest.raises(TypeError, match="bytes-like"):
        fastws.Response(200, body)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_http_exceptions_tell_nothing(serve: Serving, asynchronous: bool) -> None:
    app = fastws.App()

    def fail(request: Any) -> Any:
        raise ZeroDivisionError("the password is 12345")

    async def fail_later(request: Any) -> Any:
        await asyncio.sleep(0)
        fail(request)

    app.http("/")(fail_later if asynchronous else fail)
    server = serve(app)
    serve.traps.expect(ZeroDivisionError)
    response = ask(server.port, "/").expect_reject(500)
    assert response.body == b"internal error\n"
    assert "12345" not in str(response)
    assert serve.traps.records[0].getMessage() == "exception in the http callback"


def test_one_path_for_both(serve: Serving) -> None:
    app = fastws.App()
    app.websocket("/{room}")(lambda ws, data: ws.send(ws.path_params["room"]))
    app.http("/{page}")(lambda request: fastws.Response(200, request.path_params["page"]))
    server = serve(app)
    assert ask(server.port, "/x").expect_reject(200).body == b"x"
    client = RawClient.open(server.port, "/y")
    client.send("?")
    assert client.recv() == "y"


def test_an_upgrade_where_there_is_only_http(serve: Serving) -> None:
    app = fastws.App()
    app.http("/")(lambda request: fastws.Response(200, "plain"))
    client = RawClient.connect(serve(app).port)
    client.send_raw(request_bytes())
    assert client.expect_reject(200).body == b"plain"


def test_a_plain_request_where_there_is_only_a_websocket(serve: Serving) -> None:
    app = fastws.App()
    app.websocket("/")(echo)
    response = ask(serve(app).port, "/").expect_reject(426)
    assert response.headers["upgrade"] == "websocket"


# What a request brings


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a", "/a", ""),
        ("/a?", "/a", ""),
        ("/a?x=1&y=%20", "/a", "x=1&y=%20"),
        ("/a?x?y/z", "/a", "x?y/z"),
        ("/a%2Fb/c%20d", "/a/b/c d", ""),
        ("/%C3%BC", "/ü", ""),
        ("//a//", "//a//", ""),
        ("/a/../b/./c", "/a/../b/./c", ""),
        ("http://localhost/a?b", "/a", "b"),
        ("ws://localhost?b", "/", "b"),
        ("/%25", "/%", ""),
    ],
)
def test_targets(serve: Serving, target: str, path: str, query: str) -> None:
    app = fastws.App()
    seen = []

    class Handler:
        def upgrade(self, request: Any) -> None:
            seen.append((request.path, request.query_string, request.path_params["rest"], request.target))

        def open(self, ws: Any) -> None:
            seen.append((ws.path, ws.query_string, ws.path_params["rest"]))

    app.websocket("/{rest:path}")(Handler)
    server = serve(app)
    RawClient.open(server.port, target).close()
    assert seen == [(path, query, path[1:], target), (path, query, path[1:])]


@pytest.mark.parametrize("target", ["/a%", "/a%2", "/a%gg", "/a%00b", "/%ff", "/a#b", "*", "a", "ftp://x/y", "/?%"])
def test_malformed_targets(serve: Serving, target: str) -> None:
    app = fastws.App()
    app.websocket("/{rest:path}")(echo)
    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes(target))
    client.expect_reject(400)


# The upgrade hook


def upgrading(hook: Any, asynchronous: bool) -> fastws.App:
    app = fastws.App()

    class Handler:
        def message(self, ws: Any, data: Any) -> None:
            ws.send(f"{ws.subprotocol} {ws.data}")

        if asynchronous:

            async def upgrade(self, request: Any) -> Any:
                await asyncio.sleep(0.01)
                return hook(request)

        else:

            def upgrade(self, request: Any) -> Any:
                return hook(request)

    app.websocket("/")(Handler)
    return app


@pytest.mark.parametrize("asynchronous", [False, True])
def test_accept(serve: Serving, asynchronous: bool) -> None:
    def hook(request: fastws.Request) -> Any:
        return request.accept(subprotocol="b", data={"user": 5}, headers=[("X-A", "1"), ("X-B", "ä")])

    server = serve(upgrading(hook, asynchronous))
    client = RawClient.connect(server.port)
    response = client.handshake(headers=[("Sec-WebSocket-Protocol", "a, b")])
    assert response.headers["sec-websocket-protocol"] == "b"
    assert (response.headers["x-a"], response.headers["x-b"]) == ("1", "ä")
    client.send("?")
    assert client.recv() == "b {'user': 5}"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_none_accepts(serve: Serving, asynchronous: bool) -> None:
    client = RawClient.connect(serve(upgrading(lambda request: None, asynchronous)).port)
    response = client.handshake(headers=[("Sec-WebSocket-Protocol", "a")])
    assert set(response.headers) == {"upgrade", "connection", "sec-websocket-accept"}
    client.send("?")
    assert client.recv() == "None None"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_reject(serve: Serving, asynchronous: bool) -> None:
    def hook(request: fastws.Request) -> Any:
        return request.reject(401, "who are you?", headers={"WWW-Authenticate": "Basic"}, reason="Stop")

    client = RawClient.connect(serve(upgrading(hook, asynchronous)).port)
    client.send_raw(request_bytes())
    response = client.expect_reject(401)
    assert response.body == b"who are you?"
    assert response.headers["www-authenticate"] == "Basic"


def test_a_response_rejects_too(serve: Serving) -> None:
    client = RawClient.connect(serve(upgrading(lambda request: fastws.Response(302), False)).port)
    client.send_raw(request_bytes())
    client.expect_reject(302)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("result", [True, False, 403, "no", {}])
def test_wrong_return_type(serve: Serving, result: Any, asynchronous: bool) -> None:
    server = serve(upgrading(lambda request: result, asynchronous))
    serve.traps.expect(None)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes())
    assert client.expect_reject(500).body == b"internal error\n"
    expected = f"must return request.accept(), request.reject() or None, not {result!r}"
    assert expected in serve.traps.records[0].getMessage()


def test_keep_request(serve: Serving) -> None:
    app = fastws.App(keep_request=True)
    sockets: list[Any] = []

    class Handler:
        def open(self, ws: Any) -> None:
            sockets.append(ws)

    app.websocket("/kept")(Handler)
    app.websocket("/not", keep_request=False)(Handler)
    server = serve(app)
    kept = RawClient.open(server.port, "/kept?q=1", headers=[("Cookie", "a=b")])
    RawClient.open(server.port, "/not").close()
    request = sockets[0].request
    assert isinstance(request, fastws.Request)
    assert (request.method, request.path, request.cookies, request.query_params) == (
        "GET",
        "/kept",
        {"a": "b"},
        {"q": "1"},
    )
    assert request.remote_address == kept.sock.getsockname()
    assert request.local_address == ("127.0.0.1", server.port)
    assert sockets[1].request is None


# What a callback sees of its connection


def test_attributes(serve: Serving) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler(echo=True))
    server = serve(app)
    clients = [RawClient.open(server.port) for _ in range(20)]
    eventually(lambda: len(recorder.sockets) == 20)
    sockets = recorder.sockets
    assert len({ws.id for ws in sockets}) == 20
    for client, ws in zip(clients, sockets, strict=True):
        assert server.call(lambda ws=ws: ws.remote_address) == client.sock.getsockname()
        assert server.call(lambda ws=ws: ws.local_address) == ("127.0.0.1", server.port)
        assert repr(ws) == f"<fastws.WebSocket id={ws.id} path='/' OPEN>"
    ws = sockets[0]
    assert (ws.path, ws.path_params, ws.query_string) == ("/", {}, "")
    assert (ws.subprotocol, ws.request, ws.data) == (None, None, None)
    assert (ws.buffered_amount, ws.is_text) == (0, False)
    with pytest.raises(TypeError):
        ws.path_params["a"] = "b"
    assert isinstance(ws.path_params, MappingProxyType)
    ws.data = [ws]  # a cycle, which the collector must be able to break
    del ws, client
    for client in clients:
        client.close()
    eventually(lambda: server.stats()["sockets"] == 0)
    left = [weakref.ref(ws) for ws in sockets]
    sockets.clear()
    gc.collect()
    server.settle()
    assert [ref() for ref in left if ref() is not None] == []


def test_ready_state_through_its_life(serve: Serving) -> None:
    app = fastws.App(close_timeout=5)
    seen: list[Any] = []
    sockets: list[Any] = []

    class Handler:
        def open(self, ws: Any) -> None:
            sockets.append(ws)
            seen.append(ws.ready_state)

        def message(self, ws: Any, data: Any) -> None:
            ws.close(3000, "bye")
            seen.append(ws.ready_state)

        def close(self, ws: Any, code: int, reason: str) -> None:
            seen.extend([ws.ready_state, code, reason])

    app.websocket("/")(Handler)
    server = serve(app)
    client = RawClient.open(server.port)
    client.send("close")
    assert client.recv_frame().opcode == 8
    assert server.call(lambda: sockets[0].ready_state) is fastws.ReadyState.CLOSING
    client.send_close(3000)
    assert client.eof()
    state = fastws.ReadyState
    eventually(lambda: seen == [state.OPEN, state.CLOSING, state.CLOSED, 3000, "bye"], 2, f"{seen}")
    assert repr(sockets[0]).endswith("path='/' CLOSED>")
    client.close()
    eventually(lambda: server.call(lambda: sockets[0].local_address) is None)
    assert sockets[0].remote_address[0] == "127.0.0.1"


def on_loop(loop_kind: str, coroutine: Any) -> Any:
    loop = new_loop(loop_kind)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def test_addresses_ipv6(loop_kind: str, traps: Any, no_leaked_fds: None) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler(upgrade=True))

    async def main() -> None:
        async with await app.start("::1", 0) as server:
            assert server.urls == [f"http://[::1]:{server.port}"]
            loop = asyncio.get_running_loop()
            sock = socket.create_connection(("::1", server.port))
            client = RawClient(sock)
            await loop.run_in_executor(None, client.handshake)
            peer = ("::1", sock.getsockname()[1])
            assert recorder.sockets[0].remote_address == recorder.requests[0].remote_address == peer
            assert recorder.sockets[0].local_address == ("::1", server.port)
            client.close()
        await loop.shutdown_default_executor()

    on_loop(loop_kind, main())


def test_addresses_unix(loop_kind: str, traps: Any, no_leaked_fds: None, tmp_path: Path) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler(upgrade=True))

    async def main() -> None:
        path = str(tmp_path / "socket")
        async with await app.start(uds=path) as server:
            assert (server.port, server.urls) == (0, [f"unix:{path}"])
            loop = asyncio.get_running_loop()
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            client = RawClient(sock)
            await loop.run_in_executor(None, client.handshake)
            assert recorder.sockets[0].remote_address is recorder.requests[0].remote_address is None
            assert recorder.sockets[0].local_address is recorder.requests[0].local_address is None
            client.close()
        await loop.shutdown_default_executor()

    on_loop(loop_kind, main())


# Misuse: an exception, never a crash


READ_ONLY = [
    *("id", "path", "path_params", "query_string", "subprotocol", "request"),
    *("ready_state", "remote_address", "local_address", "buffered_amount", "is_text"),
]


def test_read_only(serve: Serving) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler())
    server = serve(app)
    client = RawClient.open(server.port)
    eventually(lambda: recorder.sockets)
    ws = recorder.sockets[0]

    def misuse() -> None:
        for name in READ_ONLY:
            for change in (lambda name=name: setattr(ws, name, None), lambda name=name: delattr(ws, name)):
                with pytest.raises(AttributeError):
                    change()
        for name in ("fd", "phase", "anything", "_reactor"):
            with pytest.raises(AttributeError):
                setattr(ws, name, 1)
        for refuse in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                refuse(ws)
        for compare in (lambda: ws < client, lambda: len(ws), lambda: iter(ws)):
            with pytest.raises(TypeError):
                compare()
        assert ws == ws  # noqa: PLR0124
        assert {ws: 1}[ws] == 1

    server.call(misuse)
    client.send_close()
    client.expect_close(1000)
    eventually(lambda: recorder.events[-1] == ("close", 1000, ""))


def test_a_websocket_is_made_by_the_server_only() -> None:
    before = open_fds()
    with pytest.raises(TypeError):
        fastws.WebSocket()
    with pytest.raises(TypeError):
        fastws.WebSocket(None)
    with pytest.raises(TypeError):
        fastws.WebSocket.__new__(fastws.WebSocket)
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Mine", (fastws.WebSocket,), {})
    assert open_fds() == before  # not even standard input is closed


def route_arguments(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = dict.fromkeys(("upgrade", "open", "message", "drain", "ping", "pong", "close"))
    arguments |= {"origins": None, "max_message_size": 1, "max_fragments": 1, "high_water": 1, "low_water": 1}
    arguments |= {"max_backpressure": 1, "max_waiting": 1, "close_timeout": 1, "message_timeout": 1}
    arguments |= {"ping_interval": 1, "ping_timeout": 1, "send_timeout": 1, "text_as_utf8": False}
    arguments |= {"binary_as_view": False, "drop_when_slow": False, "keep_request": False}
    return arguments | changes


def service_arguments(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"find_websocket": print, "find_http": print, "allowed_hosts": None}
    arguments |= {"max_header_size": 1, "max_request_line": 1, "max_headers": 1}
    return arguments | {"handshake_timeout": 1, "close_timeout": 1} | changes


def test_wrong_arguments_of_the_core() -> None:
    before = open_fds()
    _speedups.Route(**route_arguments())
    _speedups.Service(**service_arguments())
    cases: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (_speedups.Route, (), {}),
        (_speedups.Route, (None,), route_arguments()),
        (_speedups.Route, (), route_arguments(max_message_size=-1)),
        (_speedups.Route, (), route_arguments(max_fragments=2**32)),
        (_speedups.Route, (), route_arguments(high_water="1")),
        (_speedups.Route, (), route_arguments(close_timeout=None)),
        (_speedups.Route, (), route_arguments(unknown=1)),
        (_speedups.Service, (), {}),
        (_speedups.Service, (), service_arguments(max_header_size=-1)),
        (_speedups.Service, (), service_arguments(handshake_timeout="1")),
        (_speedups.Reactor, (), {}),
        (_speedups.Reactor, (None, None, None, 1.0), {}),
        (_speedups.Reactor, (object(), None, None, "1"), {}),
        (_speedups.listen, (None, None, None), {}),
        (_speedups.count_connections, (None,), {}),
        (_speedups.list_connections, (5,), {}),
        (_speedups.close_all, (None, 1001, ""), {}),
        (_speedups.terminate_all, (None,), {}),
        (_speedups.stats, (None,), {}),
    ]
    for function, arguments, options in cases:
        with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
            function(*arguments, **options)
    for refuse in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError):
            refuse(_speedups.Route(**route_arguments()))
    gc.collect()  # the traceback of a reactor that could not be made holds it
    assert open_fds() == before


def test_every_type_of_the_core_can_be_poked(loop_kind: str, traps: Any, no_leaked_fds: None) -> None:
    """Every class of the extension is made in every way that works, and all that can be called without or with simple
    arguments is called. Whatever it answers, the interpreter must live."""
    kinds = [value for value in vars(_speedups).values() if isinstance(value, type)]
    kinds = [kind for kind in kinds if kind.__module__ == "fastws._speedups"]
    assert {"WebSocket", "Reactor", "Route", "Service", "Listener", "Window"} <= {kind.__name__ for kind in kinds}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reactor = _speedups.Reactor(loop, Starter(loop), logging.getLogger("poked"), 0.01)
        service = _speedups.Service(**service_arguments())
        limits = service.head_limits  # type: ignore[attr-defined]
        sock = socket.socket()
        simple = [(), (None,), (64,), (1, 1, 1), (reactor,), (reactor, None), (reactor, service), (limits,)]
        for kind in kinds:
            for arguments in (*simple, (reactor, sock, service)):
                try:
                    made = kind.__new__(kind, *arguments)
                except (TypeError, AttributeError, ValueError, OverflowError):
                    continue
                poke(made)
        sock.close()
        reactor.close()
        reactor.close()
        poke(reactor)
        await asyncio.sleep(0.05)

    on_loop(loop_kind, main())


def poke(thing: Any) -> None:
    if isinstance(thing, type(None)):
        return
    for name in dir(thing):
        if name.startswith("__") and name not in ("__repr__", "__hash__", "__sizeof__"):
            continue
        try:
            found = getattr(thing, name)
        except (AttributeError, TypeError, ValueError):
            continue
        if not callable(found):
            continue
        for arguments in ((), (None,), (None, None), (b"x",), ("x", "y"), (1000, "")):
            try:
                found(*arguments)
            except Exception:
                pass
    try:
        memoryview(thing)
    except (TypeError, BufferError, ValueError):
        pass


# Figures


def test_stats(serve: Serving) -> None:
    app = fastws.App()
    app.websocket("/")(echo)
    zero = {"accepted": 0, "sockets": 0, "handshakes": 0, "connections": 0, "buffered_bytes": 0}
    assert app.stats() == zero
    server = serve(app)
    other = serve(app)
    assert server.stats() == zero
    clients = [RawClient.open(one.port) for one in (server, server, other)]
    half = RawClient.connect(server.port)
    half.send_raw(b"GET /")
    eventually(lambda: server.call(server.server.stats)["buffered_bytes"] == 5)
    assert server.call(server.server.stats) == {
        "accepted": 3,
        "sockets": 3,
        "handshakes": 1,
        "connections": 2,
        "buffered_bytes": 5,
    }
    assert other.call(other.server.stats)["connections"] == 1
    for client in (*clients, half):
        client.close()
    eventually(lambda: not server.call(server.server.stats)["sockets"])
    other.stop()
    assert app.stats() == {**zero, "accepted": 3}
