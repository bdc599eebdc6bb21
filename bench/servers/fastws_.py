"""fastws: the callbacks are plain functions; uvloop is its own default. A broadcast is its topic.

Limits that another server may lack are far away. --deflate switches compression on; what follows it are arguments of
fastws.Deflate, as in `--deflate history=0`. With one connection and one message in flight, /timed is an echo that keeps
the CPU time of the loop's thread, and /times tells it for each message: from the end of one callback to the begin of
the next (receiving, inflating, decoding), and in the callback (encoding, compressing, sending).
"""

import argparse
import ast
import json
import time

import fastws

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ping-interval", type=float, default=0)
parser.add_argument("--deflate", nargs="*", metavar="NAME=VALUE")
options = parser.parse_args()

compression = None
if options.deflate is not None:
    settings = dict(setting.split("=") for setting in options.deflate)
    compression = fastws.Deflate(**{name: ast.literal_eval(settings[name]) for name in settings})
app = fastws.App(
    compression=compression,
    ping_interval=options.ping_interval,
    max_message_size=16 << 20,
    max_backpressure=16 << 20,
)


@app.websocket("/")
def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
    ws.send(data)


@app.websocket("/broadcast")
class Broadcast:
    def open(self, ws: fastws.WebSocket) -> None:
        ws.subscribe("all")

    def message(self, ws: fastws.WebSocket, data: str | bytes) -> None:
        ws.publish("all", data)


class Times:
    count = 0
    left = 0.0
    receiving = 0.0
    sending = 0.0


@app.websocket("/timed")
def timed(ws: fastws.WebSocket, data: str | bytes) -> None:
    entered = time.thread_time()
    ws.send(data)
    if Times.left:
        Times.count += 1
        Times.receiving += entered - Times.left
        Times.sending += time.thread_time() - entered
    Times.left = time.thread_time()


@app.http("/times")
def times(request: fastws.Request) -> fastws.Response:
    found = {"receiving": Times.receiving / Times.count, "sending": Times.sending / Times.count}
    return fastws.Response(200, json.dumps(found))


app.run(host="127.0.0.1", port=options.port)
