"""Chat rooms over several processes: what is said in one goes through Redis to all.

The app's lifespan opens and closes Redis. To try it with a Redis on this machine, `pip install redis websockets`, run
`python examples/chat_redis.py` and `fastws serve examples.chat_redis:app --port 8766`, and in two more terminals:

    python -m websockets "ws://127.0.0.1:8765/chat/tea?name=Ada"  # and with :8766, as Grace
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator

import redis.asyncio
from redis.exceptions import RedisError

import fastws

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
log = logging.getLogger("chat")


@contextlib.asynccontextmanager
async def lifespan(app: fastws.App) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(REDIS_URL, decode_responses=True) as client:
        await client.ping()  # without a Redis the server does not start
        subscribed = asyncio.Event()
        relaying = asyncio.create_task(relay(client, subscribed))
        try:
            await subscribed.wait()
            yield client  # app.state, from here on
        finally:
            relaying.cancel()
            await asyncio.wait((relaying,))


async def relay(client: redis.asyncio.Redis, subscribed: asyncio.Event) -> None:
    """What comes from Redis goes to the connections of this process. What is said while Redis is away is lost."""
    while True:
        try:
            async with client.pubsub() as incoming:
                await incoming.psubscribe("chat/*")
                async for message in incoming.listen():
                    if message["type"] == "psubscribe":
                        subscribed.set()
                    else:
                        app.publish(message["channel"], message["data"])
        except RedisError as error:
            log.warning("Redis is away, trying again: %s", error)
            await asyncio.sleep(1)


app = fastws.App(max_message_size=4096, lifespan=lifespan)


@app.websocket("/chat/{room}")
class Chat:
    def upgrade(self, request: fastws.Request) -> fastws.Accept | fastws.Response:
        name = request.query_params.get("name", "")
        if not 1 <= len(name) <= 32 or len(request.path_params["room"]) > 32:
            return request.reject(400, "give a room and ?name= of at most 32 characters\n")
        return request.accept(data=(name, f"chat/{request.path_params['room']}"))

    async def open(self, ws: fastws.WebSocket) -> None:
        name, topic = ws.data
        ws.subscribe(topic)
        await app.state.publish(topic, f"* {name} came")

    async def message(self, ws: fastws.WebSocket, data: str | bytes) -> None:
        name, topic = ws.data
        await app.state.publish(topic, f"{name}: {data if isinstance(data, str) else '(a file)'}")  # to ws as well

    async def close(self, ws: fastws.WebSocket, code: int, reason: str) -> None:
        name, topic = ws.data
        await app.state.publish(topic, f"* {name} left")  # at the server's end, too: the lifespan is left after this


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8765)
