"""The upgrade hook: it accepts, rejects, or returns what it must not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import RawClient, Serving, request_bytes

import fastws


def upgrading(hook: Any, asynchronous: bool) -> fastws.App:
    app = fastws.App()

    def at_once(self: Any, request: Any) -> Any:
        return hook(request)

    async def later(self: Any, request: Any) -> Any:
        await asyncio.sleep(0.01)
        return hook(request)

    class Handler:
        upgrade = later if asynchronous else at_once

        def message(self, ws: Any, data: Any) -> None:
            ws.send(f"{ws.subprotocol} {ws.data}")

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
    server.settle()
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
    with pytest.raises(AttributeError, match="give the route keep_request=True"):
        print(sockets[1].request)
    assert getattr(sockets[1], "request", None) is None
