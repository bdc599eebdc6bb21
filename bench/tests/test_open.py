"""The load generator's open loop notices everything, too, and times from the moment when a message was due.

python -m pytest bench/tests/test_open.py
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from math import ceil
from pathlib import Path

import pytest

from bench import machine, measure
from bench.tests.conftest import STRICT
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
    several,
    until_it_leaves,
)

OPEN = ("open", "--connections", "1", "--size", str(SIZE), "--rate", "1000", "--seconds", "0.3")
WARM = 300  # messages of the warm-up, at that rate


# The histogram

PERCENTILES = r"""
#include "loadgen/histogram.h"

int main(void) {
    static struct histogram h;
    unsigned long long ns;
    while (scanf("%llu", &ns) == 1) record(&h, ns);
    printf("{\"count\": %llu", (unsigned long long)h.count);
    print_histogram("found", &h);
    puts("}");
}
"""


@pytest.fixture(scope="module")
def percentiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("histogram")
    (folder / "percentiles.c").write_text(PERCENTILES)
    command = ["cc", *STRICT, f"-I{machine.BENCH}", "-o", str(folder / "percentiles"), str(folder / "percentiles.c")]
    subprocess.run(command, check=True)
    return folder / "percentiles"


@pytest.mark.parametrize(
    ("count", "draw"),
    [
        pytest.param(1, lambda r: r.randrange(10**9), id="one"),
        pytest.param(1000, lambda r: r.randrange(300), id="nanoseconds"),
        pytest.param(20_000, lambda r: int(r.lognormvariate(11, 2)), id="as-latencies-are"),
        pytest.param(20_000, lambda r: int(10 ** r.uniform(0, 11)), id="up-to-100-s"),
        pytest.param(3000, lambda r: r.choice([128, 255, 256, 257, 65535, 65536, 10**6]), id="bounds"),
    ],
)
def test_percentiles_are_right(percentiles: Path, count: int, draw: Callable[[random.Random], int]) -> None:
    drawn = random.Random(count)
    values = sorted(draw(drawn) for _ in range(count))
    text = "\n".join(map(str, values))
    done = subprocess.run([percentiles], input=text, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)["found"]
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        exact = values[ceil(share * count) - 1] / 1e3
        assert exact - 0.001 <= found[f"{name}_us"] <= exact * 1.01 + 0.001
    assert found["max_us"] == pytest.approx(values[-1] / 1e3, abs=0.001)
    assert found["mean_us"] == pytest.approx(sum(values) / count / 1e3, abs=0.001)
    uppers = [upper for upper, _ in found["histogram"]]
    assert uppers == sorted(uppers)
    assert sum(n for _, n in found["histogram"]) == count


def test_what_exceeds_the_histogram_still_counts(percentiles: Path) -> None:
    text = f"1000\n{10**12}\n{2**63}\n"
    done = subprocess.run([percentiles], input=text, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)["found"]
    assert found["max_us"] == found["p999_us"] == pytest.approx(2**63 / 1e3)
    assert [n for _, n in found["histogram"]] == [1, 2]


# The open loop


def echo_but(number: int, change: Callable[[list[bytes]], list[bytes]]) -> Behaviour:
    """An echo that changes two answers in a row, from the given one on."""

    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        for i in range(10**6):
            pair = [answer(read_exactly(s, FRAME)) for _ in range(1 + (i == number))]
            s.sendall(b"".join(change(pair) if i == number else pair))

    return behaviour


@pytest.mark.parametrize("number", [0, WARM + 100])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda p: [flipped(p[0]), p[1]], ": byte 303 is 0x", id="payload"),
        pytest.param(lambda p: [b"\x82" + p[0][1:], p[1]], ": byte 0 is 0x82, not 0x81", id="opcode"),
        pytest.param(lambda p: p[1:], ": byte 11 is 0x", id="lost"),
        pytest.param(lambda p: [p[0], p[0], p[1]], ": byte 11 is 0x", id="doubled"),
        pytest.param(lambda p: [p[1], p[0]], ": byte 11 is 0x", id="swapped"),
        pytest.param(lambda p: [p[0], b"\x88\x00"], "byte 0 is 0x88", id="close-frame"),
    ],
)
def test_what_is_wrong_is_noticed(
    built: Path, serve: Serve, number: int, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    done = load(built, serve(alone(echo_but(number, change))), *OPEN)
    assert done.returncode == 1, done
    assert message in done.stderr
    assert f"message {number} of the run" in done.stderr or f"message {number + 1} of the run" in done.stderr


def test_an_early_close_is_noticed(built: Path, serve: Serve) -> None:
    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        for _ in range(50):
            s.sendall(answer(read_exactly(s, FRAME)))
        s.shutdown(socket.SHUT_RDWR)

    done = load(built, serve(alone(behaviour)), *OPEN)
    assert done.returncode == 1
    assert "closed a connection after the upgrade" in done.stderr or "send: " in done.stderr


def test_an_answer_too_many_is_noticed(built: Path, serve: Serve) -> None:
    """The last of the warm-up comes once more."""

    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        for _ in range(WARM):
            frame = answer(read_exactly(s, FRAME))
            s.sendall(frame)
        s.sendall(frame)

    done = load(built, serve(alone(behaviour)), *OPEN)
    assert done.returncode == 1
    assert "a frame after the last that was due" in done.stderr or "byte 11 is" in done.stderr


def test_an_answer_on_another_connection_is_noticed(built: Path, serve: Serve) -> None:
    peers: list[socket.socket] = []

    def crossed(listener: socket.socket) -> None:
        with ExitStack() as open_sockets:
            for _ in range(2):
                peers.append(open_sockets.enter_context(requested(listener)))
                peers[-1].sendall(OK_101)
            frames = [answer(read_exactly(peer, FRAME)) for peer in peers]
            for peer, frame in zip(peers, reversed(frames), strict=True):
                peer.sendall(frame)
            until_it_leaves(peers[0])

    done = load(built, serve(crossed), "open", "--connections", "2", *OPEN[3:])
    assert done.returncode == 1
    assert "byte 11 is" in done.stderr


def number_of(frame: bytes) -> int:
    return int(answer(frame)[4:12], 16)


def test_each_round_goes_over_all_connections_in_another_order(built: Path, serve: Serve) -> None:
    connections: dict[int, int] = {}
    masks: set[bytes] = set()

    def change(connection: int, frame: bytes) -> bytes:
        connections[number_of(frame)] = connection
        masks.add(frame[4:8])
        return answer(frame)

    found = report(load(built, serve(several(change)), "open", "--connections", "6", *OPEN[3:]))
    assert found["count"] == found["sent"] == 300
    assert sorted(connections) == list(range(2 * WARM))
    assert len(masks) == 2 * WARM
    rounds = [tuple(connections[i + k] for k in range(6)) for i in range(0, 2 * WARM, 6)]
    assert all(set(order) == set(range(6)) for order in rounds)
    assert len(set(rounds)) > 50


def test_latency_counts_from_the_moment_when_a_message_was_due(built: Path, serve: Serve) -> None:
    """One stall of 300 ms. Of the messages due in its first 250 ms, one each millisecond, none is answered within
    50 ms, whenever it was sent. Had they waited to be sent until the server answers, all but one would look fast."""
    stall = 0.3

    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        for i in range(10**6):
            frame = read_exactly(s, FRAME)
            if i == WARM + 100:
                time.sleep(stall)
            s.sendall(answer(frame))

    found = report(load(built, serve(alone(behaviour)), *OPEN[:-1], "2"))
    late = sum(count for upper, count in found["latency"]["histogram"] if upper >= 50_000)
    assert found["count"] == 2000
    assert late >= 249
    assert found["latency"]["max_us"] >= 299_000
    assert found["latency"]["p50_us"] <= found["latency"]["p90_us"] <= found["latency"]["p99_us"]


def test_it_counts_so_even_where_the_generator_is_late(built: Path, serve: Serve) -> None:
    """Stopped for 300 ms, it sends late what was due meanwhile: these latencies are no less true, and the lag tells."""
    started: list[subprocess.Popen[str]] = []

    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        for i in range(10**6):
            s.sendall(answer(read_exactly(s, FRAME)))
            if i == WARM + 100:
                pid = started[0].pid
                os.kill(pid, signal.SIGSTOP)
                while ") T " not in Path(f"/proc/{pid}/stat").read_text():
                    time.sleep(0.001)
                time.sleep(0.3)
                os.kill(pid, signal.SIGCONT)

    command = [str(built / "loadgen"), *OPEN[:-1], "2", "--port", str(serve(alone(behaviour))), "--limit", "20"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as generator:
        started.append(generator)
        out, err = generator.communicate("go\n", timeout=60)
    found = report(subprocess.CompletedProcess(command, generator.returncode, out, err))
    assert sum(count for upper, count in found["latency"]["histogram"] if upper >= 50_000) >= 249
    assert found["lag"]["max_us"] >= 299_000
    assert found["count"] == 2000


def test_the_report_of_an_open_loop(built: Path) -> None:
    with measure.Server([str(built / "bare")], min(os.sched_getaffinity(0))) as server:
        found = report(
            load(built, server.port, "open", "--rate", "5000", "--seconds", "0.5", "--mixed", "--size", "16")
        )
    assert found["count"] == found["sent"] == sum(n for _, n in found["latency"]["histogram"]) == 2500
    assert found["rate_asked"] == 5000
    assert 0 < found["rate_reached"] <= 5000.01
    assert set(found["lag"]) == {f"{name}_us" for name in ("p50", "p90", "p99", "p999", "max", "mean")}
    assert 0 < found["lag"]["p50_us"] <= found["lag"]["max_us"]
    assert 0 < found["latency"]["p50_us"] <= found["latency"]["max_us"]


@pytest.mark.parametrize(("size", "rate"), [(8, 3000), (126, 3000), (65536, 500), (1 << 20, 100)])
def test_an_open_loop_on_the_floor(built: Path, size: int, rate: int) -> None:
    """The largest fill their sockets, so that messages have to wait in the generator."""
    options = ["open", "--connections", "3", "--size", str(size), "--rate", str(rate), "--seconds", "0.5", "--binary"]
    with measure.Server([str(built / "bare")], min(os.sched_getaffinity(0))) as server:
        assert report(load(built, server.port, *options))["count"] == rate // 2


def test_pings_between_answers(built: Path, serve: Serve) -> None:
    pongs: list[bytes] = []

    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        while True:
            head = read_exactly(s, 2)
            if head[0] == 0x8A:
                rest = read_exactly(s, 8)
                pongs.append(bytes(b ^ rest[i] for i, b in enumerate(rest[4:])))
                continue
            stream = b"\x89\x04ping" + answer(head + read_exactly(s, FRAME - 2))
            cut = len(pongs) % 9
            s.sendall(stream[:cut])
            s.sendall(stream[cut:])

    assert report(load(built, serve(alone(behaviour)), *OPEN))["count"] == 300
    assert set(pongs) == {b"ping"}
    assert len(pongs) > WARM


def test_messages_wait_for_a_server_that_does_not_read(built: Path, serve: Serve) -> None:
    """A second of 1 MiB 20 times a second: more than sockets take. The rest is sent when it reads, and all in order."""
    size = 1 << 20
    numbers: list[int] = []

    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        while True:
            if len(numbers) == 10:
                time.sleep(1)
            frame = read_exactly(s, 14 + size)
            key = frame[10:14] * 2
            numbers.append(int(bytes(b ^ key[i] for i, b in enumerate(frame[14:22])), 16))
            payload = int.from_bytes(frame[14:], "big") ^ int.from_bytes(frame[10:14] * (size // 4), "big")
            s.sendall(frame[:1] + b"\x7f" + frame[2:10] + payload.to_bytes(size, "big"))

    options = ["open", "--connections", "1", "--size", str(size), "--rate", "20", "--seconds", "1"]
    assert report(load(built, serve(alone(behaviour)), *options))["count"] == 20
    assert numbers == list(range(26))


def test_too_many_unanswered_end_the_run(built: Path, serve: Serve) -> None:
    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        while s.recv(1 << 20):
            pass

    options = ["open", "--connections", "1", "--size", "8", "--rate", "1e7", "--seconds", "1"]
    done = load(built, serve(alone(behaviour)), *options, limit=50)
    assert done.returncode == 1
    assert "1048576 messages are unanswered: the server does not keep up with 1e+07 a second" in done.stderr


@pytest.mark.slow
def test_the_rest_must_come_within_10_s(built: Path, serve: Serve) -> None:
    """A server that goes on answering, but too slowly."""

    def behaviour(s: socket.socket) -> None:
        s.sendall(OK_101)
        while True:
            s.sendall(answer(read_exactly(s, FRAME)))
            time.sleep(0.2)

    done = load(built, serve(alone(behaviour)), *OPEN, limit=30)
    assert done.returncode == 1
    assert "messages are unanswered 10 s after the last was due" in done.stderr


def test_a_message_that_has_no_room_for_its_number(built: Path) -> None:
    done = load(built, 1, "open", "--size", "7")
    assert done.returncode == 1
    assert "a message has 8 bytes at least" in done.stderr
