"""The end of a connection: each cell of the table in ending.h, over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import (
    CLOSE,
    PATIENCE,
    TEXT,
    RawClient,
    ServerThread,
    Serving,
    build,
    close_code,
    eventually,
    frames,
    request_bytes,
)

import fastws
from fastws import ReadyState, _speedups

TABLE = _speedups.ending_table()
PHASES = ["handshake", "deciding", "open", "closing", "down", "gone"]
ENDINGS = ["close", "peer close", "fail", "loss", "cut", "terminate"]

#: What cannot come: there is no ws yet that the application could close, and no frame that a peer could send.
IMPOSSIBLE = {(phase, what) for phase in PHASES[:2] for what in ENDINGS if what not in ("loss", "cut")}
#: Nothing is parsed any more.
IMPOSSIBLE |= {(phase, what) for phase in PHASES[4:] for what in ("peer close", "fail")}
#: No socket is left that could be lost.
IMPOSSIBLE |= {("gone", "loss")}


class World:
    """A connection in some phase, with one message whose callback runs and one that waits, where it is open."""

    def __init__(self, serve: Serving, phase: str) -> None:
        self.heard: list[Any] = []
        self.ws: Any = None
        self.gate = asyncio.Event()
        world = self

        class Handler:
            async def upgrade(self, request: Any) -> None:
                if request.path == "/later":
                    try:
                        await world.gate.wait()
                    except asyncio.CancelledError:
                        world.heard.append("cancelled")
                        raise

            def open(self, ws: Any) -> None:
                world.ws = ws

            async def message(self, ws: Any, data: str) -> None:
                try:
                    await world.gate.wait()
                except asyncio.CancelledError:
                    world.heard.append("cancelled")
                    raise
                world.heard.append(data)

            def close(self, ws: Any, code: int, reason: str) -> None:
                world.heard.append((code, reason))

        app = fastws.App(close_timeout=60)
        app.websocket("/")(Handler)
        app.websocket("/later")(Handler)
        self.server: ServerThread = serve(app)
        self.client = RawClient.connect(self.server.port)
        getattr(self, f"be_{phase}")()
        self.server.settle()

    def be_handshake(self) -> None:
        self.client.send_raw(request_bytes()[:-2])

    def be_deciding(self) -> None:
        self.client.send_raw(request_bytes("/later"))

    def be_open(self) -> None:
        self.client.handshake()
        self.client.send("runs")
        self.client.send("waits")

    def be_closing(self) -> None:
        self.be_open()
        self.server.settle()
        self.server.call(lambda: self.ws.close(4000, "first"))

    def be_down(self) -> None:
        self.client.handshake()
        self.client.send_close(4000)
        self.client.expect_close(4000)

    def be_gone(self) -> None:
        self.client.handshake()
        self.server.settle()
        self.server.call(self.ws.terminate)

    # what can end it

    def close(self) -> None:
        self.server.call(lambda: self.ws.close(4001, "ours"))

    def peer_close(self) -> None:
        self.client.send_close(4002, b"theirs")

    def fail(self) -> None:
        self.client.send_raw(build(TEXT, b"not masked", mask=None))

    def loss(self) -> None:
        self.client.reset()

    def cut(self) -> None:
        self.server.call(lambda: _speedups.terminate_all(self.server.server._service))

    def terminate(self) -> None:
        self.server.call(self.ws.terminate)

    # what can be seen

    def stats(self) -> Any:
        return self.server.call(self.server.app.stats)

    def frames(self) -> list[tuple[int | None, bytes]]:
        """The Close frames that have come, each with its code and reason."""
        if self.client.sock.fileno() >= 0:
            try:
                self.client.drain_now()
            except ConnectionError:
                self.client.ended = True
        found, buffer = [], bytearray(self.client.buffer)
        for frame in frames(buffer):
            if frame.opcode == CLOSE:
                found.append((close_code(frame.payload), frame.payload[2:]))
        return found


def test_the_table_is_whole() -> None:
    assert list(TABLE) == [(phase, what) for phase in PHASES for what in ENDINGS]
    for cell in IMPOSSIBLE:
        # What comes all the same changes nothing, or drops what is left.
        assert TABLE[cell] is None or TABLE[cell]["socket"] == "dropped", cell


@pytest.mark.parametrize(("phase", "what"), [cell for cell in TABLE if cell not in IMPOSSIBLE])
def test_what_happens(serve: Serving, phase: str, what: str) -> None:
    cell = TABLE[phase, what]
    world = World(serve, phase)
    before, heard_before = world.stats(), list(world.heard)
    frames_before = world.frames()
    getattr(world, what.replace(" ", "_"))()
    world.server.settle()
    world.server.settle()
    after = world.stats()

    if cell is None:
        assert (after, world.heard) == (before, heard_before)
        world.server.call(world.gate.set)
        return

    # the phase, and the socket
    expected = {"closing": ReadyState.CLOSING, "down": ReadyState.CLOSED, "gone": ReadyState.CLOSED}
    if world.ws is not None:
        assert world.server.call(lambda: world.ws.ready_state) == expected[cell["next"]]
    if cell["socket"] == "dropped" and cell["callbacks"] != "forgotten":  # else it is counted until these have ended
        assert after["sockets"] == 0
    new = world.frames()[len(frames_before) :]
    if what != "loss":
        assert world.client.ended == (cell["socket"] != "stays")

    # the frame
    codes = {"close": (4001, b"ours"), "fail": (1002, new[0][1] if new else b""), "peer close": (4002, b"")}
    assert new == ([] if cell["frame"] == "none" else [codes[what]])

    # the count
    reasons = {"close": "by_app", "peer close": "by_peer", "fail": "protocol_error", "cut": "stopping"}
    causes = {"left": "left", "lost": "lost", "ours": "by_app", "given": reasons.get(what)}
    for kind in ("refused", "closed"):
        changed = {name: count for name, count in after[kind].items() if count != before[kind][name]}
        assert changed == ({causes[cell["cause"]]: 1} if cell["counts"] == kind else {}), kind

    # the callbacks: those that run and wait, and `close` behind them
    assert ("cancelled" in world.heard) == (cell["callbacks"] == "cancelled" and phase != "handshake")
    world.server.call(world.gate.set)
    world.server.settle()
    coming = {"come": ["runs", "waits"], "forgotten": ["runs"], "cancelled": ["cancelled"]}[cell["callbacks"]]
    if phase == "closing" and cell["callbacks"] == "come":
        coming = ["runs"]  # what waited was forgotten when the application closed
    if phase in ("handshake", "down"):
        coming = []
    told = {"open": {"given": codes.get(what, (0, b""))[0], "1006": 1006}, "closing": {"kept": 4000, "1006": 1006}}
    if cell["counts"] == "closed":
        code = told[phase][cell["code"]]
        eventually(lambda: world.heard[-1:] and isinstance(world.heard[-1], tuple), what=f"closed: {world.heard}")
        assert world.heard[-1][0] == code
        assert world.heard[len(heard_before) : -1] == coming
    else:
        assert world.heard[len(heard_before) :] == coming


@pytest.mark.parametrize("first", ENDINGS[:2] + ENDINGS[3:])
def test_it_ends_once(serve: Serving, first: str) -> None:
    """Whatever comes after the first end, `close` is called once, and the connection is counted once."""
    world = World(serve, "open")
    getattr(world, first.replace(" ", "_"))()
    world.server.settle()
    for what in ("close", "cut", "terminate", "close"):
        getattr(world, what)()
    world.server.call(world.gate.set)
    eventually(lambda: world.stats()["sockets"] == 0, 3 * PATIENCE)
    assert len([one for one in world.heard if isinstance(one, tuple)]) == 1
    assert sum(world.stats()["closed"].values()) == 1
