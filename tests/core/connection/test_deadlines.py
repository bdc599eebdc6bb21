"""Every deadline: who is hit, who is not, what is left behind, and 0 for off.

The server's clock is held, and set ahead by the test: a deadline comes to the millisecond, on however busy a machine.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import (
    BINARY,
    CLOSE,
    CONT,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Frame,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    at_rest,
    build,
    eventually,
    fill,
    make_app,
    newest,
    request_bytes,
    slow_client,
)

OFF = {
    "handshake_timeout": 0,
    "http_timeout": 0,
    "message_timeout": 0,
    "ping_interval": 0,
    "ping_timeout": 0,
    "send_timeout": 0,
}


def timers() -> int:
    """The timers of all loops that will still fire."""
    found = [one for one in gc.get_objects() if type(one).__name__ == "TimerHandle"]
    return sum(not handle.cancelled() for handle in found)


@pytest.fixture(autouse=True)
def no_timer_left(serve: Serving) -> Iterator[None]:
    """After the last client, and while the server runs: nothing is waited for any more, and no descriptor is held."""
    before = timers()
    yield
    for client in list(RawClient.opened):
        client.close()
    for server in serve.threads:
        eventually(lambda server=server: not any(at_rest(server.stats()).values()), 3.0, "nothing held")
    eventually(lambda: timers() <= before, 5.0, "no timers left")


def start(serve: Serving, recorder: Recorder | None = None, **options: Any) -> ServerThread:
    return serve(make_app((recorder or Recorder()).handler(), **{**OFF, "close_timeout": 5, **options})).hold_clock()


# handshake_timeout


@pytest.mark.parametrize("sent", [b"", b"G", request_bytes()[:-2]], ids=["nothing", "a byte", "nearly all"])
def test_handshake(serve: Serving, sent: bytes) -> None:
    server = start(serve, handshake_timeout=10)
    client = RawClient.connect(server.port)
    client.send_raw(sent)
    server.advance(9.999)
    client.expect_silence()
    server.advance(0.001)
    client.expect_eof()


def test_handshake_is_absolute(serve: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """A peer that trickles, then an `upgrade` that takes its time: together they have what is one peer's."""
    caplog.set_level(logging.ERROR, "fastws")  # the log has a timer while it counts lines
    events: list[str] = []

    class Handler:
        async def upgrade(self, request: Any) -> None:
            events.append("upgrade")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        def message(self, ws: Any, data: Any) -> None: ...

    server = serve(make_app(Handler, **{**OFF, "handshake_timeout": 10})).hold_clock()
    client = RawClient.connect(server.port)
    wire = request_bytes()
    for at in range(8):
        client.send_raw(wire[at : at + 1])
        server.advance(1)
    client.send_raw(wire[8:])
    eventually(lambda: events)
    server.advance(1.999)
    client.expect_silence()
    assert events == ["upgrade"]
    server.advance(0.001)
    client.expect_reject(503)
    eventually(lambda: events == ["upgrade", "cancelled"])


# message_timeout


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (b"", build(TEXT, b"x" * 200)),
        (build(BINARY, b"x" * 200_000)[:150_000], b"x" * 200),
        (build(TEXT, b"x", fin=False), build(CONT, b"", fin=False) * 30),
        (build(TEXT, b"x", fin=False), build(PING) * 30),
        (build(TEXT, b"x", fin=False), b""),
        (build(TEXT, b"x")[:1], b""),
        (build(PING, b"x" * 100)[:50], b"x" * 40),
    ],
    ids=["payload", "large payload", "empty fragments", "pings between", "silence", "header", "ping"],
)
def test_message(serve: Serving, first: bytes, rest: bytes) -> None:
    """Whatever trickles in: the time is that of a whole message, not of its parts."""
    recorder = Recorder()
    server = start(serve, recorder, message_timeout=60)
    client = RawClient.open(server.port)
    client.send_raw(first or rest[:1])
    trickle = rest[:58] if first else rest[1:59]
    for byte in trickle:
        server.advance(1)
        client.send_raw(bytes([byte]))
    server.advance(59.999 - len(trickle))
    assert {event[0] for event in recorder.events} <= {"open", "ping"}
    server.advance(0.001)
    while (frame := client.recv_frame()).opcode == PONG:
        pass
    assert frame == Frame(True, CLOSE, b"\x03\xf0message_timeout")
    eventually(lambda: recorder.events[-1] == ("close", 1008, "message_timeout"))
    client.send_close(1008)
    client.expect_eof()


