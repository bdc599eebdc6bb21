"""The opening handshake, and one conversation on each event loop."""

from __future__ import annotations

from typing import Any

import pytest
from harness import Recorder, Serving, make_app

import fastws

from .client import Connect, Refused
from .libraries import each_library

on_uvloop = pytest.mark.parametrize("loop_kind", ["uvloop"], indirect=True)

OFFER = ["chat.v1", "chat.v2", "chat.v3"]


def picking(recorder: Recorder, subprotocol: str | None) -> type:
    class Picking(recorder.handler()):  # type: ignore[misc]
        def upgrade(self, request: fastws.Request) -> Any:
            recorder.requests.append(request.subprotocols)
            return request.accept(subprotocol=subprotocol)

    return Picking


@on_uvloop
@each_library()
@pytest.mark.parametrize("picked", OFFER)
def test_a_subprotocol(serve: Serving, connect: Connect, picked: str) -> None:
    recorder = Recorder()
    client = connect(serve(make_app(picking(recorder, picked))), subprotocols=OFFER)
    assert recorder.requests == [OFFER]
    assert client.subprotocol == recorder.sockets[0].subprotocol == picked


@on_uvloop
@each_library(lambda library: not library.wants_a_subprotocol)
def test_none_of_the_subprotocols(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    client = connect(serve(make_app(picking(recorder, None))), subprotocols=OFFER)
    assert recorder.requests == [OFFER]
    assert client.subprotocol is recorder.sockets[0].subprotocol is None


@on_uvloop
@each_library(lambda library: library.wants_a_subprotocol)
def test_a_client_that_wants_a_subprotocol(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    server = serve(make_app(picking(recorder, None)))
    with pytest.raises(Refused):
        connect(server, subprotocols=OFFER)
    recorder.wait_for(("open",), ("close", 1006, ""))


@on_uvloop
@each_library()
@pytest.mark.parametrize(("path", "status"), [("/", 403), ("/nowhere", 404)])
def test_refused(serve: Serving, connect: Connect, path: str, status: int) -> None:
    class Refusing:
        def upgrade(self, request: fastws.Request) -> fastws.Response:
            return request.reject(403, "members only")

        def message(self, ws: Any, data: Any) -> None: ...

    server = serve(make_app(Refusing))
    with pytest.raises(Refused) as refused:
        connect(server, path)
    assert refused.value.status == status


@each_library()
def test_a_conversation(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True)))
    client = connect(server)
    assert client.subprotocol is None
    for data in ("hello", b"\x00\xff" * 100_000):
        client.send(data)
        assert client.recv() == data
    client.close(4000, "bye")
    assert client.closed() == (4000, "")
    recorder.wait_for(("open",), ("message", "hello"), ("message", b"\x00\xff" * 100_000), ("close", 4000, "bye"))
