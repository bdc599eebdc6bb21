"""Fuzzes one target with libFuzzer, or gives it the inputs in files:

    python -m fuzz.guided stream --seconds 60
    python -m fuzz.guided stream build/fuzz/crashes/stream-crash-...

It is started with tests/ in PYTHONPATH.
What begins with one dash goes to libFuzzer: `-minimize_crash=1 -runs=100000` with a file makes that smaller.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from .build import runtime
from .targets import TARGETS, Target

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
#: A larger quarantine and longer stacks would take most of the time: Python allocates a lot.
ASAN = "detect_leaks=0:quarantine_size_mb=16:malloc_context_size=4:allocator_may_return_null=1"
LIMITS = ["-timeout=60", "-rss_limit_mb=2048"]  # seconds for one input, MiB for all
INTERRUPTED = 72  # libFuzzer's exit status after Ctrl-C
DETAILS = 40  # lines of what went wrong that are shown; all of them are in the log


def command(target: Target, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fuzz.inside", target.name, *LIMITS, *arguments]


def environment() -> dict[str, str]:
    """Python's own allocator would hide what is wrong within its pools."""
    preload = runtime(f"asan-{os.uname().machine}.so")
    path = os.pathsep.join([str(HERE.parent), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "LD_PRELOAD": preload, "ASAN_OPTIONS": ASAN, "PYTHONMALLOC": "malloc"}


def fuzz(target: Target, seconds: float, corpus: Path, crashes: Path, extra: list[str]) -> int:
    """The exit status of libFuzzer. The last line that is printed says what it did."""
    seeds = ROOT / "build" / "fuzz" / "seeds" / target.name
    for folder in (seeds, corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in target.seeds():
        (seeds / name).write_bytes(data)
    log = crashes / f"{target.name}.log"
    flags = [f"-max_total_time={max(1, round(seconds))}", f"-max_len={target.max_size}", "-print_final_stats=1"]
    flags += [f"-artifact_prefix={crashes}/{target.name}-", *extra]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(target, *flags, str(corpus), str(seeds)), env=environment(), cwd=ROOT, stdout=out, stderr=out
        )
        try:
            status = process.wait()
        except KeyboardInterrupt:
            status = process.wait()  # libFuzzer got the signal, too
    text = log.read_text(errors="replace")
    if status == INTERRUPTED:
        print(f"fuzz: {target.name}: interrupted")
    elif status:
        print(details(text), f"fuzz: {target.name}: FAILED; all that was said is in {log}", sep="\n")
        for path in re.findall(r"Test unit written to (\S+)", text):
            print(f"fuzz: the input is {path}; run it again with")
            print(f"  PYTHONPATH=tests {sys.executable} -m fuzz.guided {target.name} {path}")
    print(summary(target, text))
    return status


def details(text: str) -> str:
    """What went wrong, and where in the core; the stack has mostly the interpreter's functions."""
    lines = [line for line in text.splitlines() if not re.match(r" +#\d+ ", line) or re.search(r"core/|_simd/", line)]
    found = (place for place, line in enumerate(lines) if re.search("Traceback|ERROR|runtime error", line))
    return "\n".join(lines[next(found, -DETAILS) :][:DETAILS])


def summary(target: Target, text: str) -> str:
    def last(pattern: str) -> str:
        return f"{int(['0', *re.findall(pattern, text)][-1]):,}"

    runs, rate = last(r"number_of_executed_units: (\d+)"), last(r"average_exec_per_sec: +(\d+)")
    covered, edges = last(r" cov: (\d+)"), last(r"PC tables? \((\d+) PCs")
    features, kept = last(r" ft: (\d+)"), last(r" corp: (\d+)")
    return (
        f"fuzz: {target.name}: {runs} executions, {rate} per second, {covered} of {edges} edges, {features} features, "
        f"{kept} inputs kept"
    )


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", nargs="*", help="inputs to run, once each")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--corpus", type=Path, help="where the inputs that are worth keeping are kept")
    parser.add_argument("--crashes", type=Path, default=ROOT / "build" / "fuzz" / "crashes")
    options, extra = parser.parse_known_args()
    files = options.files + [argument for argument in extra if not argument.startswith("-")]
    extra = [argument for argument in extra if argument.startswith("-")]
    target = TARGETS[options.target]
    if files:
        return subprocess.run(command(target, *extra, *files), env=environment(), check=False).returncode
    corpus = options.corpus or ROOT / "build" / "fuzz" / "corpus" / target.name
    return fuzz(target, options.seconds, corpus.resolve(), options.crashes.resolve(), extra)


if __name__ == "__main__":
    sys.exit(main())
