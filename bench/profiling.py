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
from typing import Any, TypeVar

from bench.flamegraph import Frame, Stacks, folded, self_samples, shares, svg, total_samples
from bench.measure import (
    BUILD,
    BenchError,
    Server,
    compiled,
    generator,
    pinned,
    process_tree,
    python_server,
    settled_cpu_time,
)

PACKAGES = {
    "perf": "apt-get install linux-perf (Debian) or linux-tools-generic (Ubuntu)",
    "py-spy": "pip install py-spy",
    "strace": "apt-get install strace",
}
RATE = 999  # samples per second; not in step with timers
STACK_BYTES = 24576  # of which uv__io_poll takes more than half
TIMED = ("echo", "open", "broadcast")  # the loads that last as long as they are told
CALLS = """accept accept4 brk clock_gettime clone close epoll_ctl epoll_pwait epoll_pwait2 epoll_wait fcntl futex
getpeername getsockname getsockopt gettimeofday io_uring_enter ioctl madvise mmap mprotect mremap munmap poll ppoll
pread64 read readv recvfrom recvmmsg recvmsg sched_yield sendmmsg sendmsg sendto setsockopt shutdown socket
timerfd_settime write writev"""
ALL_CALLS = "raw_syscalls:sys_enter"
CORE = {path.name for part in ("core", "_simd") for path in (BUILD.parent.parent / "fastws" / part).iterdir()}


class ToolError(BenchError):
    """A tool is missing or cannot do its work here."""


# Names

SUFFIX = re.compile(r"\.(constprop|isra|part|cold|lto_priv|localalias)(\.\d+)*")
CYTHON = re.compile(r"__pyx_(?P<what>[a-z]+(?:_[a-z]+)*?)_(?P<path>\d+.+)$")


def readable(symbol: str) -> str:
    """A C symbol without what compilers add; Cython's as `Class.method`, with the module where it is not fastws'."""
    name = SUFFIX.sub("", symbol)
    found = CYTHON.match(name)
    if found is None:
        return name
    rest, scopes = found["path"], []
    while scope := re.match(r"(\d+)", rest):  # its length stands before each name but the last
        begin, end = scope.end(), scope.end() + int(scope[1])
        if end > len(rest) or (end < len(rest) and rest[end] != "_"):
            break
        scopes.append(rest[begin:end])
        rest = rest[end + 1 :]
    if rest:  # what Python can call has a running number before the last name
        scopes.append(re.sub(r"^\d+", "", rest) if found["what"] in ("pf", "pw") else rest)
    if scopes[:2] == ["fastws", "_speedups"]:
        scopes = scopes[2:]
    path = ".".join(scopes)
    return path if found["what"] in ("f", "pf", "pw") else f"{path} ({found['what']})"


def kind_of(file: str) -> str:
    """Whose code a mapped file holds."""
    path = Path(file)
    if file == "[vdso]":
        return "C library"
    if file.startswith("[") and file != "[unknown]":
        return "kernel"
    if re.match(r"(libc|libm|libpthread|ld-linux.*|ld-\d.*)[.-]", path.name):
        return "C library"
    if re.match(r"(lib)?python3", path.name) or path.parent.name == "lib-dynload":
        return "CPython"
    return "fastws" if path.name.startswith("_speedups.") and path.parent.name == "fastws" else "other"


def collapsed_perf(text: str) -> Stacks:
    """The stacks of `perf script -F comm,ip,sym,dso`.

    An inlined function comes before the one around it, at the same address, and is named without a file. It may come
    alone, as a library's only name for a place; except for what Cython puts everywhere, that is seen with libc only.
    """
    stacks: Stacks = Counter()
    for sample in re.split(r"\n\s*\n", text):
        frames: list[Frame] = []
        inlined: list[tuple[str, str]] = []
        for line in sample.splitlines():
            found = re.match(r"\s+(?P<ip>[0-9a-f]+) (?P<name>.+) \((?P<file>[^()]*)(?: \(deleted\))?\)$", line)
            if found is None:
                continue
            name, file = found["name"], found["file"]
            if file == "inlined":
                inlined.append((found["ip"], name))
                continue
            for ip, inner in inlined:
                alone = ip != found["ip"] and re.match("__(?!Pyx)", inner)
                frames.append(Frame(readable(inner), "C library" if alone else kind_of(file)))
            inlined.clear()
            if not (name == "[unknown]" and file == "[unknown]"):  # where the copied part of the stack ends
                name = f"[{Path(file.strip('[]')).name}]" if name == "[unknown]" else readable(name)
                frames.append(Frame(name, kind_of(file)))
        if frames:
            stacks[tuple(reversed(frames))] += 1
    return stacks


