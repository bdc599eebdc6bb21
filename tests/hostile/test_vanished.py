"""Row S8, second half: a peer whose link goes down says nothing, not even that it is gone. On a wire between two
networks of the test's own, which can be cut. Time passes where the kernel finds it, by timers of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import (
    ANY,
    PATIENCE,
    PING,
    PONG,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    bystander,
    eventually,
    make_app,
)
from harness.network import HERE, FarHost, NotPermitted, own_network

EVERYWHERE: dict[str, Any] = {"host": "0.0.0.0", "port": 0}  # of a network that is the test's own
SOON = 0.3 * PATIENCE
USER_TIMEOUT = 1.0  # the kernel keeps no shorter one for keepalive
WITHIN = 6.0  # the kernel looks only when it tries again, each time after twice as long
KERNEL: dict[str, Any] = {"tcp_user_timeout": USER_TIMEOUT}


@pytest.fixture
def far(serve: Serving) -> Iterator[FarHost]:
    try:
        with own_network():
            far = FarHost()
            yield far
            far.close()
    except NotPermitted as reason:
        pytest.skip(f"two hosts and a wire cannot be made here: {reason}")


def far_client(far: FarHost, server: ServerThread, recorder: Recorder, pause: bool = False) -> RawClient:
    client: RawClient = far.call(lambda: RawClient.connect(server.port, host=HERE))
    client.handshake()
    eventually(lambda: recorder.events == [("open",)])
    if pause:
        server.call(recorder.sockets[0].pause_reading)
    return client


def test_s08_a_vanished_peer_is_found_by_ping(serve: Serving, far: FarHost) -> None:
    recorder = Recorder()
    app = make_app()
    app.websocket("/", ping_interval=20, ping_timeout=10, close_timeout=5)(recorder.handler())
    server = serve(app, **EVERYWHERE).hold_clock()
    with bystander(server, recorder, [("open",), ("close", 1011, ANY)]):
        far_client(far, server, recorder)
        far.cut()
        for seconds in (20, 10, 5):
            assert server.stats()["sockets"] == 2
            server.advance(seconds)
        assert server.stats()["sockets"] == 1
        assert server.stats()["closed"]["ping_timeout"] == 1


@pytest.mark.parametrize("send_timeout", [0, 600])
@pytest.mark.parametrize("state", ["idle", "unsent bytes", "more than the kernel takes", "reading paused"])
def test_s08_a_vanished_peer_is_found_by_the_kernel(
    serve: Serving, far: FarHost, state: str, send_timeout: float
) -> None:
    """Where there are no pings, or where they would say nothing, as nobody reads what answers them."""
    recorder = Recorder()
    pings = {"ping_interval": SOON, "ping_timeout": SOON} if state == "reading paused" else {}
    app = make_app(recorder.handler(), **KERNEL, **pings, send_timeout=send_timeout, max_backpressure=64 << 20)
    server = serve(app, **EVERYWHERE)
    with bystander(server, recorder, [("open",), ("close", 1006, "")]):
        far_client(far, server, recorder, state == "reading paused")
        far.cut()
        if state == "unsent bytes":
            server.call(recorder.sockets[0].send, "are you there?")
        elif state == "more than the kernel takes":
            server.call(recorder.sockets[0].send, bytes(32 << 20))
        eventually(lambda: server.stats()["sockets"] == 1, WITHIN)
        assert server.stats()["closed"]["lost"] == 1


@pytest.mark.parametrize("options", [{}, KERNEL], ids=["ping", "kernel"])
def test_s08_a_peer_in_a_handshake_that_vanishes(serve: Serving, far: FarHost, options: dict[str, Any]) -> None:
    """Half a request, and then nothing: its time is up like anybody's."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), handshake_timeout=10, **options), **EVERYWHERE).hold_clock()
    with bystander(server, recorder, []):
        client: RawClient = far.call(lambda: RawClient.connect(server.port, host=HERE))
        client.send_raw(b"GET / HTTP/1.1\r\n")
        eventually(lambda: server.stats()["handshakes"] == 1)
        far.cut()
        server.advance(9.999)
        assert server.stats()["sockets"] == 2
        server.advance(0.001)
        assert server.stats()["sockets"] == 1
        assert server.stats()["refused"]["handshake_timeout"] == 1


@pytest.mark.parametrize("shut", [False, True])
def test_s08_a_peer_vanishes_behind_a_closed_window(serve: Serving, far: FarHost, shut: bool) -> None:
    """It may read nothing for as long as it likes while its system answers."""
    recorder = Recorder()
    app = make_app(recorder.handler(), **KERNEL, send_timeout=0, max_backpressure=64 << 20)
    server = serve(app, **EVERYWHERE)
    with bystander(server, recorder, [("open",), ("close", 1006, "")]):
        client = far_client(far, server, recorder)
        server.call(recorder.sockets[0].send, bytes(32 << 20))
        if shut:
            client.sock.shutdown(socket.SHUT_WR)
        time.sleep(1.5 * USER_TIMEOUT)  # each probe comes after twice the time of the one before
        assert server.stats()["connections"] == 2
        far.cut()
        eventually(lambda: server.stats()["sockets"] == 1, 5 * WITHIN)
        assert server.stats()["closed"]["lost"] == 1


def test_s08_an_outage_counts_from_what_is_not_answered(serve: Serving, far: FarHost) -> None:
    """However long nothing was asked before, a wire that is mended in time has cost nobody anything."""
    timeout = 2.0 * PATIENCE
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), tcp_user_timeout=timeout), **EVERYWHERE)
    with bystander(server):
        client = far_client(far, server, recorder)
        time.sleep(0.45 * timeout)  # after half of it the kernel would send a keepalive probe
        far.cut()
        server.call(recorder.sockets[0].send, "are you there?")
        time.sleep(0.75 * timeout)
        far.mend()
        client.timeout = 10 * timeout  # the kernel tries again when it does
        client.sock.settimeout(client.timeout)
        assert client.recv() == "are you there?"
        client.reset()


@pytest.mark.parametrize("ping_timeout", [0, 600])
def test_s08_a_long_ping_timeout_delays_no_ping(serve: Serving, ping_timeout: float) -> None:
    """Nor none at all: the next one does not wait until the last would have been too late. Nobody else is here, who
    would have the server look at its deadlines: time passes, as the timer must be set."""
    server = serve(make_app(Recorder().handler(), ping_interval=0.05, ping_timeout=ping_timeout))
    client = RawClient.open(server.port)
    for _ in range(5):
        assert client.recv_frame().opcode == PING
        client.send_frame(PONG)
