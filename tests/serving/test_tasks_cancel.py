"""Coroutines that are cancelled, and what becomes of them when the starter or the loop ends."""

import asyncio
import gc
import sys
from typing import Any

import pytest
from harness.tasks import Bench, returns, this_task

from fastws.serving.tasks import Starter

# Cancellation


async def sleeper(log: list[object], seconds: float = 5) -> None:
    log.append("started")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError as exc:
        log.append(("cancelled", *exc.args))
        raise
    finally:
        log.append("cleaned up")


@pytest.mark.parametrize(("turns", "seconds"), [(0, 0), (0, 5), (1, 5), (2, 5)])
def test_cancel(bench: Bench, turns: int, seconds: float) -> None:
    log: list[object] = []

    def callback() -> asyncio.Task[Any]:
        task = bench.start(sleeper(log, seconds))
        assert task is not None
        if turns == 0:
            task.cancel("why")
            assert log == ["started"]
        return task

    task = bench.call(callback)
    if turns > 0:
        bench.settle(turns)
        task.cancel("why")
    bench.finish(task)
    assert log == ["started", ("cancelled", "why"), "cleaned up"]
    [(result, exception)] = bench.outcomes
    assert result is None
    assert isinstance(exception, asyncio.CancelledError)
    assert task.cancelled()
    assert bench.run(asyncio.sleep(0, "next")) == "next"


@pytest.mark.parametrize("later", [False, True])
def test_cancel_reaches_what_is_awaited(bench: Bench, later: bool) -> None:
    log: list[object] = []

    inner: asyncio.Task[None]

    async def coro() -> None:
        await inner

    def callback() -> asyncio.Task[Any]:
        nonlocal inner
        inner = bench.loop.create_task(sleeper(log))
        task = bench.start(coro())
        assert task is not None
        bench.loop.call_soon(task.cancel) if later else task.cancel()
        return task

    bench.finish(bench.call(callback))
    assert inner.cancelled()
    assert isinstance(bench.outcomes[0][1], asyncio.CancelledError)


def test_a_refused_cancellation(bench: Bench) -> None:
    async def coro() -> str:
        task = this_task()
        task.cancel()
        try:
            await bench.loop.create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    assert bench.run(coro()) == "went on"


def test_cancelling_itself_before_a_bare_yield(bench: Bench) -> None:
    log: list[object] = []

    async def coro() -> None:
        this_task().cancel("self")
        await sleeper(log, 0)

    task = bench.call(lambda: bench.start(coro()))
    assert task is not None
    bench.finish(task)
    assert log == ["started", ("cancelled", "self"), "cleaned up"]
    assert task.cancelled()


# The end


@pytest.mark.parametrize("turns", [0, 5])
def test_close_leaves_nothing(loop: asyncio.AbstractEventLoop, entry: str, turns: int) -> None:
    bench = Bench(loop, entry)
    bench.call(lambda: bench.start(returns(1)))
    if turns:
        bench.settle(turns)
    bench.starter.close()
    bench.starter.close()
    loop.close()
    gc.collect()
    assert bench.errors == []


def test_close_lets_go_on_what_was_started(bench: Bench) -> None:
    def callback() -> asyncio.Task[Any] | None:
        task = bench.start(asyncio.sleep(0.005, "late"))
        bench.starter.close()
        return task

    bench.finish(bench.call(callback))
    assert bench.outcomes == [("late", None)]


def test_start_after_close_keeps_no_spare(bench: Bench) -> None:
    bench.starter.close()
    assert bench.call(lambda: bench.start(returns(1))) is None
    assert bench.run(asyncio.sleep(0, 2)) == 2
    assert bench.outcomes == [(1, None), (2, None)]


def test_asyncio_run_ends_what_is_still_running(loop: asyncio.AbstractEventLoop) -> None:
    log: list[object] = []
    outcomes: list[tuple[object, BaseException | None]] = []

    async def main() -> None:
        starter = Starter(asyncio.get_running_loop())
        starter.start(returns(1), lambda *outcome: outcomes.append(outcome))
        await asyncio.sleep(0)
        starter.start(sleeper(log), lambda *outcome: outcomes.append(outcome))

    asyncio.run(main())
    assert log == ["started", ("cancelled",), "cleaned up"]
    assert outcomes[0] == (1, None)
    assert isinstance(outcomes[1][1], asyncio.CancelledError)


def test_a_coroutine_that_is_dropped_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    log: list[object] = []

    async def coro() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log.append(sys.exc_info()[0])

    bench = Bench(loop, "call_soon")
    task = bench.call(lambda: bench.start(coro()))
    bench.settle()
    bench.starter.close()
    loop.close()
    del task
    gc.collect()
    assert log == [GeneratorExit]
    assert len(bench.errors) == 1  # as for any task: destroyed but pending
