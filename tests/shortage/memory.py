"""Has the n-th allocation of a situation fail, for each n, alone or with all that come after it while the turn lasts.

    python -m shortage.memory LOOP PART PARTS        every PARTS-th situation, from PART on
    python -m shortage.memory LOOP SITUATION [N one|all|none]

What a peer has sent is in the kernel by then, and the hooks that CPython has for this are on for one turn only. What
must be true after anything is looked at without them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import traceback
from _testcapi import remove_mem_hooks, set_nomemory

from harness import new_loop

from .situations import IMPATIENT, LOGGING, SITUATIONS, Trial

MOST = 1_000  # allocations of a situation
LOGGED = 12  # lines, where no allocation succeeds from some point on
#: Much of these runs in Python, where CPython forgets a reference or two when it has no memory for a frame.
PYTHONS = {
    one for one in SITUATIONS if any(word in one for word in ("async", "later", "asked", "went", "waits", "stops"))
}


def run(loop: asyncio.AbstractEventLoop, name: str, number: int, mode: str) -> bool:
    """Whether the n-th allocation came."""
    unraisable: list[str] = []
    sys.unraisablehook = lambda args: unraisable.append(f"{args.err_msg} {args.object!r} {args.exc_value!r}")
    trial = Trial(loop, name in IMPATIENT)
    came: bool = False
    try:
        action = SITUATIONS[name](trial)
        for _ in [MemoryError() for _ in range(32)]:
            pass  # those that go are what CPython keeps for when it can make none, or it dies
        told: list[BaseException] = []

        def starved() -> bool:
            if mode == "none":
                action()
                return False
            set_nomemory(number, number + 1 if mode == "one" else 0)
            try:
                action()
            except BaseException as error:
                remove_mem_hooks()
                told.append(error)
                return True
            try:
                for _ in range(number + 2 if mode == "one" else 1):
                    bytearray(1)
            except MemoryError:
                return mode == "all"  # else it is this one that has failed
            finally:
                remove_mem_hooks()
            return mode == "one"

        came = trial.on_loop(starved)
        # CPython reports some of these as a SystemError.
        assert not told or isinstance(told[0], MemoryError | SystemError), "".join(traceback.format_exception(told[0]))
        if not trial.stops:
            trial.check(trial.expected, trial.waits, misses=bool(told) or trial.misses)
        trial.end()
        trial.turn()
        for number_of, (opened, closed) in enumerate(zip(trial.calls.opened, trial.calls.closed, strict=True)):
            assert opened <= 1 and closed <= 1 and opened <= closed, f"{number_of}: opened {opened}, closed {closed}"
        assert sum(trial.calls.opened) <= len(trial.peers)
        # What asyncio says of a task, and uvloop of a timer, that it had no memory to make.
        errors = [
            one for one in map(repr, trial.errors) if "Task was destroyed" not in one and "<TimerHandle>" not in one
        ]
        problems = trial.lines.lines + errors + unraisable
        wanted = int(name in LOGGING)
        assert len(problems) <= wanted + (mode == "one") + LOGGED * (mode == "all"), "\n".join(problems)
        assert all("MemoryError" in one or "Cannot allocate memory" in one or wanted for one in problems), "\n".join(
            problems
        )
    finally:
        trial.leave()
    trial.check_descriptors()
    return came


def leaked() -> list[str]:
    return [repr(one) for one in gc.get_objects() if type(one).__module__ == "fastws._speedups"]


class Report:
    """Runs trials of one situation, and counts those that fail."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, full: bool) -> None:
        self._loop = loop
        self._name = name
        self._full = full
        self.trials = self.failed = 0
        gc.freeze()  # what an earlier one has left, too

    def attempt(self, number: int, mode: str) -> bool:
        self.trials += 1
        try:
            came = run(self._loop, self._name, number, mode)
            gc.collect()
            return came
        except Exception as error:
            self.failed += 1
            print(f"--- {self._name} {number} {mode}: {traceback.format_exc() if self._full else repr(error):.1000}")
            return True

    def attempt_all(self) -> None:
        self.attempt(0, "none")  # what is there from then on is not allocated again
        if self.failed:
            return
        for mode in ("one", "all"):
            # Without any memory, httptools lets go of a traceback that there is not, and CPython may try for ever to
            # number the instruction that has failed.
            if mode == "all" and (self._name in PYTHONS or self._name.startswith("request")):
                continue
            number = 0
            while number < MOST and self.failed < 10 and self.attempt(number, mode):
                number += 1
            assert number < MOST
        if self._name not in PYTHONS and (left := leaked()):
            self.failed += 1
            print(f"--- {self._name}: never freed: {left}")


def main() -> None:
    kind, *what = sys.argv[1:]
    logging.getLogger().setLevel(logging.ERROR)
    logging.raiseExceptions = False
    loop = new_loop(kind)
    loop.call_soon(loop.stop)
    loop.run_forever()
    gc.disable()
    failed = 0
    names = list(SITUATIONS)[int(what[0]) :: int(what[1])] if what[0].isdigit() else what[:1]
    for name in names:
        report = Report(loop, name, len(what) == 3)
        if len(what) == 3:
            report.attempt(int(what[1]), what[2])
        else:
            report.attempt_all()
        failed += report.failed
        print(f"{name}: {report.trials} trials, {report.failed} failures", flush=True)
    loop.close()
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
