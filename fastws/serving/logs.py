"""The log of a server: peers cannot flood it."""

import asyncio
import logging
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: Files of fastws that stand in front of the user's in a traceback. The core's are so called wherever it was built.
OURS = ("fastws/core/", str(Path(__file__).parent) + os.sep, str(Path(__file__).parents[1] / "http.py"))
#: Lines of one kind that are written in a period; those over it are counted.
LINES = 20
PERIOD = 10.0  # seconds


#: Lines about a peer are INFO, but for these kinds.
LEVELS = {"by_app": logging.DEBUG, "overdue": logging.WARNING}


def name_of(callback: object) -> str:
    """What a line calls a callback: its qualified name, "Chat.upgrade" say."""
    try:
        return str(getattr(callback, "__qualname__", None) or repr(callback))[:200]
    except Exception:
        return type(callback).__qualname__


def from_the_users_code(error: BaseException) -> TracebackType | None:
    """The traceback without the frames of fastws in front of those of the user's, if there are any."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    return trace or error.__traceback__


def write(log: logging.Logger, level: int, form: str, *args: object, error: BaseException | None = None) -> None:
    """Write a line. An exception of a handler goes to stderr, as logging does with its own handlers' errors. So does a
    CancelledError: the handler has asked a cancelled future for its result, and we are not cancelled."""
    try:
        trace = None if error is None else (type(error), error, from_the_users_code(error))
        log.log(level, form, *args, exc_info=trace)
    except (Exception, asyncio.CancelledError):
        with suppress(Exception):  # the standard error may be closed
            if logging.raiseExceptions and sys.stderr is not None:
                print(f"--- Logging error: in the line {form!r} ---", file=sys.stderr)
                traceback.print_exc()


class Log:
    """Writes to a logger, of each kind of line no more than LINES in a PERIOD. One line at the end of the period says
    how much was left out."""

    def __init__(self, log: logging.Logger, loop: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._loop = loop
        self._kinds: dict[object, _Kind] = {}
        self._timer: asyncio.TimerHandle | None = None

    def about_peer(self, kind: str, form: str, *args: object) -> None:
        """What a peer did that cost it its connection. `kind` is the reason under which that is counted."""
        level = LEVELS.get(kind, logging.INFO)
        if self._log.isEnabledFor(level):
            self._write(level, kind, form, args, None)

    def error(self, form: str, *args: object, exc_info: BaseException | None = None) -> None:
        """What the operator should know, with a traceback where there is an exception."""
        self._write(logging.ERROR, (form, type(exc_info)), form, args, exc_info)

    def _write(
        self, level: int, name: object, form: str, args: tuple[object, ...], error: BaseException | None
    ) -> None:
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = _Kind()
        if self._timer is None and not self._loop.is_closed():
            self._timer = self._loop.call_later(PERIOD, self.flush)
        if kind.written < LINES:
            kind.written += 1
            write(self._log, level, form, *args, error=error)
        else:
            kind.left_out += 1
            kind.last = level, form, args

    def flush(self) -> None:
        """End the period: say how much was left out."""
        kinds, self._kinds = self._kinds, {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kind in kinds.values():
            if kind.left_out:
                level, form, args = kind.last
                write(self._log, level, f"{form} (and %d more like it)", *args, kind.left_out)


class _Kind:
    __slots__ = ("last", "left_out", "written")

    def __init__(self) -> None:
        self.written = self.left_out = 0
        self.last: tuple[int, str, tuple[object, ...]] = 0, "", ()
