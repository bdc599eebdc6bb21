"""Runs a server until a signal ends it: `App.run`, and so the command line."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Literal

from fastws import _speedups
from fastws.running import process
from fastws.running.signals import SIGNALS, keep_signals, restore_signals
from fastws.serving.logs import to_terminal, write
from fastws.serving.server import CANCEL_TIMEOUT, Server

Loop = Literal["auto", "uvloop", "asyncio"]

log = logging.getLogger("fastws")

#: Whether the command line imports the application, which it is going to run itself.
importing: ContextVar[bool] = ContextVar("importing", default=False)


class RunWhileImported(RuntimeError):
    """`App.run` while the command line imports the application."""


def run(
    start: Callable[[], Awaitable[Server]], loop: Loop, shutdown_timeout: float, log_level: int = logging.INFO
) -> None:
    """Serve what `start` starts, as `App.run` says. `log_level`: see to_terminal()."""
    if importing.get():
        raise RunWhileImported('app.run() while it is imported: put it under `if __name__ == "__main__":`')
    if _is_loop_running():
        raise RuntimeError("app.run() is for the main thread, outside of a loop: here use `await app.start()`")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "app.run() is for the main thread, where signals arrive: in another one, asyncio.run() a coroutine "
            "that has `async with await app.start():`"
        )
    _speedups.keep_freed_memory()
    process.raise_open_files()
    process.need_open_files()
    keep_signals()
    try:
        with to_terminal(log_level):
            _run(_new_loop(loop), lambda: _serve(start, shutdown_timeout))
    finally:
        restore_signals()


async def _serve(start: Callable[[], Awaitable[Server]], shutdown_timeout: float) -> None:
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def interrupt() -> None:
        (second if first.is_set() else first).set()

    for number in SIGNALS:
        loop.add_signal_handler(number, interrupt)
    stop, force = asyncio.ensure_future(first.wait()), asyncio.ensure_future(second.wait())
    starting = asyncio.ensure_future(start())
    await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # the lifespan is being entered
        write(log, logging.INFO, "stopping before it has started")
        starting.cancel()
        await asyncio.wait((starting, force), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done() or starting.cancelled():
            return
    server = await starting
    closed = asyncio.ensure_future(server.wait_closed())  # before a signal comes, where the lifespan fails
    closed.add_done_callback(lambda task: task.cancelled() or task.exception())  # stop() raises that as well
    await asyncio.wait((stop, closed), return_when=asyncio.FIRST_COMPLETED)
    write(log, logging.INFO, "stopping: %d connections to close", len(server.connections))
    stopping = asyncio.ensure_future(server.stop(shutdown_timeout))
    await asyncio.wait((stopping, force), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        write(log, logging.INFO, "stopping at once")
        for number in SIGNALS:
            loop.remove_signal_handler(number)  # a third signal is the interpreter's: it gets out of anything
        await asyncio.gather(server.stop(0), stopping, return_exceptions=True)
    await stopping


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _new_loop(kind: Loop) -> asyncio.AbstractEventLoop:
    if kind not in ("auto", "uvloop", "asyncio"):
        raise ValueError(f"loop={kind!r} is not known: give 'auto', 'uvloop' or 'asyncio'")
    if kind != "asyncio":
        try:
            import uvloop
        except ImportError:
            if kind == "uvloop":
                raise ImportError("uvloop is not installed: install it, or give loop='auto'") from None
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _run(loop: asyncio.AbstractEventLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """`asyncio.run`, but for a task that ignores its cancellation or a thread that goes on: neither is waited for
    longer than CANCEL_TIMEOUT."""
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main())
    finally:
        try:
            loop.run_until_complete(_end_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
