"""A peer that has sent its FIN may still read (RFC 9112 section 9.6): what came before that is answered, and then the
connection ends. One that is gone altogether shows by a reset, and has nothing more done for it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from harness import (
    CLOSE,
    PONG,
    TEXT,
    Frame,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    build,
    build_close,
    close_code,
    eventually,
    make_app,
    newest,
    quiet,
    read_slowly,
    request_bytes,
    small_buffers,
    thrifty_client,
)

import fastws

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIMIT = 10.0  # on the server's clock, which is held
RATE = 10_000  # bytes a second of that clock that an honest peer reads
SIZE = int(4 * LIMIT * RATE)  # for which it needs as long as several deadlines


class Asked:
    """An http callback, or a message callback, that waits for its gate and then answers."""

    def __init__(self, answer: bytes = b"here you are") -> None:
        self.answer = answer
        self.gate = asyncio.Event()
        self.events: list[Any] = []

    async def wait(self) -> None:
        self.events.append("begins")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        self.events.append("ends")

    async def http(self, request: Any) -> fastws.Response:
        await self.wait()
        return fastws.Response(200, self.answer)

    async def message(self, ws: Any, data: Any) -> None:
        await self.wait()
        ws.send(self.answer)

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.events.append((code, reason))


def asking(serve: Serving, asked: Asked, wire: bytes = GET, **options: Any) -> tuple[ServerThread, RawClient]:
    """A peer that has asked, and shut its side."""
    app = make_app(asked, **{"close_timeout": LIMIT, "max_backpressure": 1 << 30, **options})
    app.http("/plain")(asked.http)
    server = serve(app, sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    if wire is not GET:
        client.handshake()
    client.send_raw(wire.replace(b"GET / ", b"GET /plain "))
    eventually(lambda: asked.events == ["begins"])
    client.finish_sending()
    server.settle()
    return server, client


# Plain HTTP


@pytest.mark.parametrize("size", [0, 12, SIZE])
def test_http_is_answered_when_the_callback_ends(serve: Serving, size: int) -> None:
    asked = Asked(os.urandom(size))
    server, client = asking(serve, asked)
    assert quiet(server)
    assert asked.events == ["begins"]
    server.call(asked.gate.set)
    read_slowly(client, RATE, pass_time=server.advance)
    assert client.recv_http().body == asked.answer
    client.expect_eof()
    assert asked.events == ["begins", "ends"]
    eventually(lambda: server.stats()["sockets"] == 0)
    assert server.stats()["answered"] == 1


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_http_with_the_fin_behind_the_request(serve: Serving, method: str, asynchronous: bool) -> None:
    """In the same batch of events, whole, and whatever else came."""
    body = os.urandom(SIZE)

    async def later(request: Any) -> fastws.Response:
        await asyncio.sleep(0)
        return fastws.Response(200, body)

    app = make_app(close_timeout=LIMIT)
    app.http("/")(later if asynchronous else lambda request: fastws.Response(200, body))
    server = serve(app, sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.send_raw(GET.replace(b"GET", method.encode()) + GET)
    client.finish_sending()
    read_slowly(client, RATE, pass_time=server.advance)
    head = client.recv_until(b"\r\n\r\n")
    assert f"Content-Length: {SIZE}\r\n".encode() in head
    assert client.buffer == (body if method == "GET" else b"")
    eventually(lambda: server.stats()["sockets"] == 0)


def test_http_answers_that_nobody_takes(serve: Serving) -> None:
    asked = Asked(bytes(8 << 20))
    server, _client = asking(serve, asked)
    server.call(asked.gate.set)
    eventually(lambda: server.stats()["buffered_bytes"] > 0)
    assert quiet(server)
    server.advance(LIMIT - 0.001)
    assert server.stats()["sockets"] == 1
    server.advance(0.001)
    server.advance_until(LIMIT, lambda: server.stats()["sockets"] == 0)


@pytest.mark.parametrize("end", ["timeout", "reset", "stop"])
def test_http_that_is_not_answered(serve: Serving, end: str) -> None:
    asked = Asked()
    server, client = asking(serve, asked, http_timeout=2 * LIMIT if end == "timeout" else 60)
    if end == "reset":
        client.reset()
    elif end == "stop":
        server.stop_server(0)
    else:
        server.advance(2 * LIMIT - 0.001)
        assert asked.events == ["begins"]
        server.advance(0.001)
    eventually(lambda: asked.events == ["begins", "cancelled"])
    if end == "timeout":
        client.expect_reject(503)
    cause = {"timeout": "http_timeout", "reset": "left", "stop": "stopping"}[end]
    assert server.app.stats()["refused"][cause] == 1


def test_http_makes_room_for_others(serve: Serving) -> None:
    """It has no claim to stay, though it waits for us."""
    asked = Asked()
    server, _client = asking(serve, asked, max_pending_handshakes=3)
    others = [RawClient.connect(server.port) for _ in range(3)]
    eventually(lambda: asked.events == ["begins", "cancelled"])
    assert server.stats()["refused"]["max_pending_handshakes"] == 1
    assert server.stats()["handshakes"] == len(others)


@pytest.mark.parametrize("wire", [b"", b"GET", GET[:-2], request_bytes()[:-1]])
def test_half_a_request_is_none(serve: Serving, wire: bytes) -> None:
    server = serve(make_app(Recorder().handler()))
    client = RawClient.connect(server.port)
    client.send_raw(wire)
    client.finish_sending()
    client.expect_eof()
    eventually(lambda: server.stats()["refused"]["left"] == 1)


# Connections


@pytest.mark.parametrize("tail", [b"", build(TEXT, b"not all of it")[:-3]], ids=["whole", "half a message behind"])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_messages_are_answered_one_after_the_other(serve: Serving, count: int, tail: bytes) -> None:
    recorder = Recorder()

    class Handler(recorder.handler()):  # type: ignore[misc]
        async def message(self, ws: Any, data: str) -> None:
            await asyncio.sleep(0.001 if len(recorder.events) % 3 else 0)
            recorder.note(ws, "message", data)
            assert ws.send(data) == fastws.SENT

    server = serve(make_app(Handler))
    client = RawClient.open(server.port)
    sent = [f"{number}" for number in range(count)]
    client.send_raw(b"".join(build(TEXT, one.encode()) for one in sent) + tail)
    client.finish_sending()
    assert [client.recv() for _ in sent] == sent
    client.expect_eof()
    recorder.wait_for(("open",), *(("message", one) for one in sent), ("close", 1006, ""))
    assert server.stats()["closed"]["lost"] == 1
    eventually(lambda: server.stats()["sockets"] == 0)


def test_a_message_is_answered_when_its_callback_ends(serve: Serving) -> None:
    asked = Asked(os.urandom(SIZE))
    server, client = asking(serve, asked, build(TEXT, b"?"))
    assert quiet(server)
    server.call(asked.gate.set)
    read_slowly(client, RATE, pass_time=server.advance)
    assert client.recv() == asked.answer
    client.expect_eof()
    eventually(lambda: asked.events == ["begins", "ends", (1006, "")])
    assert server.stats()["closed"]["lost"] == 1


def test_answers_of_plain_callbacks_are_taken_slowly(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True), close_timeout=LIMIT), sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.handshake()
    payload = os.urandom(SIZE)
    client.send(payload)
    client.finish_sending()
    eventually(lambda: server.stats()["buffered_bytes"] > 0)
    assert quiet(server)
    read_slowly(client, RATE, pass_time=server.advance)
    assert client.recv() == payload
    client.expect_eof()
    eventually(lambda: recorder.events[-1] == ("close", 1006, ""))
    assert recorder.events == [("open",), ("message", payload), ("drain",), ("close", 1006, "")]


def test_a_callback_may_wait_for_its_answer_to_be_taken(serve: Serving) -> None:
    """For longer than close_timeout, as long as some of it is taken; and then goes on."""
    recorder = Recorder()

    class Handler(recorder.handler()):  # type: ignore[misc]
        async def message(self, ws: Any, data: str) -> None:
            for _ in range(2):
                ws.send(bytes(SIZE))
                await ws.drained()
            recorder.note(ws, "drained")
            ws.send("done")

    server = serve(make_app(Handler, close_timeout=LIMIT), sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.handshake()
    client.send("?")
    client.finish_sending()
    read_slowly(client, RATE, pass_time=server.advance)
    assert [client.recv() for _ in range(3)] == [bytes(SIZE), bytes(SIZE), "done"]
    client.expect_eof()
    assert ("drained",) in recorder.events


def test_a_pong_that_is_owed_is_sent(serve: Serving) -> None:
    """The peer took nothing when it asked for it."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), high_water=1 << 30), sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.handshake()
    server.call(newest(server).send, bytes(SIZE))
    client.send_raw(build(9, b"still there?"))
    client.finish_sending()
    eventually(lambda: ("ping", b"still there?") in recorder.events)
    read_slowly(client, 10 * RATE, pass_time=server.advance)
    assert client.recv() == bytes(SIZE)
    assert client.recv_frame() == Frame(True, PONG, b"still there?")
    client.expect_eof()


