"""Calling the user's code: in order across `def` and `async def`, one at a time, and whatever a handler may be."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator
from typing import Any

import pytest
from harness import CLOSE, PING, PONG, TEXT, RawClient, ServerThread, Serving, build, eventually, make_app


def frames(*messages: str) -> bytes:
    return b"".join(build(TEXT, message.encode()) for message in messages)


class Steps:
    """A handler whose `async def message` notes when it begins and ends, and waits for the gate unless told not to."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.gate = asyncio.Event()
        self.ws: Any = None

    def open(self, ws: Any) -> None:
        self.ws = ws
        self.events.append("open")

    async def message(self, ws: Any, data: str) -> None:
        self.events.append(f"{data} begins")
        try:
            if data.startswith("wait"):
                await self.gate.wait()
            elif data.startswith("sleep"):
                await asyncio.sleep(0)
            elif data.startswith("raise"):
                await asyncio.sleep(0)
                raise LookupError(data)
        except asyncio.CancelledError:
            self.events.append(f"{data} cancelled")
            raise
        self.events.append(f"{data} ends")

    def ping(self, ws: Any, data: bytes) -> None:
        self.events.append(f"ping {data.decode()}")

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.events.append(("close", code, reason))


def start(serve: Serving, **options: Any) -> tuple[ServerThread, RawClient, Steps]:
    """The gate is made on the server's loop: before Python 3.10 it would be bound there, and it is waited on there."""
    steps = Steps()
    server = serve(make_app(steps, **options))
    return server, RawClient.open(server.port), steps


def both(*names: str) -> list[str]:
    return [f"{name} {what}" for name in names for what in ("begins", "ends")]


def test_one_at_a_time_and_in_order(serve: Serving) -> None:
    server, client, steps = start(serve)
    names = ["a", "sleep b", "wait c", "sleep d", "e"]
    client.send_raw(frames(*names[:3]) + build(PING, b"!") + frames(*names[3:]))
    eventually(lambda: steps.events[-1] == "wait c begins")
    server.settle()
    assert steps.events == ["open", *both("a", "sleep b"), "wait c begins"]
    server.call(steps.gate.set)
    expected = ["open", *both("a", "sleep b", "wait c"), "ping !", *both("sleep d", "e")]
    eventually(lambda: steps.events == expected)


def test_connections_do_not_wait_for_each_other(serve: Serving) -> None:
    server, client, steps = start(serve)
    other = RawClient.open(server.port)
    client.send("wait a")
    eventually(lambda: steps.events[-1] == "wait a begins")
    other.send("sleep b")
    eventually(lambda: steps.events[-1] == "sleep b ends")
    server.call(steps.gate.set)
    eventually(lambda: steps.events[-1] == "wait a ends")


def test_open_comes_first_even_if_it_waits(serve: Serving) -> None:
    events: list[str] = []
    gate = asyncio.Event()

    class Handler:
        async def open(self, ws: Any) -> None:
            await gate.wait()
            events.append("opened")

        def message(self, ws: Any, data: str) -> None:
            events.append(data)

        def close(self, ws: Any, code: int, reason: str) -> None:
            events.append(f"closed {code}")

    server = serve(make_app(Handler))
    client = RawClient.open(server.port, extra=frames("a", "b"))
    client.send_close(1000)
    server.settle()
    assert events == []
    server.call(gate.set)
    eventually(lambda: events == ["opened", "a", "b", "closed 1000"])


@pytest.mark.parametrize("most", [1, 2, 16])
def test_reading_pauses_behind_max_waiting(serve: Serving, most: int) -> None:
    """The rest is left to TCP; later all of it comes, in order."""
    server, client, steps = start(serve, max_waiting=most)
    count = 500
    names = ["wait 0", *[f"{number}".ljust(2000, ".") for number in range(1, count)]]
    client.send_raw(frames(*names))
    eventually(lambda: steps.events[-1] == "wait 0 begins")
    server.settle()
    assert 0 < server.stats()["buffered_bytes"] <= 262_144
    server.call(steps.gate.set)
    eventually(lambda: steps.events == ["open", *both(*names)], 5.0)
    assert server.stats()["buffered_bytes"] == 0


