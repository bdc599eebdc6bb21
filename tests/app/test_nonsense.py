"""What an application gives that is no code, text, answer or list: an exception where it is given, or a 500, whole."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import CLOSE, RawClient, Serving, close_code, eventually, make_app, request_bytes, unaccounted

import fastws

OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate"), ("Sec-WebSocket-Protocol", "chat, plain")]
RESERVED = fastws.Deflate(client_no_context_takeover=False, max_inflater_memory=50_000)  # for one client


class Boom(Exception):
    pass


class Codes(enum.IntEnum):
    BUSY = 4001


class Proto(str, enum.Enum):
    CHAT = "chat"


class Text(str):
    """Says something else wherever it is asked."""

    def __str__(self) -> str:
        return "another text"

    def encode(self, *args: Any) -> bytes:
        return b"another text"


class Changing:
    """A number that is another one each time."""

    def __init__(self, *values: int) -> None:
        self.values = list(values)

    def __index__(self) -> int:
        return self.values.pop(0)

    __int__ = __index__


class Refusing:
    def __index__(self) -> int:
        raise Boom


GOOD: dict[str, tuple[Callable[[], tuple[Any, ...]], int, bytes]] = {
    "a changing number": (lambda: (Changing(4001, 5, 1006),), 4001, b""),
    "an IntEnum": (lambda: (Codes.BUSY, Proto.CHAT), 4001, b"chat"),
    "a text that lies": (lambda: (4001, Text("the text")), 4001, b"the text"),
}
BAD: dict[str, tuple[Callable[[], tuple[Any, ...]], type[Exception]]] = {
    "no reason": (lambda: (1000, None), TypeError),
    "bytes": (lambda: (1000, b"reason"), TypeError),
    "a number that changes into a good one": (lambda: (Changing(5, 4001),), ValueError),
    "a number that raises": (lambda: (Refusing(),), Boom),
    "True": (lambda: (True,), TypeError),
    "huge": (lambda: (1 << 80,), ValueError),
    "negative": (lambda: (-1,), ValueError),
    "as negative as can be": (lambda: (-(1 << 80),), ValueError),
    "wraps to 1000": (lambda: (65536 + 1000,), ValueError),
    "a float": (lambda: (1000.0,), TypeError),
    "a str": (lambda: ("1000",), TypeError),
}


def closing_with(serve: Serving, arguments: tuple[Any, ...], result: list[Any]) -> tuple[RawClient, list[Any]]:
    ends: list[Any] = []

    class Handler:
        def message(self, ws: Any, data: Any) -> None:
            if data == "close":
                try:
                    result.append(ws.close(*arguments))
                except BaseException as error:
                    result.append(error)
            else:
                ws.send(data)

        def close(self, ws: Any, code: int, reason: str) -> None:
            ends.append((code, reason, type(reason)))

    server = serve(make_app(Handler))
    client = RawClient.open(server.port)
    client.send("close")
    return client, ends


@pytest.mark.parametrize("name", GOOD)
def test_close_takes_what_is_a_code_and_a_text(serve: Serving, name: str) -> None:
    make, code, reason = GOOD[name]
    client, ends = closing_with(serve, make(), [])
    frame = client.recv_frame()
    assert (frame.opcode, close_code(frame.payload), frame.payload[2:]) == (CLOSE, code, reason)
    client.send_close(code)
    client.expect_eof()
    eventually(lambda: ends)
    assert ends == [(code, reason.decode(), str)]


@pytest.mark.parametrize("name", BAD)
def test_close_refuses_what_is_none_and_nothing_has_changed(serve: Serving, name: str) -> None:
    make, error = BAD[name]
    result: list[Any] = []
    client, ends = closing_with(serve, make(), result)
    client.send("still open")
    assert client.recv() == "still open"
    assert type(result[0]) is error
    assert not ends


# -- answers


class Acts(fastws.Response):
    """Its encode() does what the test says."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(200, "x")
        self.act = act

    def encode(self, head_only: bool = False) -> Any:
        return self.act()


def raising() -> bytes:
    raise Boom


def cancelling() -> bytes:
    raise asyncio.CancelledError


def changed(**attributes: Any) -> fastws.Response:
    response = fastws.Response(200, "x")
    for name, value in attributes.items():
        setattr(response, name, value)
    return response


class LateData(fastws.Accept):
    def __getattribute__(self, name: str) -> Any:
        if name == "data":
            raise Boom
        return super().__getattribute__(name)


class Raises(str):
    def encode(self, *args: Any) -> bytes:
        raise Boom


