"""Servers, the load generator and the kernel's counters: what every benchmark needs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType

BENCH = Path(__file__).resolve().parent
BUILD = BENCH / "build"
KERNELS = BENCH.parent / "fastws" / "_simd"
C_FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra"]
LIBRARIES = {"deflateload": ["-lz"]}
START_TIMEOUT = 15.0
RUN_TIMEOUT = 300


class BenchError(Exception):
    """A run failed, or cannot be begun; the text says why."""


def compiled(name: str, *flags: str) -> Path:
    """Path of the program made from bench/NAME.c and headers, compiled if one is newer."""
    source, target = BENCH / f"{name}.c", BUILD / name
    changed = max(path.stat().st_mtime for path in [source, *BENCH.glob("*/*.h"), *KERNELS.glob("*.h")])
    if not target.exists() or target.stat().st_mtime < changed:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise BenchError("no C compiler found: install cc, or set CC")
        BUILD.mkdir(exist_ok=True)
        command = [compiler, *C_FLAGS, *flags, "-o", target, source, *LIBRARIES.get(name, [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{source.name} does not compile:\n{done.stderr}")
    return target


def check_machine() -> None:
    """The counters that everything here rests on are there."""
    task = Path(f"/proc/self/task/{os.getpid()}")
    for counter in ("schedstat", "children"):
        if not (task / counter).exists():
            raise BenchError(f"this kernel has no /proc/PID/task/TID/{counter}")


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started inside inherits the core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants that live now."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


@dataclass(frozen=True)
class CpuTime:
    """Seconds since the start of a process tree: on a core, and runnable but waiting for one."""

    run: float
    wait: float

    def __sub__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.run - other.run, self.wait - other.wait)


def cpu_time(pid: int) -> CpuTime:
    run = wait = 0
    for process in process_tree(pid):
        for task in Path(f"/proc/{process}/task").glob("*/schedstat"):
            fields = task.read_text().split()
            run += int(fields[0])
            wait += int(fields[1])
    return CpuTime(run / 1e9, wait / 1e9)


def asleep(pid: int) -> bool:
    """No task of the tree runs or waits for a core (the state after the name in parentheses: proc(5))."""
    tasks = [stat for p in process_tree(pid) for stat in Path(f"/proc/{p}/task").glob("*/stat")]
    return not any(task.read_text().rpartition(") ")[2].startswith("R") for task in tasks)


def settled_cpu_time(pid: int) -> CpuTime:
    """CPU time once the process tree is at rest: the kernel brings the counters of a running task up to date only now
    and then, and a server may still be closing what the generator has reset."""
    before = cpu_time(pid)
    for _ in range(100):
        time.sleep(0.03)
        now = cpu_time(pid)
        if now.run - before.run < 0.0003 and asleep(pid):  # 1 % of a core: timers
            return now
        before = now
    raise BenchError("the server does not come to rest: 1 % of a core or more for 3 s with nothing to do")


def resident_bytes(pid: int, what: tuple[str, ...] = ("Rss:",)) -> int:
    """Resident memory of a process tree, counted exactly by the kernel (statm lags behind)."""
    total = 0
    for process in process_tree(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(what):
                total += int(line.split()[1]) * 1024
    return total


def private_bytes(pid: int) -> int:
    """The part of it that no other process shares."""
    return resident_bytes(pid, ("Private_Clean:", "Private_Dirty:"))


class Server:
    """One server process pinned to a core, in a context: started, listening, and ended with it."""

    def __init__(self, command: list[str], core: int) -> None:
        self._command = command
        self._core = core

    def __enter__(self) -> Server:
        self.port = free_port()
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
        self._process.terminate()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].strip() or "(it wrote nothing)"


@dataclass(frozen=True)
class Load:
    """What the generator reports of one run."""

    count: int
    seconds: float
    cpu_seconds: float
    bytes_in: int = 0  # from the server
    bytes_out: int = 0
    compressed_in: int = 0


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

    def go(self) -> Load:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        report = json.loads(self._line())
        return Load(**{field.name: report[field.name] for field in fields(Load) if field.name in report})

    def finish(self) -> None:
        """It has watched its connections up to here."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait():
            raise self._error()


@contextmanager
def generator(workload: list[str], port: int, core: int, program: str = "loadgen") -> Iterator[Generator]:
    """The generator's own --limit bounds every run, so no read from it can wait for ever."""
    with pinned(core):
        process = subprocess.Popen(
            [compiled(program), *workload, "--port", str(port), "--limit", str(RUN_TIMEOUT)],
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


@dataclass(frozen=True)
class Sample:
    """One run of one workload on one server."""

    count: int
    seconds: float
    server_cpu: float
    server_wait: float
    generator_cpu: float
    memory: int
    bytes_in: int = 0  # what the server sent
    bytes_out: int = 0
    compressed_in: int = 0

    @property
    def cpu_us(self) -> float:
        return self.server_cpu / self.count * 1e6

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def memory_each(self) -> float:
        return self.memory / self.count

    @property
    def server_core(self) -> float:
        return self.server_cpu / self.seconds

    @property
    def generator_core(self) -> float:
        return self.generator_cpu / self.seconds


def run(
    command: list[str],
    workload: list[str],
    cores: tuple[int, int],
    program: str = "loadgen",
    memory_of: Callable[[int], int] = resident_bytes,
) -> Sample:
    """Starts the server afresh, warms it up and takes one sample."""
    server_core, generator_core = cores
    with Server(command, server_core) as server, generator(workload, server.port, generator_core, program) as load:
        cpu_before = settled_cpu_time(server.pid)
        memory_before = memory_of(server.pid)
        report = load.go()
        cpu = settled_cpu_time(server.pid) - cpu_before
        memory = memory_of(server.pid) - memory_before
    compression = (report.bytes_in, report.bytes_out, report.compressed_in)
    return Sample(report.count, report.seconds, cpu.run, cpu.wait, report.cpu_seconds, memory, *compression)


def python_server(name: str, *options: str) -> list[str]:
    return [sys.executable, str(BENCH / "servers" / f"{name}_.py"), *options]
