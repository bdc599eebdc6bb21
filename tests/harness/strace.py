"""System calls of a running process, counted by strace."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import pytest

from .server import PATIENCE

STRACE = Path("/usr/bin/strace")
LINE = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.+)$")
UNFINISHED = re.compile(r"^(?P<pid>\d+) +(?P<start>\w+\(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
QUIET = 0.2 * PATIENCE  # seconds in which attaching has settled and what is under way has ended

WAITS = {"epoll_wait", "epoll_pwait", "epoll_pwait2"}
RECEIVES = {"recv", "recvfrom", "recvmsg", "read", "readv"}
MEMORY = {"brk", "madvise", "mmap", "mremap", "munmap"}  # the allocator's, not the server's
SENDS = {"send", "sendto", "sendmsg", "sendmmsg", "write", "writev"}


class Call(NamedTuple):
    name: str
    arguments: str
    result: str

    @property
    def fd(self) -> int:
        """The descriptor that the call is about; for epoll_ctl the one added."""
        place = 2 if self.name == "epoll_ctl" else 0
        found = re.match(r"\d+", self.arguments.split(", ")[place])
        return int(found[0]) if found else -1


class Strace:
    """`with Strace(pid) as trace: ...; trace.calls()`: what the process asked of the kernel meanwhile, in order."""

    def __init__(self, pid: int, log: Path) -> None:
        self._pid = pid
        self._log = log

    def __enter__(self) -> Strace:
        command = [
            str(STRACE),
            "-f",
            "-qq",
            "-s",
            "16",
            "-e",
            "signal=none",
            "-o",
            str(self._log),
            "-p",
            str(self._pid),
        ]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 10 * PATIENCE
        status = Path(f"/proc/{self._pid}/status")
        while "TracerPid:\t0\n" in status.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"strace did not attach: {self._process.communicate()[1]}")
            time.sleep(0.01)
        time.sleep(QUIET)
        self._start = self._log.stat().st_size
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        time.sleep(QUIET)
        self._end = self._log.stat().st_size
        self._process.terminate()
        self._process.communicate(timeout=10)

    def calls(self) -> list[Call]:
        """Those that returned. The wait that is always under way counts when it has returned."""
        log = self._log.read_bytes()
        first = log.rfind(b"\n", 0, self._start) + 1  # the wait under way is a line begun
        text = log[first : log.rfind(b"\n", 0, self._end) + 1].decode()
        started: dict[str, str] = {}
        calls = []
        for written in text.splitlines():
            line = written
            if unfinished := UNFINISHED.match(written):
                started[unfinished["pid"]] = unfinished["start"]
                continue
            if resumed := RESUMED.match(written):
                line = f"{resumed['pid']} {started.pop(resumed['pid'], resumed['name'] + '(')}{resumed['rest']}"
            found = LINE.match(line)
            assert found, f"strace wrote {line!r}"
            calls.append(Call(found["name"], found["arguments"], found["result"]))
        return calls


@contextlib.contextmanager
def serving(script: str, loop_kind: str) -> Iterator[tuple[int, int]]:
    """(pid, port) of a server in a process of its own: a script that is given the loop, and prints its port."""
    if not STRACE.exists():
        pytest.skip(f"{STRACE} is not installed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, script, loop_kind]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line, "the server did not start"
        yield server.pid, int(line)
        assert server.poll() is None, "the server died"
        server.terminate()
