"""Misuse of what the core makes: an exception, never a crash."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import socket
import types
from collections.abc import Callable
from typing import Any

import pytest
from harness import RawClient, Recorder, Serving, eventually, make_app, on_loop, open_fds

import fastws
from fastws import _speedups
from fastws.serving.logs import Log

READ_ONLY = [
    *("id", "path", "path_params", "query_string", "subprotocol", "request"),
    *("ready_state", "remote_address", "local_address", "buffered_amount", "is_text", "subscriptions"),
]


def test_read_only(serve: Serving) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler())
    server = serve(app)
    client = RawClient.open(server.port)
    eventually(lambda: recorder.sockets)
    ws = recorder.sockets[0]

    def misuse() -> None:
        for name in READ_ONLY:
            change: Callable[..., None]
            for change in (lambda name=name: setattr(ws, name, None), lambda name=name: delattr(ws, name)):
                with pytest.raises(AttributeError):
                    change()
        for name in ("fd", "phase", "anything", "_reactor"):
            with pytest.raises(AttributeError):
                setattr(ws, name, 1)
        for refuse in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                refuse(ws)
        for compare in (lambda: ws < client, lambda: len(ws), lambda: iter(ws)):
            with pytest.raises(TypeError):
                compare()
        assert ws == ws  # noqa: PLR0124
        assert {ws: 1}[ws] == 1

    server.call(misuse)
    client.send_close()
    client.expect_close(1000)
    eventually(lambda: recorder.events[-1] == ("close", 1000, ""))


CODES = "use 1000-1003, 1007-1014 or 3000-4999"
A_CODE = "give 1000, or 3000-4999 for one of your own"
JSON = r"json.dumps() makes a str of it"
NONE = "leave it out for none"
WRONG: list[tuple[str, tuple[Any, ...], type[Exception], str]] = [
    ("close", (1000, None), TypeError, f"a close reason is a str, got NoneType: {NONE}"),
    ("close", (1000, b"bye"), TypeError, f"a close reason is a str, got bytes: {NONE}"),
    ("close", ("1000",), TypeError, f"a close code is an int, got '1000': {A_CODE}"),
    ("close", (True,), TypeError, f"a close code is an int, got True: {A_CODE}"),
    ("close", (1000.0,), TypeError, f"a close code is an int, got 1000.0: {A_CODE}"),
    ("close", (None,), TypeError, f"a close code is an int, got None: {A_CODE}"),
    ("close", ("bye",), TypeError, f"a close code is an int, got 'bye': {A_CODE}"),
    ("close", (-1,), ValueError, f"close code -1 may not be sent: {CODES}"),
    ("close", (0,), ValueError, f"close code 0 may not be sent: {CODES}"),
    ("close", (1006,), ValueError, f"close code 1006 may not be sent: {CODES}"),
    ("close", (2**40,), ValueError, f"close code 1099511627776 may not be sent: {CODES}"),
    ("close", (2**64,), ValueError, f"close code of more than 64 bits may not be sent: {CODES}"),
    ("close", (1000, "x" * 124), ValueError, "close reason is 124 bytes of UTF-8: shorten it to 123 or less"),
    ("ping", (bytes(126),), ValueError, "a ping carries at most 125 bytes, got 126: shorten it, or send a message"),
    ("ping", ("\u00e4" * 63,), ValueError, "a ping carries at most 125 bytes, got 126: shorten it, or send a message"),
    ("ping", (None,), TypeError, f"a ping carries str or bytes-like, got NoneType: {NONE}"),
    ("ping", (3,), TypeError, f"a ping carries str or bytes-like, got int: {NONE}"),
    ("send", (None,), TypeError, f"a message is str or bytes-like, got NoneType: {JSON}"),
    ("send", (3,), TypeError, f"a message is str or bytes-like, got int: {JSON}"),
    ("send", (True,), TypeError, f"a message is str or bytes-like, got bool: {JSON}"),
    ("send", (2.5,), TypeError, f"a message is str or bytes-like, got float: {JSON}"),
    ("send", ({},), TypeError, f"a message is str or bytes-like, got dict: {JSON}"),
    ("send", (["a"],), TypeError, f"a message is str or bytes-like, got list: {JSON}"),
    ("send", (object(),), TypeError, "a message is str or bytes-like, got object: make a str or bytes of it first"),
    ("send_text", ({},), TypeError, f"a message is str or bytes-like, got dict: {JSON}"),
    ("publish", ("topic", {}), TypeError, f"a message is str or bytes-like, got dict: {JSON}"),
    *(
        (name, (wrong, *more), TypeError, f"a topic is a str, got {kind}: give its name, 'chat/1' say")
        for name, more in (("subscribe", ()), ("unsubscribe", ()), ("is_subscribed", ()), ("publish", ("data",)))
        for wrong, kind in ((None, "NoneType"), (b"chat", "bytes"), (7, "int"))
    ),
    ("subscribe", ("",), ValueError, "a topic's name is 1 to 255 bytes of UTF-8, got 0: give it a name"),
    (
        "subscribe",
        ("x" * 256,),
        ValueError,
        f"a topic's name is 1 to 255 bytes of UTF-8, got 256: shorten '{'x' * 40}'",
    ),
]


@pytest.mark.parametrize("state", ["open", "ended"])
def test_wrong_arguments_say_what_to_do(serve: Serving, state: str) -> None:
    """And nothing else happens, whether the connection is open or not."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    client = RawClient.open(server.port)
    eventually(lambda: recorder.sockets)
    ws = recorder.sockets[0]
    if state == "ended":
        client.send_close()
        client.expect_close(1000)
        eventually(lambda: recorder.events[-1][0] == "close")

    def misuse() -> None:
        for name, arguments, kind, text in WRONG:
            with pytest.raises(kind) as caught:
                getattr(ws, name)(*arguments)
            assert (type(caught.value), str(caught.value)) == (kind, text), (name, arguments)
        coroutine = asyncio.sleep(0)
        with pytest.raises(TypeError, match="got coroutine: await it first"):
            ws.send(coroutine)
        coroutine.close()

    server.call(misuse)
    if state == "open":
        client.send("still there")
        recorder.wait_for(("open",), ("message", "still there"))


