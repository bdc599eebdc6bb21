"""Every way in which a connection ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import WIRE_CODES, Recorder, Serving, eventually, make_app

from .client import NO_CODE, NOT_CLEAN, Connect, Library
from .libraries import each_library

pytestmark = pytest.mark.parametrize("loop_kind", ["uvloop"], indirect=True)

REASONS = ["", "bye", "αντίο, 再见 👋", "é" * 61 + "!"]  # the last of 123 bytes, all that a Close holds (section 5.5)


def wait_for_close(recorder: Recorder, code: int, reason: str) -> None:
    """On the connection whose query string is this code."""
    events = [("open",), ("close", code, reason)]
    eventually(lambda: recorder.of[str(code)] == events, what=f"close with {code}")


@each_library()
def test_the_client_closes(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    for number, code in enumerate(WIRE_CODES):
        reason = REASONS[number % len(REASONS)]
        client = connect(server, f"/?{code}")
        client.close(code, reason)
        assert client.closed() == (code, ""), "the server answers with the code (section 5.5.1)"
        wait_for_close(recorder, code, reason)


@each_library()
def test_the_client_closes_without_a_code(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    client = connect(serve(make_app(recorder.handler())))
    client.close(None)
    assert client.closed() == (NO_CODE, "")
    recorder.wait_for(("open",), ("close", NO_CODE, ""))


@each_library()
def test_the_server_closes(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    for number, code in enumerate(WIRE_CODES):
        reason = REASONS[number % len(REASONS)]
        client = connect(server, f"/?{code}")
        server.call(recorder.sockets.pop().close, code, reason)
        assert client.closed() == (code, reason)
        wait_for_close(recorder, code, reason)


@each_library()
def test_the_server_closes_without_a_code(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    client = connect(server)
    server.call(recorder.sockets.pop().close, NO_CODE)
    assert client.closed() == (NO_CODE, "")
    recorder.wait_for(("open",), ("close", NO_CODE, ""))


@each_library()
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_the_client_is_gone(serve: Serving, connect: Connect, reset: bool) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True)))
    client = connect(server)
    client.send("hello")
    assert client.recv() == "hello"
    client.abort(reset=reset)
    recorder.wait_for(("open",), ("message", "hello"), ("close", *NOT_CLEAN))


@each_library()
def test_the_server_terminates(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    client = connect(server)
    server.call(recorder.sockets.pop().terminate)
    assert client.closed() == NOT_CLEAN
    recorder.wait_for(("open",), ("close", *NOT_CLEAN))


@each_library()
def test_the_client_is_killed(serve: Serving, library: Library) -> None:
    """SIGKILL lets no process say goodbye."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True)))
    command = [sys.executable, "-m", "clients.talker", library.name, f"ws://127.0.0.1:{server.port}/"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as talker:
        assert talker.stdout is not None
        try:
            os.kill(int(talker.stdout.readline()), signal.SIGKILL)
            recorder.wait_for(("open",), ("message", "hello"), ("close", *NOT_CLEAN))
        finally:
            talker.kill()
