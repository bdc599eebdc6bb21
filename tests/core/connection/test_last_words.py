"""What was sent before the end arrives at a peer that reads slowly: deadlines begin anew while it takes some of it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from harness import (
    CLOSE,
    PONG,
    TEXT,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    eventually,
    make_app,
    newest,
    read_slowly,
    request_bytes,
    small_buffers,
    thrifty_client,
)

import fastws

LIMIT = 10.0  # on the server's clock, which is held
RATE = 10_000  # bytes a second of that clock that an honest peer reads
SIZE = int(4 * LIMIT * RATE)  # for which it needs as long as several deadlines


def start(serve: Serving, recorder: Recorder, **options: Any) -> ServerThread:
    unbounded = {"max_backpressure": 1 << 30, "high_water": 1 << 30}
    app = make_app(recorder.handler(), **{"close_timeout": LIMIT, **unbounded, **options})
    return serve(app, sock=small_buffers()).hold_clock()


def opened(server: ServerThread) -> RawClient:
    client = thrifty_client(server.port)
    client.handshake()
    return client


@pytest.mark.parametrize("end", ["close", "stop", "fault"])
def test_a_slow_reader_gets_all_before_the_close(serve: Serving, end: str) -> None:
    recorder = Recorder()
    server = start(serve, recorder)
    client = opened(server)
    payload = os.urandom(SIZE)
    server.call(recorder.sockets[0].send, payload)
    if end == "close":
        server.call(recorder.sockets[0].close, 4000, "bye")
    elif end == "stop":
        server.loop.call_soon_threadsafe(lambda: server.loop.create_task(server.server.stop(60)))
    else:
        client.send_frame(TEXT, rsv=7)
    code = {"close": 4000, "stop": 1001, "fault": 1002}[end]
    read_slowly(client, RATE, SIZE, pass_time=server.advance)
    assert client.recv() == payload
    if end != "fault":
        frame = client.recv_frame()
        assert (frame.opcode, frame.payload[:2]) == (CLOSE, code.to_bytes(2, "big"))
        client.send_close(code)
        client.expect_eof()
    else:
        client.expect_close(code)
    client.close()
    cause = {"close": "by_app", "stop": "stopping", "fault": "protocol_error"}[end]
    eventually(lambda: server.app.stats()["closed"][cause] == 1)
    eventually(lambda: recorder.events[-1][:2] == ("close", code))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_slow_reader_gets_all_of_an_http_answer(serve: Serving, asynchronous: bool) -> None:
    app = make_app(close_timeout=LIMIT)
    body = os.urandom(SIZE)

    async def later(request: Any) -> fastws.Response:
        await asyncio.sleep(0)
        return fastws.Response(200, body)

    app.http("/")(later if asynchronous else lambda request: fastws.Response(200, body))
    server = serve(app, sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    read_slowly(client, RATE, pass_time=server.advance)
    assert client.recv_http().body == body


def test_a_refusal_is_read_slowly(serve: Serving) -> None:
    """Of an `upgrade` that answers at length."""

    class Handler:
        def upgrade(self, request: Any) -> Any:
            return request.reject(403, bytes(SIZE))

        def message(self, ws: Any, data: Any) -> None: ...

    server = serve(make_app(Handler, close_timeout=LIMIT), sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.send_raw(request_bytes())
    read_slowly(client, RATE, pass_time=server.advance)
    assert client.recv_http().body == bytes(SIZE)


def test_what_the_kernel_holds_is_on_its_way(serve: Serving) -> None:
    """It has taken all, so nothing is unsent; the peer goes on sending, and a socket closed meanwhile would answer that
    with a reset, which loses what is still to come."""
    recorder = Recorder()
    app = make_app(recorder.handler(), close_timeout=LIMIT, max_control_rate=0)
    server = serve(app, sock=small_buffers(4 << 20)).hold_clock()
    client = opened(server)
    payload = os.urandom(SIZE)
    ws = newest(server)
    assert server.call(ws.send, payload) == fastws.SENT
    server.call(ws.close, 4000, "bye")
    server.settle()
    for part in range(1, 11):
        read_slowly(client, RATE, SIZE * part / 10, pass_time=server.advance)
        client.send_frame(PONG)
    assert client.recv() == payload
    frame = client.recv_frame()
    assert frame.payload == b"\x0f\xa0bye"
    client.send_close(4000)
    client.expect_eof()
    client.close()
    eventually(lambda: server.stats()["closed"]["by_app"] == 1)
    assert recorder.events == [("open",), ("close", 4000, "bye")]


@pytest.mark.parametrize("end", ["close", "http", "the kernel has all"])
def test_who_takes_nothing_is_ended_as_before(serve: Serving, end: str) -> None:
    recorder = Recorder()
    app = make_app(recorder.handler(), close_timeout=LIMIT, max_backpressure=1 << 30)
    app.http("/")(lambda request: fastws.Response(200, bytes(8 << 20)))
    server = serve(app, sock=small_buffers(4 << 20)).hold_clock()
    client = thrifty_client(server.port)
    if end == "http":
        client.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    else:
        client.handshake()
        ws = newest(server)
        server.call(ws.send, bytes(SIZE if end == "the kernel has all" else 8 << 20))
        server.call(ws.close, 4000)
    server.settle()
    server.advance(LIMIT - 0.001)
    assert server.stats()["sockets"] == 1
    server.advance(0.001)
    server.advance_until(LIMIT, lambda: server.stats()["sockets"] == 0, "dropped")
    if end != "http":
        assert recorder.events == [("open",), ("close", 4000, "")]
        assert server.stats()["closed"]["close_timeout"] == 1


def test_stop_has_its_own_time(serve: Serving) -> None:
    """However well a peer reads."""
    recorder = Recorder()
    server = start(serve, recorder, close_timeout=60)
    client = opened(server)
    server.call(recorder.sockets[0].send, bytes(SIZE))
    server.stop_server(0.1)
    assert recorder.events[-1] == ("close", 1001, "server is stopping")
    assert server.app.stats()["sockets"] == 0
    client.close()
