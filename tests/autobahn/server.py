"""The servers under test: echo every message on the port given as the only argument, on a path for each of cases.py."""

import sys

import fastws

# Cases 9.* send messages of up to 16 MiB, and 4 MiB in fragments of 64 octets with an empty one at the end.
app = fastws.App(max_message_size=64 * 1024 * 1024, max_fragments=65537)


@app.websocket("/plain")
@app.websocket("/takeover", compression="deflate")
@app.websocket("/no-takeover", compression=fastws.Deflate(history=0))
@app.websocket("/client-takeover", compression=fastws.Deflate(client_no_context_takeover=False))
def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
    ws.send(data)


app.run(host="127.0.0.1", port=int(sys.argv[1]))
