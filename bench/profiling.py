"""`python -m bench profile WORKLOAD`: a flame graph of a server under load, and its system calls per message.

One run is sampled by perf, kernel included, or by py-spy where perf is not to be had; in a second one, system calls are
counted, by perf in the kernel or by strace, which slows the server down. Stacks come from the DWARF tables: neither
CPython nor its extensions keep frame pointers.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.flamegraph import svg
from bench.machine import BUILD, BenchError, pinned, process_tree, settled_cpu_time
from bench.measure import Server, generator, run
from bench.run import core_pair, seconds
from bench.servers import SERVERS, missing
from bench.stacks import Frame, Stacks, collapsed_perf, collapsed_py_spy, folded, self_samples, shares, total_samples
from bench.workloads import WORKLOADS, Workload

PACKAGES = {
    "perf": "apt-get install linux-perf (Debian) or linux-tools-generic (Ubuntu)",
    "py-spy": "pip install py-spy",
    "strace": "apt-get install strace",
}
RATE = 999  # samples per second; not in step with timers
STACK_BYTES = 24576  # of which uv__io_poll takes more than half
CALLS = """accept accept4 brk clock_gettime clone close epoll_ctl epoll_pwait epoll_pwait2 epoll_wait fcntl futex
getpeername getsockname getsockopt gettimeofday io_uring_enter ioctl madvise mmap mprotect mremap munmap poll ppoll
pread64 read readv recvfrom recvmmsg recvmsg sched_yield sendmmsg sendmsg sendto setsockopt shutdown socket
timerfd_settime write writev"""
ALL_CALLS = "raw_syscalls:sys_enter"


class ToolError(BenchError):
    """A tool is missing or cannot do its work here."""


# ---- what the tools write ----


def calls_of_perf(text: str) -> Counter[str]:
    """Of `perf stat -x,` with events of CALLS and all of them; what has no name among these is the rest."""
    found = re.findall(r"^(\d+),[^,]*,(?:raw_)?syscalls:sys_enter(?:_(\w+))?,", text, re.MULTILINE)
    counts = Counter({name: int(count) for count, name in found})
    everything = counts.pop("", 0)
    counts["other"] = everything - counts.total()
    return +counts


def calls_of_strace(text: str) -> Counter[str]:
    """Of the table that `strace -c` ends with: the count is the fourth column, and that of errors may be empty."""
    found = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", text, re.MULTILINE)
    return Counter({name: int(count) for count, name in found if name != "total"})


# ---- tools ----


def tool(name: str) -> str:
    """The path of a program, of which pip may have put one beside the interpreter."""
    beside = Path(sys.executable).parent / name
    if path := shutil.which(name) or (str(beside) if beside.exists() else None):
        return path
    raise ToolError(f"there is no {name}: {PACKAGES[name]}")


@contextmanager
def started(command: list[str], *inherited: int) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """A tool that writes its file when it is interrupted, as happens in the end; and what it says meanwhile."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:

        def said() -> str:
            log.seek(0)
            return log.read()

        with subprocess.Popen(command, pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            try:
                yield process, said
                process.send_signal(signal.SIGINT)
                if process.wait(60) not in (0, -signal.SIGINT):
                    raise ToolError(f"{Path(command[0]).name} ended with {process.returncode}: {said().strip()[-500:]}")
            finally:
                process.kill()


@contextmanager
def perf(arguments: list[str], pids: list[int]) -> Iterator[None]:
    """perf looks at the processes as long as the context lasts: it is told by one pipe, and answers by another."""
    told, tell = os.pipe()
    heard, answer = os.pipe()
    with ExitStack() as stack:
        ours = stack.enter_context(os.fdopen(tell, "wb", 0)), stack.enter_context(os.fdopen(heard, "rb", 0))
        with os.fdopen(told), os.fdopen(answer, "wb"):
            command = [tool("perf"), *arguments, "-p", ",".join(map(str, pids))]
            command += ["--delay=-1", f"--control=fd:{told},{answer}"]
            _, said = stack.enter_context(started(command, told, answer))

        def ask(what: bytes) -> None:
            with suppress(BrokenPipeError):
                ours[0].write(what)
            if not ours[1].read(16):
                raise ToolError(f"perf does not work here: {said().strip()[-500:]}")

        ask(b"enable\n")
        yield
        ask(b"disable\n")


@contextmanager
def attached(command: list[str], word: str, count: int) -> Iterator[None]:
    """strace or py-spy, once it has said the word so many times: of the processes, that it traces or reads them."""
    deadline = time.monotonic() + 20
    with started(command) as (process, log):
        while log().count(word) < count:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ToolError(f"{Path(command[0]).name} does not work here: {log().strip()[-500:]}")
            time.sleep(0.02)
        yield


# ---- runs ----


@dataclass(frozen=True)
class Run:
    """What was watched: from when the server was warm until it slept again."""

    tool: str
    count: int
    seconds: float
    cpu_seconds: float

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds / self.count * 1e6


Watch = Callable[[list[int]], AbstractContextManager[None]]


@dataclass(frozen=True)
class Target:
    """A server's command line under the command line of a generator, on two cores."""

    server: list[str]
    load: list[str]
    cores: tuple[int, int]
    hold: float = 0.0  # seconds: what is looked at is not the run but the rest after it

    def watched(self, tool: str, watch: Watch) -> Run:
        """One run. The tool shares the generator's core."""
        with (
            Server(self.server, self.cores[0]) as server,
            generator(self.load, server.port, self.cores[1]) as generating,
        ):
            report = generating.go() if self.hold else {}
            before = settled_cpu_time(server.pid)
            with pinned(self.cores[1]), watch(process_tree(server.pid)):
                if self.hold:
                    time.sleep(self.hold)
                else:
                    report = generating.go()
            # A sampler that stops the server hundreds of times a second does not let it come to rest.
            cpu = settled_cpu_time(server.pid) - before
        return Run(tool, report["count"], self.hold or report["seconds"], cpu.run)


def sampled_by_perf(target: Target) -> tuple[Run, Stacks]:
    with tempfile.NamedTemporaryFile(suffix=".perf") as data:
        options = ["record", "-q", "-F", str(RATE), "--call-graph", f"dwarf,{STACK_BYTES}", "-o", data.name]
        done = target.watched("perf", partial(perf, options))
        script = [tool("perf"), "script", "-F", "comm,ip,sym,dso", "-i", data.name]
        told = subprocess.run(script, capture_output=True, text=True, check=False, errors="replace", timeout=600)
    if told.returncode:
        raise ToolError(f"perf script ended with {told.returncode}: {told.stderr[-500:]}")
    return done, collapsed_perf(told.stdout)


def sampled_by_py_spy(target: Target) -> tuple[Run, Stacks]:
    with tempfile.NamedTemporaryFile(suffix=".folded") as data:
        command = [tool("py-spy"), "record", "--native", "--rate", str(RATE // 2), "--duration", "3600"]
        command += ["--format", "raw", "--output", data.name, "--pid"]
        done = target.watched("py-spy", lambda pids: attached([*command, str(pids[0])], "Sampling process", 1))
        return done, collapsed_py_spy(Path(data.name).read_text())


def counted_by_perf(target: Target) -> tuple[Run, Counter[str]]:
    """Looking at each of the hundreds there are would take perf many seconds."""
    known = subprocess.run(
        [tool("perf"), "list", "--raw-dump", "tracepoint"], capture_output=True, text=True, check=False
    )
    events = {f"syscalls:sys_enter_{name}" for name in CALLS.split()} & {*known.stdout.split()}
    with tempfile.NamedTemporaryFile(suffix=".csv") as data:
        options = ["stat", "-x", ",", "-e", ",".join([ALL_CALLS, *events]), "-o", data.name]
        done = target.watched("perf stat", partial(perf, options))
        return done, calls_of_perf(Path(data.name).read_text())


def counted_by_strace(target: Target) -> tuple[Run, Counter[str]]:
    with tempfile.NamedTemporaryFile(suffix=".txt") as data:
        command = [tool("strace"), "-c", "-f", "-o", data.name]

        def watch(pids: list[int]) -> AbstractContextManager[None]:
            return attached([*command, *(f"--attach={pid}" for pid in pids)], "attached", len(pids))

        done = target.watched("strace", watch)
        return done, calls_of_strace(Path(data.name).read_text())


T = TypeVar("T")


def first(ways: Sequence[Callable[[Target], tuple[Run, Counter[T]]]], target: Target) -> tuple[Run, Counter[T]]:
    """By the first tool that is there and works; says why those before it do not, and raises when none does."""
    for way in ways:
        try:
            done, found = way(target)
        except ToolError as error:
            print(f"bench profile: {error}", file=sys.stderr)
            continue
        if found:
            return done, found
        print(f"bench profile: {done.tool} saw nothing", file=sys.stderr)
    raise BenchError("no tool is left that could do this")


SAMPLERS = [sampled_by_perf, sampled_by_py_spy]
COUNTERS = [counted_by_perf, counted_by_strace]


# ---- tables ----


def tables(stacks: Stacks, top: int = 20) -> str:
    """Shares by kind, the functions by self time, and those of fastws by total time."""
    everything = max(1, stacks.total())
    lines = ["Whose code: " + ", ".join(f"{kind} {share:.1%}" for kind, share in shares(stacks).items())]
    own, total = self_samples(stacks), total_samples(stacks)

    def row(frame: Frame) -> str:
        return f"{own[frame] / everything:>7.1%}{total[frame] / everything:>8.1%}  {frame.kind:<11}{frame.name}"

    lines += ["", "   self   total  of         function, by self time"]
    lines += [row(frame) for frame, _ in own.most_common(top)]
    if ours := [row(frame) for frame, _ in total.most_common() if frame.kind == "fastws"][:top]:
        lines += ["", "   self   total  of         function of fastws, by total time", *ours]
    return "\n".join(lines) + "\n"


def call_table(calls: Counter[str], count: int, each: str) -> str:
    lines = [f"{n / count:>10.4f}  {name}" for name, n in calls.most_common() if n / count >= 0.00005]
    return f"System calls per {each}: {calls.total() / count:.4f}\n" + "\n".join(lines) + "\n"


# ---- the command ----


def target_of(options: argparse.Namespace) -> tuple[Target, str]:
    """What to look at, and what is counted there. A workload in quotes with spaces is the generator's own command."""
    server, cores = SERVERS[options.server], options.cores
    if " " in options.workload:
        words = shlex.split(options.workload)
        each = {"broadcast": "delivery", "connect": "connection", "idle": "connection"}.get(words[0], "message")
        work = Workload("", "", "", each, words, {})
    elif options.workload in WORKLOADS:
        work = WORKLOADS[options.workload]
        work = WORKLOADS[work.same_as] if work.same_as else work
    else:
        raise BenchError(f"no workload is called {options.workload!r}; `list` names them all")
    if why := missing(server) or work.unfit(server):
        raise BenchError(f"{server.name}: {why}")
    command, rate = work.serve(server), float(work.rate)
    if work.rate_of:
        peak = WORKLOADS[work.rate_of]
        rate = work.rate_share * run(command, peak.load(server, 1.0), cores).rate
    return Target(command, work.load(server, options.seconds, rate), cores, work.hold), work.each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workload", help="a name, see `list`; or in quotes what bench/build/loadgen takes")
    parser.add_argument("--server", choices=SERVERS, default="fastws", help="default: fastws", metavar="NAME")
    parser.add_argument("--seconds", type=seconds, default=5.0, help="length of each of the two runs (default: 5)")
    parser.add_argument(
        "--output", type=Path, default=BUILD / "profiles", metavar="DIR", help="default: bench/build/profiles"
    )
    parser.add_argument("--cores", type=core_pair, default="0,1", help="of the server and the generator (default: 0,1)")


def main(options: argparse.Namespace) -> int:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {options.cores[1]})  # off the server's core
        target, each = target_of(options)
        done, stacks = first(SAMPLERS, target)
        counted, calls = first(COUNTERS, target)
    finally:
        os.sched_setaffinity(0, before)
    title = f"{options.server}: {options.workload}"
    text = f"""{title}

{stacks.total():,} samples by {done.tool} in {done.seconds:.1f} s, {done.cpu_seconds:.2f} s of which on a core:
{done.count:,} of each {each}, {done.cpu_us:.3f} us CPU each (more than when nobody looks)

{tables(stacks)}
{call_table(calls, counted.count, each)}  (by {counted.tool}, with {counted.cpu_us:.3f} us CPU each)
"""
    options.output.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"{options.workload} {options.server}")
    for suffix, content in (("svg", svg(stacks, title)), ("folded", folded(stacks)), ("txt", text)):
        (options.output / f"{name}.{suffix}").write_text(content)
    print(f"{text}\n{options.output / name}.svg, .folded, .txt")
    return 0
