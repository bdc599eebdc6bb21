"""Fuzzes a whole server: random applications against random peers, until the time is up or something is wrong.

    python tests/fuzz/server.py --seconds 60                      # from a seed that it tells
    python tests/fuzz/server.py --seconds 60 --sanitize           # under AddressSanitizer and UBSan
    python tests/fuzz/server.py --seed 7 --round 123 --sanitize   # that round again

Rounds with the shortest deadlines (every third) or over TCP (every fifth) depend on the clock. Any other does where a
turn takes long, as under the sanitizers. A round is played in a child process, so that a crash is told with the round
that it came from.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import mmap
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from harness import PATIENCE, on_loop  # noqa: E402

import fastws  # noqa: E402
from fuzz import server_build  # noqa: E402
from fuzz.server_round import play  # noqa: E402

HANGS_AFTER = 60 * PATIENCE  # seconds for one round
FIGURES = (
    "peers",
    "open",
    "message",
    "heard",
    "compressed",
    "published to",
    "close",
    "upgrade",
    "answered",
    "complete",
)


def play_until(deadline: float, seed: int, first: int, last: int, at: mmap.mmap) -> None:
    counts: Counter[str] = Counter()
    began = told = time.monotonic()
    number = first
    while number <= last and (number == first or time.monotonic() < deadline):
        at[:8] = number.to_bytes(8, "little")
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        world = play(seed, number)
        faulthandler.cancel_dump_traceback_later()
        counts += world.counts
        number += 1
        if time.monotonic() - told > 60 or number > last or time.monotonic() >= deadline:
            told = time.monotonic()
            figures = ", ".join(f"{name} {counts[name]:,}" for name in FIGURES)
            print(f"{number - first:,} rounds in {told - began:.0f} s: {figures}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--round", type=int, help="play only this one")
    parser.add_argument("--sanitize", action="store_true", help="build a copy of the checkout for it, and fuzz that")
    parser.add_argument("--crashes", type=Path, help="a folder in which to note how to come by a failure again")
    parser.add_argument("--corpus", help="where other fuzzers keep inputs; here all comes from the seed")
    options = parser.parse_args()
    if options.sanitize:
        tree = server_build.build()
        arguments = [argument for argument in sys.argv[1:] if argument != "--sanitize"]
        command = [sys.executable, str(tree / "tests" / "fuzz" / "server.py"), *arguments]
        os.execve(sys.executable, command, server_build.environment())
    first, last = (0, 2**62) if options.round is None else (options.round, options.round)
    print(f"whole-server fuzzing of {fastws.__path__[0]}, seed {options.seed}", flush=True)
    at = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        faulthandler.enable()
        for kind in ("uvloop", "asyncio"):  # libuv keeps a pipe from its first loop on
            on_loop(kind, asyncio.sleep(0))
        try:
            play_until(time.monotonic() + options.seconds, options.seed, first, last, at)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        number = int.from_bytes(at[:8], "little")
        how = f"with signal {-status}" if status < 0 else f"with status {status}"
        again = f"python tests/fuzz/server.py --seed {options.seed} --round {number}"
        if "LD_PRELOAD" in os.environ:
            again += " --sanitize"
        print(f"FAILED {how} in round {number} of seed {options.seed}; that round again:\n    {again}", flush=True)
        if options.crashes is not None:
            options.crashes.mkdir(parents=True, exist_ok=True)
            (options.crashes / f"server-{options.seed}-{number}").write_text(again + "\n")
    return status != 0


if __name__ == "__main__":
    sys.exit(main())
