"""fastws: the callbacks are plain functions; uvloop is its own default. A broadcast is its topic."""

import argparse

import fastws

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
port: int = parser.parse_args().port

app = fastws.App()


@app.websocket("/")
def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
    ws.send(data)


@app.websocket("/broadcast")
class Broadcast:
    def open(self, ws: fastws.WebSocket) -> None:
        ws.subscribe("all")

    def message(self, ws: fastws.WebSocket, data: str | bytes) -> None:
        ws.publish("all", data)


app.run(host="127.0.0.1", port=port)
