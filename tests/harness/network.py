"""Networks of a test's own: namespaces (network_namespaces(7)) that end with the threads and sockets in them."""

from __future__ import annotations

import ctypes
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CLONE_NEWNET = 0x40000000  # sched.h
HERE = "198.51.100.1"  # RFC 5737: for documentation, so nobody's
THERE = "198.51.100.2"


class NotPermitted(Exception):
    """Networks need Linux, root and iproute2."""


def _enter_new() -> None:
    """The calling thread, and the threads and processes that it starts, are in a network of their own from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or libc.unshare(CLONE_NEWNET) < 0:
        raise NotPermitted(f"no network namespace: {os.strerror(ctypes.get_errno())}")


def ip(arguments: str) -> None:
    """The command of iproute2, in the calling thread's network."""
    try:
        subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise NotPermitted("no command `ip`: on Debian and Ubuntu, apt-get install iproute2") from None
    except subprocess.CalledProcessError as error:
        raise NotPermitted(f"ip {arguments}: {error.stderr.strip()}") from None


@contextmanager
def own_network() -> Iterator[None]:
    """This thread sees nothing but a loopback of its own, and whatever it starts meanwhile does so for good."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter_new()
        try:
            ip("link set lo up")
            yield
        finally:
            libc = ctypes.CDLL(None, use_errno=True)
            back = libc.setns(before, CLONE_NEWNET)
            assert back == 0, f"the thread is lost in its network: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(before)


class FarHost:
    """Another host, and a wire from the calling thread's network to it: HERE is this side's address, THERE its own."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="far host", daemon=True)
        self._thread.start()
        try:
            self.call(_enter_new)
            ip(f"link add name near type veth peer name far netns {self._thread.native_id}")
            ip(f"address add {HERE}/24 dev near")
            ip("link set near up")
            self.call(ip, f"address add {THERE}/24 dev far")
            self.call(ip, "link set far up")
        except BaseException:
            self.close()
            raise

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, arguments = call
            try:
                self._results.put((function(*arguments), None))
            except BaseException as error:
                self._results.put((None, error))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `function(*arguments)` there. A socket stays where it was made, whoever uses it."""
        self._calls.put((function, arguments))
        result, error = self._results.get()
        if error is not None:
            raise error
        return result

    def cut(self) -> None:
        """The wire is cut: nothing arrives any more, and neither side is told."""
        self.call(ip, "link set far down")

    def mend(self) -> None:
        self.call(ip, "link set far up")

    def close(self) -> None:
        self._calls.put(None)
        self._thread.join(10)
