"""The rest of the soak's server: an application that forks, that acts on connections from a logging handler, and that
uses them where the stack ends."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastws

MOST_CHILDREN = 2  # of those that do nothing; others end at once
LONGEST = 30.0  # seconds, for a child that is forgotten
WAYS: dict[str, dict[str, Any]] = {"run": {}, "preexec": {"preexec_fn": int, "close_fds": False}}
LINE = 20_000  # characters that viewers of the log are sent for each line, so that those who do not read fall behind

threads = ThreadPoolExecutor(2)  # few, which are soon there: they count as allocated
children: dict[int, Any] = {}
by_address: dict[Any, Any] = {}


# A child has every descriptor that was open when it was forked, until it executes another program or ends.


class Fork:
    """Forks in the way that each message names. The answer comes when that has been done."""

    async def message(self, ws: Any, how: str) -> None:
        if how in WAYS:
            run = functools.partial(subprocess.run, ["true"], env={}, check=True, **WAYS[how])
            await asyncio.get_running_loop().run_in_executor(threads, run)
        elif how == "keep":
            fork(LONGEST, ws)
        elif how == "release":
            release()
        elif how == "terminate":
            ws.terminate()
        elif len(children) < MOST_CHILDREN:
            fork(1.5, ws)
        ws.send(how)


def fork(seconds: float, ws: Any) -> None:
    """A child that does nothing. While it is there the connection is referred to, also if it has ended."""
    pid = os.fork()
    if not pid:
        time.sleep(seconds)
        os._exit(0)
    children[pid] = ws
    reap(pid)


def reap(pid: int) -> None:
    if os.waitpid(pid, os.WNOHANG) == (0, 0):
        asyncio.get_running_loop().call_later(0.1, reap, pid)
    else:
        del children[pid]


def release() -> None:
    for pid in children:
        os.kill(pid, signal.SIGKILL)


class Meddler(logging.Handler):
    """Publishes what is logged. Where a line is about a peer, it does something with its connection, or it raises."""

    def __init__(self, app: fastws.App) -> None:
        super().__init__()
        self.app = app
        self.rng = random.Random("meddler")

    def emit(self, record: logging.LogRecord) -> None:
        self.app.publish("log", record.getMessage().ljust(LINE))
        if not isinstance(record.args, tuple) or not record.args or not isinstance(record.args[0], tuple):
            return
        ws = by_address.get(record.args[0])
        choice = self.rng.randrange(5)
        if choice == 0:
            raise Meddled
        if ws is not None and choice == 1:
            ws.terminate()
        elif ws is not None and choice == 2:
            ws.close(4001, "logged")
        elif ws is not None and choice == 3:
            ws.send("you have been logged")


class Meddled(Exception):
    """What the logging handler raises."""


class Logged:
    """Connections that the logging handler knows."""

    def open(self, ws: Any) -> None:
        by_address[ws.remote_address] = ws

    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)

    def close(self, ws: Any, code: int, reason: str) -> None:
        by_address.pop(ws.remote_address, None)


class Log:
    def open(self, ws: Any) -> None:
        ws.subscribe("log")


class Deep:
    """Looks how deep the brackets of a message are nested; where they are nested too deep, it says so or closes. That
    is tried again one call further up while it raises, so that each of its steps comes to the end of the stack."""

    def message(self, ws: Any, data: str) -> Any:
        if ws.path_params["when"] == "later":
            return self.later(ws, data)
        return self.now(ws, data)

    def now(self, ws: Any, data: str) -> None:
        if ws.path_params["how"] == "close":
            too_deep = functools.partial(ws.close, 1008, "too deep")
        else:
            too_deep = functools.partial(ws.send, "too deep")
        nesting(data, 0, too_deep)

    async def later(self, ws: Any, data: str) -> None:
        await asyncio.sleep(0)
        self.now(ws, data)


def nesting(data: str, depth: int, too_deep: Callable[[], object]) -> int:
    if data[depth : depth + 1] != "(":
        return depth
    try:
        return nesting(data, depth + 1, too_deep)
    except RecursionError:
        too_deep()
        return depth


def add(app: fastws.App) -> None:
    app.websocket("/fork")(Fork)
    app.websocket("/log", max_backpressure=10_000, max_burst=0)(Log)
    app.websocket("/logged", ping_interval=1, ping_timeout=1)(Logged)
    app.websocket("/deep/{how}/{when}", close_timeout=1)(Deep)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    logging.getLogger().addHandler(Meddler(app))  # the last, so that every line has been written
