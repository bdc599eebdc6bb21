"""Rows S1 and S2, and messages: peers that send more than anybody needs. A rate is a bucket of twice what it gives per
second, so a burst passes and a flood does not."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from harness import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    Ended,
    RawClient,
    Recorder,
    Serving,
    build,
    bystander,
    close_code,
    eventually,
    make_app,
)

RATE = 50
BURST = 2 * RATE
FLOOD = 20_000
CORK = 256 << 10  # bytes that the server may write before it knows that nobody reads
CONTROL = [PING, PONG]
NAMES = {PING: "ping", PONG: "pong"}


def frames_until_close(client: RawClient) -> tuple[list[tuple[int, bytes]], int, bytes]:
    """All frames that come, and the code and reason of the Close that ends them."""
    frames: list[tuple[int, bytes]] = []
    while True:
        _, opcode, payload = client.recv_frame()
        if opcode == 8:
            client.expect_eof()
            code = close_code(payload)
            assert code is not None
            return frames, code, payload[2:]
        frames.append((opcode, payload))


def flood(client: RawClient, wire: bytes) -> None:
    """Sends it all, or as much as is taken before the server hangs up."""
    try:
        client.send_raw(wire)
    except ConnectionError:
        pass


@pytest.mark.parametrize("opcode", CONTROL, ids=NAMES.get)
def test_s01_s02_a_flood_of_control_frames(serve: Serving, opcode: int) -> None:
    """Of the very option, in one go: what is over the rate is neither answered nor told to the callbacks."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_control_rate=RATE)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        flood(client, build(opcode, b"x") * FLOOD)
        frames, code, reason = frames_until_close(client)
        assert code == 1008 and b"max_control_rate" in reason
        count = recorder.events.count((NAMES[opcode], b"x"))
        assert count == BURST
        assert frames == ([(PONG, b"x")] * count if opcode == PING else [])
        eventually(lambda: recorder.events[-1][:2] == ("close", 1008))
        assert len(recorder.events) == count + 2
        assert server.stats()["closed"]["max_control_rate"] == 1


def test_s01_s02_the_default_rate(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler())).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        flood(client, (build(PING, b"x") + build(PONG, b"x")) * FLOOD)
        frames, code, _ = frames_until_close(client)
        assert code == 1008
        assert len(frames) == 100  # half of them were Pings


@pytest.mark.parametrize("opcode", CONTROL, ids=NAMES.get)
def test_s01_s02_a_burst_passes_and_the_bucket_fills_again(serve: Serving, opcode: int) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True), max_control_rate=RATE)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(build(opcode, b"1") * BURST)
        server.advance(1)  # in which RATE run in
        client.send_raw(build(opcode, b"2") * RATE)
        client.send("still here")
        if opcode == PING:
            got = [client.recv_frame() for _ in range(BURST + RATE)]
            assert [frame.payload for frame in got] == [b"1"] * BURST + [b"2"] * RATE
        assert client.recv() == "still here"
        events = [(NAMES[opcode], b"1")] * BURST + [(NAMES[opcode], b"2")] * RATE
        assert recorder.events == [("open",), *events, ("message", "still here")]


def test_s01_pings_and_pongs_are_counted_together(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_control_rate=RATE)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        flood(client, (build(PING, b"x") + build(PONG, b"x")) * BURST)
        assert frames_until_close(client)[1] == 1008
        assert len(recorder.events) - 2 == BURST


@pytest.mark.parametrize("opcode", CONTROL, ids=NAMES.get)
def test_s01_s02_a_flood_that_is_allowed(serve: Serving, opcode: int) -> None:
    """Where the rate is off, a peer that reads nothing still makes nothing grow: of the Pongs that it does not take
    only the latest is owed (RFC 6455 section 5.5.3)."""
    count = 0

    class Counting:
        def ping(self, ws: Any, data: bytes) -> None:
            nonlocal count
            count += 1

        pong = ping

    server = serve(make_app(Counting, max_control_rate=0, send_timeout=0))
    with bystander(server):
        client = RawClient.connect(server.port, receive_buffer=4096)
        client.handshake()
        wire = build(opcode, bytes(125)) * 2_000
        most = 0
        client.send_raw(wire)
        before = sys.getallocatedblocks()
        for _ in range(80):  # 20 MB
            client.send_raw(wire)
            most = max(most, server.stats()["buffered_bytes"])
        client.send_raw(build(opcode, b"the last"))
        eventually(lambda: server.stats()["buffered_bytes"] <= CORK)
        eventually(lambda: count == 81 * 2_000 + 1)
        assert most <= CORK + 127, most
        assert sys.getallocatedblocks() - before < 2_000
        if opcode == PING:
            while (frame := client.recv_frame()).payload != b"the last":
                assert (frame.opcode, frame.payload) == (PONG, bytes(125))
        assert client.buffer == b""


