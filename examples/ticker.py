"""A background task that publishes ten times a second, and lives exactly as long as the server.

To try, run `python examples/ticker.py`, and after `pip install websockets`, for every tick or every tenth:

    python -m websockets ws://127.0.0.1:8765/ticks
    python -m websockets ws://127.0.0.1:8765/seconds
"""

import asyncio
import contextlib
import signal

import fastws

INTERVAL = 0.1  # seconds
EVERY = {"ticks": 1, "seconds": 10}  # a topic, and which ticks it gets

app = fastws.App()


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


async def main() -> None:
    ticking = asyncio.create_task(tick())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ticking.cancel)
    async with await app.start("127.0.0.1", 8765):
        with contextlib.suppress(asyncio.CancelledError):
            await ticking  # an error in it ends the server, too


if __name__ == "__main__":
    asyncio.run(main())
