"""A background task that publishes ten times a second: the app's lifespan starts and ends it.

To try, run `python examples/ticker.py`, and after `pip install websockets`, for every tick or every tenth:

    python -m websockets ws://127.0.0.1:8765/ticks
    python -m websockets ws://127.0.0.1:8765/seconds
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import fastws

INTERVAL = 0.1  # seconds
EVERY = {"ticks": 1, "seconds": 10}  # a topic, and which ticks it gets


@contextlib.asynccontextmanager
async def lifespan(app: fastws.App) -> AsyncIterator[None]:
    """Before the first connection, and after the last."""
    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking  # an error in it ends up here; in an asyncio.TaskGroup (Python 3.11) it stops the server


app = fastws.App(lifespan=lifespan)


@app.websocket("/{topic}")
class Ticks:
    def upgrade(self, request: fastws.Request) -> fastws.Accept | fastws.Response:
        return request.accept() if request.path_params["topic"] in EVERY else request.reject(404)

    def open(self, ws: fastws.WebSocket) -> None:
        ws.subscribe(ws.path_params["topic"])


async def tick() -> None:
    loop = asyncio.get_running_loop()
    due, number = loop.time(), 0
    while True:
        # From when the last one was due, not from when it ran: no lateness adds up. What a stall missed is left out.
        due = max(due + INTERVAL, loop.time())
        await asyncio.sleep(due - loop.time())
        number += 1
        listening = [topic for topic, every in EVERY.items() if number % every == 0 and app.num_subscribers(topic)]
        if listening:  # else the message is not even made
            message = fastws.prepare(f'{{"tick": {number}}}')  # one frame, for all subscribers of both topics
            for topic in listening:
                app.publish(topic, message)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8765)
