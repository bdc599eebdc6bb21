"""What a test may not leave behind: descriptors, tasks, counts, logged tracebacks, unraisable exceptions."""

from __future__ import annotations

import collections
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from .client import RawClient
from .server import ServerThread, eventually

ZERO_AT_REST = ("connections", "handshakes", "buffered_bytes", "sockets")


def open_fds() -> dict[int, str]:
    """This process' descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the listing's own
            pass
    return found


@contextmanager
def server_end(client: RawClient) -> Iterator[socket.socket]:
    """The other end of a client's connection to a server in this process, for a look at its options. It is a copy
    of the descriptor, and the server must not close its own meanwhile."""
    for fd, what in open_fds().items():
        if what.startswith("socket:"):
            with socket.socket(fileno=os.dup(fd)) as sock:
                name = None
                with suppress(OSError):
                    name = sock.getpeername()
                if name == client.sock.getsockname():
                    yield sock
                    return
    raise AssertionError("this process has no such connection")


class Traps(logging.Handler):
    """Collects what is logged with a traceback or at ERROR, and what Python could not raise anywhere."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.records: list[logging.LogRecord] = []
        self.unraisable: list[str] = []
        self._expected: collections.Counter[type[BaseException] | None] = collections.Counter()

    def __enter__(self) -> Traps:
        logging.getLogger().addHandler(self)
        self._hook: Callable[[sys.UnraisableHookArgs], Any] = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gc.collect()  # a task destroyed while pending, a coroutine never awaited: they speak up now
        sys.unraisablehook = self._hook
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.records.append(record)

    def _on_unraisable(self, args: sys.UnraisableHookArgs) -> None:
        self.unraisable.append(f"{args.err_msg or 'in'} {args.object!r}: {args.exc_value!r}")

    def expect(self, kind: type[BaseException] | None, count: int = 1) -> None:
        """`count` records will be logged to "fastws" at ERROR: tracebacks of exactly this type, or None for none."""
        self._expected[kind] += count

    def logged(self, kind: type[BaseException]) -> list[logging.LogRecord]:
        return [record for record in list(self.records) if record.exc_info and record.exc_info[0] is kind]

    def check(self) -> None:
        unexpected = []
        left = self._expected.copy()
        for record in self.records:
            kind = record.exc_info[0] if record.exc_info else None
            if left[kind] > 0 and record.name == "fastws" and record.levelno == logging.ERROR:
                left[kind] -= 1
            else:
                unexpected.append(f"{record.name}: {record.getMessage()} ({kind})")
        assert not unexpected, f"logged: {unexpected}"
        assert not +left, f"never logged: {+left}"
        assert not self.unraisable, f"unraisable: {self.unraisable}"


class Serving:
    """The `serve` fixture: `serve(app)` gives a running ServerThread, `finish` checks that nothing is left of it."""

    def __init__(self, loop_kind: str, traps: Traps) -> None:
        self.loop_kind = loop_kind
        self.traps = traps
        self.threads: list[ServerThread] = []

    def __call__(self, app: Any, **where: Any) -> ServerThread:
        thread = ServerThread(app, self.loop_kind, **where)
        self.threads.append(thread)
        return thread

    def finish(self) -> None:
        for client in list(RawClient.opened):
            client.close()
        problems: list[str] = []
        for thread in self.threads:
            if thread.is_running():  # the test may have stopped it
                try:
                    eventually(lambda thread=thread: not held(thread), 3.0, "still held after every client left")
                except AssertionError as error:
                    problems.append(f"{error}: {held(thread)}")
            thread.stop()
            problems += [f"after stop: {name}={value}" for name, value in at_rest(thread.app.stats()).items() if value]
            problems += unaccounted(thread.app.stats())
            problems += [f"leaked {task}" for task in thread.leaked_tasks]
            problems += [f"loop: {context}" for context in thread.loop_errors]
        self.threads.clear()  # the last test's fixtures live on until the session's end
        assert not problems, "\n".join(problems)


def at_rest(stats: Any) -> dict[str, int]:
    """The counters that are zero when there is no peer; one that is missing is a KeyError."""
    return {name: stats[name] for name in ZERO_AT_REST}


def unaccounted(stats: Any) -> list[str]:
    """What is wrong where some accepted socket is counted nowhere or twice."""
    now = stats["handshakes"] + stats["connections"]
    ended = stats["answered"] + sum(stats["refused"].values()) + sum(stats["closed"].values())
    return [] if stats["accepted"] == now + ended else [f"accepted is not what has become of them: {stats}"]


def held(thread: ServerThread) -> dict[str, int]:
    """Those of them that are not zero."""
    return {name: value for name, value in at_rest(thread.stats()).items() if value}
