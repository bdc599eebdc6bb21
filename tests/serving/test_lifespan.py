"""App(lifespan=...): entered before the first connection, left after the last, in a task of its own, on each loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from harness import Ended, Serving, Traps, client_of, elsewhere, new_loop, serves, until
from harness.forks import in_child
from harness.programs import python, reserve_port

import fastws
from fastws.serving import lifespan as serving_lifespan
from fastws.serving import server as serving_server


class Life:
    """A lifespan that notes what happens in it, and waits in its entry and exit where a test says so."""

    def __init__(self, *, waits_to: str = "") -> None:
        self.happened: list[str] = []
        self.go_on = asyncio.Event()
        self.tasks: set[asyncio.Task[Any] | None] = set()
        self._waits_to = waits_to

    async def _may(self, what: str) -> None:
        self.tasks.add(asyncio.current_task())
        self.happened.append(what)
        try:
            if self._waits_to == what:
                await self.go_on.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.happened.append(f"{what} cancelled")
            raise

    @contextlib.asynccontextmanager
    async def __call__(self, app: fastws.App) -> AsyncIterator[str]:
        await self._may("enter")
        try:
            yield f"value {self.happened.count('enter')}"
        finally:
            await self._may("leave")
            self.happened.append("left")


def app_with(lifespan: Any, **options: Any) -> fastws.App:
    app = fastws.App(lifespan=lifespan, ping_interval=0, **options)

    @app.websocket("/")
    def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
        ws.send(data)

    return app


async def refuses(port: int) -> None:
    def connect() -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))

    await elsewhere(connect)


@pytest.fixture
def port() -> Iterator[int]:
    with reserve_port() as sock:
        yield sock.getsockname()[1]


# In order


def test_around_all_connections(run: Any) -> None:
    """A connection that comes while it is entered waits; it is left when the last callback has ended."""
    life = Life(waits_to="enter")
    app = fastws.App(lifespan=life, ping_interval=0)

    @app.websocket("/")
    class Handler:
        def open(self, ws: Any) -> None:
            life.happened.append(f"open with {app.state}")

        async def close(self, ws: Any, code: int, reason: str) -> None:
            await asyncio.sleep(0.01)
            life.happened.append(f"closed with {app.state}")

    async def main() -> None:
        with reserve_port() as reserved:
            port = reserved.getsockname()[1]
            starting = asyncio.ensure_future(app.start("127.0.0.1", port))
            await until(lambda: life.happened)
            coming = asyncio.ensure_future(client_of(port))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert life.happened == ["enter"] and not coming.done()
            with pytest.raises(RuntimeError, match=r"app\.state is there once the lifespan is entered"):
                _ = app.state
            life.go_on.set()
            async with await starting as server:
                client = await coming
                await until(lambda: len(server.connections) == 1)
                stopping = asyncio.ensure_future(server.stop())
                await elsewhere(client.recv_frame)
                client.send_close(1001)
                client.close()
                await stopping

    run(main)
    assert life.happened == ["enter", "open with value 1", "closed with value 1", "leave", "left"]
    (task,) = life.tasks
    assert task is not None and task.get_name() == "fastws lifespan"
    with pytest.raises(RuntimeError, match=r"app\.state is there once the lifespan is entered"):
        _ = app.state


@pytest.mark.parametrize("sock", [False, True])
def test_a_shared_port_is_left_to_the_others_meanwhile(run: Any, sock: bool) -> None:
    """The kernel would give a process that cannot serve yet its share of the connections."""
    life = Life(waits_to="enter")
    own = socket.socket() if sock else None

    async def main() -> None:
        async with await app_with(None).start("127.0.0.1", 0, reuse_port=True) as ready:
            if own is None:
                starting = asyncio.ensure_future(app_with(life).start("127.0.0.1", ready.port, reuse_port=True))
            else:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                own.bind(("127.0.0.1", ready.port))
                starting = asyncio.ensure_future(app_with(life).start(sock=own))
            await until(lambda: life.happened)
            clients = [await client_of(ready.port) for _ in range(40)]
            assert len(ready.connections) == 40
            life.go_on.set()
            async with await starting as late:
                clients += [await client_of(ready.port) for _ in range(40)]
                await until(lambda: len(ready.connections) + len(late.connections) == 80)
                assert late.connections  # 2^-40 that the kernel means it so
                for client in clients:
                    client.close()

    run(main)


def test_a_shared_port_that_another_program_takes_meanwhile(run: Any, port: int) -> None:
    life = Life(waits_to="enter")

    async def main() -> None:
        starting = asyncio.ensure_future(app_with(life).start("127.0.0.1", port, reuse_port=True))
        await until(lambda: life.happened)
        with socket.create_server(("127.0.0.1", port)):
            life.go_on.set()
            with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: Address already in use"):
                await starting

    run(main)
    assert life.happened == ["enter", "leave", "left"]


def test_a_long_entry_is_told(run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(serving_lifespan, "ENTRY_LONG", 0.01)
    life = Life(waits_to="enter")

    async def main() -> None:
        starting = asyncio.ensure_future(app_with(life).start("127.0.0.1", 0))
        await until(lambda: caplog.messages)
        life.go_on.set()
        async with await starting:
            pass

    run(main)
    assert [record.levelname for record in caplog.records if "has not come to its yield" in record.message] == [
        "WARNING"
    ]


EXITING = """\
import sys, fastws

