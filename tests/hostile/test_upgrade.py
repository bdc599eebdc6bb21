"""Rows H16 and H18-H20: the `upgrade` hook, what waits behind it, and what it may not answer."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from harness import (
    ANY,
    BINARY,
    CONT,
    PING,
    TEXT,
    RawClient,
    Recorder,
    Serving,
    build,
    build_close,
    bystander,
    eventually,
    make_app,
    request_bytes,
)


class Boom(Exception):
    """Raised by hooks of these tests: its text must not reach a client."""


def hooked(recorder: Recorder, hook: Any, *, echo: bool = False) -> type:
    """A recording handler whose `upgrade` is `hook(request)`, `def` or `async def`."""
    base = recorder.handler(echo=echo)

    async def upgrade_later(self: Any, request: Any) -> Any:
        return await hook(request)

    def upgrade(self: Any, request: Any) -> Any:
        return hook(request)

    return type("Hooked", (base,), {"upgrade": upgrade_later if inspect.iscoroutinefunction(hook) else upgrade})


class Gate:
    """An async hook that waits until `release` is called from the test's thread."""

    def __init__(self) -> None:
        self.entered = 0
        self.cancelled = 0
        self.released = asyncio.Event()

    async def __call__(self, request: Any) -> None:
        self.entered += 1
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def hook(self) -> Any:
        async def hook(request: Any) -> None:
            await self(request)

        return hook


# -- H16: bytes that do not wait for the 101


@pytest.mark.parametrize("asynchronous", [False, True])
def test_h16_frames_in_the_request_s_segment(serve: Serving, asynchronous: bool) -> None:
    recorder = Recorder()

    async def later(request: Any) -> None:
        await asyncio.sleep(0.05)

    handler = hooked(recorder, later, echo=True) if asynchronous else recorder.handler(echo=True)
    server = serve(make_app(handler))
    expected = [("open",), ("message", "one"), ("ping", b"p"), ("message", b"two"), ("close", 1000, "")]
    with bystander(server, recorder, expected):
        client = RawClient.connect(server.port)
        frames = build(TEXT, b"one") + build(PING, b"p") + build(BINARY, b"t", fin=False) + build(CONT, b"wo")
        client.send_raw(request_bytes() + frames + build_close(1000))
        client.expect_101()
        assert client.recv() == "one"
        assert client.recv() == b"two"
        client.expect_close(1000)


@pytest.mark.parametrize("cut", [1, 5, 100, 150])
def test_h16_the_segment_ends_anywhere(serve: Serving, cut: int) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True)))
    stream = request_bytes() + build(TEXT, b"one") + build(TEXT, b"two" * 100)
    with bystander(server, recorder, [("open",), ("message", "one"), ("message", "two" * 100), ("close", 1006, "")]):
        client = RawClient.connect(server.port)
        for piece in (stream[:-cut], stream[-cut:]):
            client.send_raw(piece)
            server.settle()
        client.expect_101()
        assert client.recv() == "one"
        assert client.recv() == "two" * 100
        client.close()
        eventually(lambda: recorder.events[-1][0] == "close")


def test_h16_frames_while_upgrade_runs(serve: Serving) -> None:
    """In order, none lost, and not parsed before the 101: what waits, waits in the kernel."""
    recorder, gate = Recorder(), Gate()
    server = serve(make_app(hooked(recorder, gate.hook(), echo=True)))
    numbers = [str(n) for n in range(200)]
    expected = [("open",), *(("message", n) for n in numbers), ("close", 1006, "")]
    with bystander(server, recorder, expected):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes() + build(TEXT, b"0"))
        eventually(lambda: gate.entered)
        for number in numbers[1:]:
            client.send_raw(build(TEXT, number.encode()))
        server.settle()
        assert recorder.events == []
        client.expect_silence(0.05)
        assert server.stats()["buffered_bytes"] <= 64
        server.call(gate.released.set)
        client.expect_101()
        assert [client.recv() for _ in numbers] == numbers
        client.close()
        eventually(lambda: recorder.events[-1][0] == "close")


