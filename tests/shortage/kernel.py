"""Has the n-th system call of a kind fail in the middle of a situation, for the first few n; or all for a while.

    python -m shortage.kernel LOOP PART PARTS        every PARTS-th kind and error, from PART on

The calls are those of kernel.c, which is preloaded.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import sys
import time
from typing import Any

from harness import new_loop, open_fds

from .situations import IMPATIENT, LOGGING, SITUATIONS, Trial

LIBRARY = ctypes.CDLL(None)
ONE_BYTE = 0
FOREVER = 1_000_000
CALLS = 4  # of a kind in one situation, which fail one after the other
ERRORS: dict[str, tuple[int, ...]] = {
    "send": (ONE_BYTE, errno.ENOMEM, errno.ENOBUFS, errno.EINTR, errno.EPERM, errno.EIO, errno.ETIMEDOUT),
    "recv": (ONE_BYTE, errno.ENOMEM, errno.EINTR, errno.EIO, errno.ETIMEDOUT),
    "accept4": (errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.EINTR, errno.ECONNABORTED, errno.EPERM),
    "epoll add": (errno.ENOMEM, errno.ENOSPC),
    "epoll change": (errno.ENOMEM, errno.EPERM),
    "epoll_wait": (errno.EINTR, errno.EIO),
    "timerfd_settime": (errno.ENOMEM, errno.EPERM),
    "shutdown": (errno.ENOTCONN, errno.EIO),
}
NAMES = [
    "accept", "request", "request nowhere", "request page", "small /", "fragments /", "large /", "large text",
    "in pieces", "a piece more", "inflating with takeover", "many connections", "waits for too many", "went on",
    "raises", "ping", "close", "protocol error", "sends small", "sends large", "sends large deflated", "queues large",
    "queues a close", "pauses", "resumes", "publishes much", "publishes deflated", "drains", "pings are due",
    "messages are late", "stops",
]  # fmt: skip
#: Turns in which a kernel without memory is asked again and again, unless the server waits a while.
LONG = 300


class Starved(Trial):
    """Its loop turns with the library at work."""

    def __enter__(self) -> Starved:
        timers = {str(fd) for fd, what in open_fds().items() if "timerfd" in what}
        poller = next((fd for fd in open_fds() if _polls(fd, timers)), -1)  # none once the server has ended
        LIBRARY.shortage_active(poller)
        return self

    def __exit__(self, *exc: object) -> None:
        LIBRARY.shortage_active(-1)


def _polls(fd: int, timers: set[str]) -> bool:
    """Whether it is the reactor's poller: no other polls a timer."""
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            return any(line.startswith("tfd:") and line.split()[1] in timers for line in file)
    except FileNotFoundError:
        return False


def run(loop: Any, name: str, call: str, error: int, number: int) -> int:
    """How often the call was made."""
    trial = Starved(loop, name in IMPATIENT)
    try:
        action = SITUATIONS[name](trial)
        LIBRARY.shortage_plan(call.encode(), number, 1, error)
        with trial:
            trial.on_loop(action)
        for _ in range(4):
            with trial:
                trial.loop.call_soon(trial.loop.stop)
                trial.loop.run_forever()
            for peer in trial.peers:
                peer.read_all()
        seen: int = LIBRARY.shortage_seen()
        if not trial.stops:
            trial.check(trial.expected, trial.waits, misses=trial.misses)
        trial.end()
        trial.turn()
        for opened, closed in zip(trial.calls.opened, trial.calls.closed, strict=True):
            assert opened == closed <= 1, (opened, closed)
        problems = trial.lines.lines + [repr(one) for one in trial.errors]
        assert len(problems) <= 1 + (name in LOGGING), problems
        assert not any("internal error" in one for one in problems), problems
        if error not in (errno.EMFILE, errno.ENFILE):
            assert not any("open files" in one for one in problems), problems
    finally:
        trial.leave()
    trial.check_descriptors()
    return seen


def run_long(loop: Any, name: str, error: int) -> None:
    """The kernel has no memory for a while: what is to be sent waits, is tried now and then, and comes in the end."""
    trial = Starved(loop, False)
    try:
        action = SITUATIONS[name](trial)
        LIBRARY.shortage_plan(b"send", 0, FOREVER, error)
        began = time.monotonic()
        with trial:
            trial.on_loop(action)
            for _ in range(LONG):
                trial.loop.call_soon(trial.loop.stop)
                trial.loop.run_forever()
        ticks = (time.monotonic() - began) / 0.01
        tries = LIBRARY.shortage_seen()
        # A peer's own, one more for each sweep, and a few that are made in trying to write the next.
        assert 0 < tries <= len(trial.expected) * (3 + ticks) < LONG, f"{tries} tries in {ticks} ticks"
        trial.check(trial.expected, trial.waits)
        assert not any(peer.gone for peer in trial.expected)
        trial.end()
    finally:
        trial.leave()


def main() -> None:
    kind, part, parts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    logging.getLogger().setLevel(logging.ERROR)
    loop = new_loop(kind)
    loop.call_soon(loop.stop)
    loop.run_forever()
    gc.freeze()  # what was imported is no garbage
    failed = 0
    for call, error in [(call, error) for call, errors in ERRORS.items() for error in errors][part::parts]:
        trials = bad = 0
        for name in NAMES:
            number, seen = 0, 1
            while number < min(seen, CALLS):
                trials += 1
                try:
                    seen = run(loop, name, call, error, number)
                except Exception as problem:
                    bad += 1
                    print(f"--- {name}, {call} {number}, {errno.errorcode.get(error, 'one byte')}: {problem!r:.600}")
                number += 1
            gc.collect()
        print(f"{call}, {errno.errorcode.get(error, 'one byte')}: {trials} trials, {bad} failures", flush=True)
        failed += bad
    if part == 0:
        for name in ("small /", "large /", "sends small", "sends large", "publishes much", "many connections"):
            for error in (errno.ENOMEM, errno.ENOBUFS):
                try:
                    run_long(loop, name, error)
                except Exception as problem:
                    failed += 1
                    print(f"--- {name}, {errno.errorcode[error]} for long: {problem!r:.600}")
    loop.close()
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
