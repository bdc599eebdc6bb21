"""One sample: a server and the load generator, started, run and ended."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from bench.machine import BENCH, BenchError, compiled, cpu_time, pinned, resident_bytes, settled_cpu_time
from bench.results import Sample

START_TIMEOUT = 15.0
RUN_TIMEOUT = 300


def reserved_port() -> socket.socket:
    """A bound socket that does not listen. A server with SO_REUSEADDR or SO_REUSEPORT can listen on its port. Linux
    gives that port to no other socket that asks for any free one."""
    sock = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # servers set the one or the other
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


class Server:
    """One server process pinned to a core, in a context: started, listening, and ended with it."""

    def __init__(self, command: list[str], core: int) -> None:
        self._command = command
        self._core = core

    def __enter__(self) -> Server:
        self._reserved = reserved_port()
        self.port = int(self._reserved.getsockname()[1])
        self._log = tempfile.TemporaryFile("w+")
        with pinned(self._core):
            self._process = subprocess.Popen(
                [*self._command, "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._stop()
                    raise BenchError(f"the server did not start: {self._tail()}") from None
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        died = self._process.poll()
        self._stop()
        tail = self._tail()
        self._log.close()
        if died is not None:
            raise BenchError(f"the server ended by itself with status {died}: {tail}") from error

    def _stop(self) -> None:
        self._reserved.close()
        self._process.terminate()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].strip() or "(it wrote nothing)"


class Generator:
    """The load generator at its stops: `ready` when the server is warm, `go` when the run is over, `finish`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise self._error()
        return line

    def _error(self) -> BenchError:
        assert self._process.stderr is not None
        return BenchError(self._process.stderr.read().strip() or "the load generator ended without a word")

    def ready(self) -> None:
        if (line := self._line()) != "ready":
            raise BenchError(f"the load generator said {line!r}, not 'ready'")

    def go(self) -> dict[str, Any]:
        """What it reports of its run; bench/loadgen.c names the members."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        report: dict[str, Any] = json.loads(self._line())
        return report

    def finish(self) -> None:
        """It has watched its connections up to here."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait():
            raise self._error()


@contextmanager
def generator(workload: Iterable[str], port: int, core: int) -> Iterator[Generator]:
    """The generator's own --limit bounds every run, so no read from it can wait for ever."""
    with pinned(core):
        process = subprocess.Popen(
            [compiled("loadgen"), *workload, "--port", str(port), "--limit", str(RUN_TIMEOUT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            generator = Generator(process)
            generator.ready()
            yield generator
            generator.finish()
        finally:
            process.kill()


def told_times(port: int) -> dict[str, float]:
    """What the server has measured itself: servers/__init__.py, `timed`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/times", timeout=10) as answer:
        found: dict[str, float] = json.load(answer)
    return found


def run(
    command: list[str], load: list[str], cores: tuple[int, int], *, hold: float = 0.0, timed: bool = False
) -> Sample:
    """Starts the server afresh, warms it up and takes one sample: of the load, or of `hold` seconds' rest after it.
    `timed`: with the times that the server tells."""
    began = time.monotonic()
    server_core, generator_core = cores
    with Server(command, server_core) as server, generator(load, server.port, generator_core) as generating:
        cpu_before = settled_cpu_time(server.pid)
        memory_before = resident_bytes(server.pid)
        report = generating.go()
        if hold:
            cpu_before = settled_cpu_time(server.pid)
            time.sleep(hold)
            report |= {"seconds": hold, "cpu_seconds": 0.0}
            cpu = cpu_time(server.pid) - cpu_before
        else:
            cpu = settled_cpu_time(server.pid) - cpu_before
        memory = resident_bytes(server.pid) - memory_before
        report |= told_times(server.port) if timed else {}
    named = ("bytes_in", "bytes_out", "compressed_in", "receiving", "sending", "slow_lost", "latency", "lag")
    return Sample(
        workload="",
        server="",
        round=0,
        count=report["count"],
        seconds=report["seconds"],
        server_cpu=cpu.run,
        server_wait=cpu.wait,
        generator_cpu=report["cpu_seconds"],
        memory=memory,
        elapsed=round(time.monotonic() - began, 3),
        **{name: report[name] for name in named if name in report},
    )


def python_server(name: str, *options: str) -> list[str]:
    return [sys.executable, str(BENCH / "servers" / f"{name}_.py"), *options]
