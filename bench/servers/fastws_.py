"""fastws: the message callback is a plain function; uvloop is its own default."""

import argparse

import fastws

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
port: int = parser.parse_args().port

app = fastws.App()


@app.websocket("/")
def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
    ws.send(data)


app.run(host="127.0.0.1", port=port)