def collapsed_py_spy(text: str) -> Stacks:
    """The stacks of `py-spy record --format raw`, which names source files, or libraries where it knows no better."""
    stacks: Stacks = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = []
        for each in stack.split(";"):
            found = re.match(r"(?P<name>.+) \((?P<file>[^():]+)(?::\d+)?\)$", each)
            if found is None:
                frames.append(Frame(each, "other"))
                continue
            name, file = found["name"], found["file"]
            if name.startswith("0x"):
                name = f"[{file}]"
            if file in CORE:
                frames.append(Frame(name.removeprefix("_speedups_"), "fastws"))
            elif file.endswith(".py"):
                frames.append(Frame(f"{name} ({file})", "CPython"))
            else:
                frames.append(Frame(name, "CPython" if re.match("_?Py", name) else kind_of(file)))
        stacks[tuple(frames)] += int(samples)
    return stacks


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


# Tools


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


# Runs


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


def watched(tool: str, watch: Watch, server: list[str], load: list[str], cores: tuple[int, int]) -> Run:
    """One run of a load, with a tool that shares the generator's core."""
    with Server(server, cores[0]) as process, generator(load, process.port, cores[1]) as generated:
        before = settled_cpu_time(process.pid)
        with pinned(cores[1]), watch(process_tree(process.pid)):
            report = generated.go()
            cpu = settled_cpu_time(process.pid) - before
    return Run(tool, report.count, report.seconds, cpu.run)


def sampled_by_perf(*where: Any) -> tuple[Run, Stacks]:
    with tempfile.NamedTemporaryFile(suffix=".perf") as data:
        options = ["record", "-q", "-F", str(RATE), "--call-graph", f"dwarf,{STACK_BYTES}", "-o", data.name]
        done = watched("perf", partial(perf, options), *where)
        script = [tool("perf"), "script", "-F", "comm,ip,sym,dso", "-i", data.name]
        told = subprocess.run(script, capture_output=True, text=True, check=False, errors="replace", timeout=600)
    if told.returncode:
        raise ToolError(f"perf script ended with {told.returncode}: {told.stderr[-500:]}")
    return done, collapsed_perf(told.stdout)


