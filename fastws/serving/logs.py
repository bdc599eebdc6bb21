"""The log of a server: peers cannot flood it, and where the program configures no logging it reaches the terminal."""

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

#: Lines of one kind that are written in a period; those over it are counted.
LINES = 20
PERIOD = 10.0  # seconds

#: What `logging` takes as exc_info.
Error = BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | None

#: Modules that call the application's callbacks.
OUR_CALLERS = ("fastws._speedups", "fastws.serving.tasks", "fastws.http")

#: Lines about a peer are INFO, but for these kinds.
LEVELS = {"by_app": logging.DEBUG, "overdue": logging.WARNING}


class _Terminal(logging.Handler):
    """Writes to what sys.stderr is at the time, as logging.lastResort does."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if sys.stderr is not None:
                sys.stderr.write(self.format(record) + "\n")
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


_terminal = _Terminal()
_terminal.setFormatter(logging.Formatter(FORMAT))


@contextmanager
def to_terminal(level: int) -> Iterator[None]:
    """Of a process that only serves, the lines of all loggers from `level` on that no handler takes.

    logging.lastResort gets a record only where its logger and those above have no handler. So this ends as soon as the
    program configures logging, which basicConfig() would refuse to do after another basicConfig().
    """
    root, last_resort = logging.getLogger(), logging.lastResort
    changes_level = not root.handlers and root.level == logging.WARNING  # which is the default
    if changes_level:
        root.setLevel(level)
    if last_resort is not None:
        logging.lastResort = _terminal
    try:
        yield
    finally:
        logging.lastResort = last_resort
        if changes_level and not root.handlers:
            root.setLevel(logging.WARNING)


def takes(log: logging.Logger, level: int) -> bool:
    """Whether a line of this level is written, by a handler or, where there is none, by us."""
    # dictConfig() and fileConfig() disable every logger that they do not name, unless they are told not to. Tracebacks
    # would be lost by accident; who wants that sets the level.
    log.disabled = False
    return log.isEnabledFor(level) or (_is_unconfigured(log) and level >= logging.INFO > log.manager.disable)


def _is_unconfigured(log: logging.Logger) -> bool:
    return not (log.level or log.hasHandlers()) and logging.getLogger().level == logging.WARNING


def write(log: logging.Logger, level: int, form: str, *args: object, error: Error = None) -> None:
    """Write a line. Where the program has configured no logging, lines from INFO on go to stderr: logging itself would
    show only warnings, without time and name.

    An exception of a handler goes to stderr, as logging does with its own handlers' errors. So does a CancelledError:
    the handler has asked a cancelled future for its result, and we are not cancelled."""
    try:
        if not takes(log, level):
            return
        if log.hasHandlers() or logging.lastResort is None:
            log.log(level, form, *args, exc_info=error)
            return
        about = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else error
        record = log.makeRecord(log.name, level, "", 0, form, args, about)
        if log.filter(record):
            _terminal.handle(record)
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
        if takes(self._log, level):
            self._write(level, kind, form, args, None)

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
        """What the application should do in another way."""
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
