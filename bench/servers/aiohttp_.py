"""aiohttp on uvloop. A broadcast is a loop of sends.

--deflate lets it agree on compression as it does by default: level 1, a window of 32 KiB, contexts taken over in both
directions. What exceeds 16 KiB it compresses in a thread; what it inflates, in the loop.
"""

import argparse
import asyncio
import contextlib

import uvloop
from aiohttp import ClientConnectionResetError, WSMsgType, web

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ping-interval", type=float)
parser.add_argument("--deflate", action="store_true")
options = parser.parse_args()

subscribers: set[web.WebSocketResponse] = set()


async def opened(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(compress=options.deflate, heartbeat=options.ping_interval, max_msg_size=16 << 20)
    await websocket.prepare(request)
    return websocket


async def echo(request: web.Request) -> web.WebSocketResponse:
    websocket = await opened(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


async def broadcast(request: web.Request) -> web.WebSocketResponse:
    websocket = await opened(request)
    subscribers.add(websocket)
    try:
        async for message in websocket:
            for other in [*subscribers]:
                if other is not websocket:
                    with contextlib.suppress(ClientConnectionResetError):
                        if message.type is WSMsgType.TEXT:
                            await other.send_str(message.data)
                        elif message.type is WSMsgType.BINARY:
                            await other.send_bytes(message.data)
    finally:
        subscribers.discard(websocket)
    return websocket


async def main() -> None:
    app = web.Application()
    app.router.add_get("/", echo)
    app.router.add_get("/broadcast", broadcast)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=4096).start()
    await asyncio.get_running_loop().create_future()


uvloop.run(main())