async def lifespan(app):
    sys.exit(3)
    yield

fastws.App(lifespan=lifespan).run(port=0)
"""


def test_sys_exit_in_its_entry() -> None:
    """It ends the process as everywhere, and asyncio does not find an exception that was not retrieved."""
    done = python("-c", EXITING)
    assert (done.returncode, done.stderr) == (3, "")


def test_an_app_without_a_lifespan_has_no_state() -> None:
    with pytest.raises(RuntimeError, match=r"this App has none, write App\(lifespan=\.\.\.\)"):
        _ = fastws.App().state


def test_an_address_in_use_is_an_error_before_the_entry(run: Any) -> None:
    life = Life()

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with pytest.raises(OSError, match="cannot listen"):
                await app_with(life).start("127.0.0.1", taken.getsockname()[1])

    run(main)
    assert life.happened == []


def test_it_may_configure_its_app(run: Any) -> None:
    async def lifespan(app: fastws.App) -> AsyncIterator[None]:
        app.configure(max_message_size=3)
        yield

    async def main() -> None:
        async with await app_with(lifespan).start("127.0.0.1", 0) as server:
            client = await client_of(server.port)
            client.send("long")
            with pytest.raises(Ended, match="closed with 1009"):
                await elsewhere(client.recv)
            client.close()

    run(main)


# Forms


class AsClass:
    def __init__(self, app: fastws.App) -> None:
        self.app = app

    async def __aenter__(self) -> fastws.App:
        return self.app

    async def __aexit__(self, *_: object) -> None:
        pass


async def as_generator(app: fastws.App) -> AsyncIterator[fastws.App]:
    yield app


@pytest.mark.parametrize("form", [AsClass, as_generator, contextlib.asynccontextmanager(as_generator)])
def test_what_may_be_a_lifespan(run: Any, form: Any) -> None:
    app = app_with(form)

    async def main() -> None:
        async with await app.start("127.0.0.1", 0) as server:
            assert app.state is app
            await serves(server.port)

    run(main)


async def no_yield(app: fastws.App) -> None:
    pass


async def no_argument() -> AsyncIterator[None]:
    yield


def plain_generator(app: fastws.App) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (no_yield, "has no `yield`: write `@contextlib.asynccontextmanager`"),
        (plain_generator, "is no `async def`: write"),
        (
            contextlib.asynccontextmanager(as_generator)(fastws.App()),
            "has been called already: give the",
        ),
        ({"db": 1}, "is not callable: write"),
        (no_argument, r"takes \(\), but is called with \(app\): write"),
        (contextlib.asynccontextmanager(no_argument), r"takes \(\), but is called with \(app\): write"),
        (lambda: as_generator(None), r"takes \(\), but is called with \(app\): write"),  # type: ignore[arg-type]
        (contextlib.asynccontextmanager(no_yield), "no_yield.* has no `yield`: write"),  # type: ignore[arg-type]
        (contextlib.asynccontextmanager(plain_generator), "is no `async def`: write"),  # type: ignore[arg-type]
        (contextlib.contextmanager(plain_generator), "is no `async def`: write"),
    ],
)
def test_what_is_no_lifespan(wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"lifespan=.*{message}"):
        fastws.App(lifespan=wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (contextlib.contextmanager(as_generator), "which is no async context manager: write"),  # type: ignore[arg-type]
        (partial(lambda function, app: function(app), no_yield), "has no `yield`: write"),
        (lambda app: None, "gave None, which is no async context manager: write"),
    ],
)
def test_what_only_a_call_shows_to_be_no_lifespan(run: Any, port: int, wrong: Any, message: str) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=message):
            await app_with(wrong).start("127.0.0.1", port)
        await refuses(port)

    run(main)


async def yields_never(app: fastws.App) -> AsyncIterator[None]:
    if app is None:
        yield


async def yields_twice(app: fastws.App) -> AsyncIterator[None]:
    yield
    yield


def test_a_yield_too_few_or_too_many(run: Any) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="didn't yield"):
            await app_with(yields_never).start("127.0.0.1", 0)
        server = await app_with(yields_twice).start("127.0.0.1", 0)
        with pytest.raises(RuntimeError, match="didn't stop"):
            await server.stop()

    run(main)


# Errors


class Broken(Exception):
    pass


async def fails_on_entry(app: fastws.App) -> AsyncIterator[None]:
    raise Broken("on entry")
    yield


async def fails_on_exit(app: fastws.App) -> AsyncIterator[None]:
    yield
    raise Broken("on exit")


def functions(error: BaseException) -> list[str]:
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


def forget_frames(traps: Traps) -> None:
    """The App is in them, and the last test's records live on until the session's end."""
    for record in traps.records:
        error = record.exc_info[1] if record.exc_info else None
        record.exc_info = (type(error), error, None) if error is not None else None
        while error is not None:
            error.__traceback__ = None
            error = error.__context__


def test_an_error_on_entry(run: Any, port: int, tmp_path: Any) -> None:
    app, path = app_with(fails_on_entry), str(tmp_path / "socket")

    async def main() -> None:
        for where in ({"port": port}, {"uds": path}, {"listen": None}):
            with pytest.raises(Broken, match="on entry") as caught:
                await app.start(**where)
            assert functions(caught.value)[-1] == "fails_on_entry"
        await refuses(port)
        assert not os.path.exists(path)
        app.configure(max_topics=1)  # nothing runs

    run(main)


def test_an_error_on_entry_is_raised_to_all_who_wait(run: Any) -> None:
    entries: list[int] = []

    async def lifespan(app: fastws.App) -> AsyncIterator[None]:
        entries.append(1)
        await asyncio.sleep(0.01)
        if len(entries) == 1:
            raise Broken
        yield

    app = app_with(lifespan)

    async def main() -> None:
        outcomes = await asyncio.gather(app.start("127.0.0.1", 0), app.start("127.0.0.1", 0), return_exceptions=True)
        assert [type(one) for one in outcomes] == [Broken, Broken]
        async with await app.start("127.0.0.1", 0) as server:  # and once more
            await serves(server.port)

    run(main)
    assert len(entries) == 2


def test_an_error_on_exit_comes_after_all_is_closed(run: Any) -> None:
    app = app_with(fails_on_exit)

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        client = await client_of(server.port)
        waiting = asyncio.ensure_future(server.wait_closed())
        stopping = asyncio.ensure_future(server.stop())
        await elsewhere(client.recv_frame)
        client.send_close(1001)
        client.close()
        for ending in (stopping, waiting, server.stop()):
            with pytest.raises(Broken, match="on exit") as caught:
                await ending
            assert functions(caught.value)[-1] == "fails_on_exit"
            assert functions(caught.value).count("wait") == 1, "each has its own traceback"
        assert app.stats()["sockets"] == 0
        await refuses(server.port)
        with pytest.raises(Broken):
            async with await app.start("127.0.0.1", 0):
                pass

    run(main)


def test_one_that_fails_while_it_serves_stops_the_server(run: Any, traps: Traps) -> None:
    """As where a task group in it cancels it; here its own task cancels it and it raises."""
    traps.expect(Broken)
    own: list[Any] = []

    async def lifespan(app: fastws.App) -> AsyncIterator[None]:
        own.append(asyncio.current_task())
        try:
            yield
        except asyncio.CancelledError:
            raise Broken("a background task") from None

    app = app_with(lifespan)

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        client = await client_of(server.port)
        await until(lambda: len(server.connections) == 1)
        own[0].cancel()
        assert (await elsewhere(client.recv_frame)).payload == b"\x03\xe9server is stopping"
        client.send_close(1001)
        client.close()
        with pytest.raises(Broken, match="a background task"):
            await server.wait_closed()
        with pytest.raises(Broken, match="a background task"):
            await server.stop()

    run(main)
    assert traps.records[0].getMessage() == "the lifespan has failed, so the server stops"
    forget_frames(traps)


def test_one_that_ends_while_it_serves_stops_the_server(run: Any, traps: Traps) -> None:
    """As where a cancel scope in it is cancelled, which swallows that."""
    traps.expect(None)
    own: list[Any] = []

    async def lifespan(app: fastws.App) -> AsyncIterator[None]:
        own.append(asyncio.current_task())
        with contextlib.suppress(asyncio.CancelledError):
            yield

    async def main() -> None:
        server = await app_with(lifespan).start("127.0.0.1", 0)
        own[0].cancel()
        await server.wait_closed()
        await refuses(server.port)

    run(main)
    assert traps.records[0].getMessage() == "the lifespan has ended, so the server stops"


@pytest.mark.since(3, 11)
def test_a_task_group(run: Any, traps: Traps) -> None:
    """It is left by the task that has entered it, and a failing task of it stops the server."""
    fail = asyncio.Event()

    async def background() -> None:
        await fail.wait()
        raise Broken

    async def lifespan(app: fastws.App) -> AsyncIterator[Any]:
        async with asyncio.TaskGroup() as tasks:  # type: ignore[attr-defined]
            task = tasks.create_task(background())
            yield tasks
            task.cancel()

    app = app_with(lifespan)

    async def main() -> None:
        async with await app.start("127.0.0.1", 0) as server:
            await serves(server.port)
            await app.state.create_task(asyncio.sleep(0))
        server = await app.start("127.0.0.1", 0)
        fail.set()
        with pytest.raises(Exception, match="unhandled errors in a TaskGroup") as caught:
            await server.wait_closed()
        assert [type(one) for one in caught.value.exceptions] == [Broken]  # type: ignore[attr-defined]
        traps.expect(type(caught.value))

    run(main)
    forget_frames(traps)


def test_a_cancel_scope(run: Any) -> None:
    anyio = pytest.importorskip("anyio")

    @contextlib.asynccontextmanager
    async def lifespan(app: fastws.App) -> AsyncIterator[Any]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asyncio.sleep, 3600)
            yield tasks
            tasks.cancel_scope.cancel()

    async def main() -> None:
        server = await app_with(lifespan).start("127.0.0.1", 0)
        await asyncio.create_task(server.stop())  # in another task than start()

    run(main)


# Several servers


def test_servers_on_one_loop_share_it(run: Any) -> None:
    life = Life(waits_to="enter")
    app = app_with(life)

    async def main() -> None:
        starting = [asyncio.ensure_future(app.start("127.0.0.1", 0)) for _ in range(2)]
        await until(lambda: life.happened)
        life.go_on.set()
        first, second = [await one for one in starting]
        async with await app.start("127.0.0.1", 0):
            await first.stop()
            await first.stop()
            await second.stop()
            assert app.state == "value 1"
        assert life.happened == ["enter", "leave", "left"]
        async with await app.start("127.0.0.1", 0):  # another life
            assert app.state == "value 2"

    run(main)
    assert life.happened == ["enter", "leave", "left"] * 2


def test_a_start_during_its_exit_waits_for_that(run: Any) -> None:
    life = Life(waits_to="leave")
    app = app_with(life)

    async def main() -> None:
        server = await app.start("127.0.0.1", 0)
        stopping = asyncio.ensure_future(server.stop())
        await until(lambda: "leave" in life.happened)
        starting = asyncio.ensure_future(app.start("127.0.0.1", 0))
        await asyncio.sleep(0.01)
        assert life.happened == ["enter", "leave"] and not stopping.done()
        life.go_on.set()
        await stopping
        await (await starting).stop()

    run(main)
    assert life.happened == ["enter", "leave", "left"] * 2


def test_each_loop_has_its_own(serve: Serving) -> None:
    loops: list[Any] = []

    async def lifespan(app: fastws.App) -> AsyncIterator[Any]:
        loops.append(asyncio.get_running_loop())
        yield loops[-1]

    app = app_with(lifespan)

    def state() -> Any:
        return app.state

    one = serve(app)
    assert state() is one.loop, "in a thread without a loop, of the only one"
    assert one.call(asyncio.to_thread, state) is one.loop
    other = serve(app)
    assert one.call(state) is one.loop
    assert other.call(state) is other.loop
    assert loops == [one.loop, other.loop]
    with pytest.raises(RuntimeError, match="on its event loop"):  # which of them?
        state()

    async def third() -> None:
        with pytest.raises(RuntimeError, match="on its event loop"):
            state()

    asyncio.run(third())
    one.stop_server()
    assert state() is other.loop


# Cancelled


def test_a_start_that_is_cancelled_cancels_its_entry(run: Any, port: int) -> None:
    life = Life(waits_to="enter")
    app = app_with(life)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(app.start("127.0.0.1", port), 0.02)
        assert life.happened == ["enter", "enter cancelled"]
        await refuses(port)
        life.go_on.set()
        async with await app.start("127.0.0.1", port):
            pass

    run(main)


def test_a_start_that_is_cancelled_while_another_waits(run: Any) -> None:
    life = Life(waits_to="enter")
    app = app_with(life)

    async def main() -> None:
        starting = [asyncio.ensure_future(app.start(listen=None)) for _ in range(2)]
        await until(lambda: life.happened)
        starting[0].cancel()
        await asyncio.wait((starting[0],))
        assert starting[0].cancelled()
        life.go_on.set()
        async with await starting[1]:
            assert app.state == "value 1"

    run(main)
    assert life.happened == ["enter", "leave", "left"]


def test_an_entry_that_ignores_its_cancellation(run: Any) -> None:
    """It goes on to its end, and its exit follows at once."""
    happened: list[str] = []

    async def lifespan(app: fastws.App) -> AsyncIterator[None]:
        happened.append("enter")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02 if len(happened) > 1 else 3600)
        happened.append("entered")
        yield
        happened.append("left")

    async def main() -> None:
        app = app_with(lifespan)
        starting = asyncio.ensure_future(app.start("127.0.0.1", 0))
        await until(lambda: happened)
        starting.cancel()
        await asyncio.wait((starting,))
        assert starting.cancelled()
        assert happened == ["enter", "entered", "left"]
        async with await app.start("127.0.0.1", 0):
            pass
        assert happened == ["enter", "entered", "left"] * 2

    run(main)


def test_a_lifespan_that_is_cancelled_before_it_begins(run: Any) -> None:
    """As by what cancels all tasks of a loop. The next start() enters anew."""
    life = Life()
    app = app_with(life)

    async def main() -> None:
        starting = asyncio.ensure_future(app.start("127.0.0.1", 0))
        while not (begun := [one for one in asyncio.all_tasks() if one.get_name() == "fastws lifespan"]):
            await asyncio.sleep(0)
        begun[0].cancel()
        await asyncio.wait((starting,))
        assert starting.cancelled()
        assert not life.happened
        async with await app.start("127.0.0.1", 0):
            assert app.state == "value 1"

    run(main)


def test_what_a_cancelled_entry_raises_is_raised(run: Any) -> None:
    async def lifespan(app: fastws.App) -> AsyncIterator[None]:
        try:
            await asyncio.sleep(3600)
        finally:
            raise Broken
        yield

    async def main() -> None:
        starting = asyncio.ensure_future(app_with(lifespan).start("127.0.0.1", 0))
        await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(Broken):
            await starting

    run(main)


def test_a_stop_that_is_cancelled_leaves_it_all_the_same(run: Any) -> None:
    life = Life(waits_to="leave")

    async def main() -> None:
        server = await app_with(life).start("127.0.0.1", 0)
        stopping = asyncio.ensure_future(server.stop())
        await until(lambda: "leave" in life.happened)
        stopping.cancel()
        await asyncio.wait((stopping,))
        life.go_on.set()
        await server.wait_closed()

    run(main)
    assert life.happened == ["enter", "leave", "left"]


def test_an_exit_has_the_timeout_and_is_then_cancelled(run: Any, traps: Traps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_server, "CANCEL_TIMEOUT", 0.1)
    traps.expect(None)
    life = Life(waits_to="leave")

    async def main() -> None:
        server = await app_with(life).start("127.0.0.1", 0)
        stopping = asyncio.ensure_future(server.stop(3600))
        await until(lambda: "leave" in life.happened)
        await asyncio.sleep(0.2)
        assert not stopping.done()
        await server.stop(0)
        await stopping

    run(main)
    assert life.happened == ["enter", "leave", "leave cancelled"]
    assert [record.getMessage() for record in traps.records] == [
        "the lifespan has not ended within 0.1 s: it is cancelled"
    ]


def test_an_exit_that_ignores_its_cancellation(run: Any, traps: Traps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_server, "CANCEL_TIMEOUT", 0.05)
    traps.expect(None, 2)
    release = asyncio.Event()

    async def lifespan(app: fastws.App) -> AsyncIterator[None]:
        yield
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async def main() -> None:
        server = await app_with(lifespan).start("127.0.0.1", 0)
        await server.stop(0)
        release.set()
        await server.wait_closed()

    run(main)
    assert "ignores its cancellation" in traps.records[1].getMessage()


def test_stop_and_start_from_within(run: Any) -> None:
    """A stop() does not wait for its own task; a start() there would, and is an error."""
    servers: list[fastws.Server] = []

    async def lifespan(app: fastws.App) -> AsyncIterator[None]:
        with pytest.raises(RuntimeError, match="in the app's own lifespan waits for itself"):
            await app.start("127.0.0.1", 0)
        yield
        await servers[0].stop()
        with pytest.raises(RuntimeError, match="in the app's own lifespan waits for itself"):
            await app.start("127.0.0.1", 0)

    async def main() -> None:
        servers.append(await app_with(lifespan).start("127.0.0.1", 0))
        await servers[0].stop()

    run(main)


# Loops and processes that end


def test_asyncio_run_cancels_what_was_not_stopped(
    no_leaked_fds: None, traps: Traps, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life()
    app = app_with(life)

    async def main() -> int:
        return (await app.start("127.0.0.1", 0)).port

    port = asyncio.run(main())
    assert life.happened == ["enter", "leave", "left"]
    assert caplog.messages == ["the lifespan is cancelled while the server runs: stop the server first"]

    async def again() -> None:
        async with await app.start("127.0.0.1", port):
            assert app.state == "value 2"

    asyncio.run(again())
    assert life.happened == ["enter", "leave", "left"] * 2


class Counting:
    """Its exit awaits nothing, as where Python throws it away."""

    entered: list[asyncio.Task[Any]] = []
    left = 0

    def __init__(self, app: fastws.App) -> None:
        pass

    async def __aenter__(self) -> int:
        task = asyncio.current_task()
        assert task is not None
        self.entered.append(task)
        return len(self.entered)

    async def __aexit__(self, *_: object) -> None:
        Counting.left += 1


def test_a_loop_that_is_closed_leaves_nothing(
    loop_kind: str, no_leaked_fds: None, traps: Traps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody can leave it; the next start() enters anew."""
    monkeypatch.setattr(Counting, "entered", [])
    monkeypatch.setattr(Counting, "left", 0)
    app = app_with(Counting)
    loop = new_loop(loop_kind)
    server = loop.run_until_complete(app.start("127.0.0.1", 0))
    Counting.entered[0]._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would tell of it
    loop.close()
    assert Counting.left == 0

    async def again() -> None:
        async with await app.start("127.0.0.1", server.port):
            assert app.state == 2
        assert Counting.left == 1
        await server.stop()
        await server.wait_closed()

    asyncio.run(again())
    assert Counting.left == 1


