"""Slow work and slow readers: an `async def` callback may take its time, and nothing piles up behind it.

To try, run `python examples/slow.py`, and after `pip install websockets` type several lines quickly in the first of
these, and a number of megabytes in the second:

    python -m websockets ws://127.0.0.1:8765/lookup
    python -m websockets ws://127.0.0.1:8765/download
"""

import asyncio

import fastws

CHUNK = 16 * 1024  # bytes

app = fastws.App(max_waiting=4)


@app.websocket("/lookup")
async def lookup(ws: fastws.WebSocket, data: str | bytes) -> None:
    """One runs at a time for each connection, in the order of its messages; other connections do not wait for it.

    With `max_waiting` messages behind it, reading pauses: TCP tells the peer to slow down, and memory stays bounded.
    """
    await asyncio.sleep(0.02)  # a database, say
    ws.send(f"found {data[:40]!r}")


@app.websocket("/download")
async def download(ws: fastws.WebSocket, data: str | bytes) -> None:
    """Sends as fast as the peer reads, and holds little more than a chunk of it, whatever the size.

    Without drained() all would be queued at once, and the connection closed for being over `max_backpressure`.
    """
    if not (data.isascii() and data.isdigit() and len(data) <= 4):
        ws.close(1008, "say how many megabytes, up to 9999")
        return
    for _ in range(int(data) * 1024 * 1024 // CHUNK):
        ws.send(bytes(CHUNK))
        await ws.drained()  # if the peer vanishes, this callback is cancelled here
    ws.send("done")


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8765)
