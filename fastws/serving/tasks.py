"""Starts coroutines from plain callbacks; one that never suspends costs no task.

`asyncio.Task` can run a coroutine's first step at once since Python 3.12 (`eager_start`). Before that it cannot, yet
`asyncio.current_task()` must be one object from the first step to the last: timeouts, task groups and cancel scopes
remember it. So a `Starter` lends a spare task to each first step, runs that step by hand with the functions that
asyncio documents for this ("Extending asyncio"), and puts the coroutine into the spare only if it suspends.
"""

import asyncio
import asyncio.tasks
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from sys import getrefcount
from typing import Any, NoReturn
from weakref import getweakrefcount

from fastws._speedups import report_task

Done = Callable[[object | None, BaseException | None], None]

TASK_NAME = "fastws callback"


if sys.version_info >= (3, 12):

    class Starter:
        """Starts coroutines on `loop`, which must be running when `start` is called."""

        __slots__ = ("_loop",)

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop

        def start(self, coro: Coroutine[Any, Any, Any], done: Done) -> "asyncio.Task[Any] | None":
            """Run `coro` up to its first suspension; see the class for older Pythons, which does the same."""
            told = partial(report_task, done)
            try:
                task = asyncio.Task(coro, loop=self._loop, name=TASK_NAME, eager_start=True)
            except (KeyboardInterrupt, SystemExit) as exc:
                done(None, exc)
                raise
            if task.done():
                told(task)
                return None
            try:
                task.add_done_callback(told)
            except BaseException as exc:  # without memory for that, say, nobody would learn how it ends
                task.remove_done_callback(told)
                task.cancel()
                done(None, exc)
                if not isinstance(exc, Exception):
                    raise
                return None
            return task

        def close(self) -> None:
            """Nothing is kept between two starts."""

