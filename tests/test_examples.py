"""What a reader would copy runs: every example, and every whole program in the README."""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness import RawClient, eventually

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


class Running:
    """A program that serves on 127.0.0.1:8765, moved to a free port."""

    def __init__(self, source: str, directory: Path) -> None:
        assert source.count("8765") == 1, "a program says once where it serves"
        self.port = free_port()
        program = directory / "program.py"
        program.write_text(source.replace("8765", str(self.port)))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(program)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        self.timer = threading.Timer(20, self.process.kill)
        self.timer.start()
        eventually(lambda: self.process.poll() is not None or self.listens(), 15)

    def listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        _, stderr = self.process.communicate()
        self.timer.cancel()
        assert self.process.returncode == 0, stderr
        assert "Traceback" not in stderr


def echoes(running: Running, path: str) -> None:
    try:
        client = RawClient.open(running.port, path)
        for message in ("hello", "grüße", b"\x00\xff"):
            client.send(message)
            assert client.recv() == message
        client.send_close(1000)
        client.expect_close(1000)
        client.close()
    finally:
        running.end()


def test_there_is_something_to_try() -> None:
    assert [path.name for path in EXAMPLES] == ["echo.py"], "write a test that talks to the new example"
    assert PROGRAMS, "the README shows no whole program"


def test_echo(tmp_path: Path) -> None:
    echoes(Running((ROOT / "examples/echo.py").read_text(), tmp_path), "/")


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_readme_programs(tmp_path: Path, number: int) -> None:
    """Each is an echo at the path that it names."""
    path = re.search(r'@app\.websocket\("([^"{]+)"', PROGRAMS[number])
    assert path, "which path is it that this program serves?"
    echoes(Running(PROGRAMS[number], tmp_path), path[1])


@pytest.mark.parametrize("block", BLOCKS)
def test_readme_blocks_are_python(block: str) -> None:
    compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_run_in_the_readme_is_served_or_an_excerpt() -> None:
    """A block that calls app.run and is no program is one line, about the call itself."""
    for block in BLOCKS:
        if "app.run(" in block and not is_program(block):
            assert len(block.strip().splitlines()) == 1, f"neither a program nor one line: {block}"
