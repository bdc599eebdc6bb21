"""Rows H1-H6 and H21: handshakes that are slow, long, many-headed or gone (RFC 6455 section 4.2)."""

from __future__ import annotations

import select
import socket
import threading
import time

import pytest
from harness import (
    PATIENCE,
    TEXT,
    RawClient,
    Recorder,
    Serving,
    build,
    bystander,
    eventually,
    make_app,
    request_bytes,
    reset_at_close,
)

from hostile.handshakes import accept, refuse
from hostile.streams import timed


def test_h01_a_trickle_does_not_extend_the_timeout(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), handshake_timeout=10)).hold_clock()
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        for byte in request_bytes()[:10]:
            client.send_raw(bytes([byte]))
            server.advance(0.999)
        client.expect_silence()
        server.advance(0.01)
        client.expect_eof()


def test_h01_a_connection_that_sends_nothing(serve: Serving) -> None:
    """Time passes here: the timer rings."""
    recorder = Recorder()
    timeout = 0.5 * PATIENCE
    server = serve(make_app(recorder.handler(upgrade=True), handshake_timeout=timeout))
    with bystander(server, recorder):
        began = time.monotonic()
        clients = [RawClient.connect(server.port) for _ in range(50)]
        eventually(lambda: server.stats()["handshakes"] == 50)
        for client in clients:
            assert client.eof(3.0)
        took = time.monotonic() - began
        assert timeout * 0.9 <= took <= timeout + 1.5 * PATIENCE, f"closed after {took:.2f} s"
        eventually(lambda: server.stats()["sockets"] == 1)


@pytest.mark.parametrize("name", ["X-{}", "Cookie"])
def test_h02_thousands_of_headers(serve: Serving, name: str) -> None:
    many = request_bytes(headers=[(name.format(i), "x") for i in range(2000)])
    refuse(serve, many, 431)
    refuse(serve, request_bytes(headers=[(name.format(i), "x") for i in range(101)]), 431)


def test_h02_time_is_linear(serve: Serving) -> None:
    """With the limits far up, eight times the headers take about eight times the time."""
    options = {"max_headers": 10_000, "max_header_size": 128 << 10}
    server = serve(make_app(Recorder().handler(), **options))
    small, large = (request_bytes(headers=[("Cookie", "xxxx")] * n) for n in (1_000, 8_000))

    def once(wire: bytes) -> None:
        with RawClient.connect(server.port) as client:
            client.send_raw(wire)
            assert client.recv_http().status == 101

    with bystander(server):
        once(small)
        fast = min(timed(lambda: once(small)) for _ in range(5))
        slow = min(timed(lambda: once(large)) for _ in range(5))
        assert slow < 8 * 4 * fast, f"{fast:.4f} s for 1,000 headers, {slow:.4f} s for 8,000"


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
        assert watch.worst < 0.5 * PATIENCE, f"the loop stood still for {watch.worst:.2f} s"
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
        held, go_on = threading.Event(), threading.Event()
        server.loop.call_soon_threadsafe(held.set)
        server.loop.call_soon_threadsafe(go_on.wait)
        held.wait()
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(request_bytes())
                reset_at_close(sock)
        go_on.set()
        server.settle()
        eventually(lambda: server.stats()["sockets"] == 1)
        assert recorder.events.count(("open",)) == len([event for event in recorder.events if event[0] == "close"])
