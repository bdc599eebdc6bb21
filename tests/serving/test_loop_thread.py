"""The thread of a server is the one in which its loop runs, not the one in which it was started."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import PATIENCE, RawClient, Recorder, Traps, at_rest, eventually, make_app, new_loop, unaccounted

WRONG = "belongs to the thread of its event loop"


class Moving:
    """A server on a loop that runs in this thread, and in threads of its own."""

    def __init__(self, loop_kind: str) -> None:
        self.recorder = Recorder()
        self.app = make_app(Everything(self.recorder))
        self.loop = new_loop(loop_kind)
        self.server = self.here(self.app.start("127.0.0.1", 0))
        self.thread: threading.Thread | None = None

    def here(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def move(self) -> None:
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        eventually(self.loop.is_running)

    def there(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def call() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(10 * PATIENCE)

    def rest(self) -> None:
        assert self.thread is not None
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.thread = None

    def client(self) -> RawClient:
        """One that connects while the loop runs here."""

        async def opened() -> RawClient:
            client = await self.loop.run_in_executor(None, RawClient.open, self.server.port)
            while not self.recorder.sockets:
                await asyncio.sleep(0)
            return client

        return self.here(opened())  # type: ignore[no-any-return]


class Everything:
    """Each of its callbacks uses what only the loop's thread may."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def open(self, ws: Any) -> None:
        self.recorder.sockets.append(ws)
        ws.subscribe("room")

    async def message(self, ws: Any, data: Any) -> None:
        ws.pause_reading()
        ws.resume_reading()
        ws.ping(b"")
        await ws.drained()
        ws.send(data)
        await asyncio.sleep(0)
        assert ws.publish("room", data) == 0
        ws.unsubscribe("room")
        ws.subscribe("room")
        if data == "close":
            ws.close(4000)


@pytest.fixture
def moving(loop_kind: str, no_leaked_fds: None, traps: Traps) -> Iterator[Moving]:
    moving = Moving(loop_kind)
    yield moving
    if moving.thread is not None:
        moving.rest()
    for client in list(RawClient.opened):
        client.close()
    moving.here(moving.server.stop(1))
    moving.here(moving.loop.shutdown_default_executor())
    moving.loop.close()
    stats = moving.app.stats()
    vars(moving).clear()  # the last test's fixtures live on until the session's end
    assert not any(at_rest(stats).values()) and not unaccounted(stats)


def refused(moving: Moving) -> None:
    (ws,) = moving.recorder.sockets
    for use in (lambda: ws.send("x"), ws.close, ws.terminate, ws.pause_reading, lambda: ws.publish("room", "x")):
        with pytest.raises(RuntimeError, match=WRONG):
            use()


def expect(client: RawClient, text: str) -> None:
    while (frame := client.recv_frame()).payload != text.encode():
        assert frame.opcode == 9, frame  # a Ping


def expect_close(client: RawClient, code: int) -> None:
    assert client.recv_frame().payload[:2] == code.to_bytes(2, "big")
    client.send_close(code)
    client.expect_eof()


def test_started_here_and_run_there(moving: Moving) -> None:
    moving.move()
    client = RawClient.open(moving.server.port)
    for text in ("one", "two"):
        client.send(text)
        expect(client, text)
    refused(moving)
    assert moving.app.publish("room", "from here") == 0  # through the loop
    expect(client, "from here")
    assert moving.there(moving.app.publish, "room", "from there") == 1
    expect(client, "from there")
    client.send("close")
    expect(client, "close")
    expect_close(client, 4000)


def test_stopped_there(moving: Moving) -> None:
    moving.move()
    client = RawClient.open(moving.server.port)
    stopping = asyncio.run_coroutine_threadsafe(moving.server.stop(5), moving.loop)
    expect_close(client, 1001)
    client.close()
    stopping.result(10 * PATIENCE)


def test_stopped_in_another_loop(moving: Moving, loop_kind: str) -> None:
    """It is refused, and costs nobody a connection, whether the server's loop runs or rests."""
    client = moving.client()
    elsewhere = new_loop(loop_kind)

    def refuses() -> None:
        with pytest.raises(RuntimeError, match="a server belongs to its event loop"):
            elsewhere.run_until_complete(moving.server.stop(5))

    refuses()
    moving.move()
    refuses()
    client.send("still here")
    expect(client, "still here")
    moving.rest()
    moving.here(moving.server.stop(0))
    elsewhere.run_until_complete(moving.server.stop())  # there is nothing to do any more
    elsewhere.close()


@pytest.mark.parametrize("first", ["publish here", "publish there", "send there", "message"])
def test_moved_with_its_connections(moving: Moving, first: str) -> None:
    """Whatever comes first: what is published here must not wait until the loop wakes up for another reason."""
    client = moving.client()
    (ws,) = moving.recorder.sockets
    moving.move()
    if first == "publish here":
        assert moving.app.publish("room", "first") == 0
    elif first == "publish there":
        assert moving.there(moving.app.publish, "room", "first") == 1
    elif first == "send there":
        moving.there(ws.send, "first")
    else:
        client.send("first")
    expect(client, "first")
    client.send("then")
    expect(client, "then")
    refused(moving)


def test_moved_back_and_forth(moving: Moving) -> None:
    client = moving.client()
    (ws,) = moving.recorder.sockets
    for number in range(3):
        moving.move()
        client.send(f"there {number}")
        expect(client, f"there {number}")
        refused(moving)
        moving.rest()
        refused(moving)  # while it rests it is the other thread's still, although that is over

        async def use(number: int = number) -> None:
            assert moving.app.publish("room", f"here {number}") == 1
            ws.send(f"and here {number}")

        moving.here(use())
        ws.send(f"at rest {number}")  # which is this thread's now
        moving.here(asyncio.sleep(0))
        for text in ("here", "and here", "at rest"):
            expect(client, f"{text} {number}")
