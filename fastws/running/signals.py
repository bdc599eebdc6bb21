"""SIGINT and SIGTERM while a process serves, and what a fork makes of them."""

import os
import signal
import threading
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: The signal handlers in whose place the runner has its own.
_replaced: dict[int, Any] = {}
#: While a thread forks: `mask`, the signals that were blocked in it before.
_forking = threading.local()


def keep_signals() -> None:
    """What handles them now does so again after restore_signals(), and in children."""
    _replaced.update({number: signal.getsignal(number) for number in SIGNALS})


def restore_signals() -> None:
    for number, handler in _replaced.items():
        if handler is not None:  # not one that was set outside of Python, which cannot be had back
            signal.signal(number, handler)
    _replaced.clear()


def _before_fork() -> None:
    if _replaced:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _restore_mask() -> None:
    mask = vars(_forking).pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    """The child shares the pipe by which the parent's loop learns of signals: one for the child would stop the parent.
    None may come before this, so they are blocked from before the fork on."""
    if _replaced:
        signal.set_wakeup_fd(-1)
        restore_signals()
    _restore_mask()


os.register_at_fork(before=_before_fork, after_in_parent=_restore_mask, after_in_child=_after_fork_in_child)
