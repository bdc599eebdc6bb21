"""Rows H7-H15 and H17: opening handshakes that are refused, or let in although they look odd (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from harness import (
    KEY,
    TEXT,
    RawClient,
    Recorder,
    Serving,
    build,
    bystander,
    make_app,
    request_bytes,
)

from hostile.handshakes import SECOND, accept, refuse

# -- H7-H10: smuggling


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("Content-Length", "5")], b"hello"),
        ([("Content-Length", "5")], b""),
        ([("Content-Length", "11")], build(TEXT, b"hello")),
        ([("Content-Length", "0")] * 2, b""),
        ([("Content-Length", "-1")], b""),
        ([("Content-Length", "99999999999999999999999")], b""),
        ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n0\r\n\r\n"),
        ([("Transfer-Encoding", "chunked")], build(TEXT, b"hello")),
        ([("transfer-encoding", "gzip, chunked")], b""),
        ([("Transfer-Encoding", "identity")], b""),
    ],
)
def test_h07_an_upgrade_with_a_body(serve: Serving, headers: list[tuple[str, str]], body: bytes) -> None:
    refuse(serve, request_bytes(headers=headers) + body, 400)


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x1c", b"\x1f", b"\x7f"])
@pytest.mark.parametrize("name", ["X-Test", "Cookie", "Host", "Sec-WebSocket-Protocol"])
def test_h08_control_characters_in_values(serve: Serving, name: str, byte: bytes) -> None:
    without = (name.lower(),)
    refuse(serve, request_bytes(headers=[(name, b"a" + byte + b"b")], without=without), 400)


def test_h08_control_characters_in_the_target(serve: Serving) -> None:
    refuse(serve, b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400)
    refuse(serve, b"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n", 400)


def test_h08_nel_is_an_opaque_byte(serve: Serving) -> None:
    recorder = accept(serve, request_bytes(headers=[("X-Test", b"a\x85X-Evil: b\xa0"), ("X-Tab", "a\tb")]))
    headers = recorder.requests[0].headers
    assert headers["x-test"] == "a\x85X-Evil: b\xa0"
    assert headers["x-tab"] == "a\tb"
    assert "x-evil" not in headers


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Test: a\rX-Evil: b\r\n",
        b"X-Test: a\r\r\n",
        b"X-Test: a\nX-Evil: b\r\n",
        b"X-Test: a\n",
        b"X-Test : a\r\n",
        b" X-Test: a\r\n",
        b"X-Test\t: a\r\n",
        b"X-Test: a\r\n b\r\n",
        b"X-Test: a\r\n\tb\r\n",
        b"X-Test\r\n",
        b": a\r\n",
        b"X(Test): a\r\n",
        b"X-T\xe9st: a\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ],
)
def test_h09_lines_that_two_parsers_read_differently(serve: Serving, lines: bytes) -> None:
    refuse(serve, request_bytes()[:-2] + lines + b"\r\n", 400)
    first, rest = request_bytes().split(b"\r\n", 1)
    refuse(serve, first + b"\r\n" + lines + rest, 400)  # also where it comes first


def test_h09_line_ends_of_the_request_line(serve: Serving) -> None:
    refuse(serve, request_bytes().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"), 400)
    refuse(serve, request_bytes().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r"), 400)
    refuse(serve, request_bytes().replace(b"\r\n", b"\n"), 400)
    refuse(serve, request_bytes()[:-2] + b"\n", 400)


@pytest.mark.parametrize("start", [b"GET  /", b" GET /", b"GET\t/", b"GET /\x20x", b"\r\n\r\nGET /"])
def test_h09_space_in_the_request_line(serve: Serving, start: bytes) -> None:
    """RFC 9112 section 3: single spaces; who is lenient here disagrees with somebody in front or behind."""
    refuse(serve, request_bytes().replace(b"GET /", start, 1), 400)


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (request_bytes(headers=[("Sec-WebSocket-Version", "12")], without=("sec-websocket-version",)), 426),
        (request_bytes(headers=[("Origin", "https://evil.example")]), 403),
        (request_bytes("/nowhere"), 404),
        (request_bytes(method="POST"), 405),
    ],
)
def test_h10_the_second_request_is_never_served(serve: Serving, first: bytes, status: int) -> None:
    refuse(serve, first, status)  # `refuse` sends a second request and a frame in the same segment
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True)))
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        client.send_raw(first)
        client.recv_http()
        try:
            client.send_raw(SECOND)  # and one that comes after the answer
        except ConnectionError:
            return
        assert client.eof(), bytes(client.buffer)


@pytest.mark.parametrize(
    "extra",
    [
        b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n",
        SECOND,
        b"hello",
        build(TEXT, b"frame"),
    ],
)
def test_h10_a_plain_answer_is_the_last(serve: Serving, extra: bytes) -> None:
    """A plain route answers once and hangs up: with a body or a second request behind the first, likewise."""
    import fastws

    recorder = Recorder()
    app = make_app(recorder.handler(upgrade=True))
    asked: list[str] = []

    @app.http("/plain")
    def plain(request: Any) -> Any:
        asked.append(request.method)
        return fastws.Response(200, b"ok")

    server = serve(app)
    with bystander(server, recorder):
        for length in ("", f"Content-Length: {len(extra)}\r\n"):
            client = RawClient.connect(server.port)
            client.send_raw(b"GET /plain HTTP/1.1\r\nHost: x\r\n" + length.encode() + b"\r\n" + extra)
            assert client.recv_http().body == b"ok"
            client.expect_eof()
        assert asked == ["GET", "GET"]


# -- H11-H13: what RFC 6455 asks for


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_h11_other_methods(serve: Serving, method: str) -> None:
    refuse(serve, request_bytes(method=method), 405)


def test_h11_405_says_what_is_allowed(serve: Serving) -> None:
    server = serve(make_app(Recorder().handler()))
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes(method="POST"))
    assert "GET" in client.expect_reject(405).headers["allow"]  # RFC 9110 section 15.5.6


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9"])
def test_h11_other_http_versions(serve: Serving, version: str) -> None:
    refuse(serve, request_bytes(version=version), *((505,) if version == "HTTP/1.0" else (400, 505)))


@pytest.mark.parametrize(
    "headers", [[], [("Host", "a"), ("Host", "b")], [("Host", "a"), ("host", "a")], [("Host", "a b")]]
)
def test_h11_host(serve: Serving, headers: list[tuple[str, str]]) -> None:
    refuse(serve, request_bytes(host=None, headers=headers), 400)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [KEY, KEY],
        [KEY, base64.b64encode(b"y" * 16)],
        [b""],
        [b"x"],
        [base64.b64encode(b"x" * 15)],
        [base64.b64encode(b"x" * 17)],
        [base64.b64encode(b"x" * 24)],
        [KEY[:-2]],
        [KEY[:-2] + b"=A"],
        [KEY.replace(b"=", b"-")],
        [b"!!!!!!!!!!!!!!!!!!!!!!=="],
        [KEY[:10] + b" " + KEY[11:]],
        [KEY + b"=="],
    ],
)
def test_h11_keys(serve: Serving, keys: list[bytes]) -> None:
    refuse(serve, request_bytes(key=None, headers=[("Sec-WebSocket-Key", key) for key in keys]), 400)


@pytest.mark.parametrize("missing", ["upgrade", "connection"])
def test_h11_a_plain_get_is_told_to_upgrade(serve: Serving, missing: str) -> None:
    """RFC 9110 section 15.5.22: a 426 names the protocol."""
    refuse(serve, request_bytes(without=(missing,)), 400, 426)


@pytest.mark.parametrize("versions", [["8"], [], ["0"], ["14"], ["13, 8"], ["13", "8"], ["+13"], ["013"], ["1 3"]])
def test_h12_versions(serve: Serving, versions: list[str]) -> None:
    headers = [("Sec-WebSocket-Version", version) for version in versions]
    statuses = (400, 426) if len(versions) > 1 else (426,)
    wire = request_bytes(without=("sec-websocket-version",), headers=headers)
    refuse(serve, wire, *statuses)
    server = serve(make_app(Recorder().handler()))
    client = RawClient.connect(server.port)
    client.send_raw(wire)
    response = client.recv_http()
    if response.status == 426:
        assert response.headers["sec-websocket-version"] == "13"  # section 4.4


@pytest.mark.parametrize(
    ("connection", "upgrade"),
    [
        ("keep-alive, Upgrade", "websocket"),  # Firefox
        ("Upgrade,keep-alive", "WebSocket"),
        ("uPGRADE", "WEBSOCKET"),
        (" upgrade ,\tkeep-alive", "websocket"),
        ("keep-alive, , Upgrade", "websocket"),
        ("Upgrade", "h2c, websocket"),
    ],
)
def test_h13_letter_case_and_lists(serve: Serving, connection: str, upgrade: str) -> None:
    for order in (1, -1):
        lines = [("upgrade", upgrade), ("CONNECTION", connection)][::order]
        accept(serve, request_bytes(without=("upgrade", "connection"), headers=lines))


def test_h13_absolute_form(serve: Serving) -> None:
    """RFC 9112 section 3.2.2: a server accepts it."""
    accept(serve, request_bytes("http://localhost/"))


def test_h13_connection_in_two_lines(serve: Serving) -> None:
    """RFC 9110 section 5.3: lines of one name are one list."""
    lines = [("Connection", "keep-alive"), ("Connection", "Upgrade")]
    accept(serve, request_bytes(without=("connection",), headers=lines))


@pytest.mark.parametrize(("name", "value"), [("Connection", "Upgraded, x-upgrade"), ("Upgrade", "websockets")])
def test_h13_tokens_are_whole(serve: Serving, name: str, value: str) -> None:
    refuse(serve, request_bytes(without=(name.lower(),), headers=[(name, value)]), 400, 426)


def test_h13_in_pieces(serve: Serving) -> None:
    """One byte per segment, for as many handshakes as there are bytes: none knows where the others are."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    wire = request_bytes(headers=[("Cookie", "a=b")])
    with bystander(server):
        clients = [RawClient.connect(server.port) for _ in wire]
        for client, cut in zip(clients, range(1, len(wire) + 1), strict=True):
            client.send_raw(wire[:cut])
        slow = RawClient.connect(server.port)
        for byte in wire:
            slow.send_raw(bytes([byte]))
            server.settle()
        slow.expect_101()
        for client, cut in zip(clients, range(1, len(wire) + 1), strict=True):
            client.send_raw(wire[cut:])
            client.expect_101()


