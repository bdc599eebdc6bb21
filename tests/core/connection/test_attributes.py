"""What a callback sees of its connection."""

from __future__ import annotations

import gc
import weakref
from types import MappingProxyType
from typing import Any

import pytest
from harness import RawClient, Recorder, Serving, eventually

import fastws


def test_attributes(serve: Serving) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler(echo=True))
    server = serve(app)
    clients = [RawClient.open(server.port) for _ in range(20)]
    eventually(lambda: len(recorder.sockets) == 20)
    sockets = recorder.sockets
    assert len({ws.id for ws in sockets}) == 20
    for client, ws in zip(clients, sockets, strict=True):
        assert server.call(lambda ws=ws: ws.remote_address) == client.sock.getsockname()
        assert server.call(lambda ws=ws: ws.local_address) == ("127.0.0.1", server.port)
        assert repr(ws) == f"<fastws.WebSocket id={ws.id} path='/' OPEN>"
    ws = sockets[0]
    assert (ws.path, ws.path_params, ws.query_string) == ("/", {}, "")
    assert (ws.subprotocol, ws.data) == (None, None)
    assert not hasattr(ws, "request")
    assert ws.buffered_amount == 0 and ws.is_text is False
    with pytest.raises(TypeError):
        ws.path_params["a"] = "b"
    assert isinstance(ws.path_params, MappingProxyType)
    ws.data = [ws]  # a cycle, which the collector must be able to break
    del ws, client
    for client in clients:
        client.close()
    eventually(lambda: server.stats()["sockets"] == 0)
    left = [weakref.ref(ws) for ws in sockets]
    sockets.clear()
    gc.collect()
    server.settle()
    assert [ref() for ref in left if ref() is not None] == []


def test_ready_state_through_its_life(serve: Serving) -> None:
    app = fastws.App(close_timeout=5)
    seen: list[Any] = []
    sockets: list[Any] = []

    class Handler:
        def open(self, ws: Any) -> None:
            sockets.append(ws)
            seen.append(ws.ready_state)

        def message(self, ws: Any, data: Any) -> None:
            ws.close(3000, "bye")
            seen.append(ws.ready_state)

        def close(self, ws: Any, code: int, reason: str) -> None:
            seen.extend([ws.ready_state, code, reason])

    app.websocket("/")(Handler)
    server = serve(app)
    client = RawClient.open(server.port)
    client.send("close")
    assert client.recv_frame().opcode == 8
    assert server.call(lambda: sockets[0].ready_state) is fastws.ReadyState.CLOSING
    client.send_close(3000)
    assert client.eof()
    state = fastws.ReadyState
    eventually(lambda: seen == [state.OPEN, state.CLOSING, state.CLOSED, 3000, "bye"], 2, f"{seen}")
    assert repr(sockets[0]).endswith("path='/' CLOSED>")
    client.close()
    eventually(lambda: server.call(lambda: sockets[0].local_address) is None)
    assert sockets[0].remote_address[0] == "127.0.0.1"
