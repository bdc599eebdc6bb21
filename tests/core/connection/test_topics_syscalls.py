"""How often publishing asks the kernel: counted by strace on a running server, which this file is when it is run."""

from __future__ import annotations

import asyncio
import collections
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import RawClient
from harness.strace import MEMORY, RECEIVES, SENDS, WAITS, Call, Strace, serving

SUBSCRIBERS = 5
SMALL = b"s" * 64
MEDIUM = b"m" * 1000
LARGE = b"l" * 66_000  # from 64 KiB on it is not copied; of over 96 KiB a fresh connection's kernel may take a part


async def main() -> None:
    import fastws

    app = fastws.App(ping_interval=0)
    loop = asyncio.get_running_loop()
    prepared = fastws.prepare(SMALL)

    def publish(ws: Any, kind: str) -> None:
        if kind == "small":
            for _ in range(16):
                app.publish("room", SMALL)
        elif kind == "mixed":
            for data in (SMALL, MEDIUM, prepared, MEDIUM):
                for _ in range(4):
                    app.publish("room", data)
                ws.send(SMALL)
        else:
            app.publish("room", LARGE)

    class Handler:
        def open(self, ws: Any) -> None:
            ws.subscribe("room")

        def message(self, ws: Any, data: str) -> None:
            place, _, kind = data.partition(" ")
            if place == "callback":
                publish(ws, kind)
            else:
                loop.call_soon(publish, ws, kind)

    app.websocket("/")(Handler)
    server = await app.start("127.0.0.1", 0)
    print(server.port, flush=True)
    await asyncio.Event().wait()


@pytest.fixture
def process(loop_kind: str, no_leaked_fds: None) -> Iterator[tuple[int, int]]:
    with serving(__file__, loop_kind) as found:
        yield found


EXPECTED = {
    "small": [SMALL] * 16,
    "mixed": [*[SMALL] * 4, *[MEDIUM] * 4, *[SMALL] * 4, *[MEDIUM] * 4],
    "large": [LARGE],
}


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("place", ["callback", "task"])
def test_what_is_published_in_one_turn_leaves_in_one_send(
    process: tuple[int, int], tmp_path: Path, place: str, kind: str
) -> None:
    pid, port = process
    clients = [RawClient.open(port) for _ in range(SUBSCRIBERS)]
    with Strace(pid, tmp_path / "log") as trace:
        clients[0].send(f"{place} {kind}")
        for client in clients[1:]:
            assert [client.recv() for _ in EXPECTED[kind]] == EXPECTED[kind]
        count = len(EXPECTED[kind]) + (4 if kind == "mixed" else 0)
        assert sum(len(clients[0].recv()) for _ in range(count)) >= sum(map(len, EXPECTED[kind]))
    calls = trace.calls()
    sends = collections.Counter(call.fd for call in calls if call.name in SENDS and is_to_a_peer(call))
    assert sorted(sends.values()) == [1] * SUBSCRIBERS, calls
    rest = [call for call in calls if call.name not in SENDS | WAITS | MEMORY | RECEIVES]
    # A task's first publish asks asyncio which loop runs in this thread; before Python 3.12 that takes a getpid.
    assert [call.name for call in rest] in ([], ["getpid"]), rest


def is_to_a_peer(call: Call) -> bool:
    """What a loop writes to wake itself is 1 or 8 bytes."""
    return call.result not in ("1", "8")


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        import uvloop

        uvloop.install()
    asyncio.run(main())