def test_the_truth_of_what_send_returns_is_an_error(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    client = RawClient.open(server.port)
    eventually(lambda: recorder.sockets)

    def send() -> None:
        status = recorder.sockets[0].send("x")
        for ask in (bool, lambda status: not status, lambda status: status or 1, lambda status: 1 if status else 2):
            with pytest.raises(TypeError, match=r"fastws.SENT is neither true nor false: compare, with `ws.send\("):
                ask(status)
        assert status == fastws.SENT and status is fastws.SENT and status == 0 and int(status) == 0
        assert status in (fastws.SENT, fastws.QUEUED)

    server.call(send)
    assert client.recv() == "x"
    for status in fastws.SendStatus:
        assert copy.copy(status) is pickle.loads(pickle.dumps(status)) is fastws.SendStatus(int(status)) is status
        assert {status: 1}[status] == 1 and f"{status.name}" in repr(status)


def test_a_websocket_is_made_by_the_server_only() -> None:
    before = open_fds()
    with pytest.raises(TypeError):
        fastws.WebSocket()
    with pytest.raises(TypeError):
        fastws.WebSocket(None)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        fastws.WebSocket.__new__(fastws.WebSocket)
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Mine", (fastws.WebSocket,), {})
    assert open_fds() == before  # not even standard input is closed


CALLBACKS = dict.fromkeys(("upgrade", "open", "message", "drain", "ping", "pong", "close"))


def all_options(**changes: Any) -> Any:
    """In place of fastws.Options, which would refuse what is wrong."""
    return types.SimpleNamespace(**{**vars(fastws.Options()), "deflate": None, **changes})


def service_arguments(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"hub": _speedups.Hub(), "find_websocket": print, "find_http": print}
    return {**arguments, "max_connections": 1, "user_timeout": 1, **changes}


def test_wrong_arguments_of_the_core() -> None:
    before = open_fds()
    _speedups.Route("/", CALLBACKS, all_options(), None)
    _speedups.Service(all_options(), **service_arguments())
    cases: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (_speedups.Route, (), {}),
        (_speedups.Route, (None, CALLBACKS, all_options(), None), {}),
        (_speedups.Route, ("/", None, all_options(), None), {}),
        (_speedups.Route, ("/", CALLBACKS, None, None), {}),
        (_speedups.Route, ("/", CALLBACKS, all_options(max_message_size=-1), None), {}),
        (_speedups.Route, ("/", CALLBACKS, all_options(max_fragments=2**32), None), {}),
        (_speedups.Route, ("/", CALLBACKS, all_options(high_water="1"), None), {}),
        (_speedups.Route, ("/", CALLBACKS, all_options(close_timeout=None), None), {}),
        (_speedups.Route, ("/", CALLBACKS, types.SimpleNamespace(), None), {}),
        (_speedups.Service, (), {}),
        (_speedups.Service, (None,), service_arguments()),
        (_speedups.Service, (all_options(max_header_size=-1),), service_arguments()),
        (_speedups.Service, (all_options(handshake_timeout="1"),), service_arguments()),
        (_speedups.Service, (all_options(),), service_arguments(user_timeout="1")),
        (_speedups.Reactor, (), {}),
        (_speedups.Reactor, (None, False), {}),
        (_speedups.Reactor, (object(), False), {}),
        (_speedups.join, (None, None, None, None, 1.0, 1), {}),
        (_speedups.listen, (None, None), {}),
        (_speedups.leave, (None,), {}),
        (_speedups.count_connections, (None,), {}),
        (_speedups.list_connections, (5,), {}),
        (_speedups.close_all, (None, 1001, ""), {}),
        (_speedups.terminate_all, (None,), {}),
        (_speedups.abandon, (None,), {}),
        (_speedups.Service, (all_options(),), service_arguments(hub=None)),
        (_speedups.stats, (None,), {}),
        (_speedups.attach, (None,), {}),
        (_speedups.detach, (None,), {}),
        (_speedups.detach, (_speedups.Service(all_options(), **service_arguments()),), {}),
        (_speedups.Hub().publish, ("topic", _speedups.PreparedMessage()), {}),
        (_speedups.Hub().publish, ("topic", "data", None, 1), {}),
    ]
    for function, arguments, options in cases:
        with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
            function(*arguments, **options)
    for refuse in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError):
            refuse(_speedups.Route("/", CALLBACKS, all_options(), None))
    gc.collect()  # the traceback of a reactor that could not be made holds it
    assert open_fds() == before


