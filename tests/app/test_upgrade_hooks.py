"""The upgrade hook: it accepts, rejects, or returns what it must not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import ANY, RawClient, Serving, eventually, request_bytes

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


FORGETFUL = {
    "reject": lambda request: request.reject(403),
    "accept": lambda request: request.accept(data="admin"),
}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("verb", FORGETFUL)
def test_a_verdict_that_is_not_returned(serve: Serving, verb: str, asynchronous: bool) -> None:
    def hook(request: fastws.Request) -> None:
        FORGETFUL[verb](request)

    app = upgrading(hook, asynchronous)
    server = serve(app)
    serve.traps.expect(None)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes())
    assert client.expect_reject(500).body == b"internal error\n"
    server.settle()
    name = f"upgrading.<locals>.{'later' if asynchronous else 'at_once'}, of upgrading.<locals>.Handler"
    assert serve.traps.records[0].getMessage() == (
        f'the upgrade callback of "/" ({__name__}.{name}) called request.{verb}() and did not return it: '
        f"write `return request.{verb}(...)`"
    )
    assert server.stats()["refused"]["error"] == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_another_verdict_may_be_returned(serve: Serving, asynchronous: bool) -> None:
    def change_of_mind(request: fastws.Request) -> Any:
        verdict: Any = request.reject(401)
        if request.query_string == "accept":
            verdict = request.accept(data="after all")
        elif request.query_string == "response":
            verdict = fastws.Response(302)
        return verdict

    server = serve(upgrading(change_of_mind, asynchronous))
    for query, status in (("", 401), ("response", 302)):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes(f"/?{query}"))
        client.expect_reject(status)
    client = RawClient.open(server.port, "/?accept")
    client.send("?")
    assert client.recv() == "None after all"


def test_a_verdict_that_raises_is_none(serve: Serving) -> None:
    def hook(request: fastws.Request) -> None:
        with pytest.raises(ValueError):
            request.accept(subprotocol="unheard of")

    RawClient.open(serve(upgrading(hook, False)).port)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("upgrades", [False, True])
def test_a_verdict_comes_too_late(serve: Serving, upgrades: bool, asynchronous: bool) -> None:
    """From `open`, or from a task that `upgrade` did not wait for: the client is in already."""
    kept: list[fastws.Request] = []

    class Handler:
        def open(self, ws: Any) -> None:
            kept.append(ws.request)

    def upgrade(self: Any, request: Any) -> None: ...

    async def upgrade_later(self: Any, request: Any) -> None:
        await asyncio.sleep(0)

    if upgrades:
        Handler.upgrade = upgrade_later if asynchronous else upgrade  # type: ignore[attr-defined]
    app = fastws.App()
    app.websocket("/", keep_request=True)(Handler)
    RawClient.open(serve(app).port)
    for late in (lambda: kept[0].reject(403), kept[0].accept):
        with pytest.raises(RuntimeError, match=r"too late.*call it in `upgrade`"):
            late()


class Promise:
    """Awaitable, and no coroutine."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.result


def promised(kind: str, result: Any) -> Any:
    if kind == "future":
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, result)
        return future
    if kind == "task":
        return asyncio.ensure_future(asyncio.sleep(0, result))
    return Promise(result)


@pytest.mark.parametrize("kind", ["future", "task", "object"])
def test_any_awaitable_is_awaited(serve: Serving, kind: str) -> None:
    class Handler:
        def upgrade(self, request: fastws.Request) -> Any:
            if request.query_string == "forget":
                request.reject()
                return promised(kind, None)
            if request.query_string:
                return promised(kind, request.reject(401))
            return promised(kind, request.accept(data=kind))

        def message(self, ws: Any, data: Any) -> None:
            ws.send(ws.data)

    app = fastws.App()
    app.websocket("/")(Handler)
    app.http("/plain")(lambda request: promised(kind, fastws.Response(200, kind)))
    server = serve(app)
    serve.traps.expect(None)
    client = RawClient.open(server.port)
    client.send("?")
    assert client.recv() == kind
    for path, status in (("/?reject", 401), ("/?forget", 500), ("/plain", 200)):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes(path))
        assert client.expect_reject(status).body == (kind.encode() if status == 200 else ANY)


def test_an_awaitable_is_cancelled_when_the_client_leaves(serve: Serving) -> None:
    futures: list[Any] = []

    class Handler:
        def upgrade(self, request: fastws.Request) -> Any:
            futures.append(asyncio.get_running_loop().create_future())
            return futures[0]

        def message(self, ws: Any, data: Any) -> None: ...

    app = fastws.App()
    app.websocket("/")(Handler)
    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes())
    eventually(lambda: futures)
    client.reset()
    eventually(futures[0].cancelled)
    eventually(lambda: server.stats()["refused"]["left"] == 1)


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
