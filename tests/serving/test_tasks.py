"""Coroutines that end in their first step, and coroutines that start others."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from harness.tasks import Bench, raises, returns, this_task

from fastws.serving.tasks import TASK_NAME

BEFORE_EAGER = sys.version_info < (3, 12)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The names of all tasks made during a test."""
    names = []

    class CountingTask(asyncio.Task[Any]):
        def __init__(self, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
            names.append(options.get("name"))
            super().__init__(coro, **options)

    monkeypatch.setattr(asyncio, "Task", CountingTask)
    return names


# Without suspension


def test_a_coroutine_that_does_not_suspend_is_done_at_once(bench: Bench) -> None:
    seen = []

    async def coro() -> int:
        seen.append((asyncio.current_task(), asyncio.get_running_loop()))
        return 42

    def callback() -> None:
        assert bench.start(coro()) is None
        assert bench.outcomes == [(42, None)]

    bench.call(callback)
    [(task, loop)] = seen
    assert isinstance(task, asyncio.Task)
    assert task.get_name() == TASK_NAME
    assert loop is bench.loop


@pytest.mark.before(3, 12)  # an eager task is made for each since
def test_no_task_is_made_for_coroutines_that_do_not_suspend(
    loop: asyncio.AbstractEventLoop, entry: str, made: list[str | None]
) -> None:
    bench = Bench(loop, entry)
    for _ in range(3):
        bench.call(lambda: [bench.start(returns(1)) for _ in range(10)])
    assert made == [TASK_NAME]
    assert bench.outcomes == [(1, None)] * 30
    assert bench.call(lambda: asyncio.all_tasks(loop)) == set()
    bench.starter.close()


@pytest.mark.before(3, 12)  # an eager task is made for each since
def test_one_task_is_made_for_each_coroutine_that_suspends(
    loop: asyncio.AbstractEventLoop, entry: str, made: list[str | None]
) -> None:
    bench = Bench(loop, entry)
    tasks = bench.call(lambda: [bench.start(asyncio.sleep(0, i)) for i in range(10)])
    for task in tasks:
        bench.finish(task)
    assert made == [TASK_NAME] * 10
    assert sorted(result for result, _ in bench.outcomes) == list(range(10))
    bench.starter.close()


async def fails() -> None:
    raise ValueError


@pytest.mark.before(3, 12)  # an eager task is made for each since
def test_nothing_is_left_for_the_garbage_collector(bench: Bench) -> None:
    bench.call(lambda: bench.start(returns(1)))
    gc.collect()
    gc.disable()
    try:
        bench.call(lambda: [bench.start(returns(1)) for _ in range(100)])
        bench.call(lambda: [bench.start(fails()) for _ in range(100)])
        bench.outcomes.clear()
        assert gc.collect() < 50
    finally:
        gc.enable()


@pytest.mark.parametrize("exception", [ValueError("x"), asyncio.CancelledError(), GeneratorExit()])
def test_an_exception_at_once(bench: Bench, exception: BaseException) -> None:
    def callback() -> None:
        assert bench.start(raises(exception)) is None
        [(result, raised)] = bench.outcomes
        assert result is None
        # an eager task makes a CancelledError of its own
        assert raised is exception or type(raised) is type(exception) is asyncio.CancelledError

    bench.call(callback)
    assert bench.call(lambda: bench.start(returns(1))) is None


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_program_is_told_and_raised(bench: Bench, exception: type[BaseException]) -> None:
    def callback() -> None:
        with pytest.raises(exception):
            bench.start(raises(exception()))

    bench.call(callback)
    [(_, raised)] = bench.outcomes
    assert type(raised) is exception
    del raised
    bench.outcomes.clear()
    gc.collect()
    if not BEFORE_EAGER:  # the task that raised it is out of reach, and asyncio logs what nobody took from it
        bench.errors.clear()


def test_done_runs_outside_of_the_task(bench: Bench) -> None:
    seen = []

    def callback() -> None:
        for coro in returns(1), asyncio.sleep(0), raises(ValueError()):
            bench.starter.start(coro, lambda result, exception: seen.append(asyncio.current_task()))

    bench.call(callback)
    bench.settle()
    assert seen == [None, None, None]


def test_what_done_raises_comes_out_of_start(bench: Bench) -> None:
    def done(result: object, exception: BaseException | None) -> None:
        raise LookupError

    def callback() -> None:
        with pytest.raises(LookupError):
            bench.starter.start(returns(1), done)

    bench.call(callback)


# A task that somebody remembers must not turn up again under another coroutine.


@pytest.mark.parametrize("keep", [lambda task: task, weakref.ref, lambda task: task.cancel])
def test_a_remembered_task_is_not_reused(bench: Bench, keep: Callable[[asyncio.Task[str]], Any]) -> None:
    kept = []

    async def remember() -> str:
        kept.append(keep(this_task()))
        return "first"

    async def compare() -> None:
        kept.append(asyncio.current_task())

    bench.call(lambda: bench.start(remember()))
    bench.call(lambda: bench.start(compare()))
    first, second = kept
    first = first() if isinstance(first, weakref.ref) else getattr(first, "__self__", first)
    assert first is not second
    bench.settle()
    if first is not None:
        assert first.done()
        assert first.result() == "first"


def test_a_callback_added_in_the_first_step_is_called(bench: Bench) -> None:
    results = []

    async def coro() -> int:
        this_task().add_done_callback(lambda task: results.append(task.result()))
        return 7

    bench.call(lambda: bench.start(coro()))
    bench.settle()
    assert results == [7]


def test_an_exception_in_a_remembered_task_is_not_logged(bench: Bench) -> None:
    kept = []

    async def coro() -> None:
        kept.append(asyncio.current_task())
        raise ValueError("mine")

    bench.call(lambda: bench.start(coro()))
    bench.settle()
    kept.clear()
    bench.outcomes.clear()
    gc.collect()
    assert bench.errors == []


def test_cancelling_itself_without_suspending(bench: Bench) -> None:
    async def coro() -> int:
        this_task().cancel()
        return 1

    bench.call(lambda: bench.start(coro()))
    [(result, exception)] = bench.outcomes
    assert result is None
    assert isinstance(exception, asyncio.CancelledError)
    bench.settle()
    assert bench.run(asyncio.sleep(0, "next")) == "next"


# Nesting


def test_a_first_step_that_starts_others(bench: Bench) -> None:
    seen = []

    async def coro(depth: int, suspend: bool) -> int:
        task = asyncio.current_task()
        if depth:
            bench.start(coro(depth - 1, suspend))
            assert asyncio.current_task() is task
        if suspend:
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
        seen.append(task)
        return depth

    for suspend in False, True:
        bench.call(lambda suspend=suspend: bench.start(coro(3, suspend)))
        bench.settle()
        assert len(set(map(id, seen))) == 4
        assert sorted(result for result, _ in bench.outcomes) == [0, 1, 2, 3]
        seen.clear()
        bench.outcomes.clear()


@pytest.mark.parametrize("suspend", [False, True])
def test_start_inside_a_task_keeps_that_task_current(bench: Bench, suspend: bool) -> None:
    async def user() -> None:
        task = asyncio.current_task()
        started = bench.start(asyncio.sleep(0, 1) if suspend else returns(1))
        assert (started is not None) is suspend
        assert asyncio.current_task() is task
        bench.start(raises(ValueError()))
        assert asyncio.current_task() is task
        await asyncio.sleep(0.005)
        assert asyncio.current_task() is task

    bench.loop.run_until_complete(user())
    assert (1, None) in bench.outcomes
    assert len(bench.outcomes) == 2


def test_done_may_start_the_next_one(bench: Bench) -> None:
    order = []

    def follow(n: int, result: object, exception: BaseException | None) -> None:
        order.append(result)
        if n:
            bench.starter.start(returns(n) if n % 2 else asyncio.sleep(0, n), partial(follow, n - 1))

    bench.call(lambda: bench.starter.start(returns("go"), partial(follow, 6)))
    bench.settle(30)
    assert order == ["go", 6, 5, 4, 3, 2, 1]
