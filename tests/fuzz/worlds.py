"""Plays random worlds, each made by a seed and its number, until the time is up or something is wrong.

    python tests/fuzz/worlds.py server --seconds 60                      # from a seed that it tells
    python tests/fuzz/worlds.py server --seconds 60 --sanitize           # under AddressSanitizer and UBSan
    python tests/fuzz/worlds.py server --seed 7 --world 123 --sanitize   # that world again

The worlds of `server` are applications with any callbacks against any peers; those of `states` are about compression.
A world with the shortest deadlines (every third of `server`) or over TCP (every fifth) depends on the clock. Any other
does where a turn takes long, as under the sanitizers. All are played in a child process, so that a crash is told with
the world that it came from.
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
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from harness import PATIENCE, on_loop  # noqa: E402

import fastws  # noqa: E402
from fuzz import server_build, server_round, states  # noqa: E402

HANGS_AFTER = 60 * PATIENCE  # seconds for one world
WORLDS = {
    "server": lambda seed, number: server_round.play(seed, number).counts,
    "states": states.play,
}


def play(kind: str, seed: int, numbers: Iterable[int]) -> Counter[str]:
    """What happened in these worlds. A failure says how to play that world again."""
    counts: Counter[str] = Counter()
    for number in numbers:
        try:
            counts += WORLDS[kind](seed, number)
        except Exception as error:
            raise AssertionError(f"{again(kind, seed, number)}\n{error}") from error
    return counts


def again(kind: str, seed: int, number: int) -> str:
    return f"python tests/fuzz/worlds.py {kind} --seed {seed} --world {number}"


def play_until(deadline: float, kind: str, seed: int, worlds: range, at: mmap.mmap) -> None:
    counts: Counter[str] = Counter()
    began = told = time.monotonic()
    for number in worlds:
        at[:8] = number.to_bytes(8, "little")
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        counts += play(kind, seed, [number])
        faulthandler.cancel_dump_traceback_later()
        over = number == worlds[-1] or time.monotonic() >= deadline
        if time.monotonic() - told > 60 or over:
            told = time.monotonic()
            figures = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
            print(f"{number + 1 - worlds[0]:,} worlds in {told - began:.0f} s: {figures}", flush=True)
        if over:
            break


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=WORLDS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--world", type=int, help="play only this one")
    parser.add_argument("--sanitize", action="store_true", help="build a copy of the checkout for it, and fuzz that")
    parser.add_argument("--crashes", type=Path, help="a folder in which to note how to come by a failure again")
    parser.add_argument("--corpus", help="where other fuzzers keep inputs; here all comes from the seed")
    options = parser.parse_args()
    kind, seed = options.kind, options.seed
    if options.sanitize:
        tree = server_build.build()
        arguments = [argument for argument in sys.argv[1:] if argument != "--sanitize"]
        command = [sys.executable, str(tree / "tests" / "fuzz" / "worlds.py"), *arguments]
        os.execve(sys.executable, command, server_build.environment())
    worlds = range(2**62) if options.world is None else range(options.world, options.world + 1)
    print(f"worlds of {kind} in {fastws.__path__[0]}, seed {seed}", flush=True)
    at = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        faulthandler.enable()
        for loop_kind in ("uvloop", "asyncio"):  # libuv keeps a pipe from its first loop on
            on_loop(loop_kind, asyncio.sleep(0))
        try:
            play_until(time.monotonic() + options.seconds, kind, seed, worlds, at)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        number = int.from_bytes(at[:8], "little")
        how = f"with signal {-status}" if status < 0 else f"with status {status}"
        command_again = again(kind, seed, number) + " --sanitize" * ("LD_PRELOAD" in os.environ)
        print(f"FAILED {how} in world {number} of seed {seed}; that world again:\n    {command_again}", flush=True)
        if options.crashes is not None:
            options.crashes.mkdir(parents=True, exist_ok=True)
            (options.crashes / f"{kind}-{seed}-{number}").write_text(command_again + "\n")
    return status != 0


if __name__ == "__main__":
    sys.exit(main())
