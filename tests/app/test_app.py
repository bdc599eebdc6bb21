"""The application: its paths, its options and those of a route, its figures."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import pytest
from harness import RawClient, Serving, echo, eventually, request_bytes

import fastws
from fastws.serving.stats import total

# Decorators


def test_wrong_options_of_a_route() -> None:
    app = fastws.App()
    with pytest.raises(TypeError, match="unknown option 'max_size': did you mean max_"):
        app.websocket("/", max_size=5)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="max_message_size=-1 is out of range: give 0 to "):
        app.websocket("/", max_message_size=-1)
    with pytest.raises(TypeError, match="allowed_hosts is an option of the whole App, not of one route"):
        app.websocket("/", allowed_hosts=["a"])  # type: ignore[call-arg]


def test_wrong_paths() -> None:
    app = fastws.App()
    app.websocket("/a/{b}")(echo)
    app.http("/a/{b}")(lambda request: fastws.Response())  # each kind has paths of its own
    kinds: list[tuple[Any, Any]] = [(app.websocket, echo), (app.http, lambda request: fastws.Response())]
    for add, handler in kinds:
        with pytest.raises(ValueError, match="pattern already"):
            add("/a/{c}")(handler)
        with pytest.raises(ValueError, match="'a' does not start with a slash"):
            add("a")(handler)
        with pytest.raises(ValueError, match="a parameter is a whole segment"):
            add("/x{y}")(handler)


# Options


def test_options_of_the_app_and_of_a_route(serve: Serving) -> None:
    app = fastws.App(max_message_size=10, text="utf8")
    seen = []

    def note(ws: Any, data: Any) -> None:
        seen.append(data)
        ws.send(b"got")

    app.websocket("/app")(note)
    app.websocket("/route", max_message_size=20, text="str")(note)
    server = serve(app)
    for path, limit in (("/app", 10), ("/route", 20)):
        client = RawClient.open(server.port, path)
        client.send("x" * limit)
        assert client.recv() == b"got"
        client.send("x" * (limit + 1))
        client.expect_close(1009, reason=b"message over max_message_size")
    assert seen == [b"x" * 10, "x" * 20]


def test_routes_that_are_added_while_serving(serve: Serving) -> None:
    app = fastws.App()
    server = serve(app)
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/late"))
    client.expect_reject(404)
    server.call(lambda: app.websocket("/late")(echo))
    RawClient.open(server.port, "/late").close()


# Figures


def test_configure(serve: Serving) -> None:
    app = fastws.App(max_message_size=10)
    made = []

    @app.websocket("/")
    class Route:
        def __init__(self) -> None:
            made.append(self)

        def message(self, ws: fastws.WebSocket, data: str) -> None:
            ws.send(data)

    app.websocket("/own/{name}", max_message_size=20)(echo)
    app.configure()
    app.configure(max_message_size=5, ping_interval=7)
    assert (app.options.max_message_size, app.options.ping_interval, app.options.ping_timeout) == (5, 7, 20)
    path: Any
    for path in ({"max_message_size": 1}, 5, b"/"):
        with pytest.raises(TypeError, match=r"configure\(\) takes the path of a route, got .*: give options by name"):
            app.configure(path)
    for wrong, error in (
        ({"max_message_size": -1}, ValueError),
        ({"unknown": 1}, TypeError),
        ({"text": "x"}, ValueError),
    ):
        with pytest.raises(error):
            app.configure(**wrong)
    with pytest.raises(ValueError, match="low_water"):
        app.configure(high_water=1, low_water=2)
    assert app.options.max_message_size == 5
    server = serve(app)
    assert len(made) == 1
    for path, limit in (("/", 5), ("/own/x", 20)):
        client = RawClient.open(server.port, path)
        client.send("x" * limit)
        assert client.recv() == "x" * limit
        client.send("x" * (limit + 1))
        client.expect_close(1009)
    with pytest.raises(RuntimeError, match="stop the server first"):
        app.configure(max_message_size=1)


module_level = fastws.App()


def test_an_app_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(module_level)) is module_level
    assert pickle.loads(pickle.dumps(module_level.run)) == module_level.run


def test_an_app_without_a_name_is_not_pickled() -> None:
    with pytest.raises(pickle.PicklingError, match="pickled by its name: assign it to a name at the top of its module"):
        pickle.dumps(fastws.App())


def test_an_app_that_is_not_there_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(module_level)
    monkeypatch.delattr(sys.modules[__name__], "module_level")
    with pytest.raises(pickle.UnpicklingError, match=rf"there is no App {__name__}\.module_level in this process: "):
        pickle.loads(pickled)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda app: copy.deepcopy({"app": app})])
def test_an_app_is_not_copied(copied: Any) -> None:
    with pytest.raises(TypeError, match="an App cannot be copied: for another one, call a function that makes it"):
        copied(module_level)


def test_stats(serve: Serving) -> None:
    app = fastws.App()
    app.websocket("/")(echo)
    zero = app.stats()
    assert list(zero) == list(fastws.Stats.__annotations__)
    assert zero == total(()) and not any(sum(zero[name].values()) for name in ("refused", "closed"))
    server = serve(app)
    other = serve(app)
    assert server.stats() == zero
    clients = [RawClient.open(one.port) for one in (server, server, other)]
    half = RawClient.connect(server.port)
    half.send_raw(b"GET /")
    eventually(lambda: server.call(server.server.stats)["buffered_bytes"] == 5)
    assert server.call(server.server.stats) == {
        **zero,
        "accepted": 3,
        "sockets": 3,
        "handshakes": 1,
        "connections": 2,
        "topics": 0,
        "buffered_bytes": 5,
    }
    assert other.call(other.server.stats)["connections"] == 1
    for client in (*clients, half):
        client.close()
    eventually(lambda: not server.call(server.server.stats)["sockets"])
    other.stop()
    assert (app.stats()["accepted"], app.stats()["closed"]["lost"], app.stats()["refused"]["left"]) == (4, 3, 1)