def test_many_suspending_callbacks_keep_up(serve: Serving) -> None:
    _server, client, steps = start(serve, max_waiting=3)
    names = [("sleep " if number % 3 else "") + str(number) for number in range(2000)]
    for at in range(0, 2000, 250):
        client.send_raw(frames(*names[at : at + 250]))
    eventually(lambda: len(steps.events) == 4001, 5.0)
    assert steps.events == ["open", *both(*names)]


def test_an_exception_ends_the_connection_and_what_waits(serve: Serving) -> None:
    server, client, steps = start(serve)
    serve.traps.expect(LookupError)
    client.send_raw(frames("sleep a", "raise b", "c"))
    client.expect_close(1011)
    eventually(lambda: steps.events[-1] == ("close", 1011, "internal error"))
    assert steps.events[:-1] == ["open", *both("sleep a"), "raise b begins"]
    assert server.stats()["connections"] == 0


@pytest.mark.parametrize("how", ["reset", "terminate", "fault"])
def test_what_runs_is_cancelled_when_the_peer_is_gone(serve: Serving, how: str) -> None:
    server, client, steps = start(serve)
    client.send_raw(frames("wait a", "b", "c"))
    eventually(lambda: steps.events[-1] == "wait a begins")
    if how == "reset":
        client.reset()
    elif how == "fault":
        client.send_frame(TEXT, rsv=7)
    else:
        server.call(steps.ws.terminate)
        server.call(steps.gate.set)  # one's own end is no reason to be cancelled
    code, reason = (1002, "reserved bit set") if how == "fault" else (1006, "")
    end = "wait a ends" if how == "terminate" else "wait a cancelled"
    eventually(lambda: steps.events == ["open", "wait a begins", end, ("close", code, reason)])


@pytest.mark.parametrize("how", ["reset", "fault", "ping_timeout"])
def test_what_runs_may_end_without_cancel_on_disconnect(serve: Serving, how: str) -> None:
    """What waits behind it is dropped, and `close` comes after it."""
    server, client, steps = start(serve, cancel_on_disconnect=False, ping_interval=20, ping_timeout=20)
    server.hold_clock()
    client.send_raw(frames("wait a", "b", "c"))
    eventually(lambda: steps.events[-1] == "wait a begins")
    server.settle()
    if how == "reset":
        client.reset()
    elif how == "fault":
        client.send_frame(TEXT, rsv=7)
    else:
        server.advance(20)
        server.advance(20)
    eventually(lambda: not server.stats()["connections"])
    server.settle()
    assert steps.events == ["open", "wait a begins"]
    server.call(steps.gate.set)
    ends = {"reset": (1006, ""), "fault": (1002, "reserved bit set"), "ping_timeout": (1011, "ping_timeout")}
    eventually(lambda: steps.events == ["open", *both("wait a"), ("close", *ends[how])])


def test_without_cancel_on_disconnect_close_timeout_cancels(serve: Serving) -> None:
    server, client, steps = start(serve, cancel_on_disconnect=False, close_timeout=5)
    server.hold_clock()
    client.send_raw(frames("wait a"))
    eventually(lambda: steps.events[-1] == "wait a begins")
    client.reset()
    eventually(lambda: not server.stats()["connections"])
    server.advance(4.999)
    assert steps.events == ["open", "wait a begins"]
    server.advance(0.001)
    eventually(lambda: steps.events == ["open", "wait a begins", "wait a cancelled", ("close", 1006, "")])


def test_without_cancel_on_disconnect_stop_cancels(serve: Serving) -> None:
    server, client, steps = start(serve, cancel_on_disconnect=False)
    client.send_raw(frames("wait a"))
    eventually(lambda: steps.events[-1] == "wait a begins")
    client.reset()
    eventually(lambda: not server.stats()["connections"])
    server.stop_server(0.1)
    assert steps.events == ["open", "wait a begins", "wait a cancelled", ("close", 1006, "")]


def test_shield_lets_one_step_end(serve: Serving) -> None:
    """As docs/callbacks.md says."""
    events: list[str] = []
    gate = asyncio.Event()

    async def store_and_publish() -> None:
        events.append("stored")
        await gate.wait()
        events.append("published")

    async def message(ws: Any, data: str) -> None:
        await asyncio.shield(store_and_publish())
        events.append("answered")

    server = serve(make_app(message))
    client = RawClient.open(server.port)
    client.send("x")
    eventually(lambda: events)
    client.reset()
    eventually(lambda: not server.stats()["sockets"])
    server.call(gate.set)
    eventually(lambda: events == ["stored", "published"])
    server.settle()


