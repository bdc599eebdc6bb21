"""What a server is in the middle of when it runs out of something: each is prepared, and is then one action."""

from __future__ import annotations

import asyncio
import gc
import operator
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from harness import BINARY, CONT, PING, TEXT, build, request_bytes, reset_at_close
from harness.frames import build_close

import fastws
from fastws.serving.reactors import reactor_of

from .world import DEFLATE, AsyncCallbacks, Callbacks, Peer, World

Action = Callable[[], Any]
SMALL, MIDDLE, LARGE, TEXTUAL = b"hello", b"m" * 3000, b"large " * 14_000, "größer ".encode() * 12_000
CROWD = 5


class Trial(World):
    def __init__(self, loop: asyncio.AbstractEventLoop, impatient: bool) -> None:
        options: dict[str, Any] = {"handshake_timeout": 0.05} if impatient else {}
        app = fastws.App(
            ping_interval=0, max_backpressure=1 << 22, high_water=1 << 22, tcp_user_timeout=0, close_timeout=0.5,
            **options,
        )  # fmt: skip
        calls = self.calls = Callbacks()
        later = self.later = AsyncCallbacks(calls)

        class Kept(Callbacks):
            def upgrade(self, request: Any) -> Any:
                return request.accept(data="kept")

        class AskedFirst(Callbacks):
            async def upgrade(self, request: Any) -> Any:
                return None

        class AskedLater(Callbacks):
            async def upgrade(self, request: Any) -> Any:
                await later.wait.wait()

        class SendingText(Callbacks):
            def message(self, ws: Any, data: Any) -> None:
                ws.send_text(data)

        class Publishing(Callbacks):
            def message(self, ws: Any, data: Any) -> None:
                ws.publish("room", data)
                ws.send(data)

        class Raising(Callbacks):
            def message(self, ws: Any, data: Any) -> None:
                raise ZeroDivisionError

        app.websocket("/")(calls)
        app.websocket("/quick", close_timeout=0.05)(calls)  # it makes for a short tick
        app.websocket("/async")(later)
        app.websocket("/utf8", text="utf8")(SendingText(calls))
        app.websocket("/view", binary="view")(calls)
        app.websocket("/deflate", compression=fastws.Deflate())(calls)
        app.websocket("/takeover", compression=fastws.Deflate(client_no_context_takeover=False))(calls)
        app.websocket("/kept/{name}", keep_request=True, compression=fastws.Deflate())(Kept(calls))
        app.websocket("/asked-first")(AskedFirst(calls))
        app.websocket("/asked-later")(AskedLater(calls))
        app.websocket("/publishing")(Publishing(calls))
        app.websocket("/raising")(Raising(calls))
        app.websocket("/slow", max_backpressure=30_000, max_burst=0, low_water=500, high_water=30_000)(calls)
        if impatient:
            app.websocket("/pinged", ping_interval=0.05, ping_timeout=0.05, close_timeout=0.05)(calls)
            app.websocket("/stalling", message_timeout=0.05, close_timeout=0.05)(calls)
            app.websocket("/closing", close_timeout=0.05)(later)

        @app.http("/page")
        def page(request: Any) -> Any:
            return fastws.Response(200, "a page")

        @app.http("/page-later")
        async def page_later(request: Any) -> Any:
            await later.wait.wait()
            return fastws.Response(200, "a page")

        super().__init__(loop, app)
        self.impatient = impatient
        self.release = later.wait.set
        self.expected: dict[Peer, Sequence[bytes]] = {}
        self.waits: set[Peer] = set()  # for a callback that does not go on
        self.misses = False  # the application was told that something was not sent

    def peer(self, path: str = "/", *, want: Sequence[bytes] = (), **how: Any) -> Peer:
        peer = self.open(path, **how)
        self.expected[peer] = list(want)
        return peer

    @property
    def ws(self) -> Any:
        """Of the peer that came last."""
        return self.calls.sockets[max(self.calls.sockets)]

    def leave(self) -> None:
        super().leave()
        self.calls.sockets.clear()

    def wake(self) -> None:
        """What the loop calls: events are taken, then the turn ends."""
        reactor: Any = reactor_of(self.loop)
        reactor._wake()

    def blocked(self, path: str = "/") -> Peer:
        """A peer that takes nothing more."""
        peer = self.peer(path, receive_buffer=4096)
        peer.reads = False
        want: list[bytes] = []
        while self.ws.buffered_amount < 10_000:
            want.append(b"%5d" % len(want) * 2000)
            self.on_loop(lambda: self.ws.send(want[-1]))
            self.turn(1)
        self.expected[peer] = want
        return peer