def test_message_spares_who_finishes_others(serve: Serving) -> None:
    """Always in the middle of some message, never long in the same."""
    recorder = Recorder()
    server = start(serve, recorder, message_timeout=60)
    client = RawClient.open(server.port)
    count = 45
    wire = b"".join(build(TEXT, b"%04d" % number) for number in range(count))
    size = len(wire) // count
    client.send_raw(wire[: size // 2])
    for number in range(count):
        server.advance(59)
        client.send_raw(wire[size // 2 + number * size : size // 2 + (number + 1) * size])
    recorder.wait_for(("open",), *(("message", f"{number:04}") for number in range(count)))


def test_message_spares_who_was_in_time_while_the_loop_was_not(serve: Serving) -> None:
    """The application holds the loop up for longer than the deadline, and more of them have sent the rest than are read
    in one batch. Time passes here: the timer must ring while the loop is held up."""
    limit = 0.4 * PATIENCE
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), **{**OFF, "message_timeout": limit}))
    frame = build(TEXT, b"in two parts")
    late = RawClient.open(server.port)
    clients = [RawClient.open(server.port) for _ in range(600)]
    held_up = server.loop.call_soon_threadsafe
    eventually(lambda: len(recorder.sockets) == 601)
    held_up(time.sleep, limit * 0.2)
    for client in (late, *clients):
        client.send_raw(frame[:8])
    server.settle()
    held_up(time.sleep, limit * 1.5)
    for client in clients:
        client.send_raw(frame[8:])
    eventually(lambda: recorder.events.count(("message", "in two parts")) == 600)
    late.expect_close(1008)


def test_message_does_not_count_the_application_s_pause(serve: Serving) -> None:
    recorder = Recorder()
    server = start(serve, recorder, message_timeout=60)
    client = RawClient.open(server.port)
    client.send_frame(TEXT, b"one ", fin=False)
    server.advance(30)
    ws = newest(server)
    server.call(ws.pause_reading)
    server.advance(100)
    server.call(ws.resume_reading)
    server.advance(29.999)
    client.expect_silence()
    client.send_frame(CONT, b"two")
    recorder.wait_for(("open",), ("message", "one two"))
    client.send_frame(TEXT, b"one ", fin=False)
    server.settle()
    server.call(ws.pause_reading)
    server.advance(100)
    server.call(ws.resume_reading)
    server.advance(60)
    assert client.recv_frame() == Frame(True, CLOSE, b"\x03\xf0message_timeout")


@pytest.mark.parametrize("busy_with", ["pausing another", "a large answer", "closing another"])
def test_message_that_begins_within_the_pause(serve: Serving, busy_with: str) -> None:
    """A callback pauses, and then holds the loop up: of the pause only what comes after the message's beginning is
    added to its time, which would else begin in the future, and be up at once. Time passes here, as what is measured
    is how it is read within a callback."""
    recorder = Recorder()

    class Handler(recorder.handler()):  # type: ignore[misc]
        def ping(self, ws: Any, data: bytes) -> None:
            ws.pause_reading()
            time.sleep(0.3)  # more than a tick, after which the deadlines are looked at again
            if busy_with == "pausing another":
                recorder.sockets[0].pause_reading()
            elif busy_with == "closing another":
                recorder.sockets[0].close()
            else:
                ws.send(bytes(20 << 20))

    server = serve(make_app(Handler, **{**OFF, "close_timeout": 1.0, "message_timeout": 60, "high_water": 1 << 30}))
    RawClient.open(server.port)
    client = RawClient.open(server.port)
    eventually(lambda: len(recorder.sockets) == 2)
    client.send_raw(build(TEXT, b"one ", fin=False) + build(PING) + build(CONT, b"two ", fin=False))
    server.settle()
    for ws in recorder.sockets:
        server.call(ws.resume_reading)
    assert client.recv_frame() == Frame(True, PONG, b"")
    if busy_with == "a large answer":
        client.recv()
    client.expect_silence(0.4)
    client.send_frame(CONT, b"three")
    eventually(lambda: ("message", "one two three") in recorder.events)


# pings


def test_a_silent_peer_is_pinged_then_closed(serve: Serving) -> None:
    recorder = Recorder()
    server = start(serve, recorder, ping_interval=30, ping_timeout=20)
    client = RawClient.open(server.port)
    server.advance(29.999)
    client.expect_silence()
    server.advance(0.001)
    assert client.recv_frame() == Frame(True, PING, b"")
    server.advance(19.999)
    client.expect_silence()
    server.advance(0.001)
    assert client.recv_frame() == Frame(True, CLOSE, b"\x03\xf3ping_timeout")
    eventually(lambda: recorder.events == [("open",), ("close", 1011, "ping_timeout")])
    client.expect_eof()


@pytest.mark.parametrize("life", ["pong", "message", "ping", "byte"])
def test_any_byte_is_life(serve: Serving, life: str) -> None:
    recorder = Recorder()
    server = start(serve, recorder, ping_interval=30, ping_timeout=20)
    client = RawClient.open(server.port)
    slow = build(TEXT, b"slowly")
    for at in range(4):
        server.advance(30)
        while True:
            opcode = client.recv_frame().opcode
            if opcode == PING:
                break
            assert opcode == PONG
        server.advance(19.999)
        wire = {"pong": build(PONG), "message": build(TEXT, b"x"), "ping": build(PING)}
        client.send_raw(wire.get(life, slow[at : at + 1]))
        server.advance(29.999)
    assert ("close", 1011, "ping_timeout") not in recorder.events
    assert server.stats()["connections"] == 1


def test_a_talking_peer_is_not_pinged(serve: Serving) -> None:
    server = start(serve, ping_interval=30, ping_timeout=20)
    client = RawClient.open(server.port)
    for _ in range(15):
        client.send("x")
        server.advance(29.999)
    client.expect_silence()
    server.advance(0.001)
    assert client.recv_frame().opcode == PING


def test_a_pause_of_the_application_is_no_silence_of_the_peer(serve: Serving) -> None:
    recorder = Recorder()
    server = start(serve, recorder, ping_interval=30, ping_timeout=20)
    client = RawClient.open(server.port)
    ws = newest(server)
    server.advance(30)
    assert client.recv_frame().opcode == PING
    server.call(ws.pause_reading)
    client.send_frame(PONG)
    server.advance(100)
    server.call(ws.resume_reading)
    eventually(lambda: recorder.events == [("open",), ("pong", b"")])
    server.call(ws.pause_reading)
    server.advance(100)
    server.call(ws.resume_reading)
    server.advance(30)
    assert client.recv_frame().opcode == PING  # it is looked after again
    server.advance(20)
    assert client.recv_frame() == Frame(True, CLOSE, b"\x03\xf3ping_timeout")


def test_an_upgrade_that_takes_longer_than_ping_interval(serve: Serving) -> None:
    """It counts from the 101."""
    gate = threading.Event()

    class Handler:
        async def upgrade(self, request: Any) -> None:
            await asyncio.to_thread(gate.wait)

        def message(self, ws: Any, data: Any) -> None: ...

    server = serve(make_app(Handler, **{**OFF, "ping_interval": 30, "ping_timeout": 20})).hold_clock()
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes())
    server.advance(40)
    gate.set()
    client.expect_101()
    server.advance(29.999)
    client.expect_silence()
    server.advance(0.001)
    assert client.recv_frame().opcode == PING
    server.advance(20)
    assert client.recv_frame().opcode == CLOSE


