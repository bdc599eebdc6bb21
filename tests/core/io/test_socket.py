"""Pausing and resuming, half-closed peers, and what is held meanwhile."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from harness import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    build,
    eventually,
    make_app,
    quiet,
)

from fastws import ReadyState


class Pausing:
    """Pauses where its client says so: after each message that starts with "pause", and in `open` if `at_open`."""

    def __init__(self, at_open: bool = False) -> None:
        self.at_open = at_open
        self.got: list[Any] = []
        self.closed: list[tuple[int, str]] = []
        self.ws: Any = None

    def open(self, ws: Any) -> None:
        self.ws = ws
        if self.at_open:
            ws.pause_reading()

    def message(self, ws: Any, data: Any) -> None:
        self.got.append(data)
        if data[:5] in ("pause", b"pause"):
            ws.pause_reading()

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closed.append((code, reason))


def start(serve: Serving, handler: Any, extra: bytes = b"", **options: Any) -> tuple[ServerThread, RawClient]:
    server = serve(make_app(handler, **options))
    return server, RawClient.open(server.port, extra=extra)


def frames(*messages: str) -> bytes:
    return b"".join(build(TEXT, message.encode()) for message in messages)


@pytest.mark.parametrize("with_the_request", [True, False])
def test_paused_in_open(serve: Serving, with_the_request: bool) -> None:
    handler = Pausing(at_open=True)
    wire = frames("one", "two")
    server, client = start(serve, handler, extra=wire if with_the_request else b"")
    if not with_the_request:
        client.send_raw(wire)
    server.settle()
    assert handler.got == []
    server.call(handler.ws.resume_reading)
    eventually(lambda: handler.got == ["one", "two"])


def test_paused_in_the_middle_of_a_read(serve: Serving) -> None:
    """Each resume lets through what stands before the next pause, in order, and nothing else."""
    handler = Pausing()
    server, client = start(serve, handler)
    expected = []
    for number in range(50):
        expected += [f"{number}", f"pause {number}"]
    client.send_raw(frames(*expected, "last"))
    for number in range(50):
        eventually(lambda number=number: len(handler.got) >= 2 * number + 2)
        server.settle()
        assert handler.got == expected[: 2 * number + 2]
        server.call(handler.ws.resume_reading)
    eventually(lambda: handler.got == [*expected, "last"])


def test_paused_and_resumed_in_one_callback(serve: Serving) -> None:
    got = []

    def message(ws: Any, data: str) -> None:
        got.append(data)
        ws.pause_reading()
        ws.pause_reading()
        ws.resume_reading()

    _server, client = start(serve, type("Handler", (), {"message": staticmethod(message)}))
    client.send_raw(frames("a", "b", "c") + build(TEXT, b"d")[:-1])
    eventually(lambda: got == ["a", "b", "c"])
    client.send_raw(build(TEXT, b"d")[-1:] + frames("e"))
    eventually(lambda: got == ["a", "b", "c", "d", "e"])


def test_resumed_by_another_connection_s_callback(serve: Serving) -> None:
    got: list[str] = []

    class Handler:
        paused: Any = None

        def message(self, ws: Any, data: str) -> None:
            got.append(data)
            if data == "pause":
                self.paused = ws
                ws.pause_reading()
            elif data == "resume":
                self.paused.resume_reading()

    server, client = start(serve, Handler())
    other = RawClient.open(server.port)
    for _ in range(20):
        client.send_raw(frames("pause", "next"))
        eventually(lambda: got == ["pause"])
        other.send_raw(frames("resume"))
        eventually(lambda: got == ["pause", "resume", "next"])
        got.clear()


def test_paused_and_resumed_by_tasks_and_timers(serve: Serving) -> None:
    handler = Pausing()
    server, client = start(serve, handler)
    client.send("warm")
    eventually(lambda: handler.got == ["warm"])

    async def flap() -> None:
        for _ in range(30):
            handler.ws.pause_reading()
            await asyncio.sleep(0)
            handler.ws.resume_reading()
            handler.ws.pause_reading()
            await asyncio.sleep(0.001)
            handler.ws.resume_reading()

    [task] = server.call(lambda: [server.loop.create_task(flap())])
    expected = [f"{number}" * (number % 50) for number in range(3000)]
    for at in range(0, 3000, 100):
        client.send_raw(frames(*expected[at : at + 100]))
    eventually(task.done)
    eventually(lambda: handler.got == ["warm", *expected])


def test_one_resume_undoes_many_pauses_and_resume_alone_does_nothing(serve: Serving) -> None:
    handler = Pausing()
    server, client = start(serve, handler)
    client.send("warm")
    eventually(lambda: handler.got == ["warm"])
    server.call(lambda: [handler.ws.pause_reading() for _ in range(3)])
    client.send("held")
    server.settle()
    assert handler.got == ["warm"]
    server.call(handler.ws.resume_reading)
    eventually(lambda: handler.got == ["warm", "held"])
    server.call(lambda: [handler.ws.resume_reading() for _ in range(3)])
    client.send("next")
    eventually(lambda: handler.got == ["warm", "held", "next"])


@pytest.mark.parametrize("size", [1000, 3_000_000], ids=["small", "large"])
@pytest.mark.parametrize("fragmented", [True, False], ids=["fragmented", "whole"])
def test_paused_within_a_message(serve: Serving, fragmented: bool, size: int) -> None:
    """In the middle of a frame, between fragments, in the middle of a large one that is received in place."""
    handler = Pausing()
    server, client = start(serve, handler, max_message_size=1 << 30)
    payload = os.urandom(size)
    half = size // 2
    if fragmented:
        wire = [build(BINARY, payload[:half], fin=False), build(CONT, payload[half:])]
    else:
        whole = build(BINARY, payload)
        wire = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    client.send_raw(frames("first") + wire[0])
    eventually(lambda: handler.got == ["first"])
    server.call(handler.ws.pause_reading)
    client.sock.settimeout(10)
    if size < 65536:
        client.send_raw(wire[1] + frames("after"))
        server.settle()
        assert handler.got == ["first"]
        server.call(handler.ws.resume_reading)
    else:
        server.loop.call_soon_threadsafe(server.loop.call_later, 0.1, handler.ws.resume_reading)
        client.send_raw(wire[1] + frames("after"))
    eventually(lambda: handler.got == ["first", payload, "after"], 5.0)


def test_paused_by_a_message_behind_which_another_begins(serve: Serving) -> None:
    """Of the one behind it a header is there, or some payload; all cuts of it."""
    handler = Pausing()
    server, client = start(serve, handler)
    behind = build(TEXT, b"x" * 200)
    for cut in (0, 1, 2, 3, 5, 7, 8, 9, 100, len(behind) - 1, len(behind)):
        handler.got.clear()
        client.send_raw(frames("pause") + behind[:cut])
        eventually(lambda: handler.got == ["pause"])
        server.settle()
        client.send_raw(behind[cut:])
        server.settle()
        assert handler.got == ["pause"]
        server.call(handler.ws.resume_reading)
        eventually(lambda: handler.got == ["pause", "x" * 200])


def test_what_a_paused_peer_sends_is_left_to_tcp(serve: Serving) -> None:
    """Of a flood at most one read is held, the rest stays in the kernel; later all of it comes."""
    handler = Pausing()
    server, client = start(serve, handler)
    count = 1000
    wire = frames("pause", *[f"{number:04}".ljust(10_000, ".") for number in range(count)])
    client.sock.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += client.sock.send(wire[sent : sent + 200_000])
    eventually(lambda: handler.got == ["pause"])
    assert server.stats()["buffered_bytes"] <= 262_144
    server.call(handler.ws.resume_reading)
    client.sock.settimeout(10)
    client.send_raw(wire[sent:])
    eventually(lambda: len(handler.got) == count + 1)
    assert [data[:4] for data in handler.got[1:]] == [f"{number:04}" for number in range(count)]


def test_pings_of_a_paused_peer_are_answered_in_their_place(serve: Serving) -> None:
    handler = Pausing()
    server, client = start(serve, handler)
    client.send_raw(frames("pause") + build(PING, b"?") + frames("next"))
    eventually(lambda: handler.got == ["pause"])
    client.expect_silence(0.05)
    server.call(handler.ws.resume_reading)
    assert client.recv_frame() == Frame(True, PONG, b"?")
    eventually(lambda: handler.got == ["pause", "next"])


def test_sending_goes_on_while_reading_pauses(serve: Serving) -> None:
    handler = Pausing()
    server, client = start(serve, handler, max_backpressure=1 << 30)
    client.send("pause")
    eventually(lambda: handler.got == ["pause"])
    payload = os.urandom(10_000_000)
    server.call(handler.ws.send, payload)
    assert client.recv() == payload
    client.send("held")
    server.settle()
    assert handler.got == ["pause"], "a drained outbox does not undo the application's pause"
    server.call(handler.ws.resume_reading)
    eventually(lambda: handler.got == ["pause", "held"])


def test_closed_while_paused(serve: Serving) -> None:
    """The peer's answer is read for all that, and what it sent before is not delivered."""
    handler = Pausing()
    server, client = start(serve, handler)
    client.send_raw(frames("pause", "lost"))
    eventually(lambda: handler.got == ["pause"])
    server.call(handler.ws.close, 4001, "bye")
    frame = client.recv_frame()
    assert frame.payload == b"\x0f\xa1bye"
    client.send_raw(frames("lost too"))
    client.send_close(4001)
    client.expect_eof()
    eventually(lambda: handler.closed == [(4001, "bye")])
    assert handler.got == ["pause"]


