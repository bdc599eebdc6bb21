import asyncio
import contextvars
import gc
import socket
import sys
import weakref
from functools import partial

import pytest

from fastws.tasks import TASK_NAME, Starter

BEFORE_EAGER = sys.version_info < (3, 12)
VAR = contextvars.ContextVar("VAR", default="unset")

try:
    import anyio
except ImportError:  # pragma: no cover
    anyio = None
try:
    import uvloop
except ImportError:  # pragma: no cover
    uvloop = None


class Bench:
    """Starts coroutines from plain callbacks of a loop and keeps what `done` was told."""

    def __init__(self, loop, entry):
        self.loop, self.entry = loop, entry
        self.starter = Starter(loop)
        self.outcomes = []
        self.errors = []
        loop.set_exception_handler(lambda _, context: self.errors.append(context))

    def done(self, result, exception):
        self.outcomes.append((result, exception))

    def start(self, coro):
        return self.starter.start(coro, self.done)

    def call(self, function):
        """Call `function` from a bare callback of the running loop; return its result."""
        future = self.loop.create_future()

        def callback():
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
        with ours, theirs:
            theirs.send(b"x")
            self.loop.add_reader(ours, lambda: (self.loop.remove_reader(ours), callback()))
            return self.loop.run_until_complete(future)

    def settle(self, turns=5):
        async def wait():
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    def finish(self, task):
        """Run until a suspended coroutine has ended and `done` has been told."""
        if task is not None:
            self.loop.run_until_complete(asyncio.wait([task], timeout=5))
            assert task.done()
        self.settle()

    def run(self, coro):
        """Start a coroutine that suspends, run it to its end; return what it returned or raise what it raised."""
        before = len(self.outcomes)

        def callback():
            task = self.start(coro)
            assert isinstance(task, asyncio.Task)
            assert len(self.outcomes) == before
            return task

        self.finish(self.call(callback))
        [(result, exception)] = self.outcomes[before:]
        if exception is not None:
            raise exception
        return result


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    if request.param == "uvloop" and uvloop is None:
        pytest.skip("uvloop is not installed")
    loop = uvloop.new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(params=["call_soon", "add_reader"])
def entry(request):
    return request.param


@pytest.fixture(params=["fresh spare", "parked spare"])
def bench(loop, entry, request):
    """A parked spare has served a coroutine that did not suspend, and waits; a fresh one has not been stepped yet."""
    bench = Bench(loop, entry)
    if request.param == "parked spare":
        assert bench.call(lambda: bench.start(returns(0))) is None
        bench.settle()
        bench.outcomes.clear()
    yield bench
    bench.starter.close()
    bench.settle()
    assert asyncio.all_tasks(loop) == set()
    del bench.starter
    gc.collect()
    bench.settle()
    assert bench.errors == []


@pytest.fixture
def made(monkeypatch):
    """The names of all tasks made during a test."""
    names = []

    class CountingTask(asyncio.Task):
        def __init__(self, coro, **options):
            names.append(options.get("name"))
            super().__init__(coro, **options)

    monkeypatch.setattr(asyncio, "Task", CountingTask)
    return names


async def returns(value):
    return value


async def raises(exception):
    raise exception


# Without suspension


def test_a_coroutine_that_does_not_suspend_is_done_at_once(bench):
    seen = []

    async def coro():
        seen.append((asyncio.current_task(), asyncio.get_running_loop()))
        return 42

    def callback():
        assert bench.start(coro()) is None
        assert bench.outcomes == [(42, None)]

    bench.call(callback)
    [(task, loop)] = seen
    assert isinstance(task, asyncio.Task)
    assert task.get_name() == TASK_NAME
    assert loop is bench.loop


@pytest.mark.before(3, 12)  # an eager task is made for each since
def test_no_task_is_made_for_coroutines_that_do_not_suspend(loop, entry, made):
    bench = Bench(loop, entry)
    for _ in range(3):
        bench.call(lambda: [bench.start(returns(1)) for _ in range(10)])
    assert made == [TASK_NAME]
    assert bench.outcomes == [(1, None)] * 30
    assert bench.call(lambda: asyncio.all_tasks(loop)) == set()
    bench.starter.close()


