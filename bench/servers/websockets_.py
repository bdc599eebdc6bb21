"""websockets: its asyncio server on uvloop; compression and keepalive off, which cost memory (no server here pings
within a run).

The handler catches ConnectionClosed: the load generator resets connections, and a traceback logged for each would be
measured with them.
"""

import argparse

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def echo(websocket: ServerConnection) -> None:
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosed:
        pass


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    async with serve(echo, "127.0.0.1", port, compression=None, ping_interval=None) as server:
        await server.serve_forever()


uvloop.run(main())
