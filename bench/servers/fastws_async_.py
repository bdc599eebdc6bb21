"""fastws with coroutine functions as callbacks: what it costs to be able to await in them."""

import argparse

import fastws

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ping-interval", type=float, default=0)
parser.add_argument("--deflate", action="store_true")
options = parser.parse_args()

app = fastws.App(
    compression="deflate" if options.deflate else None,
    ping_interval=options.ping_interval,
    max_message_size=16 << 20,
    max_backpressure=16 << 20,
)


@app.websocket("/")
async def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
    ws.send(data)


@app.websocket("/broadcast")
class Broadcast:
    async def open(self, ws: fastws.WebSocket) -> None:
        ws.subscribe("all")

    async def message(self, ws: fastws.WebSocket, data: str | bytes) -> None:
        ws.publish("all", data)


app.run(host="127.0.0.1", port=options.port)
