"""fastws without a copy for the user: text as validated UTF-8 in bytes, binary as a memoryview; no str is ever made.

That is less than what the other servers do. It is for what passes messages on, and beside uWebSockets, which does so.
"""

import argparse

import fastws

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ping-interval", type=float, default=0)
parser.add_argument("--deflate", action="store_true")
options = parser.parse_args()

app = fastws.App(
    text="utf8",
    binary="view",
    compression="deflate" if options.deflate else None,
    ping_interval=options.ping_interval,
    max_message_size=16 << 20,
    max_backpressure=16 << 20,
)


@app.websocket("/")
def echo(ws: fastws.WebSocket, data: bytes | memoryview) -> None:
    if ws.is_text:
        ws.send_text(data)
    else:
        ws.send(data)


@app.websocket("/broadcast")
class Broadcast:
    def open(self, ws: fastws.WebSocket) -> None:
        ws.subscribe("all")

    def message(self, ws: fastws.WebSocket, data: bytes | memoryview) -> None:
        ws.publish("all", fastws.prepare(data, is_text=ws.is_text))


app.run(host="127.0.0.1", port=options.port)