# -- H14, H15, H17: who may come in


@pytest.mark.parametrize(
    ("origins", "options"),
    [
        (["https://evil.example"], {}),
        (["null"], {}),
        (["http://localhost", "http://localhost"], {}),
        (["http://localhost", "https://evil.example"], {}),
        (["http://localhost.evil.example"], {}),
        (["http://localhost:1"], {}),
        (["https://good.example.evil.com"], {"origins": ["https://good.example"]}),
        (["https://evilgood.example"], {"origins": ["https://good.example"]}),
        (["http://good.example"], {"origins": ["https://good.example"]}),
        (["https://good.example:444"], {"origins": ["https://good.example"]}),
        (["null"], {"origins": ["https://good.example"]}),
        ([""], {"origins": ["https://good.example"]}),
    ],
)
def test_h14_foreign_origins(serve: Serving, origins: list[str], options: dict[str, list[str]]) -> None:
    refuse(serve, request_bytes(headers=[("Origin", origin) for origin in origins]), 403, **options)


@pytest.mark.parametrize(
    ("host", "origin", "options"),
    [
        ("localhost", None, {}),
        ("localhost", "http://localhost", {}),
        ("localhost:8765", "http://localhost:8765", {}),
        ("example.com", "https://example.com", {}),
        ("EXAMPLE.com", "http://example.com", {}),
        ("localhost", "https://good.example", {"origins": ["https://good.example"]}),
        ("localhost", None, {"origins": ["https://good.example"]}),
        ("localhost", "app://.", {"origins": ["app://."]}),
        ("localhost", "file://", {"origins": ["file://"]}),
        ("localhost", "capacitor://localhost", {"origins": ["capacitor://localhost"]}),
        ("a.example", None, {"allowed_hosts": ["a.example"]}),
        ("a.example:8765", None, {"allowed_hosts": ["a.example"]}),
    ],
)
def test_h14_honest_origins_and_hosts(
    serve: Serving, host: str, origin: str | None, options: dict[str, list[str]]
) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), **options))
    client = RawClient.connect(server.port)
    client.handshake(host=host, headers=[("Origin", origin)] if origin else [])


