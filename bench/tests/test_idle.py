"""Connections that do not talk, connections that open, and readers that do not read: what the generator makes of them.

python -m pytest bench/tests/test_idle.py
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import measure
from bench.tests.peers import (
    FRAME,
    OK_101,
    SIZE,
    Behaviour,
    Serve,
    answer,
    flipped,
    load,
    read_exactly,
    report,
    requested,
    several,
    until_it_leaves,
)

# Connections that do not talk


def test_some_talk_and_the_others_stay_open(built: Path, serve: Serve) -> None:
    frames: dict[int, set[bytes]] = {}

    def change(connection: int, frame: bytes) -> bytes:
        frames.setdefault(connection, set()).add(frame)
        return answer(frame)

    options = ["echo", "--connections", "9", "--active", "3", "--size", str(SIZE), "--seconds", "0.2"]
    assert report(load(built, serve(several(change)), *options))["count"] > 0
    assert sorted(frames) == [0, 3, 6]
    assert len({answer(frame) for sent in frames.values() for frame in sent}) == 3
    assert len({frame[4:8] for sent in frames.values() for frame in sent}) == 3


def test_a_frame_for_an_idle_connection_is_noticed(built: Path, serve: Serve) -> None:
    peers: list[socket.socket] = []

    def misdirected(listener: socket.socket) -> None:
        with ExitStack() as open_sockets:
            for _ in range(2):
                peers.append(open_sockets.enter_context(requested(listener)))
                peers[-1].sendall(OK_101)
            peers[1].sendall(answer(read_exactly(peers[0], FRAME)))
            until_it_leaves(peers[0])

    options = ["echo", "--connections", "2", "--active", "1", "--size", str(SIZE), "--seconds", "0.2"]
    done = load(built, serve(misdirected), *options)
    assert done.returncode == 1
    assert "a frame after the last that was due" in done.stderr


IDLE = ("idle", "--connections", "50", "--at-once", "16", "--message", str(SIZE))


def test_each_idle_connection_has_one_message_echoed(built: Path, serve: Serve) -> None:
    frames: dict[int, bytes] = {}

    def change(connection: int, frame: bytes) -> bytes:
        assert connection not in frames
        frames[connection] = frame
        return answer(frame)

    found = report(load(built, serve(several(change)), *IDLE))
    assert found["count"] == sum(count for _, count in found["latency"]["histogram"]) == 50
    assert sorted(frames) == list(range(250))  # 200 before "ready"
    assert all(answer(frames[i]) != answer(frames[i + 1]) for i in range(249))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(flipped, "byte 303 is 0x", id="payload"),
        pytest.param(lambda frame: frame * 2, "a frame after the last that was due", id="doubled"),
        pytest.param(lambda frame: b"\x88\x00", "byte 0 is 0x88", id="close-frame"),
    ],
)
@pytest.mark.parametrize("at", [3, 230])
def test_what_is_wrong_with_that_message_is_noticed(
    built: Path, serve: Serve, change: Callable[[bytes], bytes], message: str, at: int
) -> None:
    port = serve(several(lambda i, frame: change(answer(frame)) if i == at else answer(frame)))
    done = load(built, port, *IDLE)
    assert done.returncode == 1
    assert message in done.stderr


# Handshakes


@pytest.mark.parametrize("workload", ["connect", "idle"])
def test_how_long_a_handshake_takes(built: Path, serve: Serve, workload: str) -> None:
    """Those of the warm-up do not count. Of the others the second waits 200 ms for its 101, and the third behind it."""

    def work(listener: socket.socket) -> None:
        with ExitStack() as open_sockets:
            for i in range(203):
                peer = open_sockets.enter_context(requested(listener))
                time.sleep(0.2 * (i == 201))
                peer.sendall(OK_101)
            until_it_leaves(peer)

    found = report(load(built, serve(work), workload, "--connections", "3", "--at-once", "3"))
    histogram = found["latency"]["histogram"]
    assert sum(count for _, count in histogram) == 3
    assert sum(count for upper, count in histogram if upper >= 200_000) >= 2
    assert 200_000 <= found["latency"]["max_us"] < 30e6


def test_a_storm_that_a_backlog_does_not_hold(built: Path) -> None:
    """What the kernel drops is sent again a second later."""
    server = f"""