@pytest.mark.before(3, 12)  # an eager task is made for each since
def test_one_task_is_made_for_each_coroutine_that_suspends(loop, entry, made):
    bench = Bench(loop, entry)
    tasks = bench.call(lambda: [bench.start(asyncio.sleep(0, i)) for i in range(10)])
    for task in tasks:
        bench.finish(task)
    assert made == [TASK_NAME] * 10
    assert sorted(result for result, _ in bench.outcomes) == list(range(10))
    bench.starter.close()


async def fails():
    raise ValueError


@pytest.mark.before(3, 12)  # an eager task is made for each since
def test_nothing_is_left_for_the_garbage_collector(bench):
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
def test_an_exception_at_once(bench, exception):
    def callback():
        assert bench.start(raises(exception)) is None
        [(result, raised)] = bench.outcomes
        assert result is None
        # an eager task makes a CancelledError of its own
        assert raised is exception or type(raised) is type(exception) is asyncio.CancelledError

    bench.call(callback)
    assert bench.call(lambda: bench.start(returns(1))) is None


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_program_is_told_and_raised(bench, exception):
    def callback():
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


def test_done_runs_outside_of_the_task(bench):
    seen = []

    def callback():
        for coro in returns(1), asyncio.sleep(0), raises(ValueError()):
            bench.starter.start(coro, lambda result, exception: seen.append(asyncio.current_task()))

    bench.call(callback)
    bench.settle()
    assert seen == [None, None, None]


def test_what_done_raises_comes_out_of_start(bench):
    def done(result, exception):
        raise LookupError

    def callback():
        with pytest.raises(LookupError):
            bench.starter.start(returns(1), done)

    bench.call(callback)


# A task that somebody remembers must not turn up again under another coroutine.


@pytest.mark.parametrize("keep", [lambda task: task, weakref.ref, lambda task: task.cancel])
def test_a_remembered_task_is_not_reused(bench, keep):
    kept = []

    async def remember():
        kept.append(keep(asyncio.current_task()))
        return "first"

    async def compare():
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


def test_a_callback_added_in_the_first_step_is_called(bench):
    results = []

    async def coro():
        asyncio.current_task().add_done_callback(lambda task: results.append(task.result()))
        return 7

    bench.call(lambda: bench.start(coro()))
    bench.settle()
    assert results == [7]


def test_an_exception_in_a_remembered_task_is_not_logged(bench):
    kept = []

    async def coro():
        kept.append(asyncio.current_task())
        raise ValueError("mine")

    bench.call(lambda: bench.start(coro()))
    bench.settle()
    kept.clear()
    bench.outcomes.clear()
    gc.collect()
    assert bench.errors == []


def test_cancelling_itself_without_suspending(bench):
    async def coro():
        asyncio.current_task().cancel()
        return 1

    bench.call(lambda: bench.start(coro()))
    [(result, exception)] = bench.outcomes
    assert result is None
    assert isinstance(exception, asyncio.CancelledError)
    bench.settle()
    assert bench.run(asyncio.sleep(0, "next")) == "next"


# With suspension


def test_a_bare_yield(bench):
    async def coro():
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is before
        return "end"

    assert bench.run(coro()) == "end"


def test_a_bare_yield_lasts_one_turn_of_the_loop(bench):
    order = []

    async def coro():
        order.append("first")
        await asyncio.sleep(0)
        order.append("second")

    def callback():
        bench.start(coro())
        order.append("returned")

    bench.call(callback)
    bench.settle(2)
    assert order == ["first", "returned", "second"]


def test_the_task_is_the_same_from_first_to_last(bench):
    seen = []

    async def coro():
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


def test_a_future(bench):
    future = bench.loop.create_future()

    async def coro():
        return await future

    bench.loop.call_later(0.005, future.set_result, "value")
    assert bench.run(coro()) == "value"


def test_a_future_that_is_done_before_the_next_turn(bench):
    future = bench.loop.create_future()

    async def coro():
        return await future

    def callback():
        task = bench.start(coro())
        future.set_result("early")
        return task

    bench.finish(bench.call(callback))
    assert bench.outcomes == [("early", None)]