@pytest.mark.parametrize("how", ["terminate", "reset"])
def test_ended_while_paused(serve: Serving, how: str) -> None:
    handler = Pausing()
    server, client = start(serve, handler)
    client.send_raw(frames("pause", "lost"))
    eventually(lambda: handler.got == ["pause"])
    if how == "terminate":
        server.call(handler.ws.terminate)
    else:
        client.reset()
    eventually(lambda: handler.closed == [(1006, "")])
    server.call(handler.ws.resume_reading)
    server.settle()
    assert handler.got == ["pause"]
    assert server.call(lambda: handler.ws.ready_state) == ReadyState.CLOSED


@pytest.mark.parametrize("with_close", [True, False])
def test_the_peer_leaves_while_paused(serve: Serving, with_close: bool) -> None:
    """What it had sent is delivered when reading goes on, then its end; no turn of the loop is spent until then."""
    handler = Pausing()
    server, client = start(serve, handler)
    client.send_raw(frames("pause", "one"))
    eventually(lambda: handler.got == ["pause"])
    client.send_raw(frames("two"))
    if with_close:
        client.send_close(4002, b"tired")
    client.finish_sending()
    server.settle()
    assert (handler.got, handler.closed) == (["pause"], [])
    server.call(handler.ws.resume_reading)
    eventually(lambda: handler.closed)
    assert handler.got == ["pause", "one", "two"]
    assert handler.closed == [(4002, "tired") if with_close else (1006, "")]


