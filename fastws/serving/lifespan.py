"""What an App opens before its first connection and closes after its last: `App(lifespan=...)`."""

import asyncio
import contextlib
import inspect
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from fastws.handlers import fits, takes
from fastws.serving.logs import write

if TYPE_CHECKING:
    from fastws.app import App

log = logging.getLogger("fastws")

#: What `App(lifespan=)` takes: @contextlib.asynccontextmanager makes the first of the second, and so does App.
Maker = Callable[["App"], AbstractAsyncContextManager[Any]]
LifespanFunction = Maker | Callable[["App"], AsyncIterator[Any]]

#: The lifespans of the parent, in the child of a fork.
_of_the_parent: "list[Lifespan]" = []

ENTRY_LONG = 5.0  # seconds until the log says that an entry takes long

HOW = "write `@contextlib.asynccontextmanager` above an `async def lifespan(app)` with one `yield`"


def maker_of(lifespan: object) -> Maker | None:
    """What gives an async context manager for an App. TypeError for what cannot."""
    if lifespan is None:
        return None
    function = lifespan
    if getattr(lifespan, "__globals__", None) is vars(contextlib):  # made by @contextlib.asynccontextmanager
        function = getattr(lifespan, "__wrapped__", lifespan)
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"lifespan={lifespan!r} has no `yield`: {HOW}")
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"lifespan={lifespan!r} is no `async def`: {HOW}")
    if hasattr(lifespan, "__aenter__") and not inspect.isclass(lifespan):
        raise TypeError(f"lifespan={lifespan!r} has been called already: give the function itself, lifespan=lifespan")
    if not callable(lifespan):
        raise TypeError(f"lifespan={lifespan!r} is not callable: {HOW}")
    if callable(function) and not fits(function, ("app",)):
        raise TypeError(f"lifespan={lifespan!r} takes {takes(function)}, but is called with (app): {HOW}")
    if inspect.isasyncgenfunction(lifespan):
        return contextlib.asynccontextmanager(lifespan)
    return cast(Maker, lifespan)


class Lifespan:
    """The lifespan of an App on one event loop: entered for the first of its servers there, left after the last.

    One task runs it from its entry to its exit. A task group or a cancel scope in it must be left by the task that has
    entered it, and start() and stop() may be awaited by different tasks.
    """

    def __init__(self, make: Maker, app: "App", on_end: "Callable[[Lifespan], None]") -> None:
        loop = asyncio.get_running_loop()
        self.state: Any = None
        self.is_open = False
        self._on_end = on_end
        self._servers = 0
        self._trace: TracebackType | None = None
        self._entered: asyncio.Future[None] = loop.create_future()
        self._over = asyncio.Event()
        self.task = loop.create_task(self._run(make, app), name="fastws lifespan")
        # sys.exit() in it ends the loop before anybody has asked what it raised.
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.task.add_done_callback(lambda _: self.abandon())  # cancelled before its first step, it runs nothing

    async def _run(self, make: Maker, app: "App") -> None:
        try:
            manager = make(app)
            inner = getattr(manager, "gen", manager)  # of @contextlib.asynccontextmanager: what its function returned
            if inspect.iscoroutine(inner):
                inner.close()
                raise TypeError(f"lifespan={make!r} has no `yield`: {HOW}")
            if not (hasattr(type(manager), "__aenter__") and hasattr(type(manager), "__aexit__")):
                raise TypeError(f"lifespan={make!r} gave {manager!r}, which is no async context manager: {HOW}")
            async with manager as self.state:
                self.is_open = True
                self._entered.set_result(None)
                await self._over.wait()
        except BaseException as error:
            self._trace = error.__traceback__
            raise
        finally:
            self.abandon()
            self.state = None

    @property
    def is_ending(self) -> bool:
        """No server needs it any more."""
        return not self._servers

    async def enter(self) -> None:
        """Have it for one more server. What its entry raises is raised to all who wait for that."""
        self._servers += 1
        try:
            either = (self._entered, self.task)
            done, _ = await asyncio.wait(either, timeout=ENTRY_LONG, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                late = "the lifespan has been entered for %g s and has not come to its yield: nothing is served before"
                write(log, logging.WARNING, late, ENTRY_LONG)
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:  # start() is cancelled
            self.leave()
            if self.is_ending:
                await self.wait()
            raise
        if not self._entered.done():
            self._servers -= 1
            await self.wait()
            raise asyncio.CancelledError  # the entry was cancelled, but not by us

    def leave(self) -> None:
        """One server less. After the last, it is left; where it has not been entered yet, that is cancelled, and an
        entry that goes on all the same is followed by the exit."""
        self._servers -= 1
        if self.is_ending:
            self._over.set()
            if not self._entered.done():
                self.task.cancel()

    async def wait(self) -> None:
        """Wait for its end, and raise what it has raised."""
        await asyncio.wait((self.task,))
        error = None if self.task.cancelled() else self.task.exception()
        if error is not None:
            raise error.with_traceback(self._trace)  # for each who waits; a task gives its own away once

    async def end(self, timeout: float, cancel_timeout: float) -> None:
        """Wait for its end if no server needs it. After `timeout` seconds it is cancelled, and `cancel_timeout` later
        no more waited for. What it has raised is raised."""
        if asyncio.current_task() is self.task or not (self.is_ending or self.task.done()):
            return
        for seconds, late in (
            (timeout, "the lifespan has not ended within %g s: it is cancelled"),
            (cancel_timeout, "the lifespan ignores its cancellation for %g s; the server stops without it"),
        ):
            await asyncio.wait((self.task,), timeout=seconds)
            if self.task.done():
                await self.wait()
                return
            write(log, logging.ERROR, late, seconds)
            self.task.cancel()

    def abandon(self) -> None:
        """Its loop is gone, or it has ended: no callback may use it."""
        self.is_open = False
        self._on_end(self)

    def leave_to_parent(self) -> None:
        """This process is the child of a fork. The task is kept: if it were freed, its code would run here."""
        self.abandon()
        _of_the_parent.append(self)


def is_of_lifespan(error: BaseException) -> bool:
    """Whether a lifespan has raised it, rather than the server that could not start."""
    return any(frame.f_code is Lifespan._run.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))