@pytest.mark.parametrize("delay", [0, 0.01])  # seconds of the server's clock
def test_s02_pongs_that_were_asked_for_do_not_count(serve: Serving, delay: float) -> None:
    """The application pings as often as it likes: an honest peer's answers are never held against it."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_control_rate=RATE))
    rounds, pings = 5, 500
    with bystander(server):
        client = RawClient.open(server.port)
        eventually(lambda: recorder.sockets)
        (ws,) = recorder.sockets

        def ask(number: int) -> None:
            for one in range(pings):
                ws.ping(b"%d %d" % (number, one))

        for number in range(rounds):
            server.call(ask, number)
            answers = b""
            for _ in range(pings):
                frame = client.recv_frame()
                assert frame.opcode == PING
                answers += build(PONG, frame.payload)
            server.advance(delay)
            client.send_raw(answers)
        eventually(lambda: len(recorder.events) == 1 + rounds * pings)
        assert recorder.events[-1] == ("pong", b"4 499")
        assert ws.ready_state == 1


def test_s02_what_was_asked_for_is_not_lost_in_the_bucket(serve: Serving) -> None:
    """A peer that has just used up what it may send, and is then asked, has as much again two seconds later."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_control_rate=RATE)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(build(PING, b"1") * BURST)
        assert [client.recv_frame().payload for _ in range(BURST)] == [b"1"] * BURST
        server.call(lambda: [recorder.sockets[0].ping() for _ in range(BURST)])
        assert [client.recv_frame().opcode for _ in range(BURST)] == [PING] * BURST
        server.advance(2)
        client.send_raw(build(PONG) * BURST + build(PING, b"2") * BURST)
        assert [client.recv_frame().payload for _ in range(BURST)] == [b"2"] * BURST


def test_s02_pongs_beyond_those_that_were_asked_for_count(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_control_rate=RATE)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        eventually(lambda: recorder.sockets)
        server.call(lambda: [recorder.sockets[0].ping() for _ in range(10)])
        assert [client.recv_frame().opcode for _ in range(10)] == [PING] * 10
        flood(client, build(PONG) * FLOOD)
        assert frames_until_close(client)[1] == 1008
        assert recorder.events.count(("pong", b"")) - 10 == BURST


def test_s02_answers_to_the_server_s_own_pings_do_not_count(serve: Serving) -> None:
    """Those that `ping_interval` brings about, where next to no control frames are allowed."""
    recorder = Recorder()
    app = make_app()
    app.websocket("/pinged", ping_interval=30, ping_timeout=20, max_control_rate=0.01)(recorder.handler())
    server = serve(app).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port, "/pinged")
        for _ in range(10):
            server.advance(30)
            frame = client.recv_frame()
            assert frame.opcode == PING
            client.send_frame(PONG, frame.payload)
        eventually(lambda: recorder.events == [("open",), *[("pong", b"")] * 10])


@pytest.mark.parametrize("kind", ["frames", "fragments"])
def test_a_message_rate(serve: Serving, kind: str) -> None:
    """A flood of messages, where the application has said how many are enough; frames of one message count once."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_message_rate=RATE)).hold_clock()
    wire = build(TEXT, b"x")
    if kind == "fragments":
        wire = build(TEXT, b"", fin=False) + build(CONT, b"", fin=False) * 5 + build(CONT, b"x")
    with bystander(server):
        client = RawClient.open(server.port)
        flood(client, wire * (FLOOD // 5))
        frames, code, reason = frames_until_close(client)
        assert (frames, code) == ([], 1008) and b"max_message_rate" in reason
        assert recorder.events.count(("message", "x")) == BURST
        eventually(lambda: recorder.events[-1][:2] == ("close", 1008))
        assert server.stats()["closed"]["max_message_rate"] == 1


def test_a_message_rate_lets_bursts_and_control_frames_through(serve: Serving) -> None:
    """Each rate counts its own."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True), max_message_rate=RATE, max_control_rate=RATE)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw((build(BINARY, b"x") + build(PONG)) * BURST)
        assert [client.recv() for _ in range(BURST)] == [b"x"] * BURST
        server.advance(1)
        client.send_raw(build(BINARY, b"y") * RATE)
        assert [client.recv() for _ in range(RATE)] == [b"y"] * RATE


def test_a_message_rate_of_one_route(serve: Serving) -> None:
    """The others are as fast as they were."""
    app = make_app(Recorder().handler(echo=True))

    @app.websocket("/limited", max_message_rate=1, max_control_rate=0)
    def limited(ws: Any, data: Any) -> None:
        ws.send(data)

    server = serve(app).hold_clock()
    with bystander(server):
        free, held = RawClient.open(server.port), RawClient.open(server.port, "/limited")
        for client in (free, held):
            flood(client, build(TEXT, b"x") * 1_000)
        assert [free.recv() for _ in range(1_000)] == ["x"] * 1_000
        assert [held.recv(), held.recv()] == ["x", "x"]
        with pytest.raises(Ended, match="1008"):
            while held.recv() == "x":
                pass


def test_a_message_rate_and_an_async_callback(serve: Serving) -> None:
    """What has come in time and waits behind the callback is delivered; the connection then fails like any other."""
    import asyncio

    events: list[Any] = []
    go = asyncio.Event()

    class Slow:
        async def message(self, ws: Any, data: str) -> None:
            await go.wait()
            events.append(data)

        def close(self, ws: Any, code: int, reason: str) -> None:
            events.append(code)

    server = serve(make_app(Slow, max_message_rate=RATE, max_waiting=4)).hold_clock()
    with bystander(server):
        client = RawClient.open(server.port)
        flood(client, build(TEXT, b"x") * 1_000)
        server.settle()
        assert events == []
        server.call(go.set)
        _, code, _ = frames_until_close(client)
        assert code == 1008
        eventually(lambda: events and events[-1] == 1008)
        assert events.count("x") == BURST
