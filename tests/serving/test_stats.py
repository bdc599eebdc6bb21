"""What a server counts: every way out has its reason, and none is counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from harness import BINARY, CLOSE, PING, TEXT, RawClient, Serving, build, eventually, make_app, request_bytes

import fastws
from fastws.causes import CLOSED, REFUSED
from fastws.serving.stats import total


class Handler:
    """Does what it is told."""

    def upgrade(self, request: fastws.Request) -> Any:
        match request.query_string:
            case "reject":
                return request.reject(403)
            case "raise":
                raise ValueError("on purpose")
            case "nonsense":
                return 5
            case "wait":
                return asyncio.sleep(100)
        return None

    async def message(self, ws: fastws.WebSocket, data: str | bytes) -> None:
        match data:
            case "close":
                ws.close()
            case "terminate":
                ws.terminate()
            case "raise":
                raise ValueError("on purpose")
            case "much":
                while ws.send(bytes(100_000)) != fastws.DROPPED:
                    pass
            case "stall":
                ws.send(bytes(10_000_000))


OPTIONS: dict[str, Any] = {
    "max_message_size": 100,
    "max_fragments": 3,
    "max_message_rate": 3,
    "max_control_rate": 3,
    "max_header_size": 1000,
    "max_request_line": 100,
    "allowed_hosts": ["localhost"],
    "http_timeout": 10,
    "compression": "deflate",
}


def serve_handler(serve: Serving, **options: Any) -> Any:
    app = make_app(Handler(), **(OPTIONS | options))
    app.http("/health")(lambda request: fastws.Response(200, "ok"))
    later: Any = asyncio.sleep
    app.http("/later")(lambda request: later(100))
    return serve(app).hold_clock()


def counted(server: Any, where: str, reason: str, times: int = 1) -> None:
    """Nothing but this reason has been counted, and so often."""

    def check() -> bool:
        stats = server.stats()
        found = {(kind, name): n for kind in ("refused", "closed") for name, n in stats[kind].items() if n}
        return found == {(where, reason): times} and not stats["answered"]

    eventually(check, what=f"{where} {reason}")


def refusals() -> dict[str, bytes]:
    return {
        "malformed": b"nonsense\r\n\r\n",
        "max_request_line": request_bytes("/" + "x" * 200),
        "max_header_size": request_bytes(headers=[("X", "y" * 2000)]),
        "method": request_bytes(method="POST"),
        "http_version": request_bytes(version="HTTP/1.0"),
        "version": request_bytes(without=("sec-websocket-version",)),
        "not_found": request_bytes("/elsewhere"),
        "origins": request_bytes(headers=[("Origin", "http://example.com")]),
        "allowed_hosts": request_bytes(host="example.com"),
        "by_app": request_bytes("/?reject"),
        "left": request_bytes()[:20],
    }


@pytest.mark.parametrize("reason", refusals())
def test_refused(serve: Serving, reason: str) -> None:
    server = serve_handler(serve)
    client = RawClient.connect(server.port)
    client.send_raw(refusals()[reason])
    if reason == "left":
        server.settle()
        client.reset()
    counted(server, "refused", reason)


@pytest.mark.parametrize(("query", "kind"), [("raise", ValueError), ("nonsense", None)])
def test_refused_as_the_app_fails(serve: Serving, traps: Any, query: str, kind: type[Exception] | None) -> None:
    server = serve_handler(serve)
    traps.expect(kind)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/?" + query))
    counted(server, "refused", "error")


@pytest.mark.parametrize("query", ["", "wait"])
def test_refused_by_deadline_and_at_the_end(serve: Serving, query: str) -> None:
    start = request_bytes("/?" + query) if query else b"GET /"
    server = serve_handler(serve, handshake_timeout=10)
    client = RawClient.connect(server.port)
    client.send_raw(start)
    server.advance(10)
    counted(server, "refused", "handshake_timeout")
    server = serve_handler(serve)
    RawClient.connect(server.port).send_raw(start)
    server.settle()
    server.stop_server()
    counted(server, "refused", "stopping")


def test_refused_as_an_http_route_takes_too_long(serve: Serving) -> None:
    server = serve_handler(serve, handshake_timeout=0)
    RawClient.connect(server.port).send_raw(b"GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server.settle()
    server.advance(10)
    counted(server, "refused", "http_timeout")


def test_plain_answers(serve: Serving) -> None:
    server = serve_handler(serve)
    client = RawClient.connect(server.port)
    client.send_raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    eventually(lambda: server.stats() == {**total(()), "accepted": 1, "answered": 1, "sockets": 1})


def breaches() -> dict[str, bytes]:
    return {
        "by_peer": build(CLOSE),
        "by_app": build(TEXT, b"close") + build(CLOSE),
        "protocol_error": build(BINARY, rsv=1),
        "invalid_text": build(TEXT, b"\xff"),
        "invalid_compression": build(BINARY, b"\xff", rsv=4),
        "max_message_size": build(BINARY, bytes(101)),
        "max_fragments": build(BINARY, b"", fin=False) + build(0, b"", fin=False) * 3,
        "max_message_rate": build(BINARY) * 7,
        "max_control_rate": build(PING) * 7,
        "max_backpressure": build(TEXT, b"much"),
    }


@pytest.mark.parametrize("reason", breaches())
def test_closed(serve: Serving, reason: str) -> None:
    server = serve_handler(serve)
    offers = [("Sec-WebSocket-Extensions", "permessage-deflate")] if reason == "invalid_compression" else []
    client = RawClient.open(server.port, headers=offers)
    client.send_raw(breaches()[reason])
    counted(server, "closed", reason)


DEADLINES: dict[str, tuple[dict[str, float], bytes]] = {  # which comes after 10 s, or after twice 10 s
    "message_timeout": ({"message_timeout": 10}, build(BINARY, fin=False)),
    "ping_timeout": ({"ping_interval": 10, "ping_timeout": 10}, b""),
    "close_timeout": ({"close_timeout": 10}, build(TEXT, b"close")),
    "send_timeout": ({"send_timeout": 10}, build(TEXT, b"stall")),
}


@pytest.mark.parametrize("reason", DEADLINES)
def test_closed_by_deadline(serve: Serving, reason: str) -> None:
    options, wire = DEADLINES[reason]
    server = serve_handler(serve, **options)
    client = RawClient.connect(server.port, receive_buffer=4096)
    client.handshake()
    client.send_raw(wire)
    server.settle()
    server.advance(10)
    server.advance_until(10, lambda: server.stats()["closed"][reason])
    counted(server, "closed", reason)


def leave_after_its_close(client: RawClient) -> None:
    client.send("close")
    client.recv_frame()
    client.reset()


def test_closed_in_other_ways(serve: Serving, traps: Any) -> None:
    ways: dict[str, tuple[str, Callable[[RawClient], Any]]] = {
        "lost": ("lost", RawClient.reset),
        "terminate": ("by_app", lambda client: client.send("terminate")),
        "raise": ("error", lambda client: client.send("raise")),
        "both": ("by_app", leave_after_its_close),
    }
    traps.expect(ValueError)
    for reason, act in ways.values():
        server = serve_handler(serve)
        act(RawClient.open(server.port))
        counted(server, "closed", reason)
    server = serve_handler(serve)
    RawClient.open(server.port)
    server.stop_server(0)
    counted(server, "closed", "stopping")


def test_every_reason_is_tested() -> None:
    elsewhere = {"max_connections", "max_connections_per_ip", "max_pending_handshakes"}  # tests/hostile/test_limits.py
    assert {*refusals(), "error", "handshake_timeout", "http_timeout", "stopping"} | elsewhere == set(REFUSED)
    assert {*breaches(), *DEADLINES, "lost", "error", "stopping"} == set(CLOSED)


def test_total() -> None:
    one, two = total(()), total(())
    one["accepted"], one["refused"]["method"], one["closed"]["lost"] = 5, 2, 3
    two["accepted"], two["closed"]["lost"], two["topics"] = 1, 1, 4
    both = total((one, two))
    assert (both["accepted"], both["refused"]["method"], both["closed"]["lost"], both["topics"]) == (6, 2, 4, 4)
    assert one["accepted"] == 5