def test_h16_a_flood_while_upgrade_runs(serve: Serving) -> None:
    """Megabytes that come before the 101 stay with the sender; afterwards the ordinary limits hold."""
    recorder, gate = Recorder(), Gate()
    server = serve(make_app(hooked(recorder, gate.hook())))
    size = 8 << 20
    with bystander(server, recorder, [("open",), ("message", "x"), ("close", 1009, ANY)]):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes())
        eventually(lambda: gate.entered)
        rest = memoryview(build(TEXT, b"x") + build(BINARY, bytes(size)))
        client.sock.setblocking(False)
        try:
            while rest:
                rest = rest[client.sock.send(rest) :]
        except BlockingIOError:
            pass
        client.sock.settimeout(client.timeout)
        server.settle()
        held = server.stats()["buffered_bytes"]
        assert held <= 256 << 10, f"{held} bytes kept before the 101"
        server.call(gate.released.set)
        client.expect_101()
        client.expect_close(1009)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_h16_over_the_limit_before_the_101(serve: Serving, asynchronous: bool) -> None:
    recorder, gate = Recorder(), Gate()
    handler = hooked(recorder, gate.hook()) if asynchronous else recorder.handler()
    server = serve(make_app(handler, max_message_size=1000))
    with bystander(server, recorder, [("open",), ("message", "fits"), ("close", 1009, ANY)]):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes() + build(TEXT, b"fits") + build(TEXT, b"x" * 1001) + build(TEXT, b"behind"))
        if asynchronous:
            eventually(lambda: gate.entered)
            server.call(gate.released.set)
        client.expect_101()
        client.expect_close(1009)


# -- H18, H19: answers that the app may not give


def splitting(request: Any, where: str, evil: str) -> Any:
    if where == "accept header value":
        return request.accept(headers={"X-Test": f"a{evil}b"})
    if where == "accept header name":
        return request.accept(headers={f"X{evil}Test": "a"})
    if where == "reject header value":
        return request.reject(403, headers={"X-Test": f"a{evil}b"})
    if where == "reject header name":
        return request.reject(403, headers={f"X{evil}Test": "a"})
    return request.accept(subprotocol=f"chat{evil}")


PLACES = ["accept header value", "accept header name", "reject header value", "reject header name", "subprotocol"]


@pytest.mark.parametrize("evil", ["\r\nX-Evil: 1", "\r", "\n", "\0"])
@pytest.mark.parametrize("where", PLACES)
def test_h18_response_splitting(serve: Serving, where: str, evil: str) -> None:
    recorder = Recorder()
    caught = []

    def hook(request: Any) -> Any:
        try:
            return splitting(request, where, evil)
        except ValueError as error:
            caught.append(error)
            raise

    server = serve(make_app(hooked(recorder, hook)))
    serve.traps.expect(ValueError)
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes(headers=[("Sec-WebSocket-Protocol", "chat")]))
        response = client.expect_reject(500)
        assert caught
        assert "x-evil" not in response.headers
        assert b"evil" not in response.body.lower()


def test_h18_in_a_plain_response(serve: Serving) -> None:
    import fastws

    app = make_app()
    made = []

    @app.http("/split")
    def split(request: Any) -> Any:
        for name, value in (("X-Test", "a\r\nX-Evil: 1"), ("X\nTest", "a"), ("X-Test", "\0"), ("X Test", "a")):
            with pytest.raises(ValueError):
                made.append(fastws.Response(200, b"ok", headers={name: value}))
        return fastws.Response(204)

    server = serve(app)
    with bystander(server):
        client = RawClient.connect(server.port)
        client.send_raw(b"GET /split HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv_until(b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
        assert not made


@pytest.mark.parametrize("offered", [[], ["superchat"], ["Chat"], ["chat.v2", "x-chat"]])
def test_h19_a_subprotocol_not_offered(serve: Serving, offered: list[str]) -> None:
    recorder = Recorder()
    caught = []

    def hook(request: Any) -> Any:
        try:
            return request.accept(subprotocol="chat")
        except ValueError as error:
            caught.append(error)
            raise

    server = serve(make_app(hooked(recorder, hook)))
    serve.traps.expect(ValueError)
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes(headers=[("Sec-WebSocket-Protocol", name) for name in offered]))
        client.expect_reject(500)
        assert caught


@pytest.mark.parametrize("offered", ["chat v2", "chatl other, more", '"chat"', "ch\xe4t"])
def test_h19_an_offer_that_is_no_subprotocol(serve: Serving, offered: str) -> None:
    """A hook that answers with the client's first offer does not come to see it, and so does not raise."""
    recorder = Recorder()
    server = serve(make_app(hooked(recorder, lambda request: request.accept(subprotocol=request.subprotocols[0]))))
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes(headers=[("Sec-WebSocket-Protocol", offered)]))
        client.expect_reject(400)