@pytest.mark.parametrize("end", ["timeout", "reset", "stop", "terminate", "nothing is taken"])
def test_a_message_that_is_not_answered(serve: Serving, end: str) -> None:
    asked = Asked(bytes(8 << 20))
    options = {"close_timeout": LIMIT if end == "timeout" else 60, "send_timeout": LIMIT}
    server, client = asking(serve, asked, build(TEXT, b"?") * 3, **options)
    ws = newest(server)
    if end == "reset":
        client.reset()
    elif end == "stop":
        server.stop_server(0)
    elif end == "terminate":
        server.call(ws.terminate)
        server.call(asked.gate.set)
    elif end == "nothing is taken":
        server.call(asked.gate.set)
        eventually(lambda: server.stats()["buffered_bytes"] > 0)
    if end in ("timeout", "nothing is taken"):
        server.advance(LIMIT - 0.001)
        assert (1006, "") not in asked.events
        server.advance(0.001)
    code = (1001, "server is stopping") if end == "stop" else (1006, "")
    if end == "nothing is taken":
        server.advance_until(LIMIT, lambda: asked.events[-1] == code)
    eventually(lambda: asked.events[-1] == code)
    ended = "ends" if end in ("terminate", "nothing is taken") else "cancelled"
    assert asked.events[:2] == ["begins", ended]
    assert asked.events.count(code) == 1
    stats = server.app.stats()
    causes = {"stop": "stopping", "terminate": "by_app", "nothing is taken": "send_timeout"}
    assert stats["closed"][causes.get(end, "lost")] == 1
    assert sum(stats["closed"].values()) == 1


