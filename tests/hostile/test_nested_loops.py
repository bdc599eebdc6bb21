"""Row A8: a callback that runs the loop itself until something comes, as nest_asyncio, notebooks and Qt do. On asyncio
everybody goes on meanwhile, with bytes of his own; uvloop refuses it with an exception, and everybody lives on."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    TEXT,
    RawClient,
    Serving,
    build,
    eventually,
    fill,
    make_app,
    request_bytes,
    run_until,
    unaccounted,
)
from harness.deflating import DeflateClient, Params, compressed, deflate

import fastws

SOON = 0.1 * PATIENCE


class Nesting:
    """The connection that is called "outer" runs the loop in the callback `where`; those beside it echo."""

    def __init__(self, where: str, until: Callable[[], object], serve: Serving) -> None:
        self.where, self.until, self.serve = where, until, serve
        self.events: list[tuple[str, str, Any]] = []
        self.depth = 0
        self.refused = 0
        self.sockets: dict[str, Any] = {}

    def nest(self, who: str, where: str) -> None:
        if who != "outer" or where != self.where or self.depth:
            return
        self.depth += 1
        self.events.append((who, where, "begins"))
        try:
            if self.serve.loop_kind == "uvloop":
                with pytest.raises(RuntimeError):
                    asyncio.get_running_loop().run_forever()
                self.refused += 1
            else:
                run_until(self.until)
        finally:
            self.events.append((who, where, "ends"))

    def note(self, ws: Any, where: str, what: Any = None) -> None:
        self.events.append((ws.query_string, where, what))
        self.nest(ws.query_string, where)

    def upgrade(self, request: Any) -> None:
        self.nest(request.query_string, "upgrade")

    def open(self, ws: Any) -> None:
        self.sockets[ws.query_string] = ws
        self.note(ws, "open")

    def message(self, ws: Any, data: Any) -> None:
        own = bytes(data) if not isinstance(data, str) else data
        self.note(ws, "message", own)
        assert (bytes(data) if not isinstance(data, str) else data) == own, "it has changed meanwhile"
        ws.send(own)

    def ping(self, ws: Any, data: bytes) -> None:
        self.note(ws, "ping", data)

    def drain(self, ws: Any) -> None:
        self.note(ws, "drain")

    def close(self, ws: Any, code: int, reason: str) -> None:
        self.note(ws, "close", code)

    def of(self, who: str) -> list[tuple[str, Any]]:
        return [(where, what) for one, where, what in self.events if one == who]


class NestingFirstStep(Nesting):
    """The same in the first step of an `async def`."""

    async def message(self, ws: Any, data: Any) -> None:  # type: ignore[override]
        super().message(ws, data)

    async def open(self, ws: Any) -> None:  # type: ignore[override]
        super().open(ws)

    async def ping(self, ws: Any, data: bytes) -> None:  # type: ignore[override]
        super().ping(ws, data)

    async def close(self, ws: Any, code: int, reason: str) -> None:  # type: ignore[override]
        super().close(ws, code, reason)

    async def upgrade(self, request: Any) -> None:  # type: ignore[override]
        super().upgrade(request)


def payloads(who: str, count: int, size: int) -> list[bytes]:
    return [(f"{who}{number:06d}".encode() * (size // 8 + 1))[:size] for number in range(count)]


def pipelined(messages: list[bytes]) -> bytes:
    return b"".join(build(BINARY, one) for one in messages)


@pytest.mark.parametrize(
    ("view", "asynchronous"), [(False, False), (True, False), (False, True)], ids=["plain", "view", "async"]
)  # a view ends with its callback, so no async def takes one
@pytest.mark.parametrize("where", ["message", "open", "ping", "close", "upgrade"])
def test_a08_everybody_gets_his_own_bytes(serve: Serving, where: str, view: bool, asynchronous: bool) -> None:
    """Messages are pipelined behind the one in whose callback the loop runs, and more come meanwhile."""
    beside = payloads("B", 20, 3000)
    outer = payloads("A", 20, 3000)
    late = payloads("L", 5, 50_000)

    def until() -> bool:
        return len([1 for one in nesting.of("beside") if one[0] == "message"]) == len(beside)

    nesting = (NestingFirstStep if asynchronous else Nesting)(where, until, serve)
    server = serve(make_app(nesting, binary="view" if view else "bytes", max_waiting=1000, high_water=1 << 30))
    other = RawClient.open(server.port, "/?beside")
    client = RawClient.connect(server.port)
    stream = pipelined(outer)
    if where == "ping":
        stream = pipelined(outer[:3]) + build(PING, b"p") + pipelined(outer[3:])
    if where == "close":
        stream += build(CLOSE, (4000).to_bytes(2, "big"))
    client.send_raw(request_bytes("/?outer") + stream)
    if serve.loop_kind == "asyncio":
        eventually(lambda: nesting.depth)
    if where != "close":
        client.send_raw(pipelined(late))
    other.send_raw(pipelined(beside[:10]))
    assert [other.recv() for _ in range(10)] == beside[:10]
    other.send_raw(pipelined(beside[10:]))
    assert [other.recv() for _ in range(10)] == beside[10:]
    client.expect_101()
    answers: list[bytes] = []
    wanted = outer if where == "close" else outer + late
    while len(answers) < len(wanted):
        frame = client.recv_frame()
        assert frame.opcode in (BINARY, 10), frame
        if frame.opcode == BINARY:
            answers.append(frame.payload)
    assert answers == wanted
    assert [what for which, what in nesting.of("outer") if which == "message" and isinstance(what, bytes)] == wanted
    if where == "close":
        client.expect_close(4000)
        eventually(lambda: ("close", "ends") in nesting.of("outer"))
    assert nesting.depth == 1
    client.close()
    other.close()
    eventually(lambda: not server.stats()["sockets"])
    assert [one[0] for one in nesting.of("outer")].count("close") == (3 if where == "close" else 1)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a08_callbacks_of_the_connection_come_one_at_a_time(serve: Serving, asynchronous: bool) -> None:
    """Its own messages, Pings, `drain` and `close` wait for the callback that runs the loop, and come in order."""

    def until() -> bool:
        return bool(others)

    others: list[int] = []
    nesting = (NestingFirstStep if asynchronous else Nesting)("message", until, serve)
    server = serve(make_app(nesting))
    client = RawClient.open(server.port, "/?outer")
    other = RawClient.open(server.port, "/?beside")
    client.send_raw(build(TEXT, b"1"))
    if serve.loop_kind == "asyncio":
        eventually(lambda: nesting.depth)
    client.send_raw(build(TEXT, b"2") + build(PING, b"3") + build(TEXT, b"4"))
    client.send_close(4000)
    for _ in range(3):
        other.send("x")
        other.recv()
    others.append(1)
    eventually(lambda: nesting.of("outer")[-1] == ("close", 4000))
    assert nesting.of("outer") == [
        ("open", None),
        ("message", "1"),
        ("message", "begins"),
        ("message", "ends"),
        ("message", "2"),
        ("ping", b"3"),
        ("message", "4"),
        ("close", 4000),
    ]
    assert [client.recv() for _ in range(2)] == ["1", "2"]


@pytest.mark.parametrize("end", ["terminate", "reset", "close", "backpressure"])
@pytest.mark.parametrize("where", ["message", "message after another", "first step", "open", "ping"])
def test_a08_the_connection_ends_while_its_callback_runs_the_loop(serve: Serving, where: str, end: str) -> None:
    """`close` comes once, when the callback is through; nothing behind it is delivered."""

    def until() -> bool:
        return bool(passed)

    passed: list[int] = []
    kind = NestingFirstStep if where == "first step" else Nesting
    nesting = kind("message" if where == "first step" or "message" in where else where, until, serve)
    server = serve(make_app(nesting, max_backpressure=1000, max_burst=0, close_timeout=5)).hold_clock()
    other = RawClient.open(server.port, "/?beside")
    client = RawClient.connect(server.port, receive_buffer=4096)
    stream = build(PING, b"p") + build(TEXT, b"1") if where == "ping" else build(TEXT, b"1")
    client.send_raw(request_bytes("/?outer") + stream + build(TEXT, b"behind"))
    if serve.loop_kind == "uvloop":
        assert client.expect_101()
        eventually(lambda: nesting.refused == 1)
        eventually(lambda: ("message", "behind") in nesting.of("outer"))
        return
    eventually(lambda: nesting.depth)
    ws = nesting.sockets["outer"]
    if end == "terminate":
        server.loop.call_soon_threadsafe(ws.terminate)
    elif end == "reset":
        client.reset()
    elif end == "close":
        server.loop.call_soon_threadsafe(ws.close, 4000)
    else:
        server.loop.call_soon_threadsafe(lambda: [ws.send(bytes(60_000)) for _ in range(200)])
    for _ in range(3):
        other.send("x")
        assert other.recv() == "x"
    passed.append(1)
    eventually(lambda: (nesting.where, "ends") in nesting.of("outer"))
    server.advance(5)
    eventually(lambda: [one for one in nesting.of("outer") if one[0] == "close"], 5.0)
    server.settle()
    events = nesting.of("outer")
    if end != "reset":
        assert ("message", "behind") not in events
    code = {"terminate": 1006, "reset": 1006, "close": 4000, "backpressure": 1008}[end]
    assert events[-1] == ("close", code)
    assert [one[0] for one in events].count("close") == 1
    assert events.index(("close", code)) > events.index((nesting.where, "ends"))
    client.close()
    other.close()
    eventually(lambda: not server.stats()["sockets"])
    assert not unaccounted(server.stats())


def test_a08_a_task_sends_while_a_callback_runs_the_loop(serve: Serving) -> None:
    """To that connection and to others: it leaves at once."""

    def until() -> bool:
        return bool(passed)

    passed: list[int] = []
    nesting = Nesting("message", until, serve)
    server = serve(make_app(nesting))
    other = RawClient.open(server.port, "/?beside")
    client = RawClient.open(server.port, "/?outer")
    eventually(lambda: len(nesting.sockets) == 2)
    client.send("1")
    eventually(lambda: nesting.depth)
    other.send("x")
    assert other.recv() == "x"
    for name, peer in (("outer", client), ("beside", other)):
        for size in (10, 100_000):
            server.loop.call_soon_threadsafe(nesting.sockets[name].send, bytes(size))
            while len(got := peer.recv()) == 1:  # the echo, on uvloop
                assert serve.loop_kind == "uvloop"
            assert got == bytes(size)
    assert serve.loop_kind == "uvloop" or ("message", "ends") not in nesting.of("outer")
    passed.append(1)
    if serve.loop_kind == "asyncio":
        assert client.recv() == "1"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a08_two_levels_deep(serve: Serving, asynchronous: bool) -> None:
    """One runs the loop in a callback inside of another's; a third is served by the innermost."""
    done: set[str] = set()
    depth: list[str] = []
    deepest: list[int] = []

    class Handler:
        def message(self, ws: Any, data: Any) -> None:
            who = ws.query_string
            own = bytes(data)
            if own == b"go" and serve.loop_kind == "asyncio":
                depth.append(who)
                deepest.append(len(depth))
                run_until(lambda: who in done)
                depth.remove(who)
            assert bytes(data) == own
            ws.send(own)

    server = serve(make_app(Handler, binary="view"))
    names = ["A", "B", "C"]
    clients = {name: RawClient.open(server.port, f"/?{name}") for name in names}
    sent = {name: payloads(name, 30, 5000) for name in names}
    for name in ("A", "B"):
        clients[name].send_raw(pipelined([sent[name][0], b"go", *sent[name][1:]]))
        if serve.loop_kind == "asyncio":
            eventually(lambda name=name: name in depth)
    clients["C"].send_raw(pipelined(sent["C"]))
    assert [clients["C"].recv() for _ in sent["C"]] == sent["C"]
    done.update("AB")
    for name in ("A", "B"):
        wanted = [sent[name][0], b"go", *sent[name][1:]]
        assert [clients[name].recv() for _ in wanted] == wanted
    assert serve.loop_kind == "uvloop" or max(deepest) == 2


