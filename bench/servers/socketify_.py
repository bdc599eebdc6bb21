"""socketify: uWebSockets called from Python through cffi."""

import argparse

from socketify import App, CompressOptions, OpCode, WebSocket

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ping-interval", type=int)
parser.add_argument("--deflate", action="store_true")
parser.add_argument("--how", default="uv")
options = parser.parse_args()


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    ws.send(message, opcode, options.deflate)


def subscribe(ws: WebSocket) -> None:
    ws.subscribe("all")


def publish(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    ws.unsubscribe("all")  # or it would get the message, too
    ws.publish("all", message, opcode, options.deflate)
    ws.subscribe("all")


behaviour = {
    "compression": CompressOptions.SHARED_COMPRESSOR if options.deflate else CompressOptions.DISABLED,
    "max_payload_length": 16 << 20,
    "max_backpressure": 16 << 20,
    "idle_timeout": max(8, options.ping_interval + 4) if options.ping_interval else 0,
    "send_pings_automatically": bool(options.ping_interval),
}
if options.how == "uvloop":
    import asyncio, uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
app = App()
app.ws("/", {**behaviour, "message": echo})
app.ws("/broadcast", {**behaviour, "open": subscribe, "message": publish})
app.listen({"host": "127.0.0.1", "port": options.port})
if options.how == "uv":
    app.loop.uv_loop.run()
else:
    app.run()
