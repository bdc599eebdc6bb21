"""Routes of plain HTTP, and what a request brings: its target, as path and query string."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import RawClient, Serving, echo, eventually, request_bytes

import fastws

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


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_http_other_methods(serve: Serving, method: str) -> None:
    app = fastws.App()
    app.http("/")(lambda request: fastws.Response())
    server = serve(app)
    client = ask(server.port, "/", method=method, headers=[("Content-Length", "5")], body=b"hello")
    assert client.expect_reject(405).headers["allow"] == "GET, HEAD, OPTIONS"
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
    server.settle()
    name = f"test_http_wrong_return_type.<locals>.{'later' if asynchronous else '<lambda>'}"
    told = f'the http callback of "/" ({__name__}.{name}) must return a fastws.Response, not {result!r}: write '
    assert serve.traps.records[0].getMessage() == told + "`return fastws.Response(200, ...)`"


@pytest.mark.parametrize("looks", range(6))
def test_http_result_whose_class_raises(serve: Serving, looks: int) -> None:
    """As that of a proxy object (werkzeug's LocalProxy) without its context does: the log has its exception."""

    class Proxy:
        left = looks

        @property
        def __class__(self) -> Any:
            self.left -= 1
            if self.left < 0:
                raise ZeroDivisionError
            return Proxy

        @__class__.setter
        def __class__(self, value: Any) -> None: ...

    app = fastws.App()
    app.http("/")(lambda request: Proxy())  # type: ignore[type-var]
    server = serve(app)
    serve.traps.expect(ZeroDivisionError)
    ask(server.port, "/").expect_reject(500)
    server.settle()


def test_http_callback_whose_attributes_are_code(serve: Serving) -> None:
    """It is asked for its name when it is decorated, not in the middle of a request."""

    class Proxy:
        asked = 0

        def __call__(self, request: fastws.Request) -> Any:
            raise ZeroDivisionError

        def __getattr__(self, name: str) -> Any:
            Proxy.asked += 1
            raise AttributeError(name)

    app = fastws.App()
    app.http("/")(Proxy())
    server = serve(app)
    asked = Proxy.asked
    serve.traps.expect(ZeroDivisionError)
    ask(server.port, "/").expect_reject(500)
    server.settle()
    assert (asked > 0, Proxy.asked) == (True, asked)
    assert f'exception in the http callback of "/" ({__name__}.' in serve.traps.records[0].getMessage()


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
    server.settle()
    where = f"{__name__}.{(fail_later if asynchronous else fail).__qualname__}"
    text = serve.traps.records[0].getMessage()
    assert text.startswith(f"exception in the http callback of \"/\" ({where}); a request for '/' of ('127.0.0.1', ")
    assert text.endswith(") is answered with 500")


@pytest.mark.parametrize("result", [{}, {"a": 1}, [1]])
def test_http_data_that_is_not_encoded(serve: Serving, result: Any) -> None:
    app = fastws.App()
    app.http("/")(lambda request: result)
    server = serve(app)
    serve.traps.expect(None)
    ask(server.port, "/").expect_reject(500)
    server.settle()
    assert serve.traps.records[0].getMessage().endswith(f"not {result!r}: write `return fastws.Response.json(...)`")


# What load balancers send: HTTP/1.0, OPTIONS. The bytes are those of the programs.

HEALTH_CHECKS = {
    "HAProxy, option httpchk": b"OPTIONS / HTTP/1.0\r\n\r\n",
    "HAProxy, option httpchk GET /": b"GET / HTTP/1.0\r\n\r\n",
    "nginx, proxy_pass": b"GET / HTTP/1.0\r\nHost: 127.0.0.1:8765\r\nConnection: close\r\n"
    b"User-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
    "nginx, proxy_pass to an upstream": b"GET / HTTP/1.0\r\nHost: app_servers\r\nConnection: close\r\n\r\n",
    "Apache, hcmethod=OPTIONS": b"OPTIONS * HTTP/1.0\r\nHost: 127.0.0.1:8765\r\n\r\n",
    "Apache, hcmethod=HEAD": b"HEAD / HTTP/1.0\r\nHost: 127.0.0.1:8765\r\n\r\n",
}


@pytest.mark.parametrize("program", HEALTH_CHECKS)
def test_health_checks(serve: Serving, program: str) -> None:
    asked: list[str] = []

    def health(request: fastws.Request) -> fastws.Response:
        asked.append(request.method)
        return fastws.Response(200, "well")

    app = fastws.App()
    app.http("/")(health)
    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(HEALTH_CHECKS[program])
    head = client.recv_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")  # RFC 9112 2.3: our version, whatever the client's
    assert b"\r\nConnection: close\r\n" in head
    method = HEALTH_CHECKS[program].split()[0].decode()
    assert (b"\r\nAllow: GET, HEAD, OPTIONS\r\n" in head) == (method == "OPTIONS")
    assert client.recv_until(b"well" if method == "GET" else b"") == (b"well" if method == "GET" else b"")
    client.expect_eof()
    assert asked == ([] if method == "OPTIONS" else [method])
    assert server.stats()["answered"] == 1


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_http_1_0_without_a_host_that_is_asked_for(serve: Serving, method: str) -> None:
    app = fastws.App(allowed_hosts=["good.example"])
    app.http("/")(lambda request: fastws.Response(200, "ok"))
    server = serve(app)
    for host, status in ((b"", 403), (b"Host: evil.example\r\n", 403), (b"Host: good.example\r\n", 200)):
        client = RawClient.connect(server.port)
        client.send_raw(method.encode() + b" / HTTP/1.0\r\n" + host + b"\r\n")
        client.expect_reject(status)


def test_http_1_1_needs_a_host(serve: Serving) -> None:
    app = fastws.App()
    app.http("/")(lambda request: fastws.Response())
    client = RawClient.connect(serve(app).port)
    client.send_raw(b"GET / HTTP/1.1\r\n\r\n")
    client.expect_reject(400)


def test_options_of_what_is_no_http_route(serve: Serving) -> None:
    app = fastws.App()
    app.websocket("/ws")(echo)
    server = serve(app)
    for line, status in (
        (b"OPTIONS /ws HTTP/1.1\r\nHost: a", 405),
        (b"OPTIONS /ws HTTP/1.0", 505),
        (b"OPTIONS /none HTTP/1.0", 404),
        (b"OPTIONS ** HTTP/1.0", 400),
    ):
        client = RawClient.connect(server.port)
        client.send_raw(line + b"\r\n\r\n")
        client.expect_reject(status)


def test_an_upgrade_in_http_1_0_where_there_is_only_http(serve: Serving) -> None:
    """RFC 9110 section 7.8: in 1.0 Upgrade is to be ignored."""
    app = fastws.App()
    app.http("/")(lambda request: fastws.Response(200, "plain"))
    client = RawClient.connect(serve(app).port)
    client.send_raw(request_bytes(version="HTTP/1.0"))
    assert client.expect_reject(200).body == b"plain"


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
    seen: list[tuple[str, ...]] = []

    class Handler:
        def upgrade(self, request: Any) -> None:
            seen.append((request.path, request.query_string, request.path_params["rest"], request.target))

        def open(self, ws: Any) -> None:
            seen.append((ws.path, ws.query_string, ws.path_params["rest"]))

    app.websocket("/{rest:path}")(Handler)
    server = serve(app)
    RawClient.open(server.port, target).close()
    assert seen == [(path, query, path[1:], target), (path, query, path[1:])]


@pytest.mark.parametrize(
    ("target", "path", "found"),
    [
        ("/chat/a%2Fb", "/chat/a/b", ("/chat/{room}", {"room": "a/b"})),
        ("/chat/%2f", "/chat//", ("/chat/{room}", {"room": "/"})),
        ("/chat/..%2F..%2fx", "/chat/../../x", ("/chat/{room}", {"room": "../../x"})),
        ("/chat/%2e%2e", "/chat/..", ("/chat/{room}", {"room": ".."})),
        ("/chat/a%252Fb", "/chat/a%2Fb", ("/chat/{room}", {"room": "a%2Fb"})),
        ("/chat/a%2Fb/", "/chat/a/b/", None),
        ("/chat//a", "/chat//a", None),
        ("/chat%2Fa", "/chat/a", None),
        ("/files/a%2Fb/c%20d", "/files/a/b/c d", ("/files/{rest:path}", {"rest": "a/b/c d"})),
        ("/%63af%C3%A9/x%20y", "/caf\xe9/x y", ("/caf\xe9/x%20y", {})),
        ("/caf%C3%A9%2Fx%20y", "/caf\xe9/x y", None),
        ("http://localhost/chat/a%2Fb?c%2Fd", "/chat/a/b", ("/chat/{room}", {"room": "a/b"})),
    ],
)
def test_segments_are_decoded_after_they_are_told_apart(
    serve: Serving, target: str, path: str, found: tuple[str, dict[str, str]] | None
) -> None:
    app = fastws.App()
    seen: list[Any] = []
    for pattern in ("/chat/{room}", "/files/{rest:path}", "/caf\xe9/x%20y"):

        def handler(ws: Any, data: str, pattern: str = pattern) -> None:
            seen.append((ws.path, (pattern, dict(ws.path_params))))

        def plain(request: Any, pattern: str = pattern) -> fastws.Response:
            seen.append((request.path, (pattern, dict(request.path_params))))
            return fastws.Response()

        app.websocket(pattern)(handler)
        app.http(pattern)(plain)
    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert client.recv_http().status == (200 if found else 404)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes(target))
    if found is None:
        client.expect_reject(404)
        assert seen == []
    else:
        client.expect_101()
        client.send("hello")
        eventually(lambda: seen == [(path, found)] * 2)


@pytest.mark.parametrize(
    "target",
    ["/a%", "/a%2", "/a%gg", "/a%00b", "/%2F%00", "/%ff", "/%C3%2F%A9", "/a#b", "*", "a", "ftp://x/y", "/?%"],
)
def test_malformed_targets(serve: Serving, target: str) -> None:
    app = fastws.App()
    app.websocket("/{rest:path}")(echo)
    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes(target))
    client.expect_reject(400)
