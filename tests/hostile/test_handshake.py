"""Rows H1-H15 and H17: opening handshakes that are refused, or let in although they look odd (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64
import select
import socket
import struct
import time

import pytest
from harness import (
    KEY,
    TEXT,
    RawClient,
    Recorder,
    Serving,
    build,
    bystander,
    eventually,
    make_app,
    request_bytes,
)

from hostile.streams import timed

SECOND = request_bytes()
LET_IN = [("upgrade",), ("open",), ("close", 1006, "")]


def refuse(serve: Serving, wire: bytes, *statuses: int, **options: object) -> None:
    """The request gets one response with one of `statuses`, the end, and no callback; what follows it is discarded."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), **options))
    with bystander(server, recorder):
        for extra in (b"", SECOND + build(TEXT, b"frame")):
            client = RawClient.connect(server.port)
            client.send_raw(wire + extra)
            client.expect_reject(*statuses)


def accept(serve: Serving, wire: bytes, **options: object) -> Recorder:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), **options))
    with bystander(server, recorder, LET_IN):
        client = RawClient.connect(server.port)
        client.send_raw(wire)
        client.expect_101()
        client.expect_silence(0.02)
        client.close()
        eventually(lambda: len(recorder.events) == 3)
    return recorder


# -- H1-H6: size and time


def test_h01_a_trickle_does_not_extend_the_timeout(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), handshake_timeout=0.5))
    with bystander(server, recorder):
        began = time.monotonic()
        client = RawClient.connect(server.port)
        for byte in request_bytes():
            if select.select([client.sock], [], [], 0.05)[0]:
                break
            client.send_raw(bytes([byte]))
        took = time.monotonic() - began
        assert 0.45 <= took <= 2.0, f"closed after {took:.2f} s"


def test_h01_a_connection_that_sends_nothing(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), handshake_timeout=0.5))
    with bystander(server, recorder):
        clients = [RawClient.connect(server.port) for _ in range(50)]
        eventually(lambda: server.stats()["handshakes"] == 50)
        began = time.monotonic()
        for client in clients:
            assert client.eof(3.0)
        took = time.monotonic() - began
        assert 0.4 <= took <= 2.0, f"closed after {took:.2f} s"
        eventually(lambda: server.stats()["sockets"] == 1)


@pytest.mark.parametrize("name", ["X-{}", "Cookie"])
def test_h02_thousands_of_headers(serve: Serving, name: str) -> None:
    many = request_bytes(headers=[(name.format(i), "x") for i in range(2000)])
    refuse(serve, many, 431)
    refuse(serve, request_bytes(headers=[(name.format(i), "x") for i in range(101)]), 431)


def test_h02_time_is_linear(serve: Serving) -> None:
    """With the limits far up, twice the headers take about twice the time."""
    options = {"max_headers": 100_000, "max_header_size": 4 << 20}
    server = serve(make_app(Recorder().handler(), **options))
    small, large = (request_bytes(headers=[("Cookie", "x" * 20)] * n) for n in (5_000, 40_000))

    def once(wire: bytes) -> None:
        with RawClient.connect(server.port) as client:
            client.send_raw(wire)
            assert client.recv_http().status == 101

    with bystander(server):
        once(small)
        fast = min(timed(lambda: once(small)) for _ in range(5))
        slow = min(timed(lambda: once(large)) for _ in range(5))
        assert slow < 8 * 4 * fast, f"{fast:.4f} s for 5,000 headers, {slow:.4f} s for 40,000"


def test_h02_the_limits_themselves(serve: Serving) -> None:
    accept(serve, request_bytes(headers=[(f"X-{i}", "x") for i in range(95)]))  # five of the handshake's own


@pytest.mark.parametrize("start", [b"X-Long: ", b"X-Name-Without-End", b""])
def test_h03_a_header_without_end(serve: Serving, start: bytes) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True)))
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes()[:-2] + start)
        sent = 0
        while not select.select([client.sock], [], [], 0)[0]:
            client.send_raw(b"a" * 512)
            sent += 512
            server.settle()
            assert sent <= 32 << 10, "the cap is 16 KiB"
        client.expect_reject(431)


