"""Runs an app on an event loop of its own in a thread, so that blocking clients can be tested against it."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from fastws.serving.reactors import reactor_of

# How long is waited for what should become so, as a factor: more under sanitizers, less where failing is meant.
PATIENCE = float(os.environ.get("PATIENCE", "1"))
SETTLE_TURNS = 6  # loop iterations after which what had arrived was read, handled and answered


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def on_loop(loop_kind: str, coroutine: Any) -> Any:
    loop = new_loop(loop_kind)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


class ServerThread:
    """`app.start` on a fresh loop, on loopback unless told `where`; `call` reaches into that loop; `stop` ends server,
    loop and thread."""

    def __init__(self, app: Any, loop_kind: str, **where: Any) -> None:
        self.app = app
        self._where = where or {"host": "127.0.0.1", "port": 0}
        self.port = 0
        self.server: Any = None
        self.loop_errors: list[dict[str, Any]] = []  # what the loop's exception handler was given
        self.leaked_tasks: list[str] = []
        self._loop_kind = loop_kind
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._thread.start()
        assert self._ready.wait(10 * PATIENCE), "the server did not start"
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        self.loop = new_loop(self._loop_kind)
        self.loop.set_exception_handler(lambda loop, context: self.loop_errors.append(context))
        try:
            self.loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failed = error
        finally:
            self._ready.set()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        self.server = await self.app.start(**self._where)
        self.port = self.server.port
        self._ready.set()
        await self._end.wait()
        await self.server.stop(1.0)
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        self.leaked_tasks = [repr(task) for task in left]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def call(self, function: Callable[..., Any], *args: Any, timeout: float = 10.0) -> Any:
        """The result of `function(*args)` run on the loop; a coroutine is awaited there."""

        async def run() -> Any:
            result = function(*args)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout * PATIENCE)

    def settle(self) -> None:
        """Returns when the server has handled what had arrived (loopback delivers before `send` returns)."""

        async def turns() -> None:
            for _ in range(SETTLE_TURNS):
                await asyncio.sleep(0)

        self.call(turns)

    @property
    def reactor(self) -> Any:
        return reactor_of(self.loop)

    def hold_clock(self) -> ServerThread:
        """No time passes for the server's deadlines but through advance()."""
        self.call(self.reactor.hold_clock)
        return self

    def advance(self, seconds: float) -> None:
        """Sets the clock of the server's deadlines ahead. What had arrived came in time."""
        self.call(self.reactor.advance, seconds)
        self.settle()

    def advance_until(self, seconds: float, check: Callable[[], Any], what: str = "") -> None:
        """Lets `seconds` pass again and again until the check holds: what the kernel of a peer that does not read still
        takes, however late, gives that peer its time anew."""

        def passed() -> Any:
            self.advance(seconds)
            return check()

        eventually(passed, what=what)

    def stats(self) -> Any:
        return self.call(self.app.stats)

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def stop_server(self, timeout: float = 1.0) -> None:
        """`server.stop` alone: the loop goes on."""
        self.call(self.server.stop, timeout, timeout=timeout + 10)

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._end.set)
            self._thread.join(20 * PATIENCE)
            assert not self._thread.is_alive(), "the server's thread did not end"
        if self._failed is not None:
            raise self._failed


def eventually(check: Callable[..., Any], within: float = 3.0, what: str = "") -> Any:
    """`check()` as soon as it is true; fails with its last value after `within` seconds."""
    deadline = time.monotonic() + within * PATIENCE
    while True:
        late = time.monotonic() > deadline  # before the check: a process that was held up looks once more
        if value := check():
            return value
        if late:
            raise AssertionError(f"{what or 'not so'} within {within} s: {value!r}")
        time.sleep(0.005)
