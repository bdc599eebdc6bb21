"""What a reader would copy runs: every example, and every whole program in the README."""

from __future__ import annotations

import ast
import asyncio
import base64
import importlib.util
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from harness import (
    BINARY,
    TEXT,
    Ended,
    RawClient,
    ServerThread,
    Serving,
    build,
    eventually,
    request_bytes,
    slow_client,
)

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def is_program(block: str) -> bool:
    """Whole programs import what they use; the rest are excerpts."""
    return "app.run(" in block and "import fastws" in block


PROGRAMS = [block for block in BLOCKS if is_program(block)]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """A Python process of a user's, which may not warn, and which the test has 30 seconds for."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        self.timer = threading.Timer(30, self.process.kill)
        self.timer.start()

    def listens_on(self, port: int) -> None:
        def connects() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        eventually(lambda: self.process.poll() is not None or connects(), 15)
        self.port = port

    def end(self, how: signal.Signals | None = signal.SIGTERM) -> str:
        """What it has printed; it ends well, by itself if `how` is None."""
        if how is not None:
            self.process.send_signal(how)
        stdout, stderr = self.process.communicate()
        self.timer.cancel()
        assert self.process.returncode == 0, stderr
        assert "Traceback" not in stderr
        return stdout

    def kill(self) -> None:
        self.timer.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(what: str, *, by_command: bool = False) -> Process:
        """A program that serves on 127.0.0.1:8765, or an example by its name, on a free port instead."""
        port = free_port()
        if by_command:
            process = Process("-m", "fastws", "serve", f"examples.{what}:app", "--port", str(port))
        else:
            source = what if "\n" in what else (ROOT / f"examples/{what}.py").read_text()
            assert "8765" in source, "a program says where it serves"
            program = tmp_path / "program.py"
            program.write_text(source.replace("8765", str(port)))
            process = Process(str(program))
        started.append(process)
        process.listens_on(port)
        return process

    yield start
    for client in list(RawClient.opened):
        client.close()
    for process in started:
        process.kill()


def imported(name: str) -> ModuleType:
    """An example as a module of this process, fresh."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / f"examples/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def talks(port: int, path: str = "/") -> None:
    """An echo is there."""
    client = RawClient.open(port, path)
    for message in ("hello", "grüße", b"\x00\xff"):
        client.send(message)
        assert client.recv() == message
    client.send_close(1000)
    client.expect_close(1000)
    client.close()


