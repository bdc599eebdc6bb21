"""Coroutines started as the server starts them, from plain callbacks of a loop."""

import asyncio
import socket


class Bench:
    """Starts coroutines from plain callbacks of a loop and keeps what `done` was told."""

    def __init__(self, loop, entry):
        from fastws.serving.tasks import Starter

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


async def returns(value):
    return value


async def raises(exception):
    raise exception