def sampled_by_py_spy(*where: Any) -> tuple[Run, Stacks]:
    with tempfile.NamedTemporaryFile(suffix=".folded") as data:
        command = [tool("py-spy"), "record", "--native", "--rate", str(RATE // 2), "--duration", "3600"]
        command += ["--format", "raw", "--output", data.name, "--pid"]
        done = watched("py-spy", lambda pids: attached([*command, str(pids[0])], "Sampling process", 1), *where)
        return done, collapsed_py_spy(Path(data.name).read_text())


def counted_by_perf(*where: Any) -> tuple[Run, Counter[str]]:
    """Looking at each of the hundreds there are would take perf many seconds."""
    known = subprocess.run(
        [tool("perf"), "list", "--raw-dump", "tracepoint"], capture_output=True, text=True, check=False
    )
    events = {f"syscalls:sys_enter_{name}" for name in CALLS.split()} & {*known.stdout.split()}
    with tempfile.NamedTemporaryFile(suffix=".csv") as data:
        options = ["stat", "-x", ",", "-e", ",".join([ALL_CALLS, *events]), "-o", data.name]
        done = watched("perf stat", partial(perf, options), *where)
        return done, calls_of_perf(Path(data.name).read_text())


def counted_by_strace(*where: Any) -> tuple[Run, Counter[str]]:
    with tempfile.NamedTemporaryFile(suffix=".txt") as data:
        command = [tool("strace"), "-c", "-f", "-o", data.name]

        def watch(pids: list[int]) -> AbstractContextManager[None]:
            return attached([*command, *(f"--attach={pid}" for pid in pids)], "attached", len(pids))

        done = watched("strace", watch, *where)
        return done, calls_of_strace(Path(data.name).read_text())


T = TypeVar("T")


def first(ways: Sequence[Callable[..., tuple[Run, Counter[T]]]], *where: Any) -> tuple[Run, Counter[T]]:
    """By the first tool that is there and works; says why those before it do not, and raises when none does."""
    for way in ways:
        try:
            done, found = way(*where)
        except ToolError as error:
            print(f"bench profile: {error}", file=sys.stderr)
            continue
        if found:
            return done, found
        print(f"bench profile: {done.tool} saw nothing", file=sys.stderr)
    raise BenchError("no tool is left that could do this")


SAMPLERS = [sampled_by_perf, sampled_by_py_spy]
COUNTERS = [counted_by_perf, counted_by_strace]


# Tables


def tables(stacks: Stacks, top: int = 20) -> str:
    """Shares by kind, the functions by self time, and those of fastws by total time."""
    everything = max(1, stacks.total())
    lines = ["Whose code: " + ", ".join(f"{kind} {share:.1%}" for kind, share in shares(stacks).items())]
    own, total = self_samples(stacks), total_samples(stacks)

    def row(frame: Frame) -> str:
        return f"{own[frame] / everything:>7.1%}{total[frame] / everything:>8.1%}  {frame.kind:<11}{frame.name}"

    lines += ["", "   self   total  of         function, by self time"]
    lines += [row(frame) for frame, _ in own.most_common(top)]
    lines += ["", "   self   total  of         function of fastws, by total time"]
    lines += [row(frame) for frame, _ in total.most_common() if frame.kind == "fastws"][:top]
    return "\n".join(lines) + "\n"


def call_table(calls: Counter[str], count: int, each: str) -> str:
    lines = [f"{n / count:>10.4f}  {name}" for name, n in calls.most_common() if n / count >= 0.00005]
    return f"System calls per {each}: {calls.total() / count:.4f}\n" + "\n".join(lines) + "\n"


# The command


def load_of(workload: str, seconds: int) -> tuple[str, list[str]]:
    """A name for files, and the generator's command line."""
    words = shlex.split(workload)
    if words[0] in TIMED:
        words += ["--seconds", str(seconds)]  # the last one counts
    return re.sub(r"[^a-z0-9]+", "-", workload).strip("-"), words


def server_of(name: str) -> list[str]:
    return [str(compiled("bare"))] if name == "bare" else python_server(name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workload", help="its name, or in quotes what bench/build/loadgen takes")
    parser.add_argument("--server", default="fastws", help="default: fastws")
    parser.add_argument("--seconds", type=int, default=5, help="length of each of the two runs (default: 5)")
    parser.add_argument("--output", type=Path, default=BUILD / "profiles", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--cores", default="0,1", help="of the server and the generator (default: 0,1)")


def main(options: argparse.Namespace) -> int:
    name, load = load_of(options.workload, options.seconds)
    each = {"echo": "message", "open": "message", "broadcast": "delivery"}.get(load[0], "connection")
    cores = tuple(map(int, options.cores.split(",")))
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cores[1]})  # off the server's core
        where = server_of(options.server), load, cores
        done, stacks = first(SAMPLERS, *where)
        counted, calls = first(COUNTERS, *where)
    except BenchError as error:
        print(f"bench profile: {error}", file=sys.stderr)
        return 1
    finally:
        os.sched_setaffinity(0, before)
    title = f"{options.server}: {shlex.join(load)}"
    text = f"""{title}

{stacks.total():,} samples by {done.tool} in {done.seconds:.1f} s, {done.cpu_seconds:.2f} s of which on a core:
{done.count:,} of each {each}, {done.cpu_us:.3f} us CPU each (more than when nobody looks)

{tables(stacks)}
{call_table(calls, counted.count, each)}  (by {counted.tool}, with {counted.cpu_us:.3f} us CPU each)
"""
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{name}-{options.server}"
    for suffix, content in ((".svg", svg(stacks, title)), (".folded", folded(stacks)), (".txt", text)):
        path.with_name(path.name + suffix).write_text(content)
    print(f"{text}\n{path}.svg, .folded, .txt")
    return 0
