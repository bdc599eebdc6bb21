"""What the log says of callbacks: route, handler, callback, connection; where a traceback begins; what took long."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import PING, PONG, TEXT, RawClient, ServerThread, Serving, build, eventually, make_app, request_bytes

import fastws

HERE = "core.connection.test_callbacks_log"
CALLBACKS = ("open", "message", "drain", "ping", "pong", "close")


class Lines(logging.Handler):
    """The records that `fastws` logs."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno == logging.WARNING]


@pytest.fixture
def lines(serve: Serving) -> Iterator[Lines]:
    handler = Lines()
    logging.getLogger("fastws").addHandler(handler)
    yield handler
    logging.getLogger("fastws").removeHandler(handler)


class Stumbling:
    """`async def` or not, what is said by the client is done."""

    def message(self, ws: Any, data: str) -> None:
        self.stumble(data)

    def stumble(self, data: str) -> None:
        try:
            raise LookupError("first")
        except LookupError as error:
            raise ValueError(data) from error


class StumblingLater(Stumbling):
    async def message(self, ws: Any, data: str) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.stumble(data)


class StumblingAtOnce(Stumbling):
    async def message(self, ws: Any, data: str) -> None:  # type: ignore[override]
        self.stumble(data)


class Inherits(Stumbling):
    pass


def stumble(ws: Any, data: str) -> None:
    Stumbling().stumble(data)


class Callable_:
    def __call__(self, ws: Any, data: str) -> None:
        Stumbling().stumble(data)


@pytest.mark.parametrize(
    ("handler", "where", "first"),
    [
        (Stumbling, "Stumbling.message", "message"),
        (StumblingLater, "StumblingLater.message", "message"),
        (StumblingAtOnce, "StumblingAtOnce.message", "message"),
        (Inherits, "Stumbling.message, of Inherits", "message"),
        (stumble, "stumble", "stumble"),
        (Callable_(), "Callable_", "__call__"),
    ],
    ids=["def", "suspended", "async", "inherited", "function", "callable"],
)
def test_an_exception_says_where(serve: Serving, lines: Lines, handler: Any, where: str, first: str) -> None:
    app = make_app()
    app.websocket("/50%25/{room}")(handler)
    server = serve(app)
    serve.traps.expect(ValueError)
    client = RawClient.open(server.port, "/50%25/x")
    peer = client.sock.getsockname()
    client.send("oops")
    client.expect_close(1011)
    eventually(lambda: lines.records)
    (record,) = lines.records
    assert record.getMessage() == (
        f'exception in the message callback of "/50%25/{{room}}" ({HERE}.{where}); '
        f"connection 1 of {peer} is closed with 1011"
    )
    assert record.exc_info is not None and record.exc_info[1] is not None
    frames = traceback.extract_tb(record.exc_info[2])
    assert (frames[0].filename, frames[0].name) == (__file__, first)
    assert frames[-1].name == "stumble"
    text = logging.Formatter().format(record)
    assert "LookupError: first" in text and "direct cause" in text
    assert ".pyx" not in text and "tasks.py" not in text


def test_an_exception_in_close_does_not_say_1011(serve: Serving, lines: Lines) -> None:
    class Handler:
        def close(self, ws: Any, code: int, reason: str) -> None:
            raise ValueError(code)

    server = serve(make_app(Handler))
    serve.traps.expect(ValueError)
    client = RawClient.open(server.port)
    client.send_close(4001)
    client.expect_close(4001)
    eventually(lambda: lines.records)
    text = lines.records[0].getMessage()
    assert text.startswith('exception in the close callback of "/" (')
    assert text.endswith(" was already closed with 4001")


def test_what_raises_after_its_own_close(serve: Serving, lines: Lines) -> None:
    def message(ws: Any, data: str) -> None:
        ws.close(4000)
        raise ValueError(data)

    server = serve(make_app(message))
    serve.traps.expect(ValueError)
    client = RawClient.open(server.port)
    client.send("oops")
    client.expect_close(4000)
    eventually(lambda: lines.records)
    assert lines.records[0].getMessage().endswith(" was already closed with 4000")


def test_lines_tell_callbacks_apart_that_are_one_function(serve: Serving, lines: Lines) -> None:
    def one(ws: Any, *arguments: Any) -> None:
        raise ValueError(arguments)

    class Handler:
        message = ping = close = staticmethod(one)

    server = serve(make_app(Handler))
    serve.traps.expect(ValueError, 4)
    for wire in (build(TEXT, b"x"), build(PING, b"x")):
        client = RawClient.open(server.port)
        client.send_raw(wire)
        if wire != build(TEXT, b"x"):
            assert client.recv_frame().opcode == PONG
        client.expect_close(1011)
        client.close()
    eventually(lambda: len(lines.records) == 4)
    told = [record.getMessage().split()[3] for record in lines.records]
    assert sorted(told) == ["close", "close", "message", "ping"]


