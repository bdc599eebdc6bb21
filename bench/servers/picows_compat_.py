"""picows' layer with the interface of websockets, on uvloop: its core has no permessage-deflate, this layer has.

Its settings are zlib's own (level 6, a window of 32 KiB) and cannot be changed; contexts are taken over in both
directions. Keepalive is off, as in every server here.
"""

import argparse
import asyncio

import uvloop
from picows.websockets.asyncio.server import ServerConnection, serve
from picows.websockets.exceptions import ConnectionClosed


async def handle(websocket: ServerConnection) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosed:
        pass


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--deflate", action="store_true")
    options = parser.parse_args()
    compression = "deflate" if options.deflate else None
    async with serve(
        handle, "127.0.0.1", options.port, compression=compression, ping_interval=None, max_size=16 << 20, backlog=4096
    ):
        await asyncio.get_running_loop().create_future()


uvloop.run(main())
