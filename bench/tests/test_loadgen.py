"""The load generator must notice everything a server can do wrong, and both C programs run clean under sanitizers.

python -m pytest bench/tests/test_loadgen.py
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import machine, measure
from bench.tests.peers import (
    FRAME,
    OK_101,
    SIZE,
    Behaviour,
    Serve,
    alone,
    answer,
    flipped,
    load,
    read_exactly,
    report,
    requested,
)


def echo_once(change: Callable[[bytes], bytes]) -> Behaviour:
    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        s.sendall(change(answer(read_exactly(s, FRAME))))

    return behaviour


def stuck(s: socket.socket) -> None:
    s.sendall(OK_101)
    while s.recv(4096):
        pass


ECHO = ("echo", "--connections", "1", "--size", str(SIZE), "--seconds", "1")


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        pytest.param(echo_once(flipped), "byte 303 is 0x", id="payload"),
        pytest.param(echo_once(lambda f: b"\x82" + f[1:]), "byte 0 is 0x82, not 0x81", id="opcode"),
        pytest.param(echo_once(lambda f: f[:3] + bytes([f[3] + 1]) + f[4:]), "byte 3 is 0x", id="length"),
        pytest.param(echo_once(lambda f: f + f), "a frame after the last that was due", id="twice"),
        pytest.param(echo_once(lambda f: f + b"\x88\x00"), "0x88", id="close-frame"),
        pytest.param(lambda s: s.sendall(OK_101 + b"\x81\x00"), "bytes after the 101", id="unasked"),
        pytest.param(lambda s: s.sendall(OK_101.replace(b"s3pP", b"s3pQ")), "wrong Sec-WebSocket-Accept", id="accept"),
        pytest.param(lambda s: s.sendall(b"HTTP/1.1 101 Fine\r\n\r\n"), "no Sec-WebSocket-Accept", id="no-accept"),
        pytest.param(lambda s: s.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n"), "not a 101", id="refused"),
        pytest.param(lambda s: s.sendall(b"x" * 9000), "exceeds 8192 bytes", id="endless-head"),
        pytest.param(lambda s: s.shutdown(socket.SHUT_RDWR), "closed a connection before the 101", id="early-end"),
        pytest.param(
            lambda s: (s.sendall(OK_101), s.shutdown(socket.SHUT_RDWR)), "closed a connection after", id="late-end"
        ),
    ],
)
def test_what_is_wrong_is_noticed(built: Path, serve: Serve, behaviour: Behaviour, message: str) -> None:
    done = load(built, serve(alone(behaviour)), *ECHO)
    assert done.returncode == 1, done
    assert message in done.stderr


def wrong_broadcast(
    to_second: Callable[[list[bytes]], list[bytes]], to_publisher: Callable[[list[bytes]], list[bytes]] = lambda b: []
) -> Behaviour:
    """The server of two subscribers and a publisher, who come in this order: the first gets all as it should."""

    def work(listener: socket.socket) -> None:
        with ExitStack() as open_sockets:
            peers: list[socket.socket] = []
            for _ in range(3):
                peers.append(open_sockets.enter_context(requested(listener)))
                peers[-1].sendall(OK_101)
            first, second, publisher = peers
            while True:
                burst = [answer(read_exactly(publisher, FRAME)) for _ in range(3)]
                for peer, frames in ((first, burst), (second, to_second(burst)), (publisher, to_publisher(burst))):
                    peer.sendall(b"".join(frames))

    return work


def always_the_first() -> Callable[[list[bytes]], list[bytes]]:
    bursts: list[list[bytes]] = []

    def change(burst: list[bytes]) -> list[bytes]:
        bursts.append(burst)
        return bursts[0]

    return change


BROADCAST = ("broadcast", "--connections", "2", "--burst", "3", "--size", str(SIZE), "--seconds", "1")


@pytest.mark.parametrize(
    ("server", "message"),
    [
        pytest.param(wrong_broadcast(lambda b: [*b[:2], flipped(b[2])]), "message 2 of a batch: byte 303", id="wrong"),
        pytest.param(wrong_broadcast(lambda b: [b[0], b[2]]), "message 1 of a batch: byte 11", id="lost"),
        pytest.param(wrong_broadcast(lambda b: [b[0], *b]), "message 1 of a batch: byte 11", id="doubled"),
        pytest.param(wrong_broadcast(lambda b: [*b, b[2]]), "a frame after the last that was due", id="doubled-last"),
        pytest.param(wrong_broadcast(lambda b: [b[0], b[2], b[1]]), "message 1 of a batch: byte 11", id="overtaken"),
        pytest.param(wrong_broadcast(always_the_first()), "message 0 of a batch: byte 11", id="stale"),
        pytest.param(wrong_broadcast(lambda b: b, lambda b: b[:1]), "a frame after the last", id="to-the-sender"),
    ],
)
def test_what_is_wrong_with_a_broadcast_is_noticed(built: Path, serve: Serve, server: Behaviour, message: str) -> None:
    done = load(built, serve(server), *BROADCAST)
    assert done.returncode == 1, done
    assert message in done.stderr


def test_a_broadcast_that_does_not_reach_all_ends_the_run(built: Path, serve: Serve) -> None:
    done = load(built, serve(wrong_broadcast(lambda b: b[:2])), *BROADCAST, limit=2)
    assert done.returncode == 3
    assert "not finished within --limit" in done.stderr


def test_a_frame_after_the_end_is_noticed(serve: Serve) -> None:
    def late(s: socket.socket) -> None:
        s.sendall(OK_101)
        s.settimeout(0.02)
        frame = b""
        while True:
            try:
                s.sendall(frame := answer(read_exactly(s, FRAME)))
            except TimeoutError:  # that was the last of the warm-up or of the run
                s.sendall(frame)

    with pytest.raises(machine.BenchError, match="a frame after the last that was due"):
        with measure.generator(list(ECHO), serve(alone(late)), max(os.sched_getaffinity(0))) as load:
            load.go()
            time.sleep(1)


def test_a_stuck_server_ends_the_run(built: Path, serve: Serve) -> None:
    done = load(built, serve(alone(stuck)), *ECHO, limit=2)
    assert done.returncode == 3
    assert "not finished within --limit" in done.stderr


def test_nobody_listens(built: Path) -> None:
    with measure.reserved_port() as reserved:
        done = load(built, reserved.getsockname()[1], *ECHO)
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_answers_in_pieces_between_pings(built: Path, serve: Serve) -> None:
    """Pings may stand before any answer, cut anywhere; each is answered by a masked pong with its payload."""
    pongs: list[bytes] = []

    def behaviour(s: socket.socket) -> None:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(OK_101)):
            s.sendall(OK_101[i : i + 1])
        while True:
            frame = read_exactly(s, FRAME)
            stream = b"\x89\x04ping" + answer(frame)
            cut = len(pongs) % 9
            for piece in (stream[:cut], stream[cut : cut + 1], stream[cut + 1 :]):
                s.sendall(piece)
            pong = read_exactly(s, 10)
            pongs.append(pong[:2] + bytes(b ^ pong[2 + i] for i, b in enumerate(pong[6:])))

    done = load(built, serve(alone(behaviour)), *ECHO)
    assert done.returncode == 0, done.stderr
    assert len(pongs) > 9
    assert set(pongs) == {b"\x8a\x84ping"}


def text_of(built: Path, serve: Serve, kind: str, size: int, seed: int = 1) -> str:
    """What the generator's first frame holds."""
    texts: list[str] = []
    head = 6 if size < 126 else 8 if size < 65536 else 14

    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        frame = read_exactly(s, head + size)
        texts.append(bytes(b ^ frame[head - 4 + i % 4] for i, b in enumerate(frame[head:])).decode())
        s.shutdown(socket.SHUT_RDWR)

    load(built, serve(alone(behaviour)), "echo", kind, "--connections", "1", "--size", str(size), "--seed", str(seed))
    return texts[0]


