"""The log of a server: peers cannot flood it."""

import asyncio
import logging
import sys
import traceback
from contextlib import suppress
from types import TracebackType

#: Lines of one kind that are written in a period; those over it are counted.
LINES = 20
PERIOD = 10.0  # seconds


#: What `logging` takes as exc_info.
Error = BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | None

#: Modules that call the application's callbacks.
OUR_CALLERS = ("fastws._speedups", "fastws.serving.tasks")


def write(log: logging.Logger, level: int, form: str, *args: object, error: Error = None) -> None:
    """Write a line. An exception of a handler goes to stderr, as logging does with its own handlers' errors. So does a
    CancelledError: the handler has asked a cancelled future for its result, and we are not cancelled."""
    try:
        log.log(level, form, *args, exc_info=error)
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
        if self._log.isEnabledFor(logging.INFO):
            self._write(logging.INFO, kind, form, args, None)

    def error(self, form: str, *args: object, exc_info: BaseException | None = None) -> None:
        """What the operator should know, with a traceback where there is an exception."""
        self._write(logging.ERROR, (form, type(exc_info)), form, args, exc_info)

    def raised(self, form: str, *args: object, exc_info: BaseException) -> None:
        """What the application has raised. The traceback begins with the application's first frame, if it has one."""
        trace = exc_info.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__") in OUR_CALLERS:
            trace = trace.tb_next
        error = type(exc_info), exc_info, trace or exc_info.__traceback__
        self._write(logging.ERROR, (form, type(exc_info)), form, args, error)

    def warning(self, form: str, *args: object) -> None:
        """What the application does that it will regret."""
        self._write(logging.WARNING, form, form, args, None)

    def _write(self, level: int, name: object, form: str, args: tuple[object, ...], error: Error) -> None:
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
