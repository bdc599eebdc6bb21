"""Forks: children that keep copies of all descriptors, and what a poller holds."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

#: Calls with the interpreter locked, so that the child of its fork() has the lock, and no other thread.
_libc = ctypes.PyDLL(None)


@contextlib.contextmanager
def copies_kept() -> Iterator[int]:
    """A child that does nothing but hold a copy of every descriptor. Python does not learn of this fork, as of one by a
    library in C, so what fastws does in a child is not done."""
    child = _libc.fork()
    if child == 0:
        while True:
            _libc.pause()
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def in_child(function: Callable[[], Any]) -> str:
    """What the function returns, or raises, in a child of os.fork()."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = repr(function())
        except BaseException as error:
            told = f"raised {error!r}"
        os.write(write, told.encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def polled_by_all() -> int:
    """How many descriptors the pollers of this process hold, those included that are closed here, but not elsewhere."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                with open(f"/proc/self/fdinfo/{name}") as lines:
                    count += sum(line.startswith("tfd:") for line in lines)
    return count
