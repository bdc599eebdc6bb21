"""What a topic may be called, and how many a connection may have."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest
from harness import RawClient, Serving, eventually, make_app

import fastws


class Room:
    def __init__(self) -> None:
        self.sockets: list[Any] = []

    def open(self, ws: Any) -> None:
        ws.subscribe("room")
        self.sockets.append(ws)

    def message(self, ws: Any, data: Any) -> None: ...


GOOD_NAMES = ["x", "x" * 255, "é" * 127, "\N{GRINNING FACE}" * 63, "\0", " ", "a/b#+*?"]
BAD_NAMES = ["", "x" * 256, "é" * 128, "x" * 1_000_000, "\ud800"]
NO_NAMES = [None, b"x", 7, ["x"], bytearray(b"x")]


def uses(app: Any, ws: Any) -> list[Callable[[Any], Any]]:
    return [
        ws.subscribe,
        ws.is_subscribed,
        lambda name: ws.publish(name, "x"),
        lambda name: app.publish(name, "x"),
        app.num_subscribers,
        ws.unsubscribe,
    ]


def test_names(serve: Serving) -> None:
    room = Room()
    server = serve(make_app(room))
    client = RawClient.open(server.port)
    eventually(lambda: room.sockets)
    (ws,) = room.sockets

    def check() -> None:
        name: Any
        for name in GOOD_NAMES:
            assert [use(name) for use in uses(server.app, ws)] == [True, True, 0, 1, 1, True]
        for name, error in [*((name, ValueError) for name in BAD_NAMES), *((name, TypeError) for name in NO_NAMES)]:
            for use in uses(server.app, ws):
                with pytest.raises(error) as caught:
                    use(name)
                assert len(str(caught.value)) < 200
        assert ws.subscriptions == ("room",)

    server.call(check)
    assert [client.recv() for _ in GOOD_NAMES] == ["x"] * len(GOOD_NAMES)


class Named(str, enum.Enum):
    """Its str() is "Named.NEWS"."""

    NEWS = "news"


class Confused(str):
    """Equal to nothing, and everything that it says of itself is wrong."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another"

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return id(self)

    def __len__(self) -> int:
        return 0

    def encode(self, *args: Any) -> bytes:
        return b""


@pytest.mark.parametrize("name", [Named.NEWS, Confused("news"), Confused("n\u00e4ws")], ids=["enum", "ascii", "latin"])
def test_a_name_may_be_of_a_subclass_of_str(serve: Serving, name: str) -> None:
    """Its characters count, whatever its methods say."""
    plain = "".join(name)
    room = Room()
    server = serve(make_app(room))
    RawClient.open(server.port)
    eventually(lambda: room.sockets)
    (ws,) = room.sockets

    def check() -> None:
        for one, other in ((name, plain), (plain, name), (name, name)):
            assert ws.subscribe(one)
            assert not ws.subscribe(other)
            assert ws.is_subscribed(other)
            assert set(ws.subscriptions) == {"room", plain}
            assert {type(own) for own in ws.subscriptions} == {str}
            assert server.app.num_subscribers(other) == 1
            assert server.app.publish(other, "x") == 1
            assert ws.unsubscribe(other)
            assert server.app.stats()["topics"] == 1

    server.call(check)


def test_a_name_of_a_subclass_whose_methods_act(serve: Serving) -> None:
    room = Room()
    server = serve(make_app(room))
    RawClient.open(server.port)
    eventually(lambda: room.sockets)
    (ws,) = room.sockets

    class Ending(str):
        def __str__(self) -> str:
            ws.terminate()
            return "x"

        def __hash__(self) -> int:
            ws.terminate()
            return 0

        def encode(self, *args: Any) -> bytes:
            ws.terminate()
            return b"x"

    for text in ("x", "é"):
        server.call(ws.subscribe, Ending(text))
        assert ws.ready_state == fastws.ReadyState.OPEN
        assert server.app.num_subscribers(text) == 1


def test_max_topics(serve: Serving) -> None:
    sockets: dict[str, Any] = {}
    app = make_app(max_topics=3)
    routes: dict[str, Any] = {"/app": {}, "/less": {"max_topics": 1}, "/none": {"max_topics": 0}}
    for path, options in routes.items():

        class Handler:
            def open(self, ws: Any) -> None:
                sockets[ws.path] = ws

        app.websocket(path, **options)(Handler)
    server = serve(app)
    clients = [RawClient.open(server.port, path) for path in ("/app", "/less", "/none")]

    def check() -> None:
        for path, most in (("/app", 3), ("/less", 1), ("/none", 0)):
            ws = sockets[path]
            for _ in range(2):
                assert [ws.subscribe(f"t{number}") for number in range(most)] == [True] * most
                assert [ws.subscribe(f"t{number}") for number in range(most)] == [False] * most
                for name in ("t9", "x" * 255):
                    with pytest.raises(RuntimeError, match=f"max_topics={most}"):
                        ws.subscribe(name)
                assert len(ws.subscriptions) == most
                assert app.num_subscribers("t9") == 0
                assert [ws.unsubscribe(name) for name in ws.subscriptions] == [True] * most
        assert app.stats()["topics"] == 0

    eventually(lambda: len(sockets) == 3)
    server.call(check)
    for client in clients:
        client.expect_silence(0.01)
