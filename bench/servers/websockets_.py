"""websockets: its asyncio server on uvloop; compression and keepalive, which cost memory, are off by default here. A
broadcast is its `broadcast()`, which makes one frame per connection.

--deflate switches compression on with its defaults: a window of 4 KiB, level 6, contexts taken over in both directions.
--deflate 1 is the same at level 1.

The handler catches ConnectionClosed: the load generator resets connections, and a traceback logged for each would be
measured with them.
"""

import argparse

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

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
    parser.add_argument("--ping-interval", type=float)
    parser.add_argument("--deflate", type=int, nargs="?", const=6, metavar="LEVEL")
    options = parser.parse_args()
    extensions = None
    if options.deflate:
        settings = {"memLevel": 5, "level": options.deflate}
        extensions = [
            ServerPerMessageDeflateFactory(
                server_max_window_bits=12, client_max_window_bits=12, compress_settings=settings
            )
        ]
    async with serve(
        handle,
        "127.0.0.1",
        options.port,
        compression=None,
        extensions=extensions,
        ping_interval=options.ping_interval,
        max_size=16 << 20,
        backlog=4096,
    ) as server:
        await server.serve_forever()


uvloop.run(main())
