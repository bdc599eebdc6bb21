"""uvicorn on uvloop, with an ASGI application and either of its WebSocket implementations.

--ws websockets-sansio is what it chooses by itself where websockets is installed: a window of 4 KiB, level 6. --ws
wsproto: 32 KiB, level 6. Contexts are taken over in both directions. Keepalive is off, as in every server here.
"""

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ws", default="websockets-sansio")
options = parser.parse_args()
uvicorn.run(
    app,
    host="127.0.0.1",
    port=options.port,
    loop="uvloop",
    ws=options.ws,
    ws_ping_interval=None,
    lifespan="off",
    log_level="error",
)
