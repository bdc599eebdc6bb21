"""The smallest server: it sends every message back.

To try, run `python examples/echo.py` and open http://127.0.0.1:8765, which says how.
"""

import fastws

app = fastws.App()


@app.websocket("/")
def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
    ws.send(data)


@app.http("/")
def what_to_try(request: fastws.Request) -> fastws.Response:
    return fastws.Response(body=f"An echo. In this page's console: ws = new WebSocket('ws://{request.host}/')\n")


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8765)
