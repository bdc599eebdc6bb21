"""Rows M3, S3 and S8 as far as they are deadlines.

Time passes in those that see whether the timer rings: for each of them, although nothing was due for a while before.
The others set the server's clock.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from harness import (
    ANY,
    BINARY,
    CLOSE,
    CONT,
    PATIENCE,
    PING,
    PONG,
    RawClient,
    Recorder,
    Serving,
    build,
    bystander,
    eventually,
    make_app,
)

LIMIT = 0.4
IDLE = 0.6  # long enough for the timer to have nothing left to wait for
LATE = 1.1 * PATIENCE


def took(began: float) -> None:
    elapsed = time.monotonic() - began
    assert LIMIT * 0.9 <= elapsed <= LIMIT + LATE, f"after {elapsed:.2f} s"


@pytest.mark.parametrize("part", ["half a header", "half a frame", "half a large frame", "a fragment", "a slow body"])
def test_m03_a_message_that_is_not_finished(serve: Serving, part: str) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), message_timeout=LIMIT))
    wire = {
        "half a header": b"\x82",
        "half a frame": build(BINARY, b"x", length=100),
        "half a large frame": build(BINARY, bytes(300_000), length=900_000),
        "a fragment": build(BINARY, b"x", fin=False),
        "a slow body": build(BINARY, b"x", length=100),
    }[part]
    with bystander(server, recorder, [("open",), ("message", b"whole"), ("close", 1008, ANY)]):
        client = RawClient.open(server.port)
        client.send(b"whole")
        time.sleep(IDLE)
        began = time.monotonic()
        client.send_raw(wire)
        if part == "a slow body":
            while time.monotonic() - began < LIMIT * 0.8:
                client.send_raw(b"y")
                time.sleep(0.05)
        client.expect_close(1008)
        took(began)


def test_m03_finished_in_time(serve: Serving) -> None:
    """The time is one message's own: that of another one does not count."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), message_timeout=60)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        for _ in range(12):
            client.send_frame(BINARY, b"a", fin=False)
            server.advance(59)
            client.send_frame(CONT, b"b")
        eventually(lambda: recorder.events == [("open",), *[("message", b"ab")] * 12])


def test_s08_a_peer_that_does_not_answer_pings(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), ping_interval=LIMIT, ping_timeout=LIMIT))
    with bystander(server, recorder, [("open",), ("close", 1011, ANY)]):
        began = time.monotonic()
        client = RawClient.open(server.port)
        assert client.recv_frame().opcode == PING
        took(began)
        began = time.monotonic()
        client.expect_close(1011)
        took(began)


@pytest.mark.parametrize("life", ["pong", "message", "a byte"])
def test_s08_any_byte_is_life(serve: Serving, life: str) -> None:
    recorder = Recorder()
    app = make_app()
    app.websocket("/pinged", ping_interval=30, ping_timeout=20, message_timeout=0)(recorder.handler())
    server = serve(app).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port, "/pinged")
        slow = iter(build(BINARY, bytes(100)))
        for _ in range(5):
            server.advance(30)
            assert client.recv_frame().opcode == PING
            server.advance(19.999)
            if life == "pong":
                client.send_frame(PONG)
            elif life == "message":
                client.send("here")
            else:
                client.send_raw(bytes([next(slow)]))
    assert ("close", 1006, "") in recorder.events


def test_s08_a_close_that_is_not_answered(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), close_timeout=LIMIT))
    with bystander(server, recorder, [("open",), ("close", 4000, "why")]):
        client = RawClient.open(server.port)
        eventually(lambda: recorder.sockets)
        time.sleep(IDLE)
        began = time.monotonic()
        server.call(recorder.sockets[0].close, 4000, "why")
        frame = client.recv_frame()
        assert (frame.opcode, frame.payload) == (CLOSE, (4000).to_bytes(2, "big") + b"why")
        eventually(lambda: server.stats()["sockets"] == 1)
        took(began)


def test_s03_output_that_nobody_takes(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), send_timeout=LIMIT))
    with bystander(server, recorder, [("open",), ("close", 1006, ANY)]):
        client = RawClient.connect(server.port, receive_buffer=4096)
        client.handshake()
        eventually(lambda: recorder.sockets)
        time.sleep(IDLE)
        began = time.monotonic()
        server.call(recorder.sockets[0].send, bytes(8 << 20))
        eventually(lambda: server.stats()["sockets"] == 1)
        took(began)


def test_s03_a_slow_consumer_is_closed_or_loses_the_newest(serve: Serving) -> None:
    import fastws

    for policy in ("close", "drop"):
        recorder = Recorder()
        server = serve(make_app(recorder.handler(), max_backpressure=1 << 20, max_burst=0, slow_consumer=policy))
        client = RawClient.connect(server.port, receive_buffer=4096)
        client.handshake()
        eventually(lambda recorder=recorder: recorder.sockets)
        (ws,) = recorder.sockets

        def flood(ws: Any = ws) -> list[Any]:
            return [ws.send(bytes(100_000)) for _ in range(200)]

        results = server.call(flood)
        assert results[0] == fastws.SENT
        assert results[-1] == fastws.DROPPED
        taken = len(results) - results.count(fastws.DROPPED)
        assert results == [*results[:taken], *[fastws.DROPPED] * (len(results) - taken)]
        assert server.stats()["buffered_bytes"] <= (1 << 20) + 200_000
        for _ in range(taken):
            assert client.recv() == bytes(100_000)
        if policy == "close":
            client.expect_close(1008)
            eventually(lambda recorder=recorder: recorder.events[-1][:2] == ("close", 1008))
        else:
            eventually(lambda ws=ws: ws.buffered_amount == 0)
            assert server.call(ws.send, "again") == fastws.SENT
            assert client.recv() == "again"
