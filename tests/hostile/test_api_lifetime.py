"""Row A5: a `ws` that the app keeps: after close, in another thread, across `server.stop()`, at interpreter exit."""

from __future__ import annotations

import gc
import textwrap
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from harness import PATIENCE, RawClient, Recorder, Serving, bystander, eventually, make_app, request_bytes
from harness.programs import python

METHODS: dict[str, Callable[[Any], Any]] = {
    "send": lambda ws: ws.send("x"),
    "send_text": lambda ws: ws.send_text(b"x"),
    "ping": lambda ws: ws.ping(),
    "close": lambda ws: ws.close(4000),
    "terminate": lambda ws: ws.terminate(),
    "pause_reading": lambda ws: ws.pause_reading(),
    "resume_reading": lambda ws: ws.resume_reading(),
    "subscribe": lambda ws: ws.subscribe("room"),
    "unsubscribe": lambda ws: ws.unsubscribe("kept"),
    "publish": lambda ws: ws.publish("kept", "x"),
}
TOPICS = ("subscribe", "unsubscribe", "publish")
ATTRIBUTES = [
    "id",
    "data",
    "path",
    "path_params",
    "query_string",
    "subprotocol",
    "request",
    "remote_address",
    "local_address",
    "buffered_amount",
    "ready_state",
    "subscriptions",
]


def look_at(ws: Any) -> dict[str, Any]:
    return {name: getattr(ws, name) for name in ATTRIBUTES}


@pytest.mark.parametrize("ending", ["close", "reset", "close handshake", "terminate", "stop"])
def test_a05_kept_after_close(serve: Serving, ending: str) -> None:
    import fastws

    recorder = Recorder()
    server = serve(make_app(recorder.handler(), keep_request=True))
    client = RawClient.open(server.port, "/?kept")
    eventually(lambda: recorder.sockets)
    (ws,) = recorder.sockets
    server.call(ws.subscribe, "kept")
    open_look = server.call(look_at, ws)
    if ending in ("close", "reset"):
        getattr(client, ending)()
    elif ending == "close handshake":
        client.send_close()
        client.expect_close(1000)
    elif ending == "terminate":
        server.call(ws.terminate)
    else:
        server.stop_server(0.2)
    eventually(lambda: recorder.events[-1][0] == "close")
    for _ in range(3):
        for name, method in METHODS.items():
            result = server.call(method, ws)
            assert result == (fastws.DROPPED if name.startswith("send") else 0 if name in TOPICS else result)
        assert not ws.is_subscribed("kept")
        closed_look = server.call(look_at, ws)
    same = set(ATTRIBUTES) - {"ready_state", "buffered_amount", "local_address", "subscriptions"}
    assert {name: closed_look[name] for name in same} == {name: open_look[name] for name in same}
    assert closed_look["buffered_amount"] == 0
    assert (open_look["subscriptions"], closed_look["subscriptions"]) == (("kept",), ())
    assert closed_look["ready_state"] != open_look["ready_state"]
    assert [event[0] for event in recorder.events] == ["open", "close"]
    assert ws not in list(server.call(lambda: list(server.server.connections)))


def test_a05_drained_on_a_closed_connection(serve: Serving) -> None:
    """`await ws.drained()` ends when there is nothing left that could drain."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    client = RawClient.connect(server.port, receive_buffer=65536)
    client.handshake()
    eventually(lambda: recorder.sockets)
    (ws,) = recorder.sockets

    async def waiting() -> str:
        ws.send(b"x" * (8 << 20))
        try:
            await ws.drained()
        except ConnectionError:
            return "told"
        return "returned"

    outcome: list[str] = []
    waiter = threading.Thread(target=lambda: outcome.append(server.call(waiting)))
    waiter.start()
    eventually(lambda: server.stats()["buffered_bytes"] > 0)
    client.reset()
    waiter.join(5 * PATIENCE)
    assert outcome, "drained() never ended"
    assert server.call(waiting) == outcome[0]


def test_a05_from_another_thread(serve: Serving) -> None:
    import fastws

    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with bystander(server, recorder, [("open",), ("close", 1006, "")]):
        client = RawClient.open(server.port)
        eventually(lambda: recorder.sockets)
        (ws,) = recorder.sockets
        server.call(ws.subscribe, "kept")
        for method in METHODS.values():
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                method(ws)
        client.expect_silence(0.05)
        server.loop.call_soon_threadsafe(ws.send, "the right way")
        assert client.recv() == "the right way"
        client.close()
        eventually(lambda: len(recorder.events) == 2)
        assert ws.send("x") == fastws.DROPPED
        assert ws.send_text(b"x") == fastws.DROPPED


def test_a05_the_last_reference_goes_in_another_thread(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))

    class Token:
        pass

    with bystander(server):
        for _ in range(20):
            client = RawClient.open(server.port)
            eventually(lambda: recorder.sockets)
            ws = recorder.sockets.pop()
            ws.data = token = Token()
            ws.data.cycle = ws  # only the collector gets this one
            alive = weakref.ref(token)
            del token
            client.close()
            eventually(lambda: recorder.events[-1][0] == "close")
            server.settle()
            del ws
            gc.collect()
            assert alive() is None


def test_a05_stop_with_open_connections(serve: Serving) -> None:
    """Each gets 1001; one that does not answer is cut off at the end of the time given."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    polite, silent = (RawClient.open(server.port) for _ in range(2))
    half = RawClient.connect(server.port)
    half.send_raw(request_bytes()[:50])
    eventually(lambda: len(server.server.connections) == 2 and server.stats()["handshakes"] == 1)
    stopping = threading.Thread(target=server.stop_server, args=(2.0,))
    stopping.start()
    for client in (polite, silent):
        assert client.recv_frame().payload[:2] == (1001).to_bytes(2, "big")
    polite.send_close(1001)
    polite.expect_eof(1.5)
    stopping.join(5 * PATIENCE)
    silent.expect_eof(1.0)
    assert half.eof() or half.recv_http().status == 503
    assert sorted(event[0] for event in recorder.events) == ["close", "close", "open", "open"]
    assert {event[1] for event in recorder.events if event[0] == "close"} == {1001}
    assert server.call(app_counts, server.app) == (0, 0, 0)
    with pytest.raises(ConnectionRefusedError):
        RawClient.connect(server.port)


