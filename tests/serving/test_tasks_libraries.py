"""Timeouts and structured concurrency, of asyncio and of anyio."""

import asyncio
from typing import Any

import pytest
from harness.tasks import Bench, raises, returns, this_task

try:
    import anyio
except ImportError:  # pragma: no cover
    anyio = None  # type: ignore[assignment]

since_3_11: Any = asyncio  # mypy looks at 3.10


@pytest.mark.since(3, 11)
@pytest.mark.parametrize("delay", [-1, 0, 0.005])
@pytest.mark.parametrize("sleep", [0, 5])
def test_timeout_that_expires(bench: Bench, delay: float, sleep: float) -> None:
    async def coro() -> str:
        task: Any = this_task()
        with pytest.raises(TimeoutError):
            async with since_3_11.timeout(delay):
                while True:
                    await asyncio.sleep(sleep)
        assert task.cancelling() == 0
        assert asyncio.current_task() is task
        await asyncio.sleep(0)
        return "after"

    assert bench.run(coro()) == "after"


@pytest.mark.since(3, 11)
def test_timeout_that_does_not_expire_costs_no_task(bench: Bench) -> None:
    async def coro() -> int:
        async with since_3_11.timeout(5):
            return 1

    bench.call(lambda: bench.start(coro()))
    assert bench.outcomes == [(1, None)]


@pytest.mark.since(3, 11)
@pytest.mark.parametrize("fails", [False, True])
def test_task_group(bench: Bench, fails: bool) -> None:
    async def coro() -> str:
        try:
            async with since_3_11.TaskGroup() as group:
                group.create_task(asyncio.sleep(5 if fails else 0))
                group.create_task(raises(ValueError()) if fails else returns(1))
        except BaseException as exc:
            assert type(exc).__name__ == "ExceptionGroup"
            return "failed"
        return "fine"

    assert bench.run(coro()) == ("failed" if fails else "fine")


def test_wait_for(bench: Bench) -> None:
    async def coro() -> str:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(bench.loop.create_future(), 0.005)
        return await asyncio.wait_for(asyncio.sleep(0, "in time"), 5)

    assert bench.run(coro()) == "in time"


@pytest.mark.skipif(anyio is None, reason="anyio is not installed")
def test_anyio_cancel_scopes(bench: Bench) -> None:
    async def coro() -> str:
        with anyio.move_on_after(0.005) as scope:
            await anyio.sleep(5)
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0):
                await anyio.sleep(5)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(5)
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 5)
            group.cancel_scope.cancel()
        return "after"

    assert bench.run(coro()) == "after"


@pytest.mark.skipif(anyio is None, reason="anyio is not installed")
def test_anyio_scope_cancelled_in_the_first_step(bench: Bench) -> None:
    async def coro() -> bool:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(5)
        return scope.cancelled_caught

    assert bench.run(coro()) is True