def test_a_future_that_others_await_too(bench):
    future = bench.loop.create_future()

    async def coro():
        return await future

    async def other():
        return await future

    def callback():
        others = [bench.loop.create_task(other()), bench.start(coro())]
        bench.loop.call_soon(future.set_result, 1)
        return [*others, bench.loop.create_task(other())]

    for task in bench.call(callback):
        bench.finish(task)
        assert task.result() == 1
    assert bench.outcomes == [(1, None)]


def test_a_future_that_fails(bench):
    future = bench.loop.create_future()

    async def coro():
        try:
            await future
        except ValueError:
            await asyncio.sleep(0)
            raise KeyError from None

    bench.loop.call_later(0.005, future.set_exception, ValueError())
    with pytest.raises(KeyError):
        bench.run(coro())


@pytest.mark.parametrize("base", [BaseException, GeneratorExit, Exception])
def test_an_exception_after_suspension(bench, base):
    class Odd(base):
        pass

    async def coro():
        await asyncio.sleep(0)
        raise Odd

    with pytest.raises(Odd):
        bench.run(coro())


def test_gather(bench):
    async def coro():
        return await asyncio.gather(asyncio.sleep(0.002, 1), asyncio.sleep(0, 2), returns(3))

    assert bench.run(coro()) == [1, 2, 3]


@pytest.mark.parametrize("what", ["foreign future", "self", "bad yield", "yield without await"])
def test_what_cannot_be_awaited_raises_inside_as_in_any_task(bench, what):
    class Yields:
        def __init__(self, value):
            self.value = value

        def __await__(self):
            yield self.value

    foreign = asyncio.new_event_loop()

    async def coro():
        target = {
            "foreign future": foreign.create_future(),
            "self": asyncio.current_task(),
            "bad yield": Yields(17),
            "yield without await": Yields(bench.loop.create_future()),
        }[what]
        try:
            await target
        except RuntimeError as exc:
            return str(exc)

    assert isinstance(bench.run(coro()), str)
    foreign.close()


def test_context_variables_last_over_suspension_and_do_not_leak(bench):
    async def coro(value):
        before = VAR.get()
        VAR.set(value)
        await asyncio.sleep(0)
        first = VAR.get()
        VAR.set(first + "!")
        await asyncio.sleep(0.001)
        return before, VAR.get()

    async def at_once():
        before = VAR.get()
        VAR.set("leaked?")
        return before

    def callback():
        VAR.set("caller")
        bench.start(at_once())
        tasks = [bench.start(coro("a")), bench.start(coro("b"))]
        bench.start(at_once())
        assert VAR.get() == "caller"
        return tasks

    for task in contextvars.copy_context().run(bench.call, callback):
        bench.finish(task)
    assert [result for result, _ in bench.outcomes] == ["caller", "caller", ("caller", "a!"), ("caller", "b!")]


# Timeouts and structured concurrency


@pytest.mark.since(3, 11)
@pytest.mark.parametrize("delay", [-1, 0, 0.005])
@pytest.mark.parametrize("sleep", [0, 5])
def test_timeout_that_expires(bench, delay, sleep):
    async def coro():
        task = asyncio.current_task()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay):
                while True:
                    await asyncio.sleep(sleep)
        assert asyncio.current_task() is task
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        return "after"

    assert bench.run(coro()) == "after"


@pytest.mark.since(3, 11)
def test_timeout_that_does_not_expire_costs_no_task(bench):
    async def coro():
        async with asyncio.timeout(5):
            return 1

    bench.call(lambda: bench.start(coro()))
    assert bench.outcomes == [(1, None)]


@pytest.mark.since(3, 11)
@pytest.mark.parametrize("fails", [False, True])
def test_task_group(bench, fails):
    async def coro():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(5 if fails else 0))
                group.create_task(raises(ValueError()) if fails else returns(1))
        except BaseException as exc:
            assert type(exc).__name__ == "ExceptionGroup"
            return "failed"
        return "fine"

    assert bench.run(coro()) == ("failed" if fails else "fine")


def test_wait_for(bench):
    async def coro():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(bench.loop.create_future(), 0.005)
        return await asyncio.wait_for(asyncio.sleep(0, "in time"), 5)

    assert bench.run(coro()) == "in time"


@pytest.mark.skipif(anyio is None, reason="anyio is not installed")
def test_anyio_cancel_scopes(bench):
    async def coro():
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
def test_anyio_scope_cancelled_in_the_first_step(bench):
    async def coro():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(5)
        return scope.cancelled_caught

    assert bench.run(coro()) is True