@pytest.mark.parametrize("tail", [frames(), frames("b", "sleep c") + build(PING, b"!")], ids=["alone", "others"])
def test_a_clean_close_lets_what_waits_be_delivered(serve: Serving, tail: bytes) -> None:
    server, client, steps = start(serve)
    client.send_raw(frames("wait a") + tail)
    client.send_close(4000, b"bye")
    if tail:
        assert client.recv_frame().opcode == PONG
    client.expect_close(4000)
    client.close()
    server.settle()
    assert steps.events == ["open", "wait a begins"]
    server.call(steps.gate.set)
    between = [*both("b", "sleep c"), "ping !"] if tail else []
    expected = ["open", *both("wait a"), *between, ("close", 4000, "bye")]
    eventually(lambda: steps.events == expected)


def test_our_own_close_lets_the_callback_end_and_drops_what_waits(serve: Serving) -> None:
    server, client, steps = start(serve)
    client.send_raw(frames("wait a", "b"))
    eventually(lambda: steps.events[-1] == "wait a begins")
    server.call(steps.ws.close, 4000, "bye")
    assert client.recv_frame().opcode == CLOSE
    client.send_close(4000)
    client.expect_eof()
    server.call(steps.gate.set)
    eventually(lambda: steps.events == ["open", *both("wait a"), ("close", 4000, "bye")])


def test_a_callback_that_never_ends_is_cancelled_after_close_timeout(serve: Serving) -> None:
    server, client, steps = start(serve, close_timeout=5)
    server.hold_clock()
    client.send_raw(frames("wait a", "b"))
    client.send_close(1000)
    client.expect_close(1000)
    client.close()
    server.settle()
    server.advance(4.999)
    assert steps.events == ["open", "wait a begins"]
    server.advance(0.001)
    eventually(lambda: steps.events == ["open", "wait a begins", "wait a cancelled", ("close", 1000, "")])


@pytest.mark.parametrize("ends", [False, True], ids=["the message is cancelled", "the message ends late"])
@pytest.mark.parametrize("leaves", [False, True])
def test_close_has_a_timeout_of_its_own(serve: Serving, leaves: bool, ends: bool) -> None:
    """What ran before it may have taken all of one."""
    events: list[str] = []
    gate = asyncio.Event()

    class Handler:
        async def message(self, ws: Any, data: str) -> None:
            events.append("message")
            await gate.wait()

        async def close(self, ws: Any, code: int, reason: str) -> None:
            events.append("close")
            try:
                await asyncio.sleep(3600)
            finally:
                events.append("cancelled")

    server = serve(make_app(Handler, close_timeout=5, cancel_on_disconnect=False)).hold_clock()
    client = RawClient.open(server.port)
    client.send("x")
    eventually(lambda: events == ["message"])
    if leaves:
        client.reset()
    else:
        client.send_close(1000)
        client.expect_close(1000)
        client.close()
    eventually(lambda: not server.stats()["connections"])
    server.settle()
    server.advance(4.999)
    if ends:
        server.call(gate.set)
    else:
        server.advance(0.001)
    eventually(lambda: events == ["message", "close"])
    server.advance(4.998)
    server.settle()
    assert events == ["message", "close"]
    server.advance(0.002)
    eventually(lambda: events == ["message", "close", "cancelled"])


def test_messages_of_a_peer_that_left_are_delivered_one_timeout_each(serve: Serving) -> None:
    """It leaves while it waits: what it had sent takes longer than close_timeout in all, but each makes progress."""
    server, client, steps = start(serve, close_timeout=5, max_waiting=5)
    server.hold_clock()

    def pass_once() -> None:
        steps.gate.set()
        steps.gate.clear()

    client.send_raw(frames(*(f"wait {one}" for one in "abcdef")))
    client.send_close(1000)
    client.finish_sending()
    for one in "abcdef":
        eventually(lambda one=one: steps.events[-1] == f"wait {one} begins")
        server.advance(4.999)
        server.call(pass_once)
    eventually(lambda: steps.events == ["open", *both(*(f"wait {one}" for one in "abcdef")), ("close", 1000, "")])


