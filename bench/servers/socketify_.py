"""socketify: uWebSockets, called from Python through cffi.

Its own `run()` polls uWebSockets from a turn of asyncio's loop, without ever sleeping while there is something to do,
and every millisecond for 5 s after. With plain functions as callbacks asyncio has nothing to do, so that here the loop
that uWebSockets itself runs on is left to run and to sleep as it will: that is the least a message can cost.

It listens with a backlog of 512, which cannot be set. Pings, the only ones it has, go to those who were silent for a
time that it counts in steps of 4 s; the least is 4 s. Its publish reaches the sender, too, so the sender unsubscribes
meanwhile. --deflate is the compressor that its documentation has in the example: one for all connections, without
contexts.
"""

import argparse

from socketify import App, CompressOptions, OpCode, WebSocket  # type: ignore[import-untyped]

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ping-interval", type=int)
parser.add_argument("--deflate", action="store_true")
options = parser.parse_args()


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    ws.send(message, opcode, options.deflate)


def subscribe(ws: WebSocket) -> None:
    ws.subscribe("all")


def publish(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    ws.unsubscribe("all")
    ws.publish("all", message, opcode, options.deflate)
    ws.subscribe("all")


behaviour = {
    "compression": CompressOptions.SHARED_COMPRESSOR if options.deflate else CompressOptions.DISABLED,
    "max_payload_length": 16 << 20,
    "max_backpressure": 16 << 20,
    # The last 4 s of it, or more from 16 s on, are for the Pong.
    "idle_timeout": max(8, options.ping_interval + 4) if options.ping_interval else 0,
    "send_pings_automatically": bool(options.ping_interval),
}
app = App()
app.ws("/", {**behaviour, "message": echo})
app.ws("/broadcast", {**behaviour, "open": subscribe, "message": publish})
app.listen({"host": "127.0.0.1", "port": options.port})
app.loop.uv_loop.run()
