"""Row S3: clients that ask and never read (zero window)."""

from __future__ import annotations

from typing import Any

import pytest
from harness import (
    ANY,
    BINARY,
    PATIENCE,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    build,
    bystander,
    eventually,
    make_app,
)

READ = 256 << 10  # bytes that are read at once, and so at most answered before reading pauses
TURNS = 600  # of the loop: with so many, the messages of one read have all had their turn, even the smallest
STALLED = 0.5 * PATIENCE
ENOUGH = 256 << 20  # bytes; whoever takes so many holds nobody back


def push(server: ServerThread, client: RawClient, wire: bytes) -> tuple[int, int]:
    """Sends `wire` over and over until nobody takes more. Returns how many bytes were taken, and the most that the
    server had buffered."""
    client.sock.setblocking(False)
    view = memoryview(wire * max(1, READ // len(wire)))
    taken = most = quiet = 0
    while quiet < TURNS and taken < ENOUGH:
        try:
            taken += client.sock.send(view[taken % len(wire) :])
            quiet = 0
        except BlockingIOError:
            quiet += 1
        most = max(most, server.stats()["buffered_bytes"])
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
    server = serve(make_app(Echo, high_water=high_water, max_backpressure=8 << 20, send_timeout=STALLED))
    with bystander(server, recorder, [("open",), ("close", 1006, ANY)]):
        client = RawClient.connect(server.port, receive_buffer=4096)
        client.handshake()
        taken, most = push(server, client, build(BINARY, bytes(size)))
        assert taken < ENOUGH, "reading never paused"
        assert high_water < most <= high_water + max(READ, size + 20), most
        answered = len(counts)
        assert 0 < answered <= taken // size
        eventually(lambda: server.stats()["sockets"] == 1)
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