RESPONSES: dict[str, tuple[Callable[[], Any], type[BaseException]]] = {
    "body of str": (lambda: changed(body="text"), TypeError),
    "body of None": (lambda: changed(body=None), TypeError),
    "headers of str": (lambda: changed(headers=("nonsense",)), ValueError),
    "headers of None": (lambda: changed(headers=None), TypeError),
    "header that is two": (lambda: changed(headers=((b"X", b"1\r\nY: 2"),)), ValueError),
    "reason that is two lines": (lambda: changed(reason="OK\r\nX: 1"), ValueError),
    "reason of bytes": (lambda: changed(reason=b"OK"), AttributeError),
    "status of str": (lambda: changed(status="200"), TypeError),
    "content type that is two lines": (lambda: changed(content_type="a\nb"), ValueError),
    "encode raises": (lambda: Acts(raising), Boom),
    "encode is cancelled": (lambda: Acts(cancelling), asyncio.CancelledError),
    "encode returns str": (lambda: Acts(lambda: "text"), TypeError),
    "encode returns None": (lambda: Acts(lambda: None), TypeError),
}
ACCEPTS: dict[str, tuple[Callable[[], Any], type[BaseException]]] = {
    "subprotocol of int": (lambda: fastws.Accept(5), AttributeError),  # type: ignore[arg-type]
    "subprotocol of bytes": (lambda: fastws.Accept(b"chat"), AttributeError),  # type: ignore[arg-type]
    "subprotocol that raises": (lambda: fastws.Accept(Raises("chat")), Boom),
    "subprotocol that is two lines": (lambda: fastws.Accept("chat\r\nX: 1"), ValueError),
    "headers of str": (lambda: fastws.Accept(headers=("nonsense",)), ValueError),  # type: ignore[arg-type]
    "headers of None": (lambda: fastws.Accept(headers=None), TypeError),  # type: ignore[arg-type]
    "header that is two": (lambda: fastws.Accept(headers=((b"X", b"1\r\nY: 2"),)), ValueError),
    "data that raises": (LateData, Boom),
}


def refused_whole(serve: Serving, app: Any, request: bytes, error: type[BaseException]) -> None:
    """A 500, one traceback, counted once, no memory reserved: the one client that there is room for gets it."""
    server = serve(app)
    serve.traps.expect(error, 2)
    for _ in range(2):
        client = RawClient.connect(server.port)
        client.send_raw(request)
        assert client.expect_reject(500).body == b"internal error\n"
        client.close()
    eventually(lambda: len(serve.traps.logged(error)) == 2)
    stats = server.stats()
    assert stats["refused"]["error"] == 2 and stats["answered"] == 0 and not unaccounted(stats)
    later = RawClient.connect(server.port)
    answer = later.handshake("/good", headers=OFFER).headers["sec-websocket-extensions"]
    assert "client_no_context_takeover" not in answer


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("kind", ["http", "upgrade"])
def test_a_response_that_is_nonsense(serve: Serving, kind: str, name: str, asynchronous: bool) -> None:
    make, error = RESPONSES[name]
    app = make_app(compression=RESERVED)
    app.websocket("/good")(lambda ws, data: None)
    decide = deciding(make, asynchronous)
    if kind == "http":
        app.http("/it")(decide)
        request = b"GET /it HTTP/1.1\r\nHost: localhost\r\n\r\n"
    else:
        app.websocket("/it")(upgrading(decide))
        request = request_bytes("/it", headers=OFFER)
    refused_whole(serve, app, request, error)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", ACCEPTS)
def test_an_accept_that_is_nonsense(serve: Serving, name: str, asynchronous: bool) -> None:
    make, error = ACCEPTS[name]
    app = make_app(compression=RESERVED)
    app.websocket("/good")(lambda ws, data: None)
    app.websocket("/it")(upgrading(deciding(make, asynchronous)))
    refused_whole(serve, app, request_bytes("/it", headers=OFFER), error)


def deciding(make: Callable[[], Any], asynchronous: bool) -> Callable[[Any], Any]:
    async def later(request: Any) -> Any:
        await asyncio.sleep(0)
        return make()

    return later if asynchronous else lambda request: make()


def upgrading(decide: Callable[[Any], Any]) -> Any:
    class Handler:
        def upgrade(self, request: Any) -> Any:
            return decide(request)

    return Handler


class Listed:
    """A collection that was good when the option was set."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act: Callable[[], Any] | None = None
        self.later = act

    def __contains__(self, one: object) -> bool:
        return False if self.act is None else self.act()

    def __iter__(self) -> Iterator[str]:
        return iter(() if self.act is None else self.act())

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("act", [raising, cancelling], ids=["raises", "is cancelled"])
@pytest.mark.parametrize("option", ["origins", "allowed_hosts"])
def test_a_collection_that_raises(serve: Serving, option: str, act: Callable[[], Any]) -> None:
    listed: Any = Listed(act)
    app = make_app(compression=RESERVED, **({"allowed_hosts": listed} if option == "allowed_hosts" else {}))
    app.websocket("/it", **({"origins": listed} if option == "origins" else {}))(lambda ws, data: None)
    app.websocket("/good")(lambda ws, data: None)
    server = serve(app)
    listed.act = act
    error = Boom if act is raising else asyncio.CancelledError
    serve.traps.expect(error)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/it", headers=[*OFFER, ("Origin", "http://good.example")]))
    assert client.expect_reject(500).body == b"internal error\n"
    eventually(lambda: serve.traps.logged(error))
    stats = server.stats()
    assert stats["refused"]["error"] == 1 and not unaccounted(stats)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_enum_is_a_subprotocol(serve: Serving, asynchronous: bool) -> None:
    protocols: list[Any] = []

    class Handler:
        def upgrade(self, request: Any) -> Any:
            return request.accept(subprotocol=Proto.CHAT)

        def open(self, ws: Any) -> None:
            protocols.append(ws.subprotocol)

    class Later(Handler):
        async def upgrade(self, request: Any) -> Any:
            await asyncio.sleep(0)
            return super().upgrade(request)

    server = serve(make_app(Later if asynchronous else Handler, compression=RESERVED))
    client = RawClient.connect(server.port)
    assert client.handshake(headers=OFFER).headers["sec-websocket-protocol"] == "chat"
    eventually(lambda: protocols)
    assert protocols == ["chat"] and type(protocols[0]) is str