@pytest.mark.parametrize("host", ["evil.example", "a.example.evil.com", "localhost", "x.a.example", "127.0.0.1", ""])
def test_h14_hosts_not_allowed(serve: Serving, host: str) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), allowed_hosts=["a.example"]))
    with bystander(server, recorder, host="a.example"):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes(host=host))
        client.expect_reject(*((403,) if host else (400, 403)))


EVERYWHERE = ["http://{}/", "HTTP://{}/", "ws://{}/?x", "wss://{}?x", "https://{}"]


@pytest.mark.parametrize("target", EVERYWHERE)
def test_h14_hosts_of_absolute_targets_not_allowed(serve: Serving, target: str) -> None:
    """RFC 9112 section 3.2.2: what Host says does not count then."""
    recorder = Recorder()
    app = make_app(recorder.handler(upgrade=True), allowed_hosts=["good.example"])
    app.http("/plain")(lambda request: recorder.events.append(("plain",)))  # type: ignore[type-var]
    server = serve(app)
    with bystander(server, recorder, host="good.example"):
        for host in ("evil.example", "good.example.evil.example", "evil.example:80", "127.0.0.1"):
            client = RawClient.connect(server.port)
            client.send_raw(request_bytes(target.format(host), host="good.example"))
            client.expect_reject(403)
        client = RawClient.connect(server.port)
        client.send_raw(b"GET http://evil.example/plain HTTP/1.1\r\nHost: good.example\r\n\r\n")
        client.expect_reject(403)