@pytest.mark.parametrize("lines", [["chat"], ["superchat, chat"], ["superchat", "chat"], ["superchat ,chat\t"]])
def test_h19_a_subprotocol_offered(serve: Serving, lines: list[str]) -> None:
    """RFC 6455 section 11.3.4: several lines are one list."""
    recorder = Recorder()
    server = serve(make_app(hooked(recorder, lambda request: request.accept(subprotocol="chat", data=7))))
    client = RawClient.connect(server.port)
    response = client.handshake(headers=[("Sec-WebSocket-Protocol", line) for line in lines])
    assert response.headers["sec-websocket-protocol"] == "chat"
    eventually(lambda: recorder.sockets)
    assert recorder.sockets[0].subprotocol == "chat"
    assert recorder.sockets[0].data == 7


# -- H20: hooks that raise, never return, or outlive their client


@pytest.mark.parametrize("asynchronous", [False, True])
def test_h20_upgrade_raises(serve: Serving, asynchronous: bool) -> None:
    recorder = Recorder()

    def hook(request: Any) -> None:
        raise Boom("the secret of the house")

    async def later(request: Any) -> None:
        await asyncio.sleep(0.01)
        raise Boom("the secret of the house")

    server = serve(make_app(hooked(recorder, later if asynchronous else hook)))
    serve.traps.expect(Boom, 2)
    with bystander(server, recorder):
        for extra in (b"", build(TEXT, b"frame")):
            client = RawClient.connect(server.port)
            client.send_raw(request_bytes() + extra)
            response = client.expect_reject(500)
            assert b"secret" not in response.body
            assert b"Boom" not in response.body


@pytest.mark.parametrize("answer", ["yes", 403, True, b"HTTP/1.1 200 OK", object()])
def test_h20_upgrade_returns_nonsense(serve: Serving, answer: object) -> None:
    recorder = Recorder()
    server = serve(make_app(hooked(recorder, lambda request: answer)))
    serve.traps.expect(None)  # one line that says what a hook may return
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes())
        client.expect_reject(500)


def test_h20_upgrade_never_returns(serve: Serving) -> None:
    recorder, gate = Recorder(), Gate()
    server = serve(make_app(hooked(recorder, gate.hook()), handshake_timeout=10)).hold_clock()
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes() + build(TEXT, b"x"))
        server.advance(10)
        client.recv_until(b"") if client.eof(3.0) else client.expect_reject(503, 500, 504, 408)
        eventually(lambda: gate.cancelled == gate.entered == 1)
        eventually(lambda: server.stats()["handshakes"] == 0)


@pytest.mark.parametrize("leave", ["close", "finish_sending", "reset"])
def test_h20_the_client_leaves_while_upgrade_runs(serve: Serving, leave: str) -> None:
    recorder, gate = Recorder(), Gate()
    server = serve(make_app(hooked(recorder, gate.hook())))
    with bystander(server, recorder):
        for extra in (b"", build(TEXT, b"x")):
            gate.cancelled = gate.entered = 0
            client = RawClient.connect(server.port)
            client.send_raw(request_bytes())
            eventually(lambda: gate.entered)
            if extra:
                client.send_raw(extra)
                server.settle()
            getattr(client, leave)()
            eventually(lambda: gate.cancelled == 1, 3.0, f"cancelled after {leave} with {extra!r}")
            eventually(lambda: server.stats()["handshakes"] == 0)


def test_h20_the_server_stops_while_upgrade_runs(serve: Serving) -> None:
    recorder, gate = Recorder(), Gate()
    server = serve(make_app(hooked(recorder, gate.hook())))
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes())
    eventually(lambda: gate.entered)
    server.stop_server(0.5)
    assert gate.cancelled == 1
    assert client.eof() or client.recv_http().status == 503
    assert recorder.events == []


def test_h20_upgrade_swallows_its_cancellation(serve: Serving) -> None:
    """A hook that goes on after the client has left answers nobody."""
    recorder = Recorder()
    ended = []

    async def stubborn(request: Any) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
        ended.append(True)

    server = serve(make_app(hooked(recorder, stubborn)))
    with bystander(server, recorder):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes())
        eventually(lambda: server.stats()["handshakes"] == 1)
        client.close()
        eventually(lambda: ended)