@pytest.mark.parametrize("beside", ["large", "compressed", "view"])
def test_a08_other_ways_to_receive(serve: Serving, beside: str) -> None:
    """A message that is received where it will lie, or inflated, beside one whose callback runs the loop."""

    def until() -> bool:
        return bool(passed)

    passed: list[int] = []
    nesting = Nesting("message", until, serve)
    compression = {"compression": fastws.Deflate(client_no_context_takeover=False, threshold=1 << 20)}
    options = compression if beside == "compressed" else {}
    server = serve(make_app(nesting, binary="view", high_water=1 << 30, max_message_size=1 << 24, **options))
    noise = os.urandom(900_000)
    clients: list[Any] = []
    for name in ("outer", "beside"):
        clients.append(
            DeflateClient.offer(server.port, Params(), path=f"/?{name}")
            if beside == "compressed"
            else RawClient.open(server.port, f"/?{name}")
        )
    client, other = clients
    mine = [payload * 10 for payload in payloads("A", 5, 4000)]
    theirs = [noise, noise[:300_000]] if beside == "large" else [one * 10 for one in payloads("B", 5, 4000)]
    for number, message in enumerate(mine):
        client.send(message)
        if not number and serve.loop_kind == "asyncio":
            eventually(lambda: nesting.depth)
    for message in theirs:
        other.send(message)
        assert other.recv() == message
    passed.append(1)
    assert [client.recv() for _ in mine] == mine