# send_timeout


def test_send(serve: Serving) -> None:
    recorder = Recorder()
    server = start(serve, recorder, send_timeout=30, max_backpressure=1 << 30)
    slow_client(server)
    other = RawClient.open(server.port)
    ws = server.call(lambda: list(server.server.connections)[-1])
    fill(server, ws)
    server.call(ws.send, bytes(10 << 20))
    server.advance(29.999)
    assert server.stats()["connections"] == 2
    server.advance(0.001)
    server.advance_until(30, lambda: server.stats()["sockets"] == 1, "terminated")
    assert recorder.events == [("open",), ("open",), ("close", 1006, "")]
    assert server.stats()["buffered_bytes"] == 0
    server.call(newest(server).send, "fine")
    assert other.recv() == "fine"


def test_send_spares_who_takes_a_little(serve: Serving) -> None:
    """The kernel says that there is room only when a third of its buffer is free, which takes a slow peer long."""
    recorder = Recorder()
    server = start(serve, recorder, send_timeout=30, max_backpressure=1 << 30)
    client = slow_client(server)
    ws = newest(server)
    sent = [*fill(server, ws), bytes(10 << 20)]
    server.call(ws.send, sent[-1])
    for _ in range(40):
        for _ in range(25):  # together as much as counts as progress
            client.buffer += client.sock.recv(8192)
        server.advance(29.999)
    assert recorder.events == [("open",)]
    assert server.call(lambda: ws.buffered_amount) > 0
    assert [client.recv() for _ in sent] == sent


