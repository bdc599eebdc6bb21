"""fastws: the callbacks are plain functions; uvloop is its own default. A broadcast is its topic.

--deflate switches compression on; what follows it are arguments of fastws.Deflate, as in `--deflate history=0`.
"""

import argparse
import ast

import fastws

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--deflate", nargs="*", metavar="NAME=VALUE")
options = parser.parse_args()

if options.deflate is None:
    app = fastws.App()
else:
    settings = dict(setting.split("=") for setting in options.deflate)
    app = fastws.App(compression=fastws.Deflate(**{name: ast.literal_eval(settings[name]) for name in settings}))


@app.websocket("/")
def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
    ws.send(data)


@app.websocket("/broadcast")
class Broadcast:
    def open(self, ws: fastws.WebSocket) -> None:
        ws.subscribe("all")

    def message(self, ws: fastws.WebSocket, data: str | bytes) -> None:
        ws.publish("all", data)


app.run(host="127.0.0.1", port=options.port)
