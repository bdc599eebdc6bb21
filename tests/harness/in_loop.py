"""Clients of a server that runs in the test's own loop: what of them blocks is done in a thread."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from .client import RawClient
from .server import PATIENCE


def echo_app(**options: Any) -> Any:
    import fastws

    app = fastws.App(**{"ping_interval": 0, **options})
    app.websocket("/")(lambda ws, data: ws.send(data))
    return app


async def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs what blocks, a client's part, in a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


async def client_of(port: int, path: str = "/", host: str = "127.0.0.1") -> RawClient:
    def connect() -> RawClient:
        client = RawClient(socket.create_connection((host, port)))
        client.handshake(path)
        return client

    client: RawClient = await elsewhere(connect)
    return client


async def echoes(client: RawClient) -> None:
    client.send("hello")
    assert await elsewhere(client.recv) == "hello"


async def serves(port: int, host: str = "127.0.0.1") -> None:
    client = await client_of(port, host=host)
    await echoes(client)
    client.close()


async def until(check: Callable[[], Any], within: float = 3.0) -> None:
    deadline = time.monotonic() + within * PATIENCE
    while True:
        late = time.monotonic() > deadline
        if check():
            return
        assert not late
        await asyncio.sleep(0.005)


def run_until(check: Callable[[], object], within: float = 5.0) -> None:
    """What nest_asyncio does in run_until_complete(): the loop that runs this runs on inside."""
    loop: Any = asyncio.get_running_loop()
    task = asyncio.current_task()
    deadline = time.monotonic() + within * PATIENCE
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    try:
        while not check():
            assert time.monotonic() < deadline, "what the nested loop waits for has not come"
            loop.call_later(0.005, lambda: None)  # so that it does not wait without end
            loop._run_once()
    finally:
        for _ in range(1000):  # the iteration outside takes as many as were ready before this one took some
            loop.call_soon(lambda: None)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


def unix_client(path: str) -> RawClient:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return RawClient(sock)


async def unix_echoes(path: str) -> None:
    client = await elsewhere(unix_client, path)
    await elsewhere(client.handshake)
    await echoes(client)
    client.close()