def test_a_peer_that_has_left_costs_no_time_while_paused(serve: Serving) -> None:
    """A level-triggered poller would tell again and again."""
    handler = Pausing()
    server, client = start(serve, handler)
    client.send("pause")
    eventually(lambda: handler.got == ["pause"])
    client.finish_sending()
    server.settle()
    assert quiet(server), "the loop spins"
    server.call(handler.ws.resume_reading)
    eventually(lambda: handler.closed == [(1006, "")])


def test_a_half_closed_peer_is_over(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True)))
    client = RawClient.open(server.port)
    client.send("last")
    client.finish_sending()
    assert client.recv() == "last"
    client.expect_eof()
    recorder.wait_for(("open",), ("message", "last"), ("close", 1006, ""))


def test_nothing_of_the_last_words_is_lost(serve: Serving) -> None:
    """The server reads on after its own last byte: a reset would tear what is still on its way."""
    payload = os.urandom(3_000_000)

    class Handler:
        def message(self, ws: Any, data: Any) -> None:
            ws.send(payload)
            ws.close(4003, "that was all")

    server = serve(make_app(Handler, max_backpressure=1 << 30))
    client = RawClient.open(server.port)
    client.send("go")
    client.send_raw(frames(*["unread"] * 5000))
    assert client.recv() == payload
    frame = client.recv_frame()
    assert frame.payload == b"\x0f\xa3that was all"
    client.send_close(4003)
    client.send_raw(frames(*["unread"] * 5000))
    client.expect_eof()
    eventually(lambda: server.stats()["connections"] == 0)