def _turn_of(trial: Trial, action: Action) -> Action:
    """What the application does, and the turn after it."""

    def run() -> None:
        action()
        trial.wake()

    return run


# What follows prepares a situation, and returns what is then done without memory.


def accept(trial: Trial) -> Action:
    for _ in range(3):
        trial.connect().send(request_bytes("/"))
    return trial.wake


def requesting(path: str, **how: Any) -> Callable[[Trial], Action]:
    def prepare(trial: Trial) -> Action:
        peer = trial.connect()
        if "later" in path:
            trial.waits.add(peer)
        trial.turn()
        peer.send(request_bytes(path, **how))
        return trial.wake

    return prepare


def answering(path: str, verdict: Any, error: Any = None, **how: Any) -> Callable[[Trial], Action]:
    """An async callback has decided."""

    def prepare(trial: Trial) -> Action:
        peer = trial.connect()
        trial.turn()
        peer.send(request_bytes(path, **how))
        trial.turn()
        assert not peer.status
        gc.collect()
        ws: Any
        (ws,) = (one for one in gc.get_objects() if isinstance(one, fastws.WebSocket))
        return _turn_of(trial, lambda: ws._upgrade_ended(verdict, error))

    return prepare


def receiving(path: str, *wires: bytes, want: Sequence[bytes] = (), **how: Any) -> Callable[[Trial], Action]:
    def prepare(trial: Trial) -> Action:
        peer = trial.peer(path, want=want, **how)
        if "/async" in path and not want:
            trial.waits.add(peer)
        for wire in wires[:-1]:
            peer.send(wire)
            trial.turn(2)
        peer.send(wires[-1])
        return trial.wake

    return prepare


def inflating(path: str, *messages: bytes) -> Callable[[Trial], Action]:
    def prepare(trial: Trial) -> Action:
        peer = trial.peer(path, want=messages, headers=DEFLATE)
        peer.send(b"".join(peer.deflated(message, takeover=path == "/takeover") for message in messages))
        return trial.wake

    return prepare


def many_connections(trial: Trial) -> Action:
    for _ in range(CROWD):
        trial.peer(want=[SMALL]).say(SMALL)
    return trial.wake


def went_on(error: Any = None) -> Callable[[Trial], Action]:
    """An async callback has ended, behind which others wait."""

    def prepare(trial: Trial) -> Action:
        trial.peer("/async", want=[SMALL] * 3).send(build(BINARY, b"wait") + build(BINARY, SMALL) * 3)
        trial.turn()
        ws = trial.ws
        return _turn_of(trial, lambda: ws._callback_ended(None, error))

    return prepare


def reset(trial: Trial) -> Action:
    peer = trial.peer()
    peer.say(SMALL)
    reset_at_close(peer.sock)
    peer.close()
    return trial.wake


def doing(
    action: Callable[[Any], Any], path: str = "/", blocked: bool = False, want: Sequence[bytes] = (), **how: Any
) -> Callable[[Trial], Action]:
    """What the application does to a connection by itself, outside of a callback."""

    def prepare(trial: Trial) -> Action:
        peer = trial.blocked(path) if blocked else trial.peer(path, **how)
        trial.expected[peer] = [*trial.expected[peer], *want]
        ws = trial.ws
        return _turn_of(trial, lambda: action(ws))

    return prepare


def send_many(ws: Any) -> None:
    for _ in range(5):
        ws.send(SMALL * 4000)


def resuming(trial: Trial) -> Action:
    peer = trial.peer(want=[SMALL, MIDDLE])
    ws = trial.ws
    peer.send(build(TEXT, SMALL)[:-1])
    trial.turn()
    trial.on_loop(ws.pause_reading)
    peer.send(build(TEXT, SMALL)[-1:] + build(TEXT, MIDDLE))
    trial.turn()
    return _turn_of(trial, ws.resume_reading)


def publishing(path: str, message: Any, **how: Any) -> Callable[[Trial], Action]:
    def prepare(trial: Trial) -> Action:
        for _ in range(CROWD):
            trial.peer(path, want=[bytes(message)], **how)
            trial.on_loop(lambda: trial.ws.subscribe("room"))
        return _turn_of(trial, lambda: trial.app.publish("room", message.decode()))

    return prepare