def test_an_upgrade_that_raises(serve: Serving, lines: Lines) -> None:
    class Handler:
        def upgrade(self, request: Any) -> None:
            raise ValueError("no")

    server = serve(make_app(Handler))
    serve.traps.expect(ValueError)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes())
    client.expect_reject(500)
    eventually(lambda: lines.records)
    text = lines.records[-1].getMessage()
    assert text.startswith(f'exception in the upgrade callback of "/" ({HERE}.')
    assert "; a request for '/' of (" in text and text.endswith(" is answered with 500")
    exc_info = lines.records[-1].exc_info
    assert exc_info is not None
    assert traceback.extract_tb(exc_info[2])[0].filename == __file__


def test_what_a_peer_has_sent_is_escaped(serve: Serving, lines: Lines) -> None:
    """And cut short (CWE-117)."""

    class Handler:
        def upgrade(self, request: Any) -> None:
            raise ValueError

    def http(request: Any) -> Any:
        raise ValueError

    app = make_app()
    app.websocket("/{room}")(Handler)
    app.http("/{room}")(http)
    server = serve(app)
    serve.traps.expect(ValueError, 2)
    target = "/%0d%0aERROR:%20forged%1b%5b2J" + "x" * 4000
    for wire in (request_bytes(target), f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()):
        client = RawClient.connect(server.port)
        client.send_raw(wire)
        client.expect_reject(500)
    eventually(lambda: len(lines.records) == 2)
    for record in lines.records:
        text = record.getMessage()
        assert text.isprintable() and text.isascii() and len(text) < 500


def test_each_callback_has_lines_of_its_own(serve: Serving, lines: Lines) -> None:
    """Many exceptions of one route do not silence those of another."""
    app = make_app(Stumbling)
    app.websocket("/other")(Stumbling)
    server = serve(app)
    serve.traps.expect(ValueError, 21)
    for path in ("/",) * 30 + ("/other",):
        client = RawClient.open(server.port, path)
        client.send("oops")
        client.expect_close(1011)
        client.close()
    eventually(lambda: len(lines.records) == 21)
    assert 'of "/other"' in lines.records[-1].getMessage()
    serve.traps.expect(None)  # the line about the ten


def test_what_was_raised_is_freed(serve: Serving, lines: Lines) -> None:
    """A traceback that is cut short makes no cycle."""
    gone: list[str] = []

    class Noted(Exception):
        def __del__(self) -> None:
            gone.append("freed")

    def message(ws: Any, data: str) -> None:
        raise Noted

    server = serve(make_app(message))
    serve.traps.expect(Noted)
    gc.collect()
    gc.disable()
    try:
        client = RawClient.open(server.port)
        client.send("oops")
        client.expect_close(1011)
        eventually(lambda: lines.records)
        for records in (lines.records, serve.traps.records):
            for record in records:
                record.exc_info = (Noted, None, None)  # type: ignore[assignment]
        server.settle()
        eventually(lambda: gone)
    finally:
        gc.enable()


def test_a_callback_that_is_cancelled_while_the_connection_is_open(serve: Serving, lines: Lines) -> None:
    """The connection was open: it is closed for it, and not without a word."""
    tasks: list[Any] = []

    async def message(ws: Any, data: str) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(3600)

    server = serve(make_app(message))
    client = RawClient.open(server.port)
    client.send("x")
    eventually(lambda: tasks)
    server.call(tasks[0].cancel)
    client.expect_close(1011)
    eventually(lambda: lines.warnings)
    assert "was cancelled while the connection was open" in lines.warnings[0]
    assert lines.warnings[0].startswith('the message callback of "/" (')


# What has run for long while others wait


class Waits:
    """The mistake: a callback waits for what a later one would bring."""

    def __init__(self) -> None:
        self.queue: Any = None
        self.begun = 0

    async def message(self, ws: Any, data: str) -> None:
        self.queue = self.queue or asyncio.Queue()
        self.begun += 1
        if data == "wait":
            await self.queue.get()

    def ping(self, ws: Any, data: bytes) -> None:
        pass

    def close(self, ws: Any, code: int, reason: str) -> None:
        pass


def waiting(serve: Serving, wire: bytes, **options: Any) -> tuple[ServerThread, RawClient, Waits]:
    handler = Waits()
    server = serve(make_app(handler, **options)).hold_clock()
    client = RawClient.open(server.port)
    client.send_raw(wire)
    eventually(lambda: handler.begun)
    server.settle()
    return server, client, handler