else:
    _register_task: Callable[["asyncio.Task[Any]"], None] = asyncio.tasks._register_task
    _unregister_task: Callable[["asyncio.Task[Any]"], None] = asyncio.tasks._unregister_task
    _current_tasks: dict[asyncio.AbstractEventLoop, "asyncio.Task[Any]"] = asyncio.tasks._current_tasks  # type: ignore[attr-defined]

    class _Spare(Coroutine[Any, Any, Any]):
        """What a spare task runs: nothing, until a suspended coroutine is put in.

        To its task this is the coroutine; while there is nothing to run it is also the future which that coroutine
        awaits, so that it is handed the task's wake-up function and can step the task at once, without the loop.
        """

        # Rests idle (no coroutine), then runs one coroutine, or ends with the outcome of a first step.
        _coro: Coroutine[Any, Any, Any] | None = None
        _context: Context
        _ended: BaseException | None = None
        # What the coroutine yielded in its first step, until the task has been told; None for a bare yield.
        _awaited: Any = None
        _blocking = False
        # Of the future protocol: asyncio tests and clears the first; the task gives us the second.
        _asyncio_future_blocking = False
        _wake: Callable[[Any], object] | None = None
        # The task's own first step has begun and has not parked it: a signal's handler may have raised in between.
        lost = False

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop
            # An idle spare is no task of the application's: not in `all_tasks()`, and no loss if it is dropped.
            self.listed = False
            task = asyncio.Task(self, loop=loop, name=TASK_NAME)
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _unregister_task(task)
            self.task: asyncio.Task[Any] = task

        def adopt(self, coro: Coroutine[Any, Any, Any], context: Context, awaited: Any) -> None:
            """Let the task go on with a coroutine that has just yielded `awaited`."""
            self._coro, self._context, self._awaited = coro, context, awaited
            self._blocking = bool(getattr(awaited, "_asyncio_future_blocking", False))
            if self._blocking:
                awaited._asyncio_future_blocking = False  # another task may await it before we yield it again
            if not self.listed:
                self.listed = True
                _register_task(self.task)
                self.task._log_destroy_pending = True  # type: ignore[attr-defined]
            if self._wake is None:
                return  # not parked yet: the task's own first step, already on the loop, comes to send() or throw()
            if awaited is None:
                self._loop.call_soon(self._wake, self)
            else:
                self._wake(self)

        def end(self, outcome: BaseException) -> None:
            """End the idle task with `outcome`, a StopIteration for a result."""
            self._ended = outcome
            self.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # or asyncio logs it
            if self._wake is not None:
                self._wake(self)

        # The coroutine: asyncio calls these from the task's steps.

        def send(self, value: Any) -> Any:
            if self._ended is not None:
                raise self._ended
            if self._coro is None:
                self.lost = self._asyncio_future_blocking = True
                return self
            if self._awaited is not None:
                return self._yield_again()
            return self._context.run(self._coro.send, value)

        def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
            if self._coro is None:
                raise typ
            # Cancelled before the task could await what the coroutine awaits: do as Task.cancel() does.
            if self._awaited is not None and self._blocking and self._awaited.cancel(*typ.args):
                return self._yield_again()
            self._awaited = None
            return self._context.run(self._coro.throw, typ)

        def close(self) -> None:
            if self._coro is not None:
                self._context.run(self._coro.close)

        def __await__(self) -> Generator[Any, Any, NoReturn]:
            raise TypeError("only its own task runs it")

        def __getattr__(self, name: str) -> Any:
            # cr_frame and the like, for Task.__repr__, Task.get_stack and inspect
            return getattr(self._coro, name)

        def _yield_again(self) -> Any:
            awaited, self._awaited = self._awaited, None
            if self._blocking:
                awaited._asyncio_future_blocking = True
            return awaited

        # The future that the idle coroutine awaits.

        def get_loop(self) -> asyncio.AbstractEventLoop:
            return self._loop

        def add_done_callback(self, wake: Callable[[Any], object], *, context: Context) -> None:
            self._wake, self.lost = wake, False

        def result(self) -> None:
            self._wake = None

        def cancel(self, msg: object = None) -> bool:
            return False  # the task keeps the request and throws it at its next step

    _Pair = tuple[asyncio.Task[Any], _Spare]

    def _pair(spare: _Spare) -> _Pair:
        return spare.task, spare

    class Starter:
        """Starts coroutines on `loop`, which must be running when `start` is called."""

        __slots__ = ("_closed", "_loop", "_spares")

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop
            self._spares: list[_Pair] = []  # more than one only where first steps nest
            self._closed = False

        def start(self, coro: Coroutine[Any, Any, Any], done: Done) -> "asyncio.Task[Any] | None":
            """Run `coro` up to its first suspension.

            If it ends there, `done(result, exception)` is called before this returns None. Otherwise the task that goes
            on with it is returned, and `done` is called from the loop when it ends (if cancelled, with CancelledError).
            """
            loop, spares, context = self._loop, self._spares, copy_context()
            told = partial(report_task, done)
            result, failure, suspended, spoiled = None, None, False, False
            task, spare = pair = spares.pop() if spares else _pair(_Spare(loop))
            if spare.lost or task.done():
                task, spare = pair = _pair(_Spare(loop))
            outer = _current_tasks.get(loop)
            # A signal's handler, which may raise, runs when a call has returned. Neither the step nor its end has one
            # after which the current task would be wrong.
            try:
                _current_tasks[loop] = task
                try:
                    awaited = context.run(coro.send, None)
                    suspended = True
                except StopIteration as exc:
                    result = exc.value
                except BaseException as exc:
                    failure = exc
                    coro.close()  # where there was no memory for it to begin
                _current_tasks.pop(loop, None)
                if suspended:
                    try:
                        task.add_done_callback(told)
                        spare.adopt(coro, context, awaited)
                    except BaseException as exc:  # no memory to go on with it, say
                        suspended, spoiled, failure = False, True, exc
                        task.remove_done_callback(told)
                        task._log_destroy_pending = False  # type: ignore[attr-defined]
                        coro.close()
            finally:
                if outer is None:
                    _current_tasks.pop(loop, None)
                else:
                    _current_tasks[loop] = outer
            if suspended:
                return task
            if failure is None and task._must_cancel:  # type: ignore[attr-defined]
                result, failure = None, asyncio.CancelledError()
            # Whether anyone else knows the task: then it must not serve another coroutine. It is referred to by `task`,
            # the pair, the spare, the argument, and the step or wake-up function that it has given out.
            used = spoiled or getrefcount(task) > 5 or getweakrefcount(task)
            if used or task._callbacks or task._must_cancel or self._closed:  # type: ignore[attr-defined]
                self._give_up(spare, result, failure)
            else:
                spares.append(pair)
            del task, pair
            try:
                done(result, failure)
                if isinstance(failure, (KeyboardInterrupt, SystemExit)):
                    raise failure  # as a task's step does
            finally:
                del failure  # its traceback holds this frame
            return None

        def _give_up(self, spare: _Spare, result: Any, failure: BaseException | None) -> None:
            if isinstance(failure, (KeyboardInterrupt, SystemExit)):
                failure = asyncio.CancelledError()  # the caller of start() gets it
            self._loop.call_soon(spare.end, failure or StopIteration(result))

        def close(self) -> None:
            """End the spare tasks in the loop's next iteration. What has been started goes on."""
            self._closed = True
            if self._loop.is_closed():
                self._spares.clear()
            while self._spares:  # not at once: the caller may be a task, and no task steps inside another
                self._loop.call_soon(self._spares.pop()[1].end, asyncio.CancelledError())
