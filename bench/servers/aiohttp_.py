"""aiohttp on uvloop, with its defaults: level 1, a window of 32 KiB, contexts taken over in both directions.

What exceeds 16 KiB it compresses in a thread; what it inflates, in the loop.
"""

import argparse
import asyncio

import uvloop
from aiohttp import WSMsgType, web


async def handle(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", parser.parse_args().port).start()
    await asyncio.get_running_loop().create_future()


uvloop.run(main())