def get(port: int, target: str) -> Any:
    client = RawClient.connect(port)
    client.send_raw(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client.recv_http()


# All of them


def test_every_example_is_tested() -> None:
    """Here, by a test of its name, or one that begins with it."""
    tests = [name for name in globals() if name.startswith("test_")]
    for path in EXAMPLES:
        assert any(re.match(rf"test_{path.stem}(_|$)", name) for name in tests), f"nothing talks to {path.name}"
    assert PROGRAMS, "the README shows no whole program"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_examples_have_in_common(path: Path) -> None:
    """They are short, say how to try them, can be given to `fastws serve`, and are listed in the README."""
    import fastws

    module = imported(path.stem)
    assert isinstance(module.app, fastws.App)
    assert module.__doc__ and ("To try" in module.__doc__ or "make run" in module.__doc__)
    assert len(path.read_text().splitlines()) <= 80
    assert f"(examples/{path.name})" in README


# echo


@pytest.mark.parametrize("by_command", [False, True])
def test_echo(start: Callable[..., Process], by_command: bool) -> None:
    process = start("echo", by_command=by_command)
    talks(process.port)
    page = get(process.port, "/")
    assert page.status == 200 and b"ws://localhost/" in page.body
    process.end()


# auth


def token_of(port: int, user: str) -> str:
    return str(get(port, f"/token?user={user}").body.decode())


def cookie(value: str) -> list[tuple[str, str]]:
    return [("Cookie", f"theme=dark; session={value}")]


def offer(*protocols: str) -> list[tuple[str, str]]:
    return [("Sec-WebSocket-Protocol", ", ".join(protocols))]


def refused(port: int, status: int, headers: list[tuple[str, str]], path: str = "/inbox/ada") -> None:
    client = RawClient.connect(port)
    client.send_raw(request_bytes(path, headers=headers))
    answer = client.expect_reject(status)
    assert "token" not in answer.body.decode()
    client.close()


def test_auth(start: Callable[..., Process]) -> None:
    process = start("auth")
    port = process.port
    login = get(port, "/login?user=ada")
    pair, *attributes = login.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
    session = pair.removeprefix("session=")

    client = RawClient.open(port, "/inbox/ada", headers=cookie(session))
    assert client.recv() == "hello ada"

    client = RawClient.connect(port)
    answer = client.handshake("/inbox/ada", headers=offer("app.v1", f"token.{token_of(port, 'ada')}"))
    assert answer.headers["sec-websocket-protocol"] == "app.v1"
    assert client.recv() == "hello ada"

    refused(port, 401, [])
    refused(port, 401, cookie(""))
    refused(port, 401, offer("app.v1"))
    refused(port, 403, cookie(session), "/inbox/grace")
    refused(port, 403, offer("app.v1", f"token.{token_of(port, 'ada')}"), "/inbox/grace")
    refused(port, 403, [*cookie(session), ("Origin", "http://evil.example")])
    # A bad token is not made good by a cookie.
    refused(port, 401, [*cookie(session), *offer("app.v1", "token.AAAA")])
    process.end()


def test_auth_forged(start: Callable[..., Process]) -> None:
    process = start("auth")
    mine = token_of(process.port, "mallory")
    signed = base64.urlsafe_b64decode(mine + "=" * (-len(mine) % 4))
    assert signed[32:].endswith(b" mallory")
    bodies = [signed[:32] + signed[32:].replace(b"mallory", b"ada"), signed[:32], b"", bytes(32) + signed[32:]]
    bodies += [signed[:bit] + bytes([signed[bit] ^ 1]) + signed[bit + 1 :] for bit in (0, 31, 32, len(signed) - 1)]
    for body in bodies:
        forged = base64.urlsafe_b64encode(body).decode().rstrip("=")
        refused(process.port, 401, cookie(forged), "/inbox/mallory")
        refused(process.port, 401, offer("app.v1", f"token.{forged}"), "/inbox/mallory")
    for garbage in ("A", "=", "ÿ", mine[:-8], "." + mine[1:]):
        refused(process.port, 401, cookie(garbage), "/inbox/mallory")
    process.end()


def test_auth_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = imported("auth")
    proof, now = auth.sign("ada"), time.time()
    assert auth.verify(proof) == "ada"
    monkeypatch.setattr(auth.time, "time", lambda: now + auth.LIFETIME + 1)
    assert auth.verify(proof) is None
    assert auth.verify(auth.sign("ada")) == "ada"


# slow


def test_slow_keeps_the_order(start: Callable[..., Process]) -> None:
    process = start("slow", by_command=True)
    client, other = RawClient.open(process.port, "/lookup"), RawClient.open(process.port, "/lookup")
    client.send_raw(b"".join(build(TEXT, str(number).encode()) for number in range(50)))
    began = time.monotonic()
    other.send("quick")
    assert other.recv() == "found 'quick'"
    waited = time.monotonic() - began
    assert [client.recv() for _ in range(50)] == [f"found '{number}'" for number in range(50)]
    # One at a time those take a second; the other connection's did not wait for them.
    took = time.monotonic() - began
    assert took > 0.9
    assert waited < took / 2
    process.end()


def test_slow_pauses_reading(serve: Serving) -> None:
    """Of what a client sends ahead, the server takes little more than `max_waiting` messages."""
    slow = imported("slow")
    server = serve(slow.app)
    client = RawClient.open(server.port, "/lookup")
    size = 512 * 1024
    message = memoryview(build(BINARY, bytes(size)))
    client.sock.settimeout(0.05)
    end, sent, most = time.monotonic() + 0.7, 0, 0
    while time.monotonic() < end and sent < 400 * len(message):
        try:
            sent += client.sock.send(message[sent % len(message) :])
        except TimeoutError:
            pass
        most = max(most, server.stats()["buffered_bytes"])
    assert sent > 8 * size, "not enough was offered for reading to pause"
    assert most <= (slow.app.options.max_waiting + 2) * size
    client.reset()


def test_slow_download(start: Callable[..., Process]) -> None:
    process = start("slow")
    client = RawClient.open(process.port, "/download")
    client.send("3")
    received = 0
    while isinstance(message := client.recv(), bytes):
        received += len(message)
    assert (message, received) == ("done", 3 * 1024 * 1024)
    for wrong in ("much", "99999", "²", ""):
        client = RawClient.open(process.port, "/download")
        client.send(wrong)
        with pytest.raises(Ended, match="closed with 1008"):
            client.recv()
    process.end()


def test_slow_reader_is_waited_for(serve: Serving) -> None:
    server: ServerThread = serve(imported("slow").app)
    client = slow_client(server, "/download")
    client.send("100")
    eventually(lambda: server.stats()["buffered_bytes"])
    for _ in range(10):
        assert server.stats()["buffered_bytes"] <= 128 * 1024
        time.sleep(0.01)
    assert len(server.server.connections) == 1
    for _ in range(20):  # it has not been closed as a slow consumer
        assert client.recv() == bytes(16 * 1024)
    client.reset()


# embed


def test_embed() -> None:
    process = Process(str(ROOT / "examples/embed.py"))
    try:
        assert process.process.stdout is not None
        found = re.fullmatch(r"watch ws://127.0.0.1:(\d+)/pi\n", process.process.stdout.readline())
        assert found
        clients = [RawClient.open(int(found[1]), "/pi") for _ in range(2)]
        for client in clients:
            assert isinstance(said := client.recv(), str)
            assert re.fullmatch(r"pi is about 3\.\d{5}", said)
        assert process.process.stdout.readline() == "2 are watching\n"  # the program's own task runs beside
        clients[0].send("more")
        clients[1].send("enough")
        for client in clients:
            with pytest.raises(Ended, match="closed with 1001"):
                while True:
                    client.recv()
            client.send_close(1001)
            client.expect_eof()
        assert abs(float(process.end(None).split()[-1]) - 3.14159) < 0.1
    finally:
        process.kill()


# the README


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_readme_programs(start: Callable[..., Process], number: int) -> None:
    """Each is an echo at the path that it names."""
    path = re.search(r'@app\.websocket\("([^"{]+)"', PROGRAMS[number])
    assert path, "which path is it that this program serves?"
    process = start(PROGRAMS[number])
    talks(process.port, path[1])
    process.end()


@pytest.mark.parametrize("block", BLOCKS)
def test_readme_blocks_are_python(block: str) -> None:
    compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_run_in_the_readme_is_served_or_an_excerpt() -> None:
    """A block that calls app.run and is no program is one line, about the call itself."""
    for block in BLOCKS:
        if "app.run(" in block and not is_program(block):
            assert len(block.strip().splitlines()) == 1, f"neither a program nor one line: {block}"
