"""The smallest server: it sends every message back."""

import fastws

app = fastws.App()


@app.websocket("/")
def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
    ws.send(data)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8765)
