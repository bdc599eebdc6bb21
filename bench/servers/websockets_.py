"""websockets: its asyncio server on uvloop; compression and keepalive off, which cost memory (no server here pings
within a run). A broadcast is its `broadcast()`, which makes one frame per connection.

The handler catches ConnectionClosed: the load generator resets connections, and a traceback logged for each would be
measured with them.
"""

import argparse

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

subscribers: set[ServerConnection] = set()


async def handle(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    publishes = websocket.request.path == "/broadcast"
    if publishes:
        subscribers.add(websocket)
    try:
        async for message in websocket:
            if publishes:
                broadcast(subscribers - {websocket}, message)
            else:
                await websocket.send(message)
    except ConnectionClosed:
        pass
    finally:
        subscribers.discard(websocket)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    async with serve(handle, "127.0.0.1", port, compression=None, ping_interval=None) as server:
        await server.serve_forever()


uvloop.run(main())