@pytest.mark.parametrize("kind", ["--mixed", "--chinese"])
def test_text_is_utf8_of_the_size_asked_for(built: Path, serve: Serve, kind: str) -> None:
    for size in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 61, 62, 63, 64, 124, 125, 126):
        assert len(text_of(built, serve, kind, size).encode()) == size


@pytest.mark.parametrize("size", [16, 125, 126])
@pytest.mark.parametrize("seed", range(1, 4))
def test_short_texts_hold_characters_of_every_width(built: Path, serve: Serve, size: int, seed: int) -> None:
    text = text_of(built, serve, "--mixed", size, seed)
    assert {len(character.encode()) for character in text} >= {2, 3, 4}


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [
        ("--mixed", [(0.1, 0.3), (0.4, 0.55), (0.25, 0.4), (0.005, 0.03)]),
        ("--chinese", [(0, 0.001), (0, 0), (0.999, 1)]),
    ],
)
def test_how_wide_characters_are(built: Path, serve: Serve, kind: str, bounds: list[tuple[float, float]]) -> None:
    widths = [len(character.encode()) for character in text_of(built, serve, kind, 70_000)]
    assert max(widths) == len(bounds)
    for width, (least, most) in enumerate(bounds, 1):
        assert least <= width * widths.count(width) / 70_000 <= most


