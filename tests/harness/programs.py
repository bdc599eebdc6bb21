"""Programs as a user runs them: in a process of their own, where the tests talk to them over sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from harness import PATIENCE, RawClient, eventually

ROOT = Path(__file__).resolve().parents[2]


class Program:
    """`python ARGUMENTS` at the root of the tree, where it serves on `port` unless that is 0. It may not warn, and has
    only so many seconds."""

    def __init__(self, *arguments: str, port: int = 0, seconds: float = 60) -> None:
        self.port = port
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        self._timer = threading.Timer(seconds, self._process.kill)
        self._timer.start()
        if port:
            eventually(lambda: self._process.poll() is not None or self.listens(), 15)

    def listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def send_signal(self, how: signal.Signals) -> None:
        self._process.send_signal(how)

    def end(self, how: signal.Signals | None) -> str:
        """What else it has printed; it ends well, by itself if `how` is None."""
        for client in list(RawClient.opened):
            client.close()  # or the server would wait for it to take its leave
        if how is not None:
            self._process.send_signal(how)
        stdout, stderr = self._process.communicate()
        assert self._process.returncode == 0, stderr
        assert "Traceback" not in stderr
        return stdout

    def kill(self) -> None:
        for client in list(RawClient.opened):
            client.close()
        self._timer.cancel()
        self._process.kill()
        self._process.communicate()


def python(
    *arguments: str, cwd: Path = ROOT, seconds: float = 30, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What `python ARGUMENTS` has written, and how it ended. It finds the modules that this process finds."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables},
        capture_output=True,
        text=True,
        timeout=seconds * PATIENCE,
        check=False,
    )


@contextlib.contextmanager
def running(*arguments: str, port: int = 0) -> Iterator[Program]:
    """A program that the test ends."""
    program = Program(*arguments, port=port)
    try:
        yield program
    finally:
        program.kill()


@contextlib.contextmanager
def serving(source: str, *, by_command: bool = False, how: signal.Signals = signal.SIGTERM) -> Iterator[int]:
    """The port on which a program serves that would be on 8765, or an example by its name; then it ends well."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(reserve_port()).getsockname()[1]
        if by_command:
            arguments = ["-m", "fastws", "serve", f"examples.{source}:app", "--port", str(port)]
        else:
            if "\n" not in source:
                source = (ROOT / "examples" / f"{source}.py").read_text()
            assert "8765" in source, "a program says where it serves"
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            (Path(directory) / "program.py").write_text(source.replace("8765", str(port)))
            arguments = [f"{directory}/program.py"]
        program = stack.enter_context(running(*arguments, port=port))
        yield port
        program.end(how)


def reserve_port() -> socket.socket:
    """While this socket is open a server may have its port, and nobody is given it who asks for any port, as other
    tests' servers do. That is what Linux makes of SO_REUSEADDR where a socket is bound and does not listen."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def talks(port: int, path: str = "/") -> None:
    """An echo is there."""
    client = RawClient.open(port, path)
    for message in ("hello", "grüße", b"\x00\xff"):
        client.send(message)
        assert client.recv() == message
    client.send_close(1000)
    client.expect_close(1000)
    client.close()
