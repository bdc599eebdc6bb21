"""From the request to `open`: what the application decides, sees and keeps. Bad requests are in hostile/."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import TEXT, RawClient, Serving, build, eventually, make_app, request_bytes

import fastws


def test_what_is_decided_is_there_in_open(serve: Serving) -> None:
    seen: list[Any] = []

    class Room:
        def upgrade(self, request: Any) -> Any:
            seen.append((request.path, request.path_params["room"], request.query_string))
            return request.accept(subprotocol="b", data={"user": 7})

        def open(self, ws: Any) -> None:
            seen.append((ws.path, ws.path_params["room"], ws.query_string, ws.subprotocol, ws.data))
            ws.send("welcome")
            ws.data = "mine"

        def message(self, ws: Any, data: str) -> None:
            ws.send(f"{data} {ws.data}")

    app = make_app()
    app.websocket("/rooms/{room}")(Room)
    client = RawClient.connect(serve(app).port)
    wire = request_bytes("/rooms/blue?x=1", headers=[("Sec-WebSocket-Protocol", "a, b")])
    client.send_raw(wire + build(TEXT, b"hello"))
    assert client.expect_101().headers["sec-websocket-protocol"] == "b"
    assert (client.recv(), client.recv()) == ("welcome", "hello mine")
    assert seen == [("/rooms/blue", "blue", "x=1"), ("/rooms/blue", "blue", "x=1", "b", {"user": 7})]


def test_ids_count_up(serve: Serving) -> None:
    ids: list[int] = []
    server = serve(make_app(type("Handler", (), {"open": lambda self, ws: ids.append(ws.id)})))
    for _ in range(5):
        RawClient.open(server.port).close()
    eventually(lambda: ids == [1, 2, 3, 4, 5])


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("path", ["upgrade", "http"])
def test_refusals_and_plain_answers(serve: Serving, path: str, asynchronous: bool) -> None:
    """`def` and `async def`, with a body larger than what a socket takes at once."""
    body = bytes(range(256)) * 40_000
    app = make_app()

    def answer(request: Any) -> Any:
        if path == "upgrade":
            return request.reject(403, "not you")
        return fastws.Response(200, body)

    async def answer_later(request: Any) -> Any:
        await asyncio.sleep(0)
        return answer(request)

    decide = answer_later if asynchronous else answer
    if path == "upgrade":
        app.websocket("/")(
            type("Handler", (), {"upgrade": staticmethod(decide), "message": lambda self, ws, data: None})
        )
    else:
        app.http("/")(decide)
    server = serve(app)
    client = RawClient.connect(server.port)
    plain = ("upgrade", "connection", "sec-websocket-key", "sec-websocket-version")
    client.send_raw(request_bytes(without=() if path == "upgrade" else plain))
    response = client.recv_http()
    if path == "upgrade":
        assert response.status == 403 and b"not you" in response.body
    else:
        assert (response.status, response.body) == (200, body)
        head = RawClient.connect(server.port)
        head.send_raw(request_bytes(method="HEAD", without=plain))
        assert head.recv_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        head.expect_eof()
    client.expect_eof()
    assert server.stats()["connections"] == 0


def test_routes_have_limits_of_their_own(serve: Serving) -> None:
    app = make_app(max_message_size=100)
    app.websocket("/small", max_message_size=10)(lambda ws, data: ws.send("small"))
    app.websocket("/large", max_message_size=1000)(lambda ws, data: ws.send("large"))
    app.websocket("/default")(lambda ws, data: ws.send("default"))
    server = serve(app)
    for path, limit in (("/small", 10), ("/large", 1000), ("/default", 100)):
        client = RawClient.open(server.port, path)
        client.send("x" * limit)
        assert client.recv() == path[1:]
        client.send("x" * (limit + 1))
        client.expect_close(1009)
