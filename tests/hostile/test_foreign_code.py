"""Row A7: code of the application's that runs where it is easily forgotten (handlers of the log, finalizers, numbers,
buffers, futures, trace functions) and acts on connections there, or runs out of stack."""

from __future__ import annotations

import asyncio
import logging
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from harness import (
    CLOSE,
    PATIENCE,
    PING,
    TEXT,
    Ended,
    RawClient,
    ServerThread,
    Serving,
    at_rest,
    build,
    client_of,
    close_code,
    elsewhere,
    eventually,
    make_app,
    new_loop,
    request_bytes,
    unaccounted,
    until,
)

import fastws
import fastws.serving.tasks
from fastws.serving.logs import LINES

BAD_FRAME = b"\x83\x80\x00\x00\x00\x00"  # there is no opcode 3
OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate")]
TAKEOVER = fastws.Deflate(client_no_context_takeover=False, max_inflater_memory=1 << 20)
MOST = 65_536  # bytes, of max_backpressure


class Boom(Exception):
    pass


class Acting(logging.Handler):
    def __init__(self, act: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.act = act
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "fastws":
            self.lines += 1
            assert self.lines < 1000, "the handler brings about its own lines without end"
            self.act(record)


@contextmanager
def logging_to(act: Callable[[logging.LogRecord], object]) -> Iterator[Acting]:
    """Has the server's log call `act`, after the traps."""
    handler, root, logger = Acting(act), logging.getLogger(), logging.getLogger("fastws")
    level = logger.level
    logger.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        logger.setLevel(level)


class Peers:
    """The handler: keeps every connection by its query string, and every end of one."""

    def __init__(self) -> None:
        self.sockets: dict[str, Any] = {}
        self.closed: list[tuple[str, int]] = []
        self.messages: list[Any] = []

    def open(self, ws: Any) -> None:
        self.sockets[ws.query_string] = ws

    def message(self, ws: Any, data: Any) -> None:
        self.messages.append(data)
        if data == "raise":
            raise Boom

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.closed.append((ws.query_string, code))

    def join(self, server: ServerThread, name: str, **options: Any) -> RawClient:
        client = RawClient.connect(server.port, **options)
        client.handshake(f"/?{name}", headers=OFFER)
        eventually(lambda: name in self.sockets)
        return client


def stuff(server: ServerThread, ws: Any) -> None:
    """Queues so much for a peer that does not read that the next message is over max_backpressure."""
    while not server.call(lambda: ws.buffered_amount):
        server.call(lambda: ws.send(bytes(60_000), compress=False))
    # The kernel may still take some of it.
    assert server.call(lambda: ws.send(bytes(8 << 20), compress=False)) == fastws.QUEUED


def frames_to_the_end(client: RawClient) -> list[tuple[int, bytes]]:
    """Every frame until the server's end, be it a reset."""
    frames = []
    try:
        while True:
            frame = client.recv_frame()
            frames.append((frame.opcode, frame.payload))
    except (Ended, ConnectionError):
        return frames


def closes(client: RawClient) -> list[int | None]:
    """The codes of all Close frames; nothing is behind the first."""
    frames = frames_to_the_end(client)
    codes = [close_code(payload) for opcode, payload in frames if opcode == CLOSE]
    assert not codes or frames[-1][0] == CLOSE, frames[-3:]
    return codes


def settled(server: ServerThread, peers: Peers, count: int) -> None:
    """So many have ended, once each; the figures add up; a client that comes now gets context takeover."""
    eventually(lambda: len(peers.closed) == count, 3.0, f"{count} ended, but {peers.closed}")
    server.settle()
    assert len(peers.closed) == len({name for name, _ in peers.closed}) == count
    stats = server.stats()
    assert not unaccounted(stats)
    assert sum(stats["closed"].values()) == count
    assert server.call(lambda: len(server.server.connections)) == stats["connections"] == len(peers.sockets) - count
    client = RawClient.connect(server.port)
    answer = client.handshake("/?later", headers=OFFER).headers["sec-websocket-extensions"]
    assert "client_no_context_takeover" not in answer
    client.send("still served")
    eventually(lambda: peers.messages[-1:] == ["still served"])
    for one in list(RawClient.opened):
        one.close()
    server.stop_server(5.0)


# -- the log's handlers


@pytest.mark.parametrize("count", [1, 8])
def test_a07_each_line_is_published_to_viewers_that_do_not_read(serve: Serving, count: int) -> None:
    """Each that is ended for it makes another line, which is published, too."""
    peers = Peers()
    app = make_app(peers, compression=TAKEOVER, max_backpressure=MOST, max_burst=0)
    server = serve(app)
    viewers = [peers.join(server, f"viewer{number}", receive_buffer=4096) for number in range(count)]
    for number in range(count):
        ws = peers.sockets[f"viewer{number}"]
        server.call(ws.subscribe, "log")
        stuff(server, ws)
    with logging_to(lambda record: app.publish("log", record.getMessage(), compress=False)):
        bad = peers.join(server, "bad")
        bad.send_raw(BAD_FRAME)
        assert closes(bad) == [1002]
        eventually(lambda: len(peers.closed) == count + 1, 3.0, "all viewers end")
        for viewer in viewers:
            assert closes(viewer) == [1008]
        settled(server, peers, count + 1)


CAUSES = ["protocol_error", "exception", "ping_timeout", "max_backpressure"]
ACTS: dict[str, Callable[[Any], object]] = {
    "terminate": lambda ws: ws.terminate(),
    "close": lambda ws: ws.close(4000),
    "send": lambda ws: ws.send("from the log"),
}


def provoke(cause: str, server: ServerThread, peers: Peers) -> tuple[RawClient, int]:
    """A connection that is ended for a cause that is logged, and its code."""
    if cause == "protocol_error":
        client = peers.join(server, "it")
        client.send_raw(build(TEXT, b"before") + BAD_FRAME + build(TEXT, b"behind"))
        return client, 1002
    if cause == "exception":
        client = peers.join(server, "it")
        client.send_raw(build(TEXT, b"raise") + build(TEXT, b"behind"))
        return client, 1011
    if cause == "ping_timeout":
        client = peers.join(server, "it")
        server.advance(20)
        server.advance(10)
        return client, 1011
    client = peers.join(server, "it", receive_buffer=4096)
    stuff(server, peers.sockets["it"])
    assert server.call(peers.sockets["it"].send, "over") == fastws.DROPPED
    return client, 1008


@pytest.mark.parametrize(
    ("act", "cause"),
    [(act, cause) for act in ACTS for cause in CAUSES if (act, cause) != ("send", "exception")],
)
def test_a07_a_line_brings_about_an_act_on_the_connection_that_it_is_about(
    serve: Serving, act: str, cause: str
) -> None:
    peers = Peers()
    options = {"ping_interval": 20, "ping_timeout": 10} if cause == "ping_timeout" else {}
    server = serve(make_app(peers, compression=TAKEOVER, max_backpressure=MOST, max_burst=0, **options)).hold_clock()
    if cause == "exception":
        serve.traps.expect(Boom)
    with logging_to(lambda record: ACTS[act](peers.sockets["it"])) as log:
        client, code = provoke(cause, server, peers)
        eventually(lambda: log.lines)
        codes = closes(client)
        assert codes == [code] or (act == "terminate" and codes == [])
        assert "behind" not in peers.messages
        eventually(lambda: peers.closed)
        assert peers.closed == [("it", code)]
    settled(server, peers, 1)


@pytest.mark.parametrize("refused", ["a path", "a request", "an upgrade"])
def test_a07_a_refusal_is_sent_though_a_handler_of_the_log_raises(serve: Serving, refused: str) -> None:
    peers = Peers()
    server = serve(make_app(peers, compression=TAKEOVER))
    bystander = peers.join(server, "bystander")

    def acting(record: logging.LogRecord) -> None:
        raise Boom

    with logging_to(acting) as log:
        client = RawClient.connect(server.port)
        client.send_raw(
            {
                "a path": b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "a request": b"what is this\r\n\r\n",
                "an upgrade": request_bytes(key=None),
            }[refused]
        )
        client.expect_reject(404 if refused == "a path" else 400)
        eventually(lambda: log.lines)
    bystander.send_close()
    assert closes(bystander) == [1000]
    settled(server, peers, 1)


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
@pytest.mark.parametrize("cause", CAUSES)
def test_a07_a_handler_of_the_log_raises(serve: Serving, cause: str, error: type[BaseException]) -> None:
    """What is behind is not delivered, and the Close is sent."""
    peers = Peers()
    options = {"ping_interval": 20, "ping_timeout": 10} if cause == "ping_timeout" else {}
    server = serve(make_app(peers, compression=TAKEOVER, max_backpressure=MOST, max_burst=0, **options)).hold_clock()
    if cause == "exception":
        serve.traps.expect(Boom)

    def acting(record: logging.LogRecord) -> None:
        raise error(record)

    with logging_to(acting) as log:
        client, code = provoke(cause, server, peers)
        assert closes(client) == [code]
        eventually(lambda: log.lines)
        assert "behind" not in peers.messages
    settled(server, peers, 1)


def test_a07_a_handler_of_the_log_is_interrupted(loop_kind: str, no_leaked_fds: None) -> None:
    """The KeyboardInterrupt comes out of the loop. Run again, that goes on, and stops."""
    peers = Peers()
    app = make_app(peers, compression=TAKEOVER)
    loop = new_loop(loop_kind)
    server = loop.run_until_complete(app.start("127.0.0.1", 0))
    interrupts = [KeyboardInterrupt()]

    def acting(record: logging.LogRecord) -> None:
        if interrupts:
            raise interrupts.pop()

    async def closed_with() -> list[int | None]:
        return await asyncio.get_running_loop().run_in_executor(None, closes, clients[0])

    try:
        with logging_to(acting):
            clients = [loop.run_until_complete(client_of(server.port, "/?it"))]
            clients[0].send_raw(BAD_FRAME + build(TEXT, b"behind"))
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(asyncio.sleep(5 * PATIENCE))
            assert loop.run_until_complete(closed_with()) == [1002]
            loop.run_until_complete(until(lambda: peers.closed == [("it", 1002)]))
            clients[0].close()
        loop.run_until_complete(server.stop(0))
        assert app.stats()["sockets"] == 0 and not unaccounted(app.stats())
        assert peers.messages == [] and len(peers.closed) == 1
    finally:
        for client in list(RawClient.opened):
            client.close()
        loop.run_until_complete(server.stop(0))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.mark.parametrize("error", [GeneratorExit, SystemExit])
def test_a07_a_handler_of_the_log_raises_at_the_end(
    loop_kind: str, no_leaked_fds: None, error: type[BaseException]
) -> None:
    """What the log has still to tell is told last: the server has ended, whatever comes out of stop()."""
    app = make_app(Peers())
    loop = new_loop(loop_kind)
    lines = []

    def acting(record: logging.LogRecord) -> None:
        lines.append(record.getMessage())
        if "more like it" in lines[-1]:
            raise error

    async def stops() -> None:
        server = await app.start("127.0.0.1", 0)
        for _ in range(LINES + 1):
            with RawClient.connect(server.port) as client:
                client.send_raw(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await elsewhere(client.expect_reject, 404)
            await until(lambda: app.stats()["sockets"] == 0)
        with pytest.raises(error):
            await server.stop(0)
        await asyncio.wait_for(server.wait_closed(), 5 * PATIENCE)
        assert app.stats()["accepted"] == LINES + 1 and not unaccounted(app.stats())

    try:
        with logging_to(acting):
            loop.run_until_complete(stops())
        assert len(lines) == 1 + LINES + 1  # the first says where it listens
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.mark.parametrize("error", [GeneratorExit, SystemExit])
def test_a07_a_handler_of_the_log_raises_at_the_start(
    loop_kind: str, no_leaked_fds: None, error: type[BaseException]
) -> None:
    """Who starts the server does not get it: nothing is left listening."""
    app = make_app(Peers())
    loop = new_loop(loop_kind)

    def acting(record: logging.LogRecord) -> None:
        raise error

    async def starts() -> None:
        with pytest.raises(error):
            await app.start("127.0.0.1", 0)
        app.configure(max_topics=1)  # no server runs

    try:
        with logging_to(acting):
            loop.run_until_complete(starts())
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_a07_a_line_that_cannot_be_put_together(serve: Serving) -> None:
    """It holds what a callback returned, whose __repr__ raises. Lines behind it are written all the same."""

    class Bad:
        def __repr__(self) -> str:
            raise Boom

    texts: list[str] = []
    app = make_app(Peers(), compression=TAKEOVER)
    app.http("/bad")(lambda request: Bad())  # type: ignore[type-var]
    server = serve(app)
    with logging_to(lambda record: texts.append(record.getMessage())) as log:
        logging.getLogger().removeHandler(log)
        logging.getLogger("fastws").addHandler(log)  # before the traps, which need not see that line
        try:
            client = RawClient.connect(server.port)
            client.send_raw(b"GET /bad HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.expect_reject(500)
            client = RawClient.connect(server.port)
            client.send_raw(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.expect_reject(404)
            eventually(lambda: "404" in "".join(texts))
        finally:
            logging.getLogger("fastws").removeHandler(log)


# -- buffers


@pytest.mark.since(3, 12)
@pytest.mark.parametrize("act", ["terminate", "close"])
@pytest.mark.parametrize("when", ["exported", "released"])
def test_a07_a_buffer_acts_on_the_connection(serve: Serving, when: str, act: str) -> None:
    ends: list[int] = []
    results: list[Any] = []

    class Exporter:
        def __init__(self, ws: Any) -> None:
            self.ws = ws

        def act(self) -> None:
            self.ws.terminate() if act == "terminate" else self.ws.close(4000)

        def __buffer__(self, flags: int) -> memoryview:
            if when == "exported":
                self.act()
            return memoryview(b"behind")

        def __release_buffer__(self, view: memoryview) -> None:
            if when == "released":
                self.act()

    class Handler:
        def message(self, ws: Any, data: Any) -> None:
            results.append(ws.send(Exporter(ws)))

        def close(self, ws: Any, code: int, reason: str) -> None:
            ends.append(code)

    server = serve(make_app(Handler))
    client = RawClient.open(server.port)
    client.send("go")
    eventually(lambda: results)
    assert results == [fastws.DROPPED if when == "exported" else fastws.SENT]
    client.send_close(4000)
    assert closes(client) == ([] if act == "terminate" else [4000])
    eventually(lambda: ends == [1006 if act == "terminate" else 4000])


# -- a trace function, or a loop whose call_soon does something: it runs wherever the server calls the loop


class Tracing:
    """From the next function that Python calls on, for each of them: one act."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.ran = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event == "call" and "asyncio" in frame.f_code.co_filename:
            sys.setprofile(None)
            self.ran += 1
            self.act()


OPERATIONS: dict[str, Callable[[Any, Any], object]] = {
    "send": lambda ws, app: ws.send("behind", compress=False),
    "ping": lambda ws, app: ws.ping(b"behind"),
    "close": lambda ws, app: ws.close(4001),
}


@pytest.mark.parametrize(
    ("operation", "act"),
    [("send", "close"), ("ping", "close"), ("ping", "fail"), ("close", "close")],
)
def test_a07_a_trace_function_ends_a_connection_amid_an_operation(serve: Serving, operation: str, act: str) -> None:
    ends: list[int] = []
    traced: list[int] = []
    later: list[Any] = []

    class Handler:
        def open(self, ws: Any) -> None:
            ws.subscribe("room")
            later.append(ws)

        def close(self, ws: Any, code: int, reason: str) -> None:
            ends.append(code)

    app = make_app(Handler, compression=TAKEOVER, max_backpressure=MOST, max_burst=0)
    server = serve(app)
    client = RawClient.connect(server.port, receive_buffer=4096)
    client.handshake(headers=OFFER)
    eventually(lambda: later)
    (ws,) = later
    if act == "fail":
        stuff(server, ws)

    def acting() -> None:
        if act == "close":
            ws.close(4000)
        else:
            ws.send("over max_backpressure")

    def operate() -> None:
        trace = Tracing(acting)
        sys.setprofile(trace)
        try:
            OPERATIONS[operation](ws, app)
        finally:
            sys.setprofile(None)
        traced.append(trace.ran)

    server.loop.call_soon_threadsafe(operate)
    eventually(lambda: traced)
    if serve.loop_kind == "asyncio":
        assert traced == [1]
    client.send_close(1000)
    codes = closes(client)
    eventually(lambda: ends)
    server.settle()
    assert len(ends) == 1
    assert codes in ([], ends)
    stats = server.stats()
    assert stats["connections"] == 0 and not unaccounted(stats)
    server.stop_server()


# -- at the recursion limit


def deepest(act: Callable[[], object]) -> None:
    """Walks down until there is no stack, and acts there, as well as it goes."""
    try:
        deepest(act)
    except RecursionError:
        act()


def walk(text: str, at: int, act: Callable[[], object]) -> int:
    """A parser of nested parentheses, as one writes it, that acts where it catches the error."""
    try:
        while at < len(text) and text[at] == "(":
            at = walk(text, at + 1, act)
    except RecursionError:
        act()
        raise
    return at + 1


NESTED = "(" * 5000
AT_THE_LIMIT: dict[str, Callable[[Any], object]] = {
    "close": lambda ws: ws.close(4000),
    "terminate": lambda ws: ws.terminate(),
    "send": lambda ws: ws.send("deep"),
    "publish": lambda ws: ws.publish("room", "deep"),
}


@pytest.mark.parametrize(
    ("act", "where"),
    [(act, where) for act in ("close", "terminate") for where in ("def", "first step", "task")]
    + [("send", "task"), ("publish", "task")],
)
def test_a07_acting_at_the_recursion_limit(serve: Serving, act: str, where: str) -> None:
    """Deadlines come, and what tasks send leaves, for all others, whatever could not be called there."""
    ends: list[str] = []

    def acting(ws: Any) -> None:
        try:
            AT_THE_LIMIT[act](ws)
        except RecursionError:
            pass

    def parse(ws: Any, text: str) -> None:
        try:
            walk(text, 0, lambda: acting(ws))
        except RecursionError:
            pass

    class Handler:
        def open(self, ws: Any) -> None:
            ws.subscribe("room")

        def message(self, ws: Any, data: str) -> Any:
            if data == "later":
                return self.later(ws)
            if where == "def":
                return parse(ws, data)
            return self.parse(ws, data)

        async def later(self, ws: Any) -> None:
            await asyncio.sleep(0.001)
            ws.send("from a task")

        async def parse(self, ws: Any, data: str) -> None:
            if where == "task":
                await asyncio.sleep(0)
            parse(ws, data)

        def close(self, ws: Any, code: int, reason: str) -> None:
            ends.append(ws.query_string)

    server = serve(make_app(Handler, handshake_timeout=10, ping_interval=0, close_timeout=5)).hold_clock()
    silent = RawClient.connect(server.port)
    other = RawClient.open(server.port, "/?other")
    client = RawClient.open(server.port, "/?deep")
    for _ in range(3):
        try:
            client.send(NESTED)
        except ConnectionError:
            break
    server.settle()
    server.advance(5)
    if act in ("close", "terminate"):
        eventually(lambda: "deep" in ends)
    late = RawClient.connect(server.port)
    other.buffer.clear()
    other.send("later")
    while (got := other.recv()) != "from a task":
        assert got == "deep"
    server.advance(5)
    assert silent.eof(5.0 * PATIENCE), "its deadline has not come"
    server.advance(5)
    assert late.eof(5.0 * PATIENCE), "no deadline comes any more"
    client.close()
    other.close()
    eventually(lambda: sorted(ends) == ["deep", "other"])


def test_a07_a_close_at_the_recursion_limit_leaves_at_once(serve: Serving) -> None:
    """Not when the next deadline comes: those that the close itself sets are later."""
    opened: list[Any] = []

    class Handler:
        def open(self, ws: Any) -> None:
            opened.append(ws)

    server = serve(make_app(Handler, ping_interval=0, handshake_timeout=60, close_timeout=60))
    client = RawClient.open(server.port)
    eventually(lambda: opened)

    server.call(deepest, lambda: opened[0].close(4000))
    frame = client.recv_frame()
    assert (frame.opcode, close_code(frame.payload)) == (CLOSE, 4000)
    client.send_close(4000)
    client.expect_eof()


# -- a sweep of the deadlines


@pytest.mark.parametrize("act", ["publish", "close"])
def test_a07_peers_that_vanish_together_cost_nobody_else(serve: Serving, act: str) -> None:
    """Their `close` publishes to one that reads everything, or closes it."""
    many = 300
    kept: list[Any] = []
    ends: list[tuple[str, int]] = []

    class Handler:
        def open(self, ws: Any) -> None:
            if ws.query_string == "X":
                kept.append(ws)
                ws.subscribe("ends")

        def close(self, ws: Any, code: int, reason: str) -> None:
            ends.append((ws.query_string, code))
            if ws.query_string != "X":
                if act == "publish":
                    app.publish("ends", bytes(100_000))
                else:
                    kept[0].close(4000)

    options = {"max_backpressure": 1 << 40, "high_water": 1000, "low_water": 100}
    app = make_app(Handler, ping_interval=20, ping_timeout=20, **options)
    server = serve(app).hold_clock()
    x = RawClient.connect(server.port, timeout=20.0)
    x.handshake("/?X")
    others = [RawClient.open(server.port) for _ in range(many)]
    server.advance(20)
    for client in (x, *others):
        assert client.recv_frame() == (True, PING, b"")
    x.send_frame(10)
    server.settle()
    server.advance(20)  # one sweep finds all of them due
    if act == "close":
        while (frame := x.recv_frame()).opcode == PING:
            x.send_frame(10, frame.payload)
        assert (frame.opcode, close_code(frame.payload)) == (CLOSE, 4000)
        x.send_close(4000)
        x.expect_eof()
        eventually(lambda: ("X", 4000) in ends)
    else:
        got = 0
        while got < many:
            assert len(x.recv()) == 100_000
            got += 1
        assert not [end for end in ends if end[0] == "X"]
        server.call(kept[0].send, "still here")
        assert x.recv() == "still here"
    eventually(lambda: len([end for end in ends if end[0] != "X"]) == many)
    for other in others:
        other.close()


class Interrupting:
    """A profiler: raises where a signal's handler can, for the n-th time: when a function of fastws.serving.tasks
    begins, and after a call that Starter.start has made."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        ours = frame.f_code.co_filename == fastws.serving.tasks.__file__
        if event == "return" and ours and frame.f_back is not None:
            frame = frame.f_back
        starts = frame.f_code is fastws.serving.tasks.Starter.start.__code__
        if (event == "call" and ours) or (event in ("return", "c_return") and starts):
            self.left -= 1
            if self.left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt


@pytest.mark.parametrize("waits", [False, True])
def test_a04_a_signal_comes_while_a_coroutine_is_started(
    loop_kind: str, no_leaked_fds: None, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    """Tasks run as before, others' callbacks are called, and the server stops, after whichever call its handler has
    raised."""

    class Answers:
        async def message(self, ws: Any, data: Any) -> None:
            if waits:
                await asyncio.sleep(0)
            ws.send(data)

        def close(self, ws: Any, code: int, reason: str) -> None:
            closed.append(code)

    async def answered(client: RawClient) -> None:
        """Or closed: who was interrupted goes on waiting when the loop runs again."""
        await until(lambda: client.sock.fileno() < 0 or select.select([client.sock], [], [], 0)[0])

    async def serves() -> None:
        assert asyncio.current_task() is not None
        await server.stop(0.01)

    loop = new_loop(loop_kind)
    number, interrupted = 0, True
    while interrupted:
        closed: list[int] = []
        app = make_app(Answers())
        server = loop.run_until_complete(app.start("127.0.0.1", 0))
        client = loop.run_until_complete(client_of(server.port))
        client.send("x")
        sys.setprofile(Interrupting(number))
        try:
            loop.run_until_complete(answered(client))
            interrupted = False
        except KeyboardInterrupt:
            number += 1
        finally:
            sys.setprofile(None)
        assert asyncio.current_task(loop) is None
        loop.call_soon(loop.stop)  # answered() may have ended as well, and uvloop would then stop what runs next
        loop.run_forever()
        other = loop.run_until_complete(client_of(server.port))
        for text in ("one", "two"):
            other.send(text)
            loop.run_until_complete(answered(other))
            assert other.recv() == text, number
        loop.run_until_complete(serves())
        other.close()
        assert len(closed) == 2 and not any(at_rest(app.stats()).values()) and not unaccounted(app.stats())
        client.close()
    assert number > 1
    caplog.clear()  # the tracebacks hold connections
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.mark.parametrize("then", ["another message", "stop"])
def test_a04_a_signal_comes_before_a_turn(loop_kind: str, no_leaked_fds: None, then: str) -> None:
    """Its handler raises when the loop has taken the call from its queue and has not made it. uvloop makes it in C,
    where no handler runs."""
    closed: list[int] = []
    sockets: list[Any] = []

    class Handler:
        def open(self, ws: Any) -> None:
            sockets.append(ws)

        def close(self, ws: Any, code: int, reason: str) -> None:
            closed.append(code)

    def interrupt(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is asyncio.Handle._run.__code__ and "_end_turn" in repr(frame.f_locals):
            sys.setprofile(None)
            raise KeyboardInterrupt

    def send() -> None:
        for ws in sockets:
            ws.send("task")

    loop = new_loop(loop_kind)
    app = make_app(Handler)
    server = loop.run_until_complete(app.start("127.0.0.1", 0))
    clients = [loop.run_until_complete(client_of(server.port)) for _ in range(2)]
    loop.run_until_complete(until(lambda: len(sockets) == 2))
    loop.call_soon(send)
    stopping = loop.call_later(0.05, loop.stop)
    try:
        sys.setprofile(interrupt)
        loop.run_forever()
        assert loop_kind == "uvloop"
    except KeyboardInterrupt:
        assert loop_kind == "asyncio"
        stopping.cancel()
    finally:
        sys.setprofile(None)

    def heard(number: int) -> Any:
        """The next frame that a client is sent."""
        client = clients[number]
        loop.run_until_complete(until(lambda: client.buffer or select.select([client.sock], [], [], 0)[0]))
        return client.recv_frame()

    if then == "another message":
        clients[0].send("x")
        assert heard(1).payload == b"task"
        loop.call_soon(send)
        assert heard(1).payload == heard(0).payload == b"task"
    stopped = loop.create_task(server.stop(60 * PATIENCE))
    for number in range(2):
        while (frame := heard(number)).opcode != CLOSE:
            assert frame.payload == b"task"
        clients[number].send_close(1001)
        clients[number].close()
    loop.run_until_complete(asyncio.wait_for(stopped, 20 * PATIENCE))
    assert closed == [1001, 1001] and not any(at_rest(app.stats()).values())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