import socket, sys, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[2])))
listener.listen(3)
peers = []
while True:
    peer, _ = listener.accept()
    peers.append(peer)
    if len(peers) == 202:
        time.sleep(0.5)
    if peer.recv(4096):
        peer.sendall({OK_101!r})
"""
    with measure.Server([sys.executable, "-c", server], min(os.sched_getaffinity(0))) as running:
        found = report(load(built, running.port, "connect", "--connections", "10", "--at-once", "10", limit=50))
    assert found["count"] == 10


# Slow readers

SLOW = ("broadcast", "--connections", "2", "--slow", "1", "--burst", "3", "--size", str(SIZE), "--seconds", "0.5")


def broadcast(at: int, misbehave: Callable[[socket.socket], None], whom: int) -> Behaviour:
    """The server of two fast subscribers, a slow one and the publisher, who come in this order. After the `at`th burst
    it does something to one of them; the slow one gets what its socket takes."""

    def work(listener: socket.socket) -> None:
        with ExitStack() as open_sockets:
            peers = []
            for _ in range(4):
                peers.append(open_sockets.enter_context(requested(listener)))
                peers[-1].sendall(OK_101)
            fast, slow, publisher = peers[:2], peers[2], peers[3]
            slow.settimeout(0)
            gone = False
            for i in range(10**6):
                burst = b"".join(answer(read_exactly(publisher, FRAME)) for _ in range(3))
                if i == at:
                    misbehave(peers[whom])
                    gone = whom == 2
                for peer in fast:
                    peer.sendall(burst)
                try:
                    if not gone:
                        slow.sendall(burst)
                except BlockingIOError:
                    gone = True  # part of a frame is in: the rest will never follow

    return work


def reset(s: socket.socket) -> None:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def test_slow_readers_do_not_count(built: Path, serve: Serve) -> None:
    found = report(load(built, serve(broadcast(10**6, reset, 2)), *SLOW))
    assert found["count"] % 6 == 0 < found["count"]
    assert found["slow_lost"] == 0


def test_slow_readers_may_be_lost(built: Path, serve: Serve) -> None:
    assert report(load(built, serve(broadcast(5, reset, 2)), *SLOW))["slow_lost"] == 1


def test_slow_readers_may_be_closed(built: Path, serve: Serve) -> None:
    """Before anything else has come, so that the end of the stream can reach it."""
    found = report(load(built, serve(broadcast(0, lambda s: s.shutdown(socket.SHUT_WR), 2)), *SLOW))
    assert found["slow_lost"] == 1


@pytest.mark.parametrize("whom", [0, 1, 3])
def test_fast_readers_and_the_publisher_may_not(built: Path, serve: Serve, whom: int) -> None:
    done = load(built, serve(broadcast(5, reset, whom)), *SLOW)
    assert done.returncode == 1
    assert "closed a connection after the upgrade" in done.stderr or "send: " in done.stderr


def test_a_slow_reader_takes_little(built: Path, serve: Serve) -> None:
    """The server's socket of a slow reader, whose own buffer for sending is small here, is full after less than 64 KiB
    more than that; the kernel doubles what is asked for, on both sides."""
    taken = 0

    def work(listener: socket.socket) -> None:
        nonlocal taken
        with ExitStack() as open_sockets:
            peers = []
            for _ in range(3):
                peers.append(open_sockets.enter_context(requested(listener)))
                peers[-1].sendall(OK_101)
            fast, slow, publisher = peers
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            slow.settimeout(0)
            while True:
                burst = b"".join(answer(read_exactly(publisher, FRAME)) for _ in range(3))
                fast.sendall(burst)
                try:
                    taken += slow.send(burst)
                except BlockingIOError:
                    pass

    assert report(load(built, serve(work), "broadcast", "--connections", "1", *SLOW[3:]))["count"] > 0
    assert 0 < taken < 64 * 1024


def test_slow_readers_of_the_floor(built: Path) -> None:
    options = ["broadcast", "--connections", "20", "--slow", "5", "--burst", "16", "--size", "1000", "--seconds", "0.5"]
    with measure.Server([str(built / "bare")], min(os.sched_getaffinity(0))) as server:
        found = report(load(built, server.port, *options))
    assert found["count"] % (16 * 20) == 0 < found["count"]
    assert found["slow_lost"] == 0