def test_h03_twenty_megabytes_at_once(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), close_timeout=1.0))
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        try:
            client.send_raw(request_bytes()[:-2] + b"X-Long: ")
            for _ in range(20_000):
                client.send_raw(b"a" * 1024)
        except ConnectionError:
            pass  # cut off while still sending
        eventually(lambda: server.stats()["sockets"] == 1)


@pytest.mark.parametrize("size", [9_000, 100_000])
def test_h04_a_long_target(serve: Serving, size: int) -> None:
    refuse(serve, request_bytes("/" + "x" * size), 414)


def test_h04_a_long_target_without_end(serve: Serving) -> None:
    refuse(serve, b"GET /" + b"x" * 100_000, 414)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec-WebSocket-Protocol", "b" + " " * 50_000 + "x"),
        ("Sec-WebSocket-Protocol", "b," * 25_000 + "x"),
        ("Sec-WebSocket-Extensions", 'a; b="' + "\\c" * 25_000),
        ("Sec-WebSocket-Extensions", "a;" * 25_000),
        ("Connection", "keep-alive, " * 4_000 + "Upgrade"),
        ("Upgrade", "websocket" + " " * 50_000 + "x"),
    ],
)
def test_h05_long_lists_take_linear_time(serve: Serving, name: str, value: str) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_header_size=128 << 10))
    without = (name.lower(),) if name in ("Connection", "Upgrade") else ()
    with bystander(server) as watch:
        for _ in range(20):
            with RawClient.connect(server.port) as client:
                client.send_raw(request_bytes(headers=[(name, value)], without=without))
                response = client.recv_http()
                assert response.status in (101, 400, 426), response
                assert "sec-websocket-protocol" not in response.headers
                assert "sec-websocket-extensions" not in response.headers
        assert watch.worst < 0.5, f"the loop stood still for {watch.worst:.2f} s"
    refuse(serve, request_bytes(headers=[(name, value)], without=without), 431)


@pytest.mark.parametrize(
    "offer",
    [
        "__class__",
        "constructor; __proto__=1",
        "permessage-deflate; __class__=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; unknown",
        "x-webkit-deflate-frame, unknown; a; b=c",
        'permessage-deflate; client_max_window_bits="15"',
        "permessage-deflate",
    ],
)
def test_h06_odd_extensions_are_declined(serve: Serving, offer: str) -> None:
    server = serve(make_app(Recorder().handler(echo=True)))
    with bystander(server):
        client = RawClient.connect(server.port)
        response = client.handshake(headers=[("Sec-WebSocket-Extensions", offer)])
        assert "sec-websocket-extensions" not in response.headers  # compression is off
        client.send("x")
        assert client.recv() == "x"


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
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes(host=host))
    client.expect_reject(403, 400) if not host else client.expect_reject(403)
    server.settle()
    assert recorder.events == []


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
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1 x\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_h17_other_protocols(serve: Serving, wire: bytes) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), handshake_timeout=1.0))
    with bystander(server, recorder):
        for pieces in ([wire], [wire[:1], wire[1:]], [wire[:9], wire[9:]]):
            client = RawClient.connect(server.port)
            for piece in pieces:
                client.send_raw(piece)
                server.settle()
            client.fill()
            if client.buffer:
                client.expect_reject(400, 404, 405)


def test_h21_reset_right_after_the_request(serve: Serving) -> None:
    """Some are accepted already, some are in the backlog, some have an answer under way."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True)))
    with bystander(server):
        for round_ in range(300):
            sock = socket.create_connection(("127.0.0.1", server.port))
            client = RawClient(sock)
            if round_ % 3:
                client.send_raw(request_bytes() + (build(TEXT, b"x") if round_ % 3 == 2 else b""))
            if round_ % 2:
                server.settle()
            client.reset()
        eventually(lambda: server.stats()["sockets"] == 1)
        assert recorder.events.count(("open",)) == len([event for event in recorder.events if event[0] == "close"])


def test_h21_reset_before_accept(serve: Serving) -> None:
    """The loop is held while peers connect, ask and reset: `accept4` hands out sockets that are dead already."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True)))
    with bystander(server):
        server.loop.call_soon_threadsafe(time.sleep, 0.3)
        time.sleep(0.05)
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(request_bytes())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.settle()
        eventually(lambda: server.stats()["sockets"] == 1)
        assert recorder.events.count(("open",)) == len([event for event in recorder.events if event[0] == "close"])
