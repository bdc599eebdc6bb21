"""fastws inside a program that has an event loop and work of its own: an estimate of pi, watched over WebSocket.

The program ends when somebody who watches says "enough". To try, run `python examples/embed.py`, and after
`pip install websockets` watch at the address that it prints:

    python -m websockets ws://127.0.0.1:PORT/pi
"""

import asyncio
import random

import fastws

app = fastws.App()
enough = asyncio.Event()


@app.websocket("/pi")
def watch(ws: fastws.WebSocket, data: str | bytes) -> None:
    if data == "enough":
        enough.set()


def throw_darts(count: int) -> int:
    """How many of them hit the quarter circle."""
    return sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(count))


async def estimate(server: fastws.Server) -> float:
    """The program's own work. It runs in a thread, so that the loop, and with it the server, goes on meanwhile."""
    hits = thrown = 0
    while not enough.is_set():
        hits += await asyncio.to_thread(throw_darts, 50_000)
        thrown += 50_000
        for ws in server.connections:
            ws.send(f"pi is about {4 * hits / thrown:.5f}")
    return 4 * hits / thrown


async def report(server: fastws.Server) -> None:
    """A task of the program's own, on the same loop."""
    while True:
        await asyncio.sleep(1)
        print(f"{len(server.connections)} are watching", flush=True)


async def main() -> None:
    async with await app.start("127.0.0.1", 0) as server:  # port 0: a free one
        print(f"watch ws://127.0.0.1:{server.port}/pi", flush=True)
        reporting = asyncio.create_task(report(server))
        pi = await estimate(server)
        reporting.cancel()
    # Here every connection has been closed, with 1001.
    print(f"pi is about {pi:.5f}")


if __name__ == "__main__":
    asyncio.run(main())
