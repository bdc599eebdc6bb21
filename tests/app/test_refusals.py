"""What the log says of a request that was refused: route and callback where it was the application's doing, and how to
set it right where it may be a mistake."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from pathlib import Path
from typing import Any

import pytest
from harness import RawClient, ServerThread, Serving, eventually, make_app, request_bytes

import fastws
from fastws.routing import Router, Suggestion


class Chat:
    def upgrade(self, request: fastws.Request) -> Any:
        return request.reject(401) if request.query_string == "reject" else None

    def message(self, ws: Any, data: Any) -> None: ...


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "fastws")
    return caplog


def serving(serve: Serving, **options: Any) -> ServerThread:
    app = make_app(**options)
    app.websocket("/chat/{room}")(Chat)
    app.http("/plain")(lambda request: fastws.Response())
    return serve(app)


def refused(server: ServerThread, log: pytest.LogCaptureFixture, wire: bytes, status: int) -> logging.LogRecord:
    """The line about it, without whom it is about."""
    log.clear()
    client = RawClient.connect(server.port)
    peer = client.sock.getsockname()
    client.send_raw(wire)
    client.expect_reject(status)
    server.settle()
    [record] = [record for record in log.records if record.name == "fastws"]
    before, who, line = record.getMessage().partition(f"refused {peer}: {status}")
    assert (before, bool(who)) == ("", True), record.getMessage()
    record.msg, record.args = line.lstrip(", "), ()
    return record


@pytest.mark.parametrize(
    ("wire", "status", "line"),
    [
        (
            request_bytes("/chat/a?token=secret", headers=[("Origin", "http://localhost:3000")]),
            403,
            "this Origin is not allowed; path '/chat/a'; Origin 'http://localhost:3000', Host 'localhost': if that "
            "page is yours, allow it with origins=['http://localhost:3000']",
        ),
        (
            request_bytes("/chat/a", headers=[("Origin", "null")]),
            403,
            "this Origin is not allowed; path '/chat/a'; Origin 'null', Host 'localhost': a page out of a file has "
            "that Origin; open it over HTTP, or allow ['null']",
        ),
        (request_bytes("/chat/a", headers=[("Origin", "a")] * 2), 403, "more than one Origin; path '/chat/a'"),
        (
            request_bytes("/chat/a", host="www.example:80"),
            403,
            "this Host is not served here; path '/chat/a'; Host 'www.example:80': if it is yours, add it to "
            "allowed_hosts",
        ),
        (
            b"GET /plain HTTP/1.0\r\n\r\n",
            403,
            "this Host is not served here; path '/plain'; Host '': if it is yours, add it to allowed_hosts",
        ),
        (
            request_bytes("/chat/a", without=("upgrade", "connection")),
            426,
            "this address speaks WebSocket; path '/chat/a'; this has no Upgrade header, which a proxy in front of it "
            "must pass on",
        ),
        (
            request_bytes("/chat/a", headers=[("Sec-WebSocket-Version", "8")], without=("sec-websocket-version",)),
            426,
            "only version 13 is spoken here; path '/chat/a'",
        ),
        (
            request_bytes("/chat/a", version="HTTP/1.0"),
            505,
            "a WebSocket handshake is HTTP/1.1; path '/chat/a'; a proxy in front of it may have to be set to HTTP/1.1",
        ),
        (request_bytes("/chat/a", key=b"x"), 400, None),
        (request_bytes("/chat/a", method="POST"), 405, "a WebSocket handshake is a GET; path '/chat/a'"),
        (
            b"POST /plain HTTP/1.1\r\nHost: localhost\r\n\r\n",
            405,
            "only GET, HEAD and OPTIONS are answered here; path '/plain'",
        ),
        (b"GET /plane HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "nothing is served at this path; path '/plane'"),
        (request_bytes("/"), 404, "nothing is served at this path; path '/'"),
        (
            request_bytes("/chat/a/"),
            404,
            "nothing is served at this path; path '/chat/a/'; did you mean '/chat/{room}'?",
        ),
        (request_bytes("/\0"), 400, "the request is malformed"),
    ],
)
def test_the_line_of_a_refusal(
    serve: Serving, log: pytest.LogCaptureFixture, wire: bytes, status: int, line: str | None
) -> None:
    record = refused(serving(serve, allowed_hosts=["localhost"]), log, wire, status)
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith("; path '/chat/a'") if line is None else record.getMessage() == line


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (request_bytes("/%0d%0aERROR:%20forged%1b%5b2J%c2%9b2J%e2%80%ae" + "x" * 5000), 404),
        (request_bytes("/chat/a", headers=[("Origin", "http://\x9b2J\xff" + "x" * 5000)]), 403),
        (request_bytes("/chat/a", host="x" * 5000), 403),
        (request_bytes("/chat/" + "%0a" * 1500 + "?reject"), 401),
    ],
)
def test_what_a_peer_has_sent_is_escaped_and_cut_short(
    serve: Serving, log: pytest.LogCaptureFixture, wire: bytes, status: int
) -> None:
    line = refused(serving(serve, allowed_hosts=["localhost"]), log, wire, status).getMessage()
    assert line.isascii()
    assert line.isprintable()
    assert 200 < len(line) < 900
    if status == 404:
        assert "'/\\r\\nERROR: forged\\x1b[2J\\x9b2J\\u202exxx" in line


def test_a_refusal_by_the_app_is_logged_for_debugging(serve: Serving, log: pytest.LogCaptureFixture) -> None:
    record = refused(serving(serve), log, request_bytes("/chat/a?reject"), 401)
    assert record.levelno == logging.DEBUG
    assert (
        record.getMessage()
        == f"by the upgrade callback of \"/chat/{{room}}\" ({__name__}.Chat.upgrade); path '/chat/a'"
    )


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", ["upgrade", "http"])
def test_a_traceback_begins_in_the_users_file(serve: Serving, kind: str, asynchronous: bool) -> None:
    class Broken:
        def decide(self, request: Any) -> Any:
            return request.path_params["user"]

        async def decide_later(self, request: Any) -> Any:
            await asyncio.sleep(0)
            return self.decide(request)

        def message(self, ws: Any, data: Any) -> None: ...

    app, broken = fastws.App(), Broken()
    decide: Any = broken.decide_later if asynchronous else broken.decide
    if kind == "http":
        app.http("/there")(decide)
    else:
        app.websocket("/there")(type("Handler", (Broken,), {"upgrade": staticmethod(decide)}))
    server = serve(app)
    serve.traps.expect(KeyError)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/there"))
    client.expect_reject(500)
    server.settle()
    [record] = serve.traps.records
    told = f'exception in the {kind} callback of "/there" ({__name__}.{decide.__qualname__}); a request for '
    assert record.getMessage().startswith(told)
    assert record.exc_info
    names = [frame.name for frame in traceback.extract_tb(record.exc_info[2])]
    assert names == (["decide_later", "decide"] if asynchronous else ["decide"])
    serve.traps.records[0].exc_info = KeyError, KeyError("user"), None


def test_an_answer_that_breaks_in_our_code_keeps_its_traceback(serve: Serving) -> None:
    app = fastws.App()

    @app.http("/")
    def answer(request: Any) -> fastws.Response:
        response = fastws.Response()
        response.reason = "\r\n"
        return response

    server = serve(app)
    serve.traps.expect(ValueError)
    client = RawClient.connect(server.port)
    client.send_raw(b"GET / HTTP/1.0\r\n\r\n")
    client.expect_reject(500)
    server.settle()
    [record] = serve.traps.records
    assert record.getMessage().startswith(f'exception in the http callback of "/" ({__name__}.test_an_answer')
    assert record.exc_info
    assert traceback.extract_tb(record.exc_info[2])[-1].name == "encode"


def test_an_exception_before_a_callback_is_called(serve: Serving) -> None:
    """It is put down to no callback."""

    class Hosts(list[str]):
        def __contains__(self, host: object) -> bool:
            raise LookupError

    server = serving(serve, allowed_hosts=Hosts(["localhost"]))
    serve.traps.expect(LookupError)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/chat/a"))
    client.expect_reject(500)
    server.settle()
    assert serve.traps.records[0].getMessage() == "exception in judging a request; path '/chat/a'"


@pytest.mark.parametrize("kind", ["upgrade", "http"])
def test_a_callback_that_takes_too_long_is_named(serve: Serving, log: pytest.LogCaptureFixture, kind: str) -> None:
    ended: list[str] = []

    async def slow(request: Any) -> Any:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    app = make_app(handshake_timeout=5, http_timeout=12)
    app.websocket("/slow")(type("Handler", (), {"upgrade": staticmethod(slow), "open": print}))
    app.http("/plain")(slow)
    server = serve(app).hold_clock()
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/slow") if kind == "upgrade" else b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    server.settle()
    seconds = 5 if kind == "upgrade" else 12
    server.advance(seconds - 0.001)
    client.expect_silence()
    server.advance(0.001)
    assert client.expect_reject(503).body == b"the application did not answer in time\n"
    eventually(lambda: ended == ["cancelled"])
    server.settle()
    [record] = [one for one in log.records if one.name == "fastws" and "listening" not in one.getMessage()]
    assert record.levelno == logging.WARNING
    option, path = ("handshake_timeout", "/slow") if kind == "upgrade" else ("http_timeout", "/plain")
    assert record.getMessage() == (
        f'refused {client.sock.getsockname()}: 503, the {kind} callback of "{path}" ({__name__}.{slow.__qualname__}) '
        f"has not ended within {option}; path {path!r}"
    )
    assert server.stats()["refused"][option] == 1
    client.close()
    eventually(lambda: server.stats()["sockets"] == 0)


@pytest.mark.parametrize("ending", ["close", "reset", "stay"])
def test_a_callback_that_does_not_heed_that_its_time_is_up(serve: Serving, ending: str) -> None:
    """It answers nobody any more, and nothing is left of it once it has ended, whenever the peer goes."""
    gate = asyncio.Event()
    ended: list[str] = []

    async def stubborn(request: Any) -> Any:
        for _ in range(2):
            try:
                await gate.wait()
                break
            except asyncio.CancelledError:
                pass
        ended.append("ended")
        return fastws.Response(200, "too late")

    app = make_app(http_timeout=10, close_timeout=5)
    app.http("/plain")(stubborn)
    server = serve(app).hold_clock()
    client = RawClient.connect(server.port)
    client.send_raw(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    server.settle()
    server.advance(10)
    client.expect_reject(503)
    if ending != "stay":
        getattr(client, ending)()
        server.settle()
    assert ended == []
    server.call(gate.set)
    eventually(lambda: ended == ["ended"])
    client.close()
    eventually(lambda: server.stats()["sockets"] == 0)
    assert server.stats()["answered"] == 0


def test_http_timeout_of_0_is_off(serve: Serving) -> None:
    gate = asyncio.Event()

    async def slow(request: Any) -> Any:
        await gate.wait()
        return fastws.Response(200, "at last")

    app = make_app(http_timeout=0, handshake_timeout=1)
    app.http("/")(slow)
    server = serve(app).hold_clock()
    client = RawClient.connect(server.port)
    client.send_raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    server.settle()
    server.advance(100_000)
    server.call(gate.set)
    assert client.expect_reject(200).body == b"at last"


def test_http_timeout_counts_from_the_requests_end(serve: Serving) -> None:
    gate = asyncio.Event()

    async def slow(request: Any) -> Any:
        await gate.wait()
        return fastws.Response(200, "in time")

    app = make_app(http_timeout=10, handshake_timeout=10)
    app.http("/")(slow)
    server = serve(app).hold_clock()
    client = RawClient.connect(server.port)
    client.send_raw(b"GET / HTTP/1.1\r\n")
    server.advance(9)
    client.send_raw(b"Host: a\r\n\r\n")
    server.settle()
    server.advance(9.999)
    server.call(gate.set)
    assert client.expect_reject(200).body == b"in time"


def test_a_callback_whose_attributes_are_code(serve: Serving) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise LookupError if name == "__self__" else AttributeError

        def __call__(self, ws: Any, data: Any) -> None:
            raise ZeroDivisionError

    server = serve(make_app(Odd()))
    serve.traps.expect(ZeroDivisionError)
    client = RawClient.open(server.port)
    client.send("")
    client.expect_close(1011)
    server.settle()
    assert "(test_a_callback_whose_attributes_are_code.<locals>.Odd)" in serve.traps.records[0].getMessage()


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/a/", "/chat/{room}"),
        ("/chats/a", "/chat/{room}"),
        ("/chat", "/chat/{room}"),
        ("/Echo", "/echo"),
        ("/echo/", "/echo"),
        ("/files/a/b", "/files/{rest:path}"),
        ("/caf\xe9s", "/caf\\xe9"),
        ("/something else", None),
        ("/" + "x" * 10_000, None),
    ],
)
def test_suggestions(path: str, meant: str | None) -> None:
    router: Router[int] = Router()
    for pattern in ("/echo", "/chat/{room}", "/caf\xe9", "/file/{rest:path}"):
        router.add(pattern.replace("/file/", "/files/"), 1)
    found = str(Suggestion(router.patterns, path))
    assert found == ("" if meant is None else f"; did you mean '{meant}'?")


def test_a_peer_without_an_address(serve: Serving, log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """As each is that comes through a Unix socket."""
    path = tmp_path / "socket"
    server = serve(make_app(Chat(), max_message_size=4), uds=path)

    def connect() -> RawClient:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return RawClient(sock)

    stranger, talker = connect(), connect()
    stranger.send_raw(request_bytes("/", headers=[("Origin", "null")]))
    stranger.expect_reject(403)
    talker.handshake()
    talker.send("too long")
    talker.expect_close(1009)
    server.settle()
    told = [message for message in log.messages if "a client" in message]
    assert [line.partition(",")[0] for line in told] == ["refused a client: 403", "closed a client: 1009"]