def test_every_type_of_the_core_can_be_poked(loop_kind: str, traps: Any, no_leaked_fds: None) -> None:
    """Every class of the extension is made in every way that works, and all that can be called without or with simple
    arguments is called. Whatever it answers, the interpreter must live."""
    kinds = [value for value in vars(_speedups).values() if isinstance(value, type)]
    kinds = [kind for kind in kinds if kind.__module__ == "fastws._speedups"]
    assert {"WebSocket", "Reactor", "Route", "Service", "Listener", "Window", "Hub", "Topic"} <= {
        kind.__name__ for kind in kinds
    }

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reactor = _speedups.Reactor(loop)
        service = _speedups.Service(all_options(), **service_arguments())
        _speedups.join(service, reactor, None, Log(logging.getLogger("poked"), loop), 0.01, 1)  # type: ignore[arg-type]
        limits = service.head_limits  # type: ignore[attr-defined]
        sock = socket.socket()
        simple = [(), (None,), (64,), (1, 1, 1), (reactor,), (reactor, None), (service,), (service, None), (limits,)]
        for kind in kinds:
            for arguments in (*simple, (service, sock)):
                try:
                    made = kind.__new__(kind, *arguments)
                except (TypeError, AttributeError, ValueError, OverflowError):
                    continue
                poke(made)
        sock.close()
        _speedups.leave(service)
        _speedups.leave(service)
        poke(reactor)
        await asyncio.sleep(0.05)

    on_loop(loop_kind, main())


def poke(thing: Any) -> None:
    if isinstance(thing, type(None)):
        return
    for name in dir(thing):
        if name.startswith("__") and name not in ("__repr__", "__hash__", "__sizeof__"):
            continue
        try:
            found = getattr(thing, name)
        except (AttributeError, TypeError, ValueError):
            continue
        if not callable(found):
            continue
        for arguments in ((), (None,), (None, None), (b"x",), ("x", "y"), (1000, "")):
            try:
                found(*arguments)
            except Exception:
                pass
    try:
        memoryview(thing)
    except (TypeError, BufferError, ValueError):
        pass
