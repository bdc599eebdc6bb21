"""Coroutines started as the server starts them, from plain callbacks of a loop."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
Coro = Coroutine[Any, Any, Any]


class Bench:
    """Starts coroutines from plain callbacks of a loop and keeps what `done` was told."""

    def __init__(self, loop: asyncio.AbstractEventLoop, entry: str) -> None:
        from fastws.serving.tasks import Starter

        self.loop, self.entry = loop, entry
        self.starter = Starter(loop)
        self.outcomes: list[tuple[Any, BaseException | None]] = []
        self.errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.errors.append(context))

    def done(self, result: object, exception: BaseException | None) -> None:
        self.outcomes.append((result, exception))

    def start(self, coro: Coro) -> asyncio.Task[Any] | None:
        return self.starter.start(coro, self.done)

    def call(self, function: Callable[..., T]) -> T:
        """Call `function` from a bare callback of the running loop; return its result."""
        future: asyncio.Future[T] = self.loop.create_future()

        def callback() -> None:
            assert asyncio.current_task() is None
            try:
                future.set_result(function())
            except BaseException as exc:
                future.set_exception(exc)
            assert asyncio.current_task() is None

        if self.entry == "call_soon":
            self.loop.call_soon(callback)
            return self.loop.run_until_complete(future)
        ours, theirs = socket.socketpair()

        def readable() -> None:
            self.loop.remove_reader(ours)
            callback()

        with ours, theirs:
            theirs.send(b"x")
            self.loop.add_reader(ours, readable)
            return self.loop.run_until_complete(future)

    def settle(self, turns: int = 5) -> None:
        async def wait() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    def finish(self, task: asyncio.Task[Any] | None) -> None:
        """Run until a suspended coroutine has ended and `done` has been told."""
        if task is not None:
            self.loop.run_until_complete(asyncio.wait([task], timeout=5))
            assert task.done()
        self.settle()

    def run(self, coro: Coro) -> Any:
        """Start a coroutine that suspends, run it to its end; return what it returned or raise what it raised."""
        before = len(self.outcomes)

        def callback() -> asyncio.Task[Any]:
            task = self.start(coro)
            assert isinstance(task, asyncio.Task)
            assert len(self.outcomes) == before
            return task

        self.finish(self.call(callback))
        [(result, exception)] = self.outcomes[before:]
        if exception is not None:
            raise exception
        return result


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def returns(value: T) -> T:
    return value


async def raises(exception: BaseException) -> NoReturn:
    raise exception
