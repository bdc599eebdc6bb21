"""uvicorn on uvloop and httptools, with an ASGI application.

Of its WebSocket implementations, websockets-sansio is the fastest by far, and what it chooses by itself where
websockets is installed: 13 us of CPU for an echo of 64 bytes (100 connections, 1 in flight, uvicorn 0.54), where
websockets takes 22 and wsproto 24 in the same minute. `--ws` is for those.

A broadcast is a loop of sends, as in FastAPI's documentation. --deflate switches compression on as each implementation
does by default, contexts taken over in both directions: websockets-sansio has a window of 4 KiB, wsproto one of 32 KiB,
both level 6.
"""

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Send = Callable[[Any], Awaitable[None]]

subscribers: set[Send] = set()


async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/broadcast":
        await broadcast(receive, send)
        return
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


async def broadcast(receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    subscribers.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            message = {"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")}
            for other in [*subscribers]:
                if other is not send:
                    try:
                        await other(message)
                    except OSError:  # as ASGI has it for a peer that is gone
                        pass
    finally:
        subscribers.discard(send)


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ping-interval", type=float)
parser.add_argument("--deflate", action="store_true")
parser.add_argument("--ws", default="websockets-sansio")
options = parser.parse_args()
uvicorn.run(
    app,
    host="127.0.0.1",
    port=options.port,
    backlog=4096,
    loop="uvloop",
    http="httptools",
    ws=options.ws,
    ws_max_size=16 << 20,
    ws_ping_interval=options.ping_interval,
    ws_per_message_deflate=options.deflate,
    interface="asgi3",
    lifespan="off",
    log_level="error",
    access_log=False,
)