# Cancellation


async def sleeper(log, seconds=5):
    log.append("started")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError as exc:
        log.append(("cancelled", *exc.args))
        raise
    finally:
        log.append("cleaned up")


@pytest.mark.parametrize(("turns", "seconds"), [(0, 0), (0, 5), (1, 5), (2, 5)])
def test_cancel(bench, turns, seconds):
    log = []

    def callback():
        task = bench.start(sleeper(log, seconds))
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
def test_cancel_reaches_what_is_awaited(bench, later):
    log = []

    async def coro():
        await inner

    inner = None

    def callback():
        nonlocal inner
        inner = bench.loop.create_task(sleeper(log))
        task = bench.start(coro())
        bench.loop.call_soon(task.cancel) if later else task.cancel()
        return task

    bench.finish(bench.call(callback))
    assert inner.cancelled()
    assert isinstance(bench.outcomes[0][1], asyncio.CancelledError)


def test_a_refused_cancellation(bench):
    async def coro():
        task = asyncio.current_task()
        task.cancel()
        try:
            await bench.loop.create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    assert bench.run(coro()) == "went on"


def test_cancelling_itself_before_a_bare_yield(bench):
    log = []

    async def coro():
        asyncio.current_task().cancel("self")
        await sleeper(log, 0)

    task = bench.call(lambda: bench.start(coro()))
    bench.finish(task)
    assert log == ["started", ("cancelled", "self"), "cleaned up"]
    assert task.cancelled()


# Nesting


def test_a_first_step_that_starts_others(bench):
    seen = []

    async def coro(depth, suspend):
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
def test_start_inside_a_task_keeps_that_task_current(bench, suspend):
    async def user():
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


def test_done_may_start_the_next_one(bench):
    order = []

    def follow(n, result, exception):
        order.append(result)
        if n:
            bench.starter.start(returns(n) if n % 2 else asyncio.sleep(0, n), partial(follow, n - 1))

    bench.call(lambda: bench.starter.start(returns("go"), partial(follow, 6)))
    bench.settle(30)
    assert order == ["go", 6, 5, 4, 3, 2, 1]


# The end


@pytest.mark.parametrize("turns", [0, 5])
def test_close_leaves_nothing(loop, entry, turns):
    bench = Bench(loop, entry)
    bench.call(lambda: bench.start(returns(1)))
    if turns:
        bench.settle(turns)
    bench.starter.close()
    bench.starter.close()
    loop.close()
    gc.collect()
    assert bench.errors == []


def test_close_lets_go_on_what_was_started(bench):
    task = bench.call(lambda: (bench.start(asyncio.sleep(0.005, "late")), bench.starter.close())[0])
    bench.finish(task)
    assert bench.outcomes == [("late", None)]


def test_start_after_close_keeps_no_spare(bench):
    bench.starter.close()
    assert bench.call(lambda: bench.start(returns(1))) is None
    assert bench.run(asyncio.sleep(0, 2)) == 2
    assert bench.outcomes == [(1, None), (2, None)]


def test_asyncio_run_ends_what_is_still_running(loop):
    log, outcomes = [], []

    async def main():
        starter = Starter(asyncio.get_running_loop())
        starter.start(returns(1), lambda *outcome: outcomes.append(outcome))
        await asyncio.sleep(0)
        starter.start(sleeper(log), lambda *outcome: outcomes.append(outcome))

    asyncio.run(main())
    assert log == ["started", ("cancelled",), "cleaned up"]
    assert outcomes[0] == (1, None)
    assert isinstance(outcomes[1][1], asyncio.CancelledError)


def test_a_coroutine_that_is_dropped_is_closed(loop):
    log = []

    async def coro():
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


def test_a_coroutine_of_another_make(bench):
    """Compiled coroutines are of a class of their own."""

    class Compiled:
        def __init__(self):
            self.inner = asyncio.sleep(0, "compiled")

        def __await__(self):
            return self.inner.__await__()

        def send(self, value):
            return self.inner.send(value)

        def throw(self, *args):
            return self.inner.throw(*args)

        def close(self):
            self.inner.close()

    assert bench.run(Compiled()) == "compiled"