def test_a_callback_behind_which_others_wait(serve: Serving, lines: Lines) -> None:
    server, client, handler = waiting(serve, build(TEXT, b"wait") + build(TEXT, b"x") * 3 + build(PING))
    peer = client.sock.getsockname()
    server.advance(4.999)
    assert lines.warnings == []
    server.advance(0.001)
    assert lines.warnings == [
        f'the message callback of "/" ({HERE}.Waits.message), called for connection 1 of {peer}, has run for 5 s while '
        "3 messages and 1 other callbacks wait behind it: callbacks of one connection run one at a time, so hand what "
        'takes long to a task; see "A coroutine per connection" in docs/callbacks.md of fastws'
    ]
    for _ in range(10):
        server.advance(5)
    assert len(lines.warnings) == 1  # once for each run
    assert len(server.server.connections) == 1
    server.call(lambda: handler.queue.put_nowait(None))
    eventually(lambda: handler.begun == 4)
    client.send_raw(build(TEXT, b"wait") + build(TEXT, b"x"))
    eventually(lambda: handler.begun == 5)
    server.settle()
    server.advance(5)
    assert len(lines.warnings) == 2


def test_a_callback_behind_which_another_comes_late(serve: Serving, lines: Lines) -> None:
    server, client, _ = waiting(serve, build(TEXT, b"wait"))
    server.advance(60)
    assert lines.warnings == []  # it may take its time, where nothing waits for it
    client.send("x")
    server.settle()
    server.advance(0)
    assert "has run for 60 s while 1 messages" in lines.warnings[0]
    client.reset()


def test_waiting_disturbs_no_other_deadline(serve: Serving, lines: Lines) -> None:
    """A peer that pings would be looked after in the meantime as ever."""
    server, client, _ = waiting(
        serve, build(TEXT, b"wait") + build(TEXT, b"x"), ping_interval=2, ping_timeout=4, max_waiting=16
    )
    server.advance(2)
    assert client.recv_frame().opcode == PING
    server.advance(3)
    assert len(lines.warnings) == 1
    server.advance(0.999)
    client.expect_silence()
    server.advance(0.001)
    client.expect_close(1011, reason=b"ping_timeout")