def test_what_runs_goes_on_when_the_peer_has_only_shut_its_side(serve: Serving) -> None:
    server, client, steps = start(serve)
    client.send_raw(frames("wait a", "b", "c"))
    eventually(lambda: steps.events[-1] == "wait a begins")
    client.finish_sending()
    server.settle()
    server.call(steps.gate.set)
    eventually(lambda: steps.events == ["open", *both("wait a", "b", "c"), ("close", 1006, "")])


def test_stop_does_not_wait_for_each_of_those_that_never_end(serve: Serving) -> None:
    server, client, steps = start(serve)
    client.send_raw(frames("wait a", "wait b", "wait c"))
    client.send_close(1000)
    client.expect_close(1000)
    client.close()
    server.settle()
    server.stop_server(0.1)
    assert steps.events == ["open", "wait a begins", "wait a cancelled", ("close", 1000, "")]


async def coroutine_message(events: list[Any], ws: Any, data: str) -> None:
    await asyncio.sleep(0)
    events.append(data)
    ws.send(data)


class Awaitable:
    """Something that can be awaited but is no coroutine: not taken for an async callback."""

    def __await__(self) -> Generator[None, None, None]:
        raise AssertionError("awaited")
        yield


def handlers(events: list[Any]) -> dict[str, Callable[..., Any]]:
    def plain(ws: Any, data: str) -> Any:
        return coroutine_message(events, ws, data)

    class Methods:
        async def message(self, ws: Any, data: str) -> None:
            await coroutine_message(events, ws, data)

        @classmethod
        async def on_class(cls, ws: Any, data: str) -> None:
            await coroutine_message(events, ws, data)

        async def __call__(self, ws: Any, data: str) -> None:
            await coroutine_message(events, ws, data)

    def sync(ws: Any, data: str) -> Any:
        events.append(data)
        ws.send(data)
        return Awaitable()

    return {
        "a function that returns a coroutine": plain,
        "a lambda": lambda ws, data: coroutine_message(events, ws, data),
        "a partial": functools.partial(coroutine_message, events),
        "a bound method": Methods().message,
        "a class method": Methods.on_class,
        "a callable object": Methods(),
        "a function that returns anything else": sync,
    }


@pytest.mark.parametrize("kind", list(handlers([])))
@pytest.mark.parametrize("where", ["as the handler", "as a handler's message"])
def test_callables(serve: Serving, kind: str, where: str) -> None:
    events: list[Any] = []
    callback = handlers(events)[kind]
    app = make_app()
    if where == "as the handler":
        app.websocket("/")(callback)
    else:
        app.websocket("/")(type("Handler", (), {"message": staticmethod(callback)}))
    client = RawClient.open(serve(app).port)
    client.send_raw(frames("a", "b", "c"))
    assert [client.recv() for _ in range(3)] == ["a", "b", "c"]
    assert events == ["a", "b", "c"]


def test_one_handler_object_serves_all_connections(serve: Serving) -> None:
    class Counter:
        made = 0

        def __init__(self) -> None:
            Counter.made += 1
            self.seen: list[str] = []

        def message(self, ws: Any, data: str) -> None:
            self.seen.append(data)
            ws.send(str(len(self.seen)))

    server = serve(make_app(Counter))
    for number in range(1, 6):
        client = RawClient.open(server.port)
        client.send("x")
        assert client.recv() == str(number)
    assert Counter.made == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_missing_callbacks_are_no_matter(serve: Serving, asynchronous: bool) -> None:
    closed: list[int] = []

    class Plain:
        def close(self, ws: Any, code: int, reason: str) -> None:
            closed.append(code)

    class Async:
        async def close(self, ws: Any, code: int, reason: str) -> None:
            await asyncio.sleep(0)
            closed.append(code)

    server = serve(make_app(Async if asynchronous else Plain))
    client = RawClient.open(server.port)
    client.send_raw(frames("a") + build(PING) + build(10) + frames("b"))
    client.send_close(4999)
    assert client.recv_frame().opcode == 10
    client.expect_close(4999)
    client.close()
    eventually(lambda: closed == [4999])