def publishing_from_callback(trial: Trial) -> Action:
    for path in ("/", "/deflate", "/takeover"):
        trial.peer(path, want=[MIDDLE], headers=DEFLATE)
        trial.on_loop(lambda: trial.ws.subscribe("room"))
    trial.misses = True  # the publisher is told, and closed for it
    trial.peer("/publishing", want=[MIDDLE]).say(MIDDLE)
    return trial.wake


def sending_prepared(trial: Trial) -> Action:
    prepared = [fastws.prepare(SMALL), fastws.prepare(MIDDLE), fastws.prepare(LARGE)]
    trial.peer("/deflate", want=[SMALL, MIDDLE, LARGE], headers=DEFLATE)
    ws = trial.ws
    return _turn_of(trial, lambda: [ws.send(one) for one in prepared])


def subscribing(trial: Trial) -> Action:
    trial.peer()
    ws = trial.ws

    def action() -> None:
        ws.subscribe("room")
        ws.subscribe("other")
        ws.unsubscribe("room")
        ws.subscribe("room")

    return action


def subscribing_and_leaving(trial: Trial) -> Action:
    """It leaves without having got into a topic, perhaps."""
    trial.peer()
    ws = trial.ws
    trial.misses = True

    def action() -> None:
        ws.subscribe("room")
        ws.close()

    return action


def draining(trial: Trial) -> Action:
    peer = trial.blocked("/slow")
    ws = trial.ws
    futures = [trial.on_loop(ws.drained) for _ in range(3)]
    assert not any(future.done() for future in futures)
    peer.reads = True
    peer.read_all()
    time.sleep(0.005)
    return trial.wake


def asking_drained(trial: Trial) -> Action:
    trial.blocked("/slow")
    return trial.ws.drained  # type: ignore[no-any-return]


def sweeping(path: str, wire: bytes = b"", waits: float = 0.06) -> Callable[[Trial], Action]:
    """Time passes: that the timer rings and is set again is what may fail."""

    def prepare(trial: Trial) -> Action:
        for _ in range(3):
            peer = trial.peer(path)
            peer.send(wire)
        trial.connect()
        trial.turn(2)
        time.sleep(waits)
        return trial.wake

    return prepare


def sweeping_closed(trial: Trial) -> Action:
    """A Close of ours is not answered; a callback of a connection whose peer has closed does not end."""
    peer = trial.peer("/closing")
    trial.on_loop(trial.ws.close)
    other = trial.peer("/closing")
    other.send(build(BINARY, b"wait") + build(BINARY, SMALL) + build_close(1000))
    peer.reads = other.reads = False
    trial.turn(2)
    time.sleep(0.06)
    return trial.wake


def stopping(trial: Trial) -> Action:
    trial.peer()
    trial.peer("/async").send(build(BINARY, b"wait"))
    trial.connect()
    trial.turn()
    return stopping_empty(trial)


def stopping_empty(trial: Trial) -> Action:
    """The first step of stop(): up to where it waits."""
    trial.stops = True
    coroutine = trial.server.stop(5.0)

    def first_step() -> None:
        try:
            coroutine.send(None)
        except StopIteration:
            pass

    return first_step


def ending_last(trial: Trial) -> Action:
    """The server stops, and its last connection goes."""
    peer = trial.peer()
    stopping = trial.loop.create_task(trial.server.stop(60.0))
    trial.stops = True
    peer.reads = False
    trial.turn(2)
    peer.send(build_close(1001))
    trial.turn(1)
    peer.sock.shutdown(socket.SHUT_RDWR)
    del stopping
    return trial.wake


three = build(TEXT, SMALL) + build(BINARY, MIDDLE) + build(TEXT, "grüße".encode())
want_three = [SMALL, MIDDLE, "grüße".encode()]
fragments = build(TEXT, MIDDLE, fin=False) + build(PING, b"between") + build(CONT, MIDDLE)
plain = {"without": ("upgrade",)}