def test_the_timer_comes_for_it(serve: Serving, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the clock as it is: the sweep is planned, though no other deadline is on. It takes the five seconds."""
    off = {"ping_interval": 0, "message_timeout": 0, "send_timeout": 0, "tcp_user_timeout": 0, "close_timeout": 0.5}
    handler = Waits()
    server = serve(make_app(handler, **off))
    client = RawClient.open(server.port)
    client.send_raw(build(TEXT, b"wait") + build(TEXT, b"x"))
    eventually(lambda: lines.warnings, 9.0)
    assert "has run for " in lines.warnings[0]


# What has held the loop


def holding(callback: str, hold: Callable[[], None], asynchronous: bool) -> Any:
    """A handler of which one callback holds the loop, and all others do nothing."""

    def plain(self: Any, *arguments: Any) -> None:
        hold()

    async def first_step(self: Any, *arguments: Any) -> None:
        hold()

    body: dict[str, Any] = {name: lambda self, *arguments: None for name in (*CALLBACKS, "upgrade")}
    body[callback] = first_step if asynchronous else plain
    return type("Holding", (), body)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("callback", ["upgrade", "open", "message", "ping", "close"])
def test_a_callback_that_holds_the_loop(serve: Serving, lines: Lines, callback: str, asynchronous: bool) -> None:
    hold: list[float] = []
    handler = holding(callback, lambda: server.reactor.pass_time(hold[-1]), asynchronous)
    server = serve(make_app(handler)).hold_clock()
    for seconds, told in ((0.49, False), (1.0, True), (2.5, True)):
        hold.append(seconds)
        client = RawClient.open(server.port)
        client.send_raw(build(TEXT, b"x") + build(PING) + build(TEXT, b"x"))
        client.send_close(1000)
        eventually(lambda: not server.stats()["connections"])
        server.settle()
        assert bool(lines.warnings) == told
        assert all(f'the {callback} callback of "/" (' in text for text in lines.warnings)
    assert "has held the event loop for 1.0 s, in which nothing else was served" in lines.warnings[0]
    assert "has held the event loop for 2.5 s" in lines.warnings[-1]
    assert "await what takes long, or give it to a thread" in lines.warnings[0]


def test_an_http_callback_that_holds_the_loop(serve: Serving, lines: Lines) -> None:
    app = make_app()

    @app.http("/slow")
    def slow(request: Any) -> fastws.Response:
        server.reactor.pass_time(3)
        return fastws.Response(200, "ok")

    server = serve(app).hold_clock()
    client = RawClient.connect(server.port)
    client.send_raw(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv_http().status == 200
    eventually(lambda: lines.warnings)
    assert lines.warnings[0].startswith(
        f'the http callback of "/slow" ({HERE}.test_an_http_callback_that_holds_the_loop.<locals>.slow)'
    )
    assert "has held the event loop for 3.0 s" in lines.warnings[0]


def test_time_that_passes_elsewhere_is_no_callbacks(serve: Serving, lines: Lines) -> None:
    """Between two callbacks, within an async one that is suspended, and while a connection is idle."""

    class Handler:
        async def message(self, ws: Any, data: str) -> None:
            await asyncio.sleep(0)
            ws.send(data)

        def ping(self, ws: Any, data: bytes) -> None:
            pass

    server = serve(make_app(Handler, close_timeout=60)).hold_clock()
    client = RawClient.open(server.port)
    for _ in range(3):
        client.send_raw(build(TEXT, b"x") + build(PING))
        client.recv_frame()
        client.recv_frame()
        server.settle()
        server.call(server.reactor.pass_time, 10)
    client.send_close(1000)
    eventually(lambda: not server.stats()["connections"])
    assert lines.warnings == []


def test_the_clock_of_laps_goes(serve: Serving, lines: Lines) -> None:
    """Not held: the callback sleeps for a second."""
    server = serve(make_app(lambda ws, data: time.sleep(1.05)))
    client = RawClient.open(server.port)
    client.send("x")
    eventually(lambda: lines.warnings, 5.0)
    assert "has held the event loop for 1." in lines.warnings[0]


# What goes nowhere

ANSWERS = ["text", b"bytes", {"a": 1}, fastws.Response(403)]
BY_THE_WAY = [None, 5, True, False, fastws.SENT, (1, 2), [1, 2]]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("suspends", [False, True])
def test_a_callback_that_returns_an_answer(serve: Serving, lines: Lines, asynchronous: bool, suspends: bool) -> None:
    answers: list[Any] = [*BY_THE_WAY, *ANSWERS]

    class Plain:
        def message(self, ws: Any, data: str) -> Any:
            ws.send(data)
            return answers[int(data)]

    class Later:
        async def message(self, ws: Any, data: str) -> Any:
            ws.send(data)
            if suspends:
                await asyncio.sleep(0)
            return answers[int(data)]

    for index, answer in enumerate(answers):
        lines.records.clear()
        handler = Later if asynchronous else Plain
        server = serve(make_app(handler))
        with RawClient.open(server.port) as client:
            for _ in range(3):  # warned of once
                client.send(str(index))
                assert client.recv() == str(index)
            client.send_raw(build(PING))  # is answered when the callback has ended
            assert client.recv_frame().opcode == PONG
        server.settle()
        if index < len(BY_THE_WAY):
            assert not lines.warnings
            continue
        (line,) = lines.warnings
        assert line.startswith(f'the message callback of "/" ({__name__}.')
        assert line.endswith(
            f"has returned {type(answer).__name__}, which goes nowhere: send with ws.send(), end the connection with "
            "ws.close(), refuse it in `upgrade`"
        )


def test_a_callback_that_returns_a_future(serve: Serving, lines: Lines) -> None:
    def message(ws: Any, data: str) -> Any:
        ws.send(data)
        return asyncio.get_running_loop().run_in_executor(None, str)

    server = serve(make_app(message))
    with RawClient.open(server.port) as client:
        for _ in range(2):
            client.send("")
            assert client.recv() == ""
    server.settle()
    (line,) = lines.warnings
    assert line.endswith("has returned a Future, which is not awaited: make it an async def that awaits it")


class Faceless:
    """Its class is code, and raises."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise LookupError("no class")


def test_a_callback_that_returns_what_has_no_class(serve: Serving, lines: Lines) -> None:
    async def message(ws: Any, data: str) -> Any:
        ws.send(data)
        return Faceless()

    server = serve(make_app(message))
    with RawClient.open(server.port) as client:
        for _ in range(2):
            client.send("")
            assert client.recv() == ""
    server.settle()
    assert not lines.warnings


def test_open_does_not_refuse_by_what_it_returns(serve: Serving, lines: Lines) -> None:
    class Refuses:
        def open(self, ws: Any) -> bool:
            return False

        def message(self, ws: Any, data: str) -> None:
            ws.send(data)

    server = serve(make_app(Refuses))
    for _ in range(2):
        with RawClient.open(server.port) as client:
            client.send("still open")
            assert client.recv() == "still open"
    server.settle()
    (line,) = lines.warnings
    assert "Refuses.open" in line and "has returned False, which goes nowhere" in line
