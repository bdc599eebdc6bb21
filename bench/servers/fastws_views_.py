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
    max_pending_handshakes=10_000,
)


@app.websocket("/")
def echo(ws: fastws.WebSocket, data: bytes | memoryview) -> None:
    if isinstance(data, bytes):
        ws.send_text(data)
    else:
        ws.send(data)


app.run(host="127.0.0.1", port=options.port)
