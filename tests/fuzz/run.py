"""Fuzzes every target for some minutes, two at a time; `make fuzz`. Ends with 1 where one of them found something.

A target is a command that takes --seconds, --corpus and --crashes: how long to run, where to keep the inputs that it
goes on from the next time, and where to put those that show something wrong. It ends with 0 where there was none, and
says in its last line what it did.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {
    "stream": ["-m", "fuzz.guided", "stream"],
    "parser": ["-m", "fuzz.guided", "parser"],
    "head": ["-m", "fuzz.guided", "head"],
    "inflate": ["-m", "fuzz.guided", "inflate"],
    "extensions": ["-m", "fuzz.guided", "extensions"],
    "server": ["-m", "fuzz.worlds", "server", "--sanitize"],
}


def run(name: str, seconds: float, folder: Path) -> tuple[int, str]:
    arguments = ["--seconds", seconds, "--corpus", folder / "corpus" / name, "--crashes", folder / "crashes"]
    command = [sys.executable, *TARGETS[name], *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout, end="", flush=True)
    return done.returncode, name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="all by default")
    parser.add_argument("--minutes", type=float, default=1, help="for each target")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz")
    options = parser.parse_args()
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run, name, options.minutes * 60, options.folder) for name in options.targets or TARGETS]
    failed = [name for status, name in (job.result() for job in jobs) if status]
    print(f"fuzz: {'FAILED: ' + ', '.join(failed) if failed else 'nothing found'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
