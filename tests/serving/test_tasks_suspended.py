"""Coroutines that suspend: on a bare yield, on futures, on what cannot be awaited."""

import asyncio
import contextvars
from collections.abc import Generator
from typing import Any

import pytest
from harness.tasks import Bench, returns

from fastws.serving.tasks import TASK_NAME

VAR = contextvars.ContextVar("VAR", default="unset")


def test_a_bare_yield(bench: Bench) -> None:
    async def coro() -> str:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is before
        return "end"

    assert bench.run(coro()) == "end"


def test_a_bare_yield_lasts_one_turn_of_the_loop(bench: Bench) -> None:
    order = []

    async def coro() -> None:
        order.append("first")
        await asyncio.sleep(0)
        order.append("second")

    def callback() -> None:
        bench.start(coro())
        order.append("returned")

    bench.call(callback)
    bench.settle(2)
    assert order == ["first", "returned", "second"]


def test_the_task_is_the_same_from_first_to_last(bench: Bench) -> None:
    seen = []

    async def coro() -> None:
        seen.append(asyncio.current_task())
        for _ in range(3):
            await asyncio.sleep(0.001)
            seen.append(asyncio.current_task())
        assert seen[0] in asyncio.all_tasks()

    task = bench.call(lambda: bench.start(coro()))
    assert task in asyncio.all_tasks(bench.loop)
    assert task.get_name() == TASK_NAME
    assert "coro" in repr(task)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["coro"]
    bench.finish(task)
    assert seen == [task] * 4
    assert bench.outcomes == [(None, None)]


def test_a_future(bench: Bench) -> None:
    future: asyncio.Future[str] = bench.loop.create_future()

    async def coro() -> str:
        bench.loop.call_later(0.005, future.set_result, "value")  # from here: else it may be done before the await
        return await future

    assert bench.run(coro()) == "value"


def test_a_future_that_is_done_before_the_next_turn(bench: Bench) -> None:
    future: asyncio.Future[str] = bench.loop.create_future()

    async def coro() -> str:
        return await future

    def callback() -> asyncio.Task[Any] | None:
        task = bench.start(coro())
        future.set_result("early")
        return task

    bench.finish(bench.call(callback))
    assert bench.outcomes == [("early", None)]


def test_a_future_that_others_await_too(bench: Bench) -> None:
    future: asyncio.Future[int] = bench.loop.create_future()

    async def coro() -> int:
        return await future

    async def other() -> int:
        return await future

    def callback() -> list[asyncio.Task[Any] | None]:
        others = [bench.loop.create_task(other()), bench.start(coro())]
        bench.loop.call_soon(future.set_result, 1)
        return [*others, bench.loop.create_task(other())]

    for task in bench.call(callback):
        bench.finish(task)
        assert task is not None and task.result() == 1
    assert bench.outcomes == [(1, None)]


def test_a_future_that_fails(bench: Bench) -> None:
    future = bench.loop.create_future()

    async def coro() -> None:
        bench.loop.call_later(0.005, future.set_exception, ValueError())
        try:
            await future
        except ValueError:
            await asyncio.sleep(0)
            raise KeyError from None

    with pytest.raises(KeyError):
        bench.run(coro())


@pytest.mark.parametrize("base", [BaseException, GeneratorExit, Exception])
def test_an_exception_after_suspension(bench: Bench, base: type[BaseException]) -> None:
    class Odd(base):  # type: ignore[misc, valid-type]
        pass

    async def coro() -> None:
        await asyncio.sleep(0)
        raise Odd

    with pytest.raises(Odd):
        bench.run(coro())


def test_gather(bench: Bench) -> None:
    async def coro() -> Any:
        return await asyncio.gather(asyncio.sleep(0.002, 1), asyncio.sleep(0, 2), returns(3))

    assert bench.run(coro()) == [1, 2, 3]


@pytest.mark.parametrize("what", ["foreign future", "self", "bad yield", "yield without await"])
def test_what_cannot_be_awaited_raises_inside_as_in_any_task(bench: Bench, what: str) -> None:
    class Yields:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __await__(self) -> Generator[Any, Any, None]:
            yield self.value

    foreign = asyncio.new_event_loop()

    async def coro() -> str | None:
        targets: dict[str, Any] = {
            "foreign future": foreign.create_future(),
            "self": asyncio.current_task(),
            "bad yield": Yields(17),
            "yield without await": Yields(bench.loop.create_future()),
        }
        try:
            await targets[what]
        except RuntimeError as exc:
            return str(exc)
        return None

    assert isinstance(bench.run(coro()), str)
    foreign.close()


def test_context_variables_last_over_suspension_and_do_not_leak(bench: Bench) -> None:
    async def coro(value: str) -> tuple[str, str]:
        before = VAR.get()
        VAR.set(value)
        await asyncio.sleep(0)
        first = VAR.get()
        VAR.set(first + "!")
        await asyncio.sleep(0.001)
        return before, VAR.get()

    async def at_once() -> str:
        before = VAR.get()
        VAR.set("leaked?")
        return before

    def callback() -> list[asyncio.Task[Any] | None]:
        VAR.set("caller")
        bench.start(at_once())
        tasks = [bench.start(coro("a")), bench.start(coro("b"))]
        bench.start(at_once())
        assert VAR.get() == "caller"
        return tasks

    for task in contextvars.copy_context().run(bench.call, callback):
        bench.finish(task)
    assert [result for result, _ in bench.outcomes] == ["caller", "caller", ("caller", "a!"), ("caller", "b!")]


def test_a_coroutine_of_another_make(bench: Bench) -> None:
    """Compiled coroutines are of a class of their own."""

    class Compiled:
        def __init__(self) -> None:
            self.inner = asyncio.sleep(0, "compiled")

        def __await__(self) -> Generator[Any, Any, str]:
            return self.inner.__await__()

        def send(self, value: Any) -> Any:
            return self.inner.send(value)

        def throw(self, *args: Any) -> Any:
            return self.inner.throw(*args)

        def close(self) -> None:
            self.inner.close()

    assert bench.run(Compiled()) == "compiled"
