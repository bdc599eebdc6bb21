"""What a server asks of its reactor: counts, lists, figures, and the end of everybody."""

from __future__ import annotations

from typing import Any

import pytest
from harness import (
    BINARY,
    CLOSE,
    TEXT,
    RawClient,
    Recorder,
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

from fastws import DROPPED, ReadyState


def test_connections_are_live_and_newest_first(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    connections = server.server.connections
    clients = [RawClient.open(server.port) for _ in range(3)]
    RawClient.connect(server.port).send_raw(b"GET")  # still opening: none yet
    server.settle()

    def check() -> list[Any]:
        assert all(ws in connections for ws in connections)
        assert object() not in connections
        assert len(connections) == len(list(connections))
        return [ws.id for ws in connections]

    assert server.call(check) == [3, 2, 1]
    assert repr(connections) == "<3 connections>"
    clients[1].reset()
    eventually(lambda: server.call(check) == [3, 1])
    server.call(lambda: [ws.close() for ws in connections])
    assert server.call(lambda: [ws.ready_state for ws in connections]) == [ReadyState.CLOSING] * 2
    for client in clients[::2]:
        client.send_close()
    eventually(lambda: server.call(check) == [])


def test_stats_count_what_is_kept(serve: Serving) -> None:
    server = serve(make_app(Recorder().handler(), max_backpressure=1 << 30, max_message_size=1 << 30))
    idle = server.stats()
    assert not any(at_rest(idle).values())

    opening = RawClient.connect(server.port)
    opening.send_raw(request_bytes()[:50])
    server.settle()
    assert server.stats() == {**idle, "accepted": 1, "sockets": 1, "handshakes": 1, "buffered_bytes": 50}
    opening.send_raw(request_bytes()[50:])
    opening.expect_101()
    assert server.stats() == {**idle, "accepted": 1, "sockets": 1, "connections": 1}

    opening.send_raw(build(TEXT, b"x" * 100)[:3])  # of a header
    server.settle()
    assert server.stats()["buffered_bytes"] == 3
    opening.send_raw(build(TEXT, b"x" * 100)[3:50])  # of a message: what has come, rounded up geometrically
    server.settle()
    assert 44 <= server.stats()["buffered_bytes"] <= 100
    opening.send_raw(build(TEXT, b"x" * 100)[50:])
    server.settle()
    assert server.stats()["buffered_bytes"] == 0

    large = build(BINARY, bytes(10_000_000))
    opening.send_raw(large[:3_000_000])
    eventually(lambda: server.stats()["buffered_bytes"] >= 2_900_000)
    assert server.stats()["buffered_bytes"] <= 6_500_000
    opening.reset()
    eventually(lambda: server.stats() == {**idle, "accepted": 1, "closed": {**idle["closed"], "lost": 1}})

    slow = slow_client(server)
    ws = newest(server)
    fill(server, ws)
    assert server.stats()["buffered_bytes"] == server.call(lambda: ws.buffered_amount) > 0
    slow.reset()
    eventually(lambda: server.stats() == {**idle, "accepted": 2, "closed": {**idle["closed"], "lost": 2}})


@pytest.mark.parametrize("answering", [True, False])
def test_stop_closes_everybody(serve: Serving, answering: bool) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    clients = [RawClient.open(server.port) for _ in range(5)]
    opening = RawClient.connect(server.port)
    opening.send_raw(b"GET")
    server.settle()
    sockets = list(recorder.sockets)
    stopping = server.call(lambda: [server.loop.create_task(server.server.stop(5.0 if answering else 0.2))])[0]
    opening.expect_eof()
    for client in clients:
        assert client.recv_frame() == (True, CLOSE, b"\x03\xe9server is stopping")
    with pytest.raises(ConnectionRefusedError):
        RawClient.connect(server.port)
    for client in clients:
        if answering:
            client.send_close(1001)
            client.expect_eof()
            client.close()
    eventually(stopping.done)
    assert recorder.events.count(("close", 1001, "server is stopping")) == 5
    assert server.call(lambda: [ws.send("late") for ws in sockets]) == [DROPPED] * 5
    stats = server.stats()
    assert not any(at_rest(stats).values())
    assert (stats["closed"]["stopping"], stats["refused"]["stopping"]) == (5, 1)


def test_a_connection_of_a_finished_server_is_closed_for_good(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    RawClient.open(server.port)
    server.stop_server(0)
    [ws] = recorder.sockets
    assert server.call(lambda: (ws.ready_state, ws.buffered_amount)) == (ReadyState.CLOSED, 0)
    for call in (ws.close, ws.terminate, ws.ping, ws.pause_reading, ws.resume_reading):
        assert server.call(call) is None
    assert server.call(lambda: ws.drained().done())
