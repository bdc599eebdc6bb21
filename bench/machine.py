"""What the kernel counts for a process, and where the figures of a run come from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

BENCH = Path(__file__).resolve().parent
BUILD = BENCH / "build"
KERNELS = BENCH.parent / "fastws" / "_simd"
C_FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra"]
LIBRARIES = {"loadgen": ["-lz"]}


class BenchError(Exception):
    """A run failed, or cannot be begun; the text says why."""


def compiled(name: str, *flags: str) -> Path:
    """Path of the program made from NAME.c, below bench, and headers, compiled if one is newer."""
    source = BENCH / f"{name}.c"
    target = BUILD / source.stem
    changed = max(path.stat().st_mtime for path in [source, *BENCH.glob("*/*.h"), *KERNELS.glob("*.h")])
    if not target.exists() or target.stat().st_mtime < changed:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise BenchError("no C compiler found: install cc, or set CC")
        BUILD.mkdir(exist_ok=True)
        fresh = f"{target}.{os.getpid()}"  # tests in another process may want the program, too
        command = [compiler, *C_FLAGS, *flags, "-o", fresh, str(source), *LIBRARIES.get(name, [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{source.name} does not compile:\n{done.stderr}")
        os.replace(fresh, target)
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


# ---- the kernel's counters ----


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


def resident_bytes(pid: int) -> int:
    """Resident memory of a process tree, counted exactly by the kernel (statm lags behind)."""
    total = 0
    for process in process_tree(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


# ---- provenance ----


def output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCH)
    except OSError:
        return ""
    return done.stdout.strip()


def version(package: str) -> str:
    """Of an installed distribution; empty where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def build_id() -> str:
    """Tells two builds of the extension apart, whatever commit they are said to be."""
    digest = hashlib.sha256()
    for path in sorted((BENCH.parent / "fastws").glob("*.so")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def memory_present() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def provenance(cores: tuple[int, int], packages: Iterable[str]) -> dict[str, object]:
    models = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith(("model name", "CPU part"))]
    versions = {package: version(package) for package in sorted({"fastws", "httptools", "uvloop", *packages})}
    versions |= {
        platform.python_implementation(): platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "node": output_of("node", "--version").lstrip("v"),
    }
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": output_of("git", "rev-parse", "HEAD") or None,
        "modified": bool(output_of("git", "status", "--porcelain", "--untracked-files=no")),
        "build": build_id(),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores_present": os.cpu_count(),
        "cores": list(cores),
        "memory": memory_present(),
        "kernel": platform.release(),
        "compiler": output_of(os.environ.get("CC", "cc"), "--version").partition("\n")[0],
        "versions": {name: found for name, found in versions.items() if found},
    }