@pytest.mark.parametrize("target", EVERYWHERE)
def test_h14_hosts_of_absolute_targets(serve: Serving, target: str) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), allowed_hosts=["good.example"]))
    for host, origin in (("good.example", "https://good.example"), ("GOOD.example:8765", "http://good.example:8765")):
        client = RawClient.connect(server.port)
        client.handshake(target.format(host), host="a-proxy.example", headers=[("Origin", origin)])
        assert recorder.requests[-1].host == host
        assert recorder.requests[-1].headers["host"] == "a-proxy.example"


@pytest.mark.parametrize("origin", ["http://good.example", "http://evil.example:81", "https://evil.example:80"])
def test_h14_foreign_origins_to_absolute_targets(serve: Serving, origin: str) -> None:
    """The page is of the host that Host names, and the target is of another."""
    refuse(serve, request_bytes("http://evil.example/", host="good.example", headers=[("Origin", origin)]), 403)


@pytest.mark.parametrize(
    "host", ["", "a@good.example", "a:b@good.example", "good.example:", "good.example:x", "good.example:123456", "[::1"]
)
def test_h14_malformed_hosts_of_absolute_targets(serve: Serving, host: str) -> None:
    wire = request_bytes(f"http://{host}/", host="good.example")
    refuse(serve, wire, 400)
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), allowed_hosts=["good.example"]))
    with bystander(server, recorder, host="good.example"):
        client = RawClient.connect(server.port)
        client.send_raw(wire)
        client.expect_reject(400)


@pytest.mark.parametrize(
    "headers", [[], [("Host", "localhost"), ("Host", "localhost")], [("Host", "a b")], [("Host", "")]]
)
def test_h14_an_absolute_target_replaces_no_host(serve: Serving, headers: list[tuple[str, str]]) -> None:
    """RFC 9112 section 3.2: a Host header is there once, and well-formed, whatever the target is."""
    refuse(serve, request_bytes("http://localhost/", host=None, headers=headers), 400)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
def test_h15_a_cross_site_post(serve: Serving, kind: str) -> None:
    body = build(TEXT, b'{"transfer": "everything"}')
    headers = [("Origin", "https://evil.example"), ("Content-Type", kind), ("Content-Length", str(len(body)))]
    names = ("upgrade", "connection", "sec-websocket-key", "sec-websocket-version")
    refuse(serve, request_bytes(method="POST", headers=headers, without=names) + body, 405)
    refuse(serve, request_bytes(method="POST", headers=headers) + body, 405, 400)


CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(200))


@pytest.mark.parametrize(
    "wire",
    [
        CLIENT_HELLO,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes((i * 167 + 13) % 256 for i in range(2000)),
        b"\r\n" * 5000,
        b"\x00" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x81\x05hello",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1 x\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_h17_other_protocols(serve: Serving, wire: bytes) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), handshake_timeout=10)).hold_clock()
    with bystander(server, recorder):
        for pieces in ([wire], [wire[:1], wire[1:]], [wire[:9], wire[9:]]):
            client = RawClient.connect(server.port)
            for piece in pieces:
                client.send_raw(piece)
                server.settle()
            server.advance(10)
            client.fill()
            if client.buffer:
                client.expect_reject(400, 404, 405, 505)