def test_a08_deadlines_of_a_connection_whose_callback_runs_the_loop(serve: Serving) -> None:
    """It answers Pings, and has sent its message in time, but nothing is read from it meanwhile. Time
    passes, as the loop that is run inside must be one in which the timer rings."""

    def until() -> bool:
        return time.monotonic() > ends[0]

    ends = [time.monotonic() + 1000]
    nesting = Nesting("message", until, serve)
    options = {"ping_interval": SOON, "ping_timeout": SOON, "message_timeout": SOON, "max_message_size": 1 << 22}
    server = serve(make_app(nesting, **options))
    client = RawClient.open(server.port, "/?outer")
    body = bytes(400_000)
    frame = build(BINARY, body)
    ends[0] = time.monotonic() + 8 * SOON
    client.send_raw(frame)
    while (got := client.recv_frame()).opcode == PING:
        client.send_frame(10, got.payload)
    assert got.payload == body
    client.send("afterwards")
    assert client.recv() == "afterwards"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a08_http_and_drain(serve: Serving, asynchronous: bool) -> None:
    def until() -> bool:
        return bool(passed)

    passed: list[int] = []
    nesting = Nesting("drain", until, serve)
    app = make_app(nesting, high_water=1000, low_water=100, max_backpressure=1 << 30)
    began: list[int] = []

    def answer(request: Any) -> fastws.Response:
        began.append(1)
        if serve.loop_kind == "asyncio":
            run_until(until)
        return fastws.Response(200, request.path * 1000)

    async def later(request: Any) -> fastws.Response:
        return answer(request)

    app.http("/answer")(later if asynchronous else answer)
    server = serve(app)
    other = RawClient.open(server.port, "/?beside")
    asks = RawClient.connect(server.port)
    asks.send_raw(b"GET /answer HTTP/1.1\r\nHost: localhost\r\n\r\n")
    eventually(lambda: began)
    slow = RawClient.connect(server.port, receive_buffer=4096)
    slow.handshake("/?outer")
    eventually(lambda: "outer" in nesting.sockets)
    sent = fill(server, nesting.sockets["outer"])
    for message in sent:
        assert slow.recv() == message
    eventually(lambda: ("drain", None) in nesting.of("outer"))
    other.send_raw(build(TEXT, b"x"))
    assert other.recv() == "x"
    slow.send("more")
    passed.append(1)
    assert slow.recv() == "more"
    assert asks.expect_reject(200).body == b"/answer" * 1000


