"""The server of the soak: `python tests/soak/app.py PORT`. It may be told to leak, to see that this is noticed."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from harness import PATIENCE  # noqa: E402

import fastws  # noqa: E402
from soak import talks, trouble  # noqa: E402

# Short, so that all of them come many times; but none that honest clients may miss on a machine that is held up.
app = fastws.App(
    handshake_timeout=2 * PATIENCE,
    close_timeout=2 * PATIENCE,
    send_timeout=3 * PATIENCE,
    ping_interval=0,
    max_message_size=600_000,
)
kept: list[Any] = []
leaks: list[str] = []


def opened(ws: Any) -> None:
    if "connections" in leaks:
        kept.append(ws)
    if "descriptors" in leaks:
        kept.append(os.dup(0))
    if "bytes" in leaks:
        kept.append(bytes(2000))


class Echo:
    def open(self, ws: Any) -> None:
        opened(ws)

    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)


class EchoLater(Echo):
    async def message(self, ws: Any, data: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        if data == "bye":
            ws.close(4000, "as you wish")
        if ws.send(data) == fastws.QUEUED:
            await ws.drained()


class Topic(Echo):
    def open(self, ws: Any) -> None:
        opened(ws)
        ws.subscribe(ws.path_params["name"])

    def message(self, ws: Any, data: Any) -> None:
        ws.publish(ws.path_params["name"], data)

    def close(self, ws: Any, code: int, reason: str) -> None:
        ws.publish("ended", str(code))


class Guarded(Echo):
    async def upgrade(self, request: Any) -> Any:
        await asyncio.sleep(0)
        return request.accept() if "yes" in request.query_params else request.reject(403)


class Farewell:
    def message(self, ws: Any, data: Any) -> None:
        ws.send(talks.FAREWELL)
        ws.close(1000, data)


app.websocket("/echo")(Echo)
app.websocket("/farewell")(Farewell)
app.websocket("/view", binary="view", text="utf8")(Echo)
app.websocket("/later")(EchoLater)
app.websocket("/topic/{name}", compression="deflate")(Topic)
app.websocket("/drop/{name}", slow_consumer="drop", max_backpressure=30_000, max_burst=30_000)(Topic)
app.websocket("/strict", message_timeout=3)(EchoLater)
app.websocket("/guarded", keep_request=True)(Guarded)
app.websocket("/quiet", ping_interval=1, ping_timeout=1)(Echo)
app.websocket("/slow", max_backpressure=100_000, max_burst=100_000)(Echo)
# Histories that are given up before their connections end; and a budget for the inflaters of some of the connections.
app.websocket("/deflate", compression=fastws.Deflate(history_timeout=1))(Echo)
takeover = fastws.Deflate(client_no_context_takeover=False, max_inflater_memory=2_500_000)
app.websocket("/deflate/takeover", compression=takeover)(EchoLater)
trouble.add(app)


class Mallinfo(ctypes.Structure):
    """struct mallinfo2 in malloc.h"""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


libc = ctypes.CDLL(None)


def memory() -> dict[str, int]:
    """Bytes of this process in memory, its own and with what files hold, when the allocator has given back what is
    free. Otherwise peaks would stay in it: up to 16 MiB under app.run(). What is its own counts also while a forked
    child shares it."""
    libc.malloc_trim(0)
    sizes = {"Rss": 0, "Anonymous": 0}
    with open("/proc/self/smaps_rollup") as lines:
        for line in lines:
            name, _, size = line.partition(":")
            if name in sizes:
                sizes[name] = int(size.split()[0]) * 1024
    return {"private": sizes["Anonymous"], "resident": sizes["Rss"]}


def allocated() -> dict[str, int]:
    """What is allocated at rest: blocks of Python's allocator, bytes of C's."""
    gc.collect()
    libc.mallinfo2.restype = Mallinfo
    told = libc.mallinfo2()
    return {"blocks": sys.getallocatedblocks(), "bytes": told.uordblks + told.hblkhd}


@app.http("/page")
def page(request: Any) -> fastws.Response:
    return fastws.Response(200, talks.FAREWELL)


@app.http("/soon")
async def soon(request: Any) -> fastws.Response:
    await asyncio.sleep(0.05)
    return fastws.Response(200, talks.FAREWELL)


@app.http("/stats")
def stats(request: Any) -> fastws.Response:
    figures: dict[str, Any] = dict(app.stats())
    if request.query_string == "memory":
        figures["memory"] = memory()
    elif request.query_string == "allocated":
        figures["allocated"] = allocated()
    return fastws.Response(200, json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--leak", nargs="*", choices=["connections", "descriptors", "bytes"], default=[])
    options = parser.parse_args()
    leaks = options.leak
    app.run("127.0.0.1", options.port)
