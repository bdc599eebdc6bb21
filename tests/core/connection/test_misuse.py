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
from harness import RawClient, Recorder, Serving, eventually, on_loop, open_fds

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
