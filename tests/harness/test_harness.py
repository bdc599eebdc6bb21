"""The harness itself: a client that is strict, against a server of another make, and fixtures that do fail."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import CLOSE, CONT, PING, PONG, TEXT, BadFrame, Ended, Frame, RawClient, apply_mask, build, parse

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def other_port() -> Iterator[int]:
    """An echo server that is not ours: what the client takes for right is what the world takes for right."""
    server_module = pytest.importorskip("websockets.sync.server", reason="websockets is not installed")

    def echo(connection):  # type: ignore[no-untyped-def]
        for message in connection:
            connection.send(message)

    with server_module.serve(echo, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        for client in list(RawClient.opened):
            client.close()
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 300_000])
def test_client_echoes_through_another_server(other_port: int, size: int) -> None:
    client = RawClient.open(other_port)
    text = "é" * (size // 2) + "x" * (size % 2)
    client.send(text)
    assert client.recv() == text
    client.send(os.urandom(size))
    assert len(client.recv()) == size


def test_client_fragments_pings_and_closes(other_port: int) -> None:
    client = RawClient.open(other_port)
    client.send_frame(TEXT, b"one ", fin=False)
    client.send_frame(PING, b"in between")
    client.send_frame(CONT, b"two")
    assert client.recv_frame() == Frame(True, PONG, b"in between")
    assert client.recv() == "one two"
    client.send_close(1000, b"done")
    client.expect_close(1000)


def test_client_is_told_of_its_own_wrong_frames(other_port: int) -> None:
    client = RawClient.open(other_port)
    client.send_frame(TEXT, b"x", rsv=2)
    client.expect_close(1002)


def test_client_tells_rejection_and_end_apart(other_port: int) -> None:
    client = RawClient.connect(other_port)
    client.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    response = client.recv_http()
    assert response.status == 426
    with pytest.raises(Ended):
        client.recv_frame()


def test_client_notices_what_should_not_come(other_port: int) -> None:
    client = RawClient.open(other_port)
    client.expect_silence(0.05)
    client.send("x")
    with pytest.raises(AssertionError, match="silence"):
        client.expect_silence(1.0)
    client.send("y")
    with pytest.raises(AssertionError, match="opcode 1"):
        client.expect_close(1000)
    with pytest.raises(AssertionError, match="did not end"):
        client.expect_eof(0.05)


def test_masks() -> None:
    assert apply_mask(b"", b"abcd") == b""
    data = bytes(range(256))
    key = b"\x01\x80\xff\x00"
    assert apply_mask(data, key) == bytes(byte ^ key[i % 4] for i, byte in enumerate(data))
    assert apply_mask(apply_mask(data[:7], key), key) == data[:7]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_parse_reads_what_build_wrote(size: int) -> None:
    wire = build(TEXT, b"x" * size, mask=None)
    for cut in (0, 1, 2, 3, len(wire) - 1):
        if cut < len(wire):
            assert parse(wire[:cut]) is None
    assert parse(wire + b"rest") == (Frame(True, TEXT, b"x" * size), len(wire))


@pytest.mark.parametrize(
    "wire",
    [
        build(TEXT, b"x"),
        build(TEXT, b"x", mask=None, rsv=1),
        build(TEXT, b"x", mask=None, rsv=4),
        build(3, b"x", mask=None),
        build(11, b"", mask=None),
        build(TEXT, b"x", mask=None, length_form=16),
        build(TEXT, b"x" * 300, mask=None, length_form=64),
        build(TEXT, mask=None, length=1 << 63),
        build(PING, b"", mask=None, fin=False),
        build(PING, b"x" * 126, mask=None),
        build(CLOSE, b"", mask=None, fin=False),
    ],
)
def test_parse_takes_nothing_that_a_server_must_not_send(wire: bytes) -> None:
    with pytest.raises(BadFrame):
        parse(wire)


def test_build_can_lie() -> None:
    assert build(TEXT, b"ab", mask=None, length=1 << 63) == b"\x81\x7f" + struct.pack("!Q", 1 << 63) + b"ab"
    assert build(TEXT, b"ab", mask=b"\0\0\0\0", length_form=16, fin=False) == b"\x01\xfe\x00\x02\0\0\0\0ab"


PROBE = """
import asyncio, logging, os, pytest
from harness import RawClient, bystander, make_app, Recorder

def test_good(serve):
    server = serve(make_app(Recorder().handler(echo=True)))
    client = RawClient.open(server.port)
    client.send("x")
    assert client.recv() == "x"

def test_fd(serve):
    os.open("/dev/null", os.O_RDONLY)

def test_task(serve):
    server = serve(make_app())
    server.call(lambda: setattr(server, "kept", server.loop.create_task(asyncio.sleep(60))))

def test_log(serve):
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("fastws").exception("no")

def test_expected_log_missing(serve):
    serve.traps.expect(ZeroDivisionError)

def test_never_awaited_is_not_a_pass(serve):
    class Loud:
        def __del__(self):
            raise KeyError
    Loud()

def test_loop_handler(serve):
    server = serve(make_app())
    server.loop.call_soon_threadsafe(lambda: 1 / 0)
    server.settle()

def test_bystander_sees_callbacks(serve):
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with bystander(server, recorder):
        RawClient.open(server.port)

def test_bystander_is_cut_off(serve):
    server = serve(make_app())
    with bystander(server):
        server.call(lambda: [ws.terminate() for ws in server.server.connections])

def test_bystander_sees_what_stays(serve):
    server = serve(make_app(Recorder().handler()))
    with bystander(server):
        stays = RawClient.open(server.port)
        RawClient.opened.remove(stays)
    stays.close()

def test_skip():
    pytest.skip("no reason")

@pytest.mark.xfail
def test_xfail():
    assert False
"""

GUARDED = ["test_fd", "test_task", "test_log", "test_expected_log_missing", "test_never_awaited", "test_loop_handler"]

ATTACKED = ["test_bystander_sees_callbacks", "test_bystander_is_cut_off", "test_bystander_sees_what_stays"]


@pytest.mark.parametrize("ci", ["true", ""])
def test_fixtures_fail_on_what_is_left_behind(tmp_path: Path, ci: str) -> None:
    """Every leak that the fixtures watch for, committed on purpose in a run of its own."""
    (tmp_path / "test_probe.py").write_text(PROBE)
    environment = {
        **os.environ,
        "CI": ci,
        "PATIENCE": "0.2",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "conftest",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith(("PASSED", "FAILED", "ERROR", "SKIPPED"))]
    for name in GUARDED:
        ended = [line for line in lines if f"::{name}" in line and line.startswith("ERROR")]
        assert len(ended) == 2, f"{name}: {result.stdout}"  # on both loops, at teardown
    for name in ATTACKED:
        assert len([line for line in lines if f"::{name}" in line and line.startswith("FAILED")]) == 2, result.stdout
    assert len([line for line in lines if "::test_good" in line and line.startswith("PASSED")]) == 2, result.stdout
    assert not [line for line in lines if "::test_good" in line and line.startswith("ERROR")], result.stdout
    skipped = [line for line in lines if line.startswith("SKIPPED")]
    failed = [line for line in lines if line.startswith("FAILED") and "::test_skip" in line]
    assert (len(skipped), len(failed)) == ((0, 1) if ci else (1, 0)), result.stdout
    assert "1 xfailed" in result.stdout