@pytest.mark.parametrize("wait", [False, True], ids=["at once", "later"])
def test_a_callback_that_closes(serve: Serving, wait: bool) -> None:
    """No answer to its Close can come. It goes on to its end, with what is sent before."""
    recorder = Recorder()

    class Handler(recorder.handler()):  # type: ignore[misc]
        async def message(self, ws: Any, data: str) -> None:
            await asyncio.sleep(0.02 if wait else 0)
            ws.send(bytes(SIZE))
            ws.close(4000, "enough")
            await asyncio.sleep(0.02)
            recorder.note(ws, "ends")

    server = serve(make_app(Handler, close_timeout=LIMIT), sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.handshake()
    client.send("?")
    client.finish_sending()
    read_slowly(client, RATE, pass_time=server.advance)
    assert client.recv() == bytes(SIZE)
    frame = client.recv_frame()
    assert (frame.opcode, close_code(frame.payload)) == (CLOSE, 4000)
    client.expect_eof()
    recorder.wait_for(("open",), ("ends",), ("close", 4000, "enough"))
    assert server.stats()["closed"]["by_app"] == 1


def test_a_callback_that_raises(serve: Serving) -> None:
    recorder = Recorder()

    class Handler(recorder.handler()):  # type: ignore[misc]
        async def message(self, ws: Any, data: str) -> None:
            await asyncio.sleep(0.01)
            ws.send("before")
            raise LookupError(data)

    server = serve(make_app(Handler))
    serve.traps.expect(LookupError)
    client = RawClient.open(server.port)
    client.send_raw(build(TEXT, b"?") * 2)
    client.finish_sending()
    assert client.recv() == "before"
    client.expect_close(1011)
    recorder.wait_for(("open",), ("close", 1011, "internal error"))


@pytest.mark.parametrize("end", ["ours", "theirs"])
def test_closed_with_much_unsent(serve: Serving, end: str) -> None:
    """By a Close of either side, behind which the peer's FIN comes."""
    recorder = Recorder()
    options = {"close_timeout": LIMIT, "max_backpressure": 1 << 30, "high_water": 1 << 30}
    server = serve(make_app(recorder.handler(), **options), sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.handshake()
    ws = newest(server)
    server.call(ws.send, bytes(SIZE))
    if end == "ours":
        server.call(ws.close, 4000)
    else:
        client.send_raw(build_close(4000))
    client.finish_sending()
    server.settle()
    assert quiet(server)
    read_slowly(client, RATE, pass_time=server.advance)
    assert client.recv() == bytes(SIZE)
    frame = client.recv_frame()
    assert (frame.opcode, close_code(frame.payload)) == (CLOSE, 4000)
    client.expect_eof()
    eventually(lambda: recorder.events == [("open",), ("close", 4000, "")])
    assert server.stats()["closed"]["by_app" if end == "ours" else "by_peer"] == 1


def test_an_app_that_waits_for_it_to_take_something(serve: Serving) -> None:
    """A task of its own, which is nothing that the end waits for: drained() is done when that comes."""
    server = serve(make_app(Recorder().handler(), send_timeout=LIMIT), sock=small_buffers()).hold_clock()
    client = thrifty_client(server.port)
    client.handshake()
    ws = newest(server)
    server.call(ws.send, bytes(SIZE))
    task = server.call(lambda: [server.loop.create_task(ended(ws))])[0]
    client.finish_sending()
    server.settle()
    server.advance(LIMIT - 0.001)
    assert not task.done()
    server.advance(0.001)
    server.advance_until(LIMIT, task.done)
    assert server.stats()["closed"]["send_timeout"] == 1


async def ended(ws: Any) -> None:
    await ws.drained()


def test_paused_by_a_callback_after_the_fin(serve: Serving) -> None:
    """There is nothing to read, so pausing and resuming is about nothing, and holds nothing up."""
    recorder = Recorder()
    gate = asyncio.Event()

    class Handler(recorder.handler()):  # type: ignore[misc]
        async def message(self, ws: Any, data: str) -> None:
            await gate.wait()
            ws.pause_reading()
            await asyncio.sleep(0)
            if data == "resume":
                ws.resume_reading()
            ws.send(data)

    server = serve(make_app(Handler))
    for data in ("resume", "leave it"):
        gate.clear()
        client = RawClient.open(server.port)
        client.send(data)
        client.finish_sending()
        server.settle()
        server.call(gate.set)
        assert client.recv() == data
        client.expect_eof()
    eventually(lambda: server.stats()["closed"]["lost"] == 2)


def test_what_is_sent_to_a_peer_that_has_left_gives_it_no_time(serve: Serving) -> None:
    """Each pause for another reason would have the poller tell of the FIN again, which was when its time began."""
    asked = Asked()
    options = {"send_timeout": 0, "max_waiting": 1}
    server, _client = asking(serve, asked, build(TEXT, b"?") * 3, **options)
    ws = newest(server)
    for _ in range(40):
        server.call(ws.send, bytes(100_000))
        server.advance(LIMIT / 10)
    assert asked.events == ["begins", "cancelled", (1006, "")]
