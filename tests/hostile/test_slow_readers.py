"""Row S3: clients that ask and never read (zero window)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from harness import (
    ANY,
    BINARY,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    build,
    bystander,
    eventually,
    fill,
    make_app,
    newest,
    read_slowly,
    server_end,
    slow_client,
    small_buffers,
    thrifty_client,
)

import fastws

READ = 256 << 10  # bytes that are read at once, and so at most answered before reading pauses
TURNS = 600  # of the loop: with so many, the messages of one read have all had their turn, even the smallest
AT_ONCE = 30
STALLED = 30.0  # on a clock that is held
TCPI_BACKOFF = 4  # which byte it is in struct tcp_info (linux/tcp.h)
BACKOFF = 4  # doublings of the 0.2 s between two probes of a closed window: three seconds of it have passed
ENOUGH = 256 << 20  # bytes; whoever takes so many holds nobody back


def push(server: ServerThread, client: RawClient, wire: bytes) -> tuple[int, int]:
    """Sends `wire` over and over until nobody takes more. Returns how many bytes were taken, and the most that the
    server had buffered."""
    client.sock.setblocking(False)
    view = memoryview(wire * max(1, READ // len(wire)))
    taken = most = quiet = 0

    async def turns() -> int:
        """The most that is buffered in some turns of the loop."""
        most = 0
        for _ in range(AT_ONCE):
            await asyncio.sleep(0)
            most = max(most, server.app.stats()["buffered_bytes"])
        return most

    while quiet < TURNS and taken < ENOUGH:
        try:
            taken += client.sock.send(view[taken % len(wire) :])
            quiet = 0
        except BlockingIOError:
            quiet += AT_ONCE
        most = max(most, server.call(turns))
    client.sock.settimeout(client.timeout)
    return taken, most


@pytest.mark.parametrize("size", [1, 10_000, 1 << 20])
def test_s03_echo_requests_from_a_peer_that_never_reads(serve: Serving, size: int) -> None:
    """Nothing more is read from it, so it cannot make us queue more; it is ended when its time is up."""
    recorder = Recorder()
    counts: list[int] = []

    class Echo(recorder.handler()):  # type: ignore[misc]
        def message(self, ws: Any, data: bytes) -> None:
            counts.append(len(data))
            ws.send(data)

    high_water = 100_000
    server = serve(make_app(Echo, high_water=high_water, max_backpressure=8 << 20, send_timeout=STALLED)).hold_clock()
    with bystander(server, recorder, [("open",), ("close", 1006, ANY)]):
        client = RawClient.connect(server.port, receive_buffer=4096)
        client.handshake()
        taken, most = push(server, client, build(BINARY, bytes(size)))
        assert taken < ENOUGH, "reading never paused"
        assert high_water < most <= high_water + max(READ, size + 20), most
        answered = len(counts)
        assert 0 < answered <= taken // size
        server.advance(STALLED - 0.001)
        assert server.stats()["sockets"] == 2
        server.advance(0.001)
        server.advance_until(STALLED, lambda: server.stats()["sockets"] == 1)
        assert len(counts) == answered, "it was read from while it took nothing"
        assert server.stats()["closed"]["send_timeout"] == 1


def test_s03_many_of_them(serve: Serving) -> None:
    """What they cost is bounded for each, and so for all."""
    recorder = Recorder()
    count = 30
    server = serve(make_app(recorder.handler(echo=True), send_timeout=0))
    wire = build(BINARY, bytes(5_000))
    with bystander(server):
        clients = []
        most = 0
        for _ in range(count):
            client = RawClient.connect(server.port, receive_buffer=4096)
            client.handshake()
            clients.append(client)
            most = max(most, push(server, client, wire)[1])
        assert most <= count * ((64 << 10) + READ)
        assert server.stats()["connections"] == count + 1


@pytest.mark.parametrize("send_timeout", [0, 2])
def test_s03_the_kernel_ends_no_peer_whose_time_is_not_up(serve: Serving, send_timeout: float) -> None:
    """Its system answers each probe of the closed window. Linux's TCP_USER_TIMEOUT would end it all the same."""
    recorder = Recorder()
    server = serve(
        make_app(recorder.handler(), tcp_user_timeout=1, send_timeout=send_timeout, max_backpressure=1 << 30)
    )
    drained = [] if send_timeout else [("drain",)]
    with bystander(server, recorder, [("open",), *drained, ("close", 1006, "")]):
        client = slow_client(server)
        sent = [*fill(server, newest(server)), bytes(10 << 20)]
        server.call(newest(server).send, sent[-1])

        def is_probed_or_gone() -> bool:
            if server.stats()["connections"] == 1:
                return True
            with server_end(client) as sock:
                return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 5)[TCPI_BACKOFF] >= BACKOFF

        eventually(is_probed_or_gone, 10)
        if not send_timeout:
            assert [client.recv() for _ in sent] == sent
            eventually(lambda: recorder.events[-1:] == [("drain",)])
            client.reset()
        eventually(lambda: server.stats()["connections"] == 1, 10)
        closed = server.stats()["closed"]
        assert closed["send_timeout" if send_timeout else "lost"] == 1 == sum(closed.values())


@pytest.mark.parametrize(("rate", "segment"), [(20_000, 1400), (50_000, 0), (20_000, 0)])
def test_s03_a_peer_that_reads_through_a_small_window(serve: Serving, rate: float, segment: int) -> None:
    """Its system's window is always smaller than what the kernel would send next, which it passes on by probes."""
    app = make_app(Recorder().handler(), tcp_user_timeout=1, send_timeout=10, max_backpressure=1 << 30)
    server = serve(app)
    with bystander(server):
        client = thrifty_client(server.port, segment=segment)
        client.handshake()
        server.call(newest(server).send, bytes(10 << 20))
        read_slowly(client, rate, 5 * rate)  # five times as long as its system had for an answer
        assert server.stats()["connections"] == 2
        client.reset()


@pytest.mark.parametrize("state", ["open", "closed", "answered", "half-closed"])
def test_s03_a_trickle_is_no_reading(serve: Serving, state: str) -> None:
    """A peer that takes a few bytes now and then, and would hold what is queued for it for days: less than 4 KiB in the
    time of a deadline is as nothing."""
    app = make_app(Recorder().handler(), send_timeout=STALLED, close_timeout=STALLED, max_backpressure=8 << 20)
    app.http("/plain")(lambda request: fastws.Response(200, bytes(4 << 20)))
    server = serve(app, sock=small_buffers(4096)).hold_clock()
    with bystander(server):
        client = thrifty_client(server.port, room=2304, segment=88)
        if state == "answered":
            client.send_raw(b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n")
        else:
            client.handshake()
            ws = newest(server)
            server.call(ws.send, bytes(4 << 20))
            if state == "closed":
                server.call(ws.close)
            elif state == "half-closed":
                client.finish_sending()
        eventually(lambda: server.stats()["buffered_bytes"] > 0)
        first = server.stats()["buffered_bytes"]
        taken = read = 0
        client.sock.setblocking(False)
        while server.stats()["sockets"] == 2:
            taken = max(taken, first - (server.stats()["buffered_bytes"] or first))
            assert taken < 3 * 4096, "it has had the time of several deadlines"
            with contextlib.suppress(OSError):
                read += len(client.sock.recv(250))
            server.advance(STALLED / 10)
        assert read, "it took nothing at all"