@pytest.mark.parametrize(("size", "burst"), [(8, 1), (65535, 16), (1 << 20, 8)])
def test_broadcast_of_the_floor(built: Path, size: int, burst: int) -> None:
    """The largest fills every socket, so that the floor has to keep what they do not take."""
    options = ["broadcast", "--connections", "5", "--size", str(size), "--burst", str(burst), "--seconds", "0.3"]
    with measure.Server([str(built / "bare")], min(os.sched_getaffinity(0))) as server:
        done = load(built, server.port, *options)
    assert report(done)["count"] > 0


@pytest.mark.parametrize(
    ("size", "window"), [(0, 3), (1, 1), (125, 32), (126, 4), (65535, 3), (65536, 2), (1 << 20, 2)]
)
@pytest.mark.parametrize("kind", [(), ("--binary",)], ids=["text", "binary"])
def test_echo_of_the_floor(built: Path, size: int, window: int, kind: tuple[str, ...]) -> None:
    options = ["echo", "--connections", "5", "--size", str(size), "--window", str(window), "--seconds", "0.2", *kind]
    with measure.Server([str(built / "bare")], min(os.sched_getaffinity(0))) as server:
        done = load(built, server.port, *options)
    assert report(done)["count"] > 0


def test_the_floor_with_input_byte_by_byte(built: Path) -> None:
    """A check of the floor that shares nothing with the generator: another client, and reads that cut everything."""
    from websockets.client import ClientProtocol
    from websockets.frames import Frame
    from websockets.uri import parse_uri

    with measure.Server([str(built / "bare")], min(os.sched_getaffinity(0))) as server:
        client = ClientProtocol(parse_uri(f"ws://127.0.0.1:{server.port}/"))
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def send_slowly() -> None:
                data = b"".join(client.data_to_send())
                for i in range(600):
                    s.sendall(data[i : i + 1])
                s.sendall(data[600:])

            client.send_request(client.connect())
            send_slowly()
            client.receive_data(s.recv(4096))
            client.send_text(b"hello")
            client.send_ping(b"pi")
            client.send_binary(bytes(70_000))
            client.send_close(1000)
            send_slowly()
            while data := s.recv(65536):
                client.receive_data(data)
        events = client.events_received()
    assert [(e.opcode, bytes(e.data)) for e in events if isinstance(e, Frame)] == [
        (1, b"hello"),
        (10, b"pi"),
        (2, bytes(70_000)),
        (8, b"\x03\xe8"),
    ]


def test_a_storm_on_the_floor(built: Path) -> None:
    with measure.Server([str(built / "bare")], min(os.sched_getaffinity(0))) as server:
        found = report(load(built, server.port, "connect", "--connections", "2000", "--at-once", "2000"))
    assert found["count"] == sum(count for _, count in found["latency"]["histogram"]) == 2000


def test_the_floor_gives_back_what_a_large_message_took() -> None:
    cores = sorted(os.sched_getaffinity(0))
    workload = ["idle", "--connections", "2000", "--message", "65536"]
    sample = measure.run([str(machine.compiled("bare"))], workload, (cores[0], cores[-1]))
    assert sample.count == 2000
    assert 30 < sample.memory_each < 500


def test_a_sample_of_each_workload() -> None:
    """The whole of it on a real server, counters included."""
    cores = sorted(os.sched_getaffinity(0))
    pair = (cores[0], cores[-1])
    floor = [str(machine.compiled("bare"))]
    echoed = measure.run(floor, ["echo", "--connections", "5", "--seconds", "1"], pair)
    broadcast = measure.run(floor, ["broadcast", "--connections", "1000", "--burst", "16", "--seconds", "1"], pair)
    connect = measure.run(floor, ["connect", "--connections", "500"], pair)
    idle = measure.run(floor, ["idle", "--connections", "2000"], pair)
    assert 0.2 < echoed.cpu_us < 200
    assert 0 < echoed.generator_core <= 1.05
    assert 0.02 < broadcast.cpu_us < 50
    assert 1 < connect.cpu_us < 500
    assert (connect.count, idle.count) == (500, 2000)
    assert 30 < idle.memory_each < 500


def test_a_server_that_does_not_start_is_reported() -> None:
    with pytest.raises(machine.BenchError, match="no such module"):
        with measure.Server([sys.executable, "-c", "raise SystemExit('no such module')"], 0):
            pass