SITUATIONS: dict[str, Callable[[Trial], Action]] = {
    "accept": accept,
    "request": requesting("/"),
    "request kept": requesting("/kept/x?y=z", headers=DEFLATE),
    "request asked first": requesting("/asked-first"),
    "request asked later": requesting("/asked-later"),
    "request page": requesting("/page", **plain),
    "request page later": requesting("/page-later", **plain),
    "request nowhere": requesting("/nowhere"),
    "request malformed": requesting("/", headers=[("x y", "z")]),
    "request of version 8": requesting("/", headers=[("Sec-WebSocket-Version", "8")]),
    "accepted later": answering("/asked-later", None),
    "raised later": answering("/asked-later", None, ZeroDivisionError()),
    "page later": answering("/page-later", fastws.Response(200, "a page"), **plain),
    "page later is none": answering("/page-later", 5, **plain),
    **{
        f"{what} {path}": receiving(path, wire, want=want)
        for path in ("/", "/view", "/async")
        for what, wire, want in (
            ("small", three, want_three),
            ("fragments", fragments, [MIDDLE * 2]),
            ("large", build(BINARY, LARGE), [LARGE]),
        )
    },
    "small /utf8": receiving("/utf8", build(TEXT, SMALL) + build(TEXT, TEXTUAL), want=[SMALL, TEXTUAL]),
    "large text": receiving("/", build(TEXT, TEXTUAL), want=[TEXTUAL]),
    "in pieces": receiving(
        "/", *(build(BINARY, LARGE * 2)[at : at + 45_000] for at in range(0, 168_014, 45_000)), want=[LARGE * 2]
    ),
    "a piece": receiving("/", three[:1]),
    "a piece more": receiving("/", three[:2], three[2:-1], three[-1:], want=want_three),
    "inflating": inflating("/deflate", MIDDLE, b"text " * 30, LARGE * 2),
    "inflating with takeover": inflating("/takeover", MIDDLE, b"text " * 30, LARGE * 2),
    "many connections": many_connections,
    "waits": receiving("/async", build(BINARY, b"wait") + build(BINARY, SMALL) * 3),
    "waits for too many": receiving("/async", build(BINARY, b"wait") + build(BINARY, SMALL) * 30),
    "went on": went_on(),
    "went on with an error": went_on(ZeroDivisionError()),
    "raises": receiving("/raising", build(TEXT, SMALL)),
    "ping": receiving("/", build(PING, b"x" * 100)),
    "close": receiving("/", build(TEXT, SMALL) + build_close(4000, b"why"), want=[SMALL]),
    "close /async": receiving("/async", build(TEXT, b"wait") + build_close(4000, b"why"), want=[]),
    "protocol error": receiving("/", build(TEXT, SMALL) + build(3, b""), want=[SMALL]),
    "invalid text": receiving("/", build(TEXT, SMALL) + build(TEXT, b"\xff"), want=[SMALL]),
    "half a close": receiving("/", b"".join((build(TEXT, SMALL), build_close(1000)[:-1])), want=[SMALL]),
    "reset": reset,
    **{
        f"{'queues' if blocked else 'sends'} {what}": doing(
            operator.methodcaller(how, data), "/" if blocked else path, blocked, want, headers=DEFLATE
        )
        for blocked in (False, True)
        for what, how, data, want, path in (
            ("small", "send", SMALL, [SMALL], "/"),
            ("large", "send", LARGE, [LARGE], "/"),
            ("large bytearray", "send", bytearray(LARGE), [LARGE], "/"),
            ("large text", "send", TEXTUAL.decode(), [TEXTUAL], "/"),
            ("text", "send_text", MIDDLE, [MIDDLE], "/"),
            ("deflated", "send", MIDDLE, [MIDDLE], "/deflate"),
            ("large deflated", "send", LARGE * 2, [LARGE * 2], "/deflate"),
            ("a ping", "ping", SMALL, [], "/"),
            ("a close", "close", 4000, [], "/"),
            ("prepared", "send", fastws.prepare(MIDDLE), [MIDDLE], "/"),
        )
    },
    "terminates": doing(lambda ws: ws.terminate()),
    "pauses": doing(lambda ws: (ws.pause_reading(), ws.resume_reading())),
    "resumes": resuming,
    "slow consumer": doing(send_many, "/slow", blocked=True, want=[SMALL * 4000]),
    "publishes": publishing("/", SMALL),
    "publishes much": publishing("/", LARGE),
    "publishes deflated": publishing("/deflate", MIDDLE, headers=DEFLATE),
    "publishes from a callback": publishing_from_callback,
    "sends prepared": sending_prepared,
    "subscribes": subscribing,
    "subscribes and leaves": subscribing_and_leaving,
    "drains": draining,
    "asks drained": asking_drained,
    "pings are due": sweeping("/pinged"),
    "pongs are late": sweeping("/pinged", waits=0.12),
    "messages are late": sweeping("/stalling", three[:9]),
    "closes are late": sweeping_closed,
    "stops": stopping,
    "stops, empty": stopping_empty,
    "stops, the last ends": ending_last,
}
IMPATIENT = {"pings are due", "pongs are late", "messages are late", "closes are late"}
#: Those that log a line of their own.
LOGGING = {"raises", "raised later", "page later is none", "went on with an error"}
