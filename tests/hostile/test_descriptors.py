"""Row S7: descriptors run out, in a server of its own whose limit is lowered once it runs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import RawClient, eventually
from harness.crowd import REQUEST, Crowd
from harness.strace import STRACE, Strace

LIMIT = 64
SERVER = """if True:
    import asyncio, json, logging, sys
    import fastws

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app = fastws.App(ping_interval=0, max_connections=10_000, max_pending_handshakes=10_000, handshake_timeout=600)

    @app.websocket("/")
    def message(ws, data):
        ws.send(json.dumps(app.stats()) if data == "stats" else data)

    async def main():
        server = await app.start("127.0.0.1", 0)
        print(server.port, flush=True)
        await asyncio.Event().wait()

    if sys.argv[1] == "uvloop":
        import uvloop
        uvloop.install()
    asyncio.run(main())
"""


class Process:
    def __init__(self, loop_kind: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, loop_kind],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.early = RawClient.open(self.port)

    def lower(self) -> None:
        """Only now: what starting needs is not what this is about."""
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stats(self) -> dict[str, Any]:
        """Asked by the connection that was there before."""
        self.early.send("stats")
        stats: dict[str, Any] = json.loads(self.early.recv())
        return stats

    def end(self) -> list[str]:
        """The lines that it has logged."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.communicate(timeout=10)[1].splitlines()


@pytest.fixture
def server(loop_kind: str, no_leaked_fds: None) -> Iterator[Process]:
    if not STRACE.exists():
        pytest.skip(f"{STRACE} is not installed")
    server = Process(loop_kind)
    yield server
    server.end()


@pytest.mark.parametrize("wire", [REQUEST, b""], ids=["connections", "silent peers"])
def test_s07_descriptors_run_out(server: Process, wire: bytes, tmp_path: Path) -> None:
    """Accepting pauses, and those who are here go on; each that leaves makes room; one line tells of it."""
    before = server.descriptors()
    server.lower()
    room = LIMIT - before
    with Crowd(server.port) as crowd:
        crowd.join(room + 40, wire)
        eventually(lambda: server.descriptors() == LIMIT)
        assert server.stats()["accepted"] == room + 1

        with Strace(server.process.pid, tmp_path / "log") as trace:  # nothing spins, however long
            time.sleep(1.0)
        calls = [call.name for call in trace.calls()]
        assert len(calls) <= 60, calls

        inside = crowd.members[:room]
        if wire:
            crowd.until(lambda member: member.status == 101, inside)
        assert not any(member.got for member in crowd.members[room:])
        crowd.leave(inside[:20])
        eventually(lambda: server.stats()["accepted"] == room + 1 + 20)
        crowd.leave(inside[20:])
        eventually(lambda: server.stats()["accepted"] == room + 1 + 40)
        for member in crowd.members:
            member.send(REQUEST if not wire else b"")
        crowd.until(lambda member: member.status == 101)
        assert server.stats()["connections"] == 41
    eventually(lambda: server.stats()["sockets"] == 1)
    assert server.descriptors() == before
    about = [line for line in server.end() if "open files" in line]
    assert len(about) == 1, about