def app_counts(app: Any) -> tuple[int, int, int]:
    stats = app.stats()
    return stats["connections"], stats["sockets"], stats["buffered_bytes"]


def test_a05_stop_twice_and_from_a_callback(serve: Serving) -> None:
    tasks: list[Any] = []

    def message(ws: Any, data: str) -> None:
        for _ in range(2):
            tasks.append(server.loop.create_task(server.server.stop(0.2)))

    server = serve(make_app(message))
    client = RawClient.open(server.port)
    client.send("stop")
    client.expect_close(1001)
    eventually(lambda: tasks and all(task.done() for task in tasks))
    assert [task.exception() for task in tasks] == [None, None]
    server.stop_server(0.1)


def test_a05_two_servers_of_one_app_one_after_the_other(serve: Serving) -> None:
    recorder = Recorder()
    app = make_app(recorder.handler(echo=True))
    for turn in range(3):
        server = serve(app)
        client = RawClient.open(server.port)
        client.send(f"turn {turn}")
        assert client.recv() == f"turn {turn}"
        client.close()
        server.settle()
        server.stop()
    assert [event[0] for event in recorder.events] == ["open", "message", "close"] * 3


def test_a05_connections_lists_what_is_open(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    clients = [RawClient.open(server.port) for _ in range(5)]
    eventually(lambda: len(recorder.sockets) == 5)

    def close_while_iterating() -> int:
        for ws in server.server.connections:
            ws.terminate()
        return len(server.server.connections)

    assert server.call(lambda: set(server.server.connections)) == set(recorder.sockets)
    assert server.call(close_while_iterating) == 0
    for client in clients:
        client.close()


def test_a05_a_request_is_kept_only_where_asked_for(serve: Serving) -> None:
    kept: dict[str, Any] = {}
    app = make_app()

    class Handler:
        def open(self, ws: Any) -> None:
            kept[ws.path] = getattr(ws, "request", None)

    app.websocket("/kept", keep_request=True)(Handler)
    app.websocket("/not")(Handler)
    server = serve(app)
    for path in ("/kept", "/not"):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes(path + "?q=1", headers=[("X-Test", "here")]))
        client.expect_101()
    eventually(lambda: len(kept) == 2)
    assert kept["/not"] is None
    assert kept["/kept"].headers["x-test"] == "here"


EXITS = {
    "the loop is abandoned": """
        loop.run_until_complete(main())
    """,
    "the loop is closed under it": """
        loop.run_until_complete(main())
        loop.close()
    """,
    "sys.exit in a callback's task": """
        async def leave():
            await main()
            sys.exit(7)
        loop.run_until_complete(leave())
    """,
    "used by atexit": """
        import atexit
        def late():
            app.publish("room", "x"), kept[0].publish("room", "x"), kept[0].unsubscribe("room")
            kept[0].send("x"), kept[0].ready_state, kept[0].subscribe("room"), kept[0].close()
            print("late")
        atexit.register(late)
        loop.run_until_complete(main())
    """,
    "used by a finaliser": """
        class Late:
            def __del__(self):
                kept[0].publish("room", "x")
                kept[0].terminate()
        sys.modules["late"] = Late()
        loop.run_until_complete(main())
    """,
    "os.fork": """
        loop.run_until_complete(main())
        child = os.fork()
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """,
}

PROGRAM = """
import asyncio, os, socket, sys
import fastws

kind, kept = sys.argv[1], []
if kind == "uvloop":
    import uvloop
    loop = uvloop.new_event_loop()
else:
    loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
app = fastws.App()

@app.websocket("/")
class Handler:
    def open(self, ws):
        kept.append(ws)
        ws.data = ws
        ws.subscribe("room")
        ws.subscribe("another")
        ws.send(b"x" * 8_000_000)
        app.publish("another", b"x" * 3000)

    async def message(self, ws, data):
        await asyncio.sleep(3600)

async def main():
    global server, client
    server = await app.start("127.0.0.1", 0)
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(bytes.fromhex({request!r}))
    while not kept:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)

{ending}
print("ended")
"""


@pytest.mark.parametrize("ending", EXITS)
def test_a05_interpreter_exit(loop_kind: str, ending: str) -> None:
    """A program that leaves with a connection open, output unsent and a callback running: no crash, no hang."""
    request = request_bytes() + bytes.fromhex("818100000000") + b"m"
    program = PROGRAM.format(request=request.hex(), ending=textwrap.dedent(EXITS[ending]))
    result = python("-c", program, loop_kind, PYTHONFAULTHANDLER="1")
    expected = 7 if "sys.exit" in ending else 0
    assert result.returncode == expected, (result.returncode, result.stderr)
    assert "Fatal Python error" not in result.stderr
    if expected == 0:
        assert "ended" in result.stdout, result.stderr
    if "atexit" in ending:
        assert "late" in result.stdout, result.stderr
