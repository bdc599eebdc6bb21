"""The load generator must notice everything a server can do wrong, and both C programs run clean under sanitizers.

python -m pytest bench/test_bench.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import measure
import pytest

STRICT = ["-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
OK_101 = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo= \r\n\r\n"
)
SIZE = 300
FRAME = 8 + SIZE  # of the client: 2 bytes, 2 of extended length, 4 of mask


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    for name in ("loadgen", "bare"):
        source = measure.BENCH / f"{name}.c"
        subprocess.run(["cc", *STRICT, "-o", str(folder / name), str(source)], check=True)
    return folder


def load(built: Path, port: int, *options: str, limit: int = 20) -> subprocess.CompletedProcess[str]:
    command = [built / "loadgen", *options, "--port", str(port), "--limit", str(limit)]
    return subprocess.run(command, input="go\n", capture_output=True, text=True, timeout=60, check=False)


def read_exactly(s: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def answer(frame: bytes) -> bytes:
    key = frame[4:8]
    return frame[:1] + bytes([frame[1] & 127]) + frame[2:4] + bytes(b ^ key[i % 4] for i, b in enumerate(frame[8:]))


Behaviour = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], int]]:
    """Serves one connection, in a thread, with the behaviour given; the port it listens on."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def begin(behaviour: Behaviour) -> int:
        def work() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(20)
                try:
                    while not peer.recv(4096).endswith(b"\r\n\r\n"):
                        pass
                    behaviour(peer)
                    peer.recv(1)
                except OSError:  # the generator resets the connection at its end
                    pass

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield begin
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    listener.close()


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
        pytest.param(echo_once(lambda f: f[:-1] + bytes([f[-1] ^ 1])), "byte 303 is 0x", id="payload"),
        pytest.param(echo_once(lambda f: b"\x82" + f[1:]), "byte 0 is 0x82, not 0x81", id="opcode"),
        pytest.param(echo_once(lambda f: f[:3] + bytes([f[3] + 1]) + f[4:]), "byte 3 is 0x", id="length"),
        pytest.param(echo_once(lambda f: f + f), "answer", id="twice"),
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
def test_what_is_wrong_is_noticed(
    built: Path, serve: Callable[[Behaviour], int], behaviour: Behaviour, message: str
) -> None:
    done = load(built, serve(behaviour), *ECHO)
    assert done.returncode == 1, done
    assert message in done.stderr


def test_a_stuck_server_ends_the_run(built: Path, serve: Callable[[Behaviour], int]) -> None:
    done = load(built, serve(stuck), *ECHO, limit=2)
    assert done.returncode == 3
    assert "not finished within --limit" in done.stderr


def test_nobody_listens(built: Path) -> None:
    done = load(built, measure.free_port(), *ECHO)
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_answers_in_pieces_between_pings(built: Path, serve: Callable[[Behaviour], int]) -> None:
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

    done = load(built, serve(behaviour), *ECHO)
    assert done.returncode == 0, done.stderr
    assert len(pongs) > 9
    assert set(pongs) == {b"\x8a\x84ping"}


@pytest.mark.parametrize(
    ("size", "window"), [(0, 3), (1, 1), (125, 32), (126, 4), (65535, 3), (65536, 2), (1 << 20, 2)]
)
@pytest.mark.parametrize("kind", [(), ("--binary",)], ids=["text", "binary"])
def test_echo_of_the_floor(built: Path, size: int, window: int, kind: tuple[str, ...]) -> None:
    options = ["echo", "--connections", "5", "--size", str(size), "--window", str(window), "--seconds", "1", *kind]
    with measure.Server([str(built / "bare")], min(os.sched_getaffinity(0))) as server:
        done = load(built, server.port, *options)
    assert done.returncode == 0, done.stderr
    assert '"count"' in done.stdout


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


def test_a_sample_of_each_workload() -> None:
    """The whole of it on a real server, counters included."""
    cores = sorted(os.sched_getaffinity(0))
    pair = (cores[0], cores[-1])
    floor = [str(measure.compiled("bare"))]
    echo = measure.run(floor, ["echo", "--connections", "5", "--seconds", "1"], pair)
    connect = measure.run(floor, ["connect", "--connections", "500"], pair)
    idle = measure.run(floor, ["idle", "--connections", "2000"], pair)
    assert 0.2 < echo.cpu_us < 200
    assert 0 < echo.generator_core <= 1.05
    assert 1 < connect.cpu_us < 500
    assert (connect.count, idle.count) == (500, 2000)
    assert 30 < idle.memory_each < 500


def test_a_server_that_does_not_start_is_reported() -> None:
    with pytest.raises(measure.BenchError, match="no such module"):
        with measure.Server([sys.executable, "-c", "raise SystemExit('no such module')"], 0):
            pass
