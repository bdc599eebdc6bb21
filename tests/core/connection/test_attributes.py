"""What a callback sees of its connection."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from harness import RawClient, Recorder, Serving, eventually, on_loop

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
    assert (ws.subprotocol, ws.request, ws.data) == (None, None, None)
    assert (ws.buffered_amount, ws.is_text) == (0, False)
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


def test_addresses_ipv6(loop_kind: str, traps: Any, no_leaked_fds: None) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler(upgrade=True))

    async def main() -> None:
        async with await app.start("::1", 0) as server:
            assert server.urls == [f"http://[::1]:{server.port}"]
            loop = asyncio.get_running_loop()
            sock = socket.create_connection(("::1", server.port))
            client = RawClient(sock)
            await loop.run_in_executor(None, client.handshake)
            peer = ("::1", sock.getsockname()[1])
            assert recorder.sockets[0].remote_address == recorder.requests[0].remote_address == peer
            assert recorder.sockets[0].local_address == ("::1", server.port)
            client.close()
        await loop.shutdown_default_executor()

    on_loop(loop_kind, main())


def test_addresses_unix(loop_kind: str, traps: Any, no_leaked_fds: None, tmp_path: Path) -> None:
    recorder = Recorder()
    app = fastws.App()
    app.websocket("/")(recorder.handler(upgrade=True))

    async def main() -> None:
        path = str(tmp_path / "socket")
        async with await app.start(uds=path) as server:
            assert (server.port, server.urls) == (0, [f"unix:{path}"])
            loop = asyncio.get_running_loop()
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            client = RawClient(sock)
            await loop.run_in_executor(None, client.handshake)
            assert recorder.sockets[0].remote_address is recorder.requests[0].remote_address is None
            assert recorder.sockets[0].local_address is recorder.requests[0].local_address is None
            client.close()
        await loop.shutdown_default_executor()

    on_loop(loop_kind, main())