def test_the_child_of_a_fork_has_no_lifespan(serve: Serving) -> None:
    """The child has neither the value nor the exit; its own server has a lifespan of its own."""
    life = Life()
    app = app_with(life)
    server = serve(app)
    assert app.state == "value 1"

    def in_the_child() -> Any:
        with pytest.raises(RuntimeError, match="once the lifespan is entered"):
            _ = app.state

        async def main() -> Any:
            async with await app.start("127.0.0.1", 0):
                return app.state

        return asyncio.run(main()), life.happened

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        told = in_child(in_the_child)
    assert told == repr(("value 2", ["enter", "enter", "leave", "left"]))
    server.stop_server()
    assert life.happened == ["enter", "leave", "left"]


FORKING = """
import asyncio, gc, os
import fastws

async def lifespan(app):
    parent = os.getpid()
    try:
        yield
    finally:
        print("left by", "the parent" if os.getpid() == parent else "the child", flush=True)
        await asyncio.sleep(0)

app = fastws.App(lifespan=lifespan)

async def main():
    server = await app.start("127.0.0.1", 0)
    child = os.fork()
    if child == 0:
        del server
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    await server.stop()

asyncio.run(main())
"""


def test_the_child_of_a_fork_does_not_free_it() -> None:
    """A coroutine that is freed runs on: a database client's good-bye would go out on the parent's socket."""
    done = python("-c", FORKING)
    assert done.stdout == "left by the parent\n", done.stderr
    assert "Exception" not in done.stderr and "Task" not in done.stderr
