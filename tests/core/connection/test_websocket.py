"""What the user's own calls do: send and its statuses, pings, close."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import pytest
from harness import (
    CLOSE,
    PING,
    PONG,
    ROOMY,
    TEXT,
    Frame,
    RawClient,
    Recorder,
    Serving,
    amount,
    build,
    close_code,
    eventually,
    fill,
    make_app,
    newest,
    slow_client,
)

from fastws import DROPPED, SENT, ReadyState

# send


@pytest.mark.parametrize(
    "text",
    ["", "ascii", "latin-1 é\xff", "UCS-2 \u20ac\uffff\x00", "UCS-4 \U0001f600 é", "\ue000\ufdd0", "é" * 40_000],
    ids=["empty", "ascii", "latin-1", "ucs2", "ucs4", "private", "large"],
)
def test_text_of_every_width(serve: Serving, text: str) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True)))
    client = RawClient.open(server.port)
    client.send(text)
    assert client.recv_frame() == Frame(True, TEXT, text.encode())
    ws = newest(server)
    assert server.call(ws.send, text) == SENT
    assert server.call(ws.send, type("Text", (str,), {})(text)) == SENT
    assert server.call(ws.send_text, text.encode()) == SENT
    assert [client.recv() for _ in range(3)] == [text] * 3


@pytest.mark.parametrize("text", ["\ud800", "x" * 70_000 + "\udfff", "\ud83d\ude00", "a\udc80"])
def test_a_lone_surrogate_sends_nothing(serve: Serving, text: str) -> None:
    server = serve(make_app(Recorder().handler()))
    client = RawClient.open(server.port)
    ws = newest(server)
    with pytest.raises(UnicodeEncodeError):
        server.call(ws.send, text)
    with pytest.raises(UnicodeEncodeError):
        server.call(ws.ping, text)
    with pytest.raises(UnicodeEncodeError):
        server.call(ws.close, 1000, text[-10:])
    assert server.call(lambda: (ws.send("next"), ws.ready_state)) == (SENT, ReadyState.OPEN)
    assert client.recv_frame() == Frame(True, TEXT, b"next")


@pytest.mark.parametrize("size", [0, 3, 200, 70_000])
@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: array.array("H", data[: len(data) // 2 * 2]),
        lambda data: memoryview(data)[len(data) // 2 :],
        lambda data: memoryview(bytearray(data)).toreadonly(),
        type("Bytes", (bytes,), {}),
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "slice", "readonly", "subclass"],
)
def test_bytes_like(serve: Serving, make: Callable[[bytes], Any], size: int) -> None:
    server = serve(make_app(Recorder().handler()))
    client = RawClient.open(server.port)
    data = make((bytes(range(256)) * (size // 256 + 1))[:size])
    assert server.call(newest(server).send, data) == SENT
    assert client.recv() == bytes(memoryview(data))


def test_dropped_once_it_is_not_open(serve: Serving) -> None:
    server = serve(make_app(Recorder().handler()))
    client = RawClient.open(server.port)
    ws = newest(server)
    assert server.call(lambda: (ws.close(4000, "enough"), ws.send("late"), ws.send(bytes(100_000)))) == (
        None,
        DROPPED,
        DROPPED,
    )
    assert client.recv_frame() == Frame(True, CLOSE, b"\x0f\xa0enough")
    client.send_close(4000)
    client.expect_eof()
    eventually(lambda: server.call(lambda: ws.ready_state) == ReadyState.CLOSED)
    assert server.call(ws.send, "later") == DROPPED
    with pytest.raises(TypeError):
        server.call(ws.send, None)


# pings


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(125))], ids=len)
def test_a_ping_is_answered_with_its_payload(serve: Serving, body: bytes) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    client = RawClient.open(server.port)
    client.send_frame(PING, body)
    assert client.recv_frame() == Frame(True, PONG, body)
    recorder.wait_for(("open",), ("ping", body))


def test_only_the_latest_ping_is_owed_to_a_blocked_peer(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), high_water=1 << 30, max_control_rate=0, **ROOMY))
    client = slow_client(server)
    ws = newest(server)
    sent = fill(server, ws)
    before = amount(server, ws)
    client.send_raw(b"".join(build(PING, b"%d" % number) for number in range(1000)))
    eventually(lambda: len(recorder.events) == 1001)
    assert amount(server, ws) == before
    for message in sent:
        assert client.recv_frame().payload == message
    assert client.recv_frame() == Frame(True, PONG, b"999")
    client.send_frame(PING, b"last")
    assert client.recv_frame() == Frame(True, PONG, b"last")


def test_pings_of_ours(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    client = RawClient.open(server.port)
    ws = newest(server)
    bodies: list[Any] = [b"", "é", bytearray(b"array"), memoryview(b"view"), b"x" * 125, "é" * 62]
    for body in bodies:
        assert server.call(ws.ping, body) is None
        wire = body.encode() if isinstance(body, str) else bytes(body)
        assert client.recv_frame() == Frame(True, PING, wire)
        client.send_frame(PONG, wire)
        eventually(lambda wire=wire: recorder.events[-1] == ("pong", wire))
    for body in (b"x" * 126, "é" * 63):
        with pytest.raises(ValueError, match="125"):
            server.call(ws.ping, body)
    with pytest.raises(TypeError):
        server.call(ws.ping, 5)
    client.send_frame(PONG, b"unasked")
    eventually(lambda: recorder.events[-1] == ("pong", b"unasked"))
    server.call(ws.close)
    server.call(ws.ping, b"late")
    assert client.recv_frame().opcode == CLOSE
    client.expect_silence()


def test_close_goes_behind_what_is_queued(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), **ROOMY))
    client = slow_client(server)
    ws = newest(server)
    sent = fill(server, ws)
    server.call(ws.close, 1000, "done")
    for message in sent:
        assert client.recv() == message
    opcode, payload = client.recv_frame()[1:]
    assert (opcode, close_code(payload), payload[2:]) == (CLOSE, 1000, b"done")
    recorder.wait_for(("open",))
    client.send_close(1000)
    client.expect_eof()
    recorder.wait_for(("open",), ("close", 1000, "done"))
