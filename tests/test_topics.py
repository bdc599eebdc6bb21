"""Topics: who hears what is published, in which order, and at what cost."""

from __future__ import annotations

from typing import Any

from harness import RawClient, Serving, make_app

import fastws


class Room:
    def open(self, ws: Any) -> None:
        ws.subscribe("room")

    def message(self, ws: Any, data: Any) -> None:
        ws.publish("room", data)


def test_a_connection_publishes_to_all_but_itself(serve: Serving) -> None:
    server = serve(make_app(Room))
    one, two, three = (RawClient.open(server.port) for _ in range(3))
    one.send("hello")
    assert two.recv() == three.recv() == "hello"
    assert server.call(server.app.publish, "room", b"to all") == 3
    assert [client.recv() for client in (one, two, three)] == [b"to all"] * 3


def test_a_prepared_message(serve: Serving) -> None:
    server = serve(make_app(Room))
    client = RawClient.open(server.port)
    assert server.call(server.app.publish, "room", fastws.prepare("once")) == 1
    assert client.recv() == "once"