def test_send_counts_from_when_it_stalled(serve: Serving) -> None:
    """Not from when the reactor last had something to do. Time passes here, as what is tested is when it is read."""
    recorder = Recorder()
    options = {**OFF, "send_timeout": 1.5, "handshake_timeout": 2.0, "max_backpressure": 1 << 30}
    server = serve(make_app(recorder.handler(), **options))
    client = slow_client(server)
    ws = newest(server)
    RawClient.connect(server.port)  # its deadline has all others looked at
    payload = os.urandom(20 << 20)
    server.settle()
    time.sleep(1.7)
    server.call(ws.send, payload)
    eventually(lambda: server.stats()["handshakes"] == 0)
    time.sleep(0.1)
    assert recorder.events == [("open",)]
    assert client.recv() == payload


# close_timeout


def test_our_close_is_never_answered(serve: Serving) -> None:
    recorder = Recorder()
    server = start(serve, recorder)
    client = RawClient.open(server.port)
    server.call(newest(server).close, 4000, "bye")
    assert client.recv_frame().opcode == CLOSE
    for _ in range(4):  # whatever else comes is no answer
        client.send("still here")
        server.advance(1)
    server.advance(0.999)
    client.expect_silence()
    server.advance(0.001)
    with pytest.raises((AssertionError, ConnectionResetError)):
        client.recv_frame()
    recorder.wait_for(("open",), ("close", 4000, "bye"))
    assert server.stats()["sockets"] == 0


@pytest.mark.parametrize("ending", ["answers ours", "closes", "breaks the protocol", "is refused"])
def test_a_peer_that_never_closes_its_socket(serve: Serving, ending: str) -> None:
    server = start(serve)
    if ending == "is refused":
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes("/nowhere"))
        assert client.recv_http().status == 404
    else:
        client = RawClient.open(server.port)
        if ending == "answers ours":
            server.call(newest(server).close)
            client.recv_frame()
        client.send_raw(build(TEXT, rsv=7) if ending == "breaks the protocol" else build(CLOSE))
        if ending != "answers ours":
            assert client.recv_frame().opcode == CLOSE
    client.expect_eof()
    server.advance(4.999)
    assert server.stats()["sockets"] == 1
    server.advance(0.001)
    assert server.stats()["sockets"] == 0


# off


@pytest.mark.parametrize("where", ["handshake", "message", "ping", "pong", "send"])
def test_zero_is_off(serve: Serving, where: str) -> None:
    a_day = 86_400
    recorder = Recorder()
    pings = {"ping_interval": 30} if where == "pong" else {}
    server = start(serve, recorder, max_backpressure=1 << 30, **pings)
    if where == "handshake":
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes()[:30])
        server.advance(a_day)
        client.send_raw(request_bytes()[30:])
        client.expect_101()
        return
    if where == "send":
        client = slow_client(server)
        sent = fill(server, newest(server))
        server.advance(a_day)
        assert [client.recv() for _ in sent] == sent
        return
    client = RawClient.open(server.port)
    client.send_raw(build(TEXT, b"x")[: 3 if where == "message" else 0])
    if where == "pong":
        server.advance(30)
        assert client.recv_frame().opcode == PING
    server.advance(a_day)
    client.expect_silence()
    assert recorder.events == [("open",)]