@pytest.mark.parametrize("kind", ["http", "upgrade"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a08_the_time_is_up_while_a_request_is_decided(serve: Serving, kind: str, asynchronous: bool) -> None:
    """It is counted once, and keeps no place."""
    ran: list[int] = []

    def nest() -> None:
        ran.append(1)
        if serve.loop_kind == "asyncio":
            run_until(lambda: app.stats()["refused"]["handshake_timeout"] or app.stats()["refused"]["http_timeout"])

    class Handler:
        def upgrade(self, request: Any) -> Any:
            if request.query_string == "it":
                nest()
            return None

        def message(self, ws: Any, data: Any) -> None:
            ws.send(data)

    class Later(Handler):
        async def upgrade(self, request: Any) -> Any:
            return super().upgrade(request)

    def answer(request: Any) -> fastws.Response:
        nest()
        return fastws.Response(200, "answer")

    async def later(request: Any) -> fastws.Response:
        return answer(request)

    app = make_app(
        Later if asynchronous else Handler, handshake_timeout=2 * SOON, http_timeout=2 * SOON, max_connections=1
    )
    app.http("/answer")(later if asynchronous else answer)
    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/?it") if kind == "upgrade" else b"GET /answer HTTP/1.1\r\nHost: localhost\r\n\r\n")
    eventually(lambda: ran)
    if serve.loop_kind == "asyncio":
        cause = "http_timeout" if kind == "http" and asynchronous else "handshake_timeout"
        eventually(lambda: server.stats()["refused"][cause] == 1)
        if asynchronous:
            client.expect_reject(503)
    client.close()
    eventually(lambda: not server.stats()["sockets"])
    assert not unaccounted(server.stats())
    after = RawClient.open(server.port)
    after.send("there is room")
    assert after.recv() == "there is room"


def test_a08_a_task_that_is_cancelled_in_its_first_step(serve: Serving) -> None:
    """The connection breaks while the first step runs the loop: what is behind its first await is cancelled."""
    events: list[str] = []

    class Handler:
        async def message(self, ws: Any, data: Any) -> None:
            if serve.loop_kind == "asyncio":
                run_until(lambda: app.stats()["closed"]["lost"])
            events.append("first step")
            try:
                await asyncio.sleep(60 * PATIENCE)
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        def close(self, ws: Any, code: int, reason: str) -> None:
            events.append("close")

    app = make_app(Handler)
    server = serve(app)
    client = RawClient.open(server.port)
    client.send("go")
    client.reset()
    eventually(lambda: "close" in events)
    assert events == ["first step", "cancelled", "close"]


@pytest.mark.parametrize("what", ["drains", "resumes", "resumes later", "inflates"])
def test_a08_what_is_to_go_on_goes_on(serve: Serving, what: str) -> None:
    """A turn inside the callback comes by a socket whose input is being processed: what was asked for meanwhile, that
    its input goes on, is not forgotten."""
    got: list[int] = []
    passed: list[int] = []

    class Handler:
        def message(self, ws: Any, data: Any) -> None:
            got.append(len(data))
            loop = asyncio.get_running_loop()
            if what == "drains" and data == "big":
                ws.send(bytes(20_000_000))  # over high_water: reading pauses
                nest(lambda: ws.buffered_amount < 10_000)
            elif what == "inflates" and len(data) > 1:
                nest(lambda: passed)
            elif what.startswith("resumes") and len(got) == 200:
                ws.pause_reading()
                if what == "resumes":
                    ws.resume_reading()
                else:
                    loop.call_soon(ws.resume_reading)
                nest(lambda: passed)

    def nest(check: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(SOON, passed.append, 1)
        if serve.loop_kind == "asyncio":
            run_until(check)

    server = serve(make_app(Handler, compression="deflate", max_message_size=1 << 20, max_backpressure=1 << 30))
    offers = "permessage-deflate" if what == "inflates" else ""
    client = DeflateClient.offer(server.port, offers) if offers else RawClient.open(server.port)
    count = 400
    if what == "drains":
        wire = build(TEXT, b"big")
        client.send_raw(wire[:3])
        server.settle()
        client.send_raw(wire[3:] + build(TEXT, b"x") * count)
        assert client.recv() == bytes(20_000_000)
    elif what == "inflates":  # in several turns
        client.send_raw(compressed(BINARY, deflate(random.Random(1).randbytes(600_000))) + build(TEXT, b"x") * count)
    else:
        client.send_raw(build(TEXT, b"x") * (count + 1))
    eventually(lambda: len(got) == count + 1)
    client.send("after")
    eventually(lambda: got[-1] == 5)
