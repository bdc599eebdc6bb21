"""tornado on asyncio and uvloop, with its C extension. A broadcast is a loop of `write_message`, as in its chat demo.

No delay of small messages, as its documentation recommends for latency. --deflate is its default: level 6, a window of
32 KiB, contexts taken over in both directions.
"""

import argparse
import asyncio
from typing import Any

import uvloop
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ping-interval", type=float)
parser.add_argument("--deflate", action="store_true")
options = parser.parse_args()


class Echo(WebSocketHandler):
    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))

    def get_compression_options(self) -> dict[str, Any] | None:
        return {} if options.deflate else None


class Broadcast(Echo):
    subscribers: set["Broadcast"] = set()

    def open(self, *args: str, **kwargs: str) -> None:
        super().open()
        self.subscribers.add(self)

    def on_close(self) -> None:
        self.subscribers.discard(self)

    def on_message(self, message: str | bytes) -> None:
        for other in self.subscribers:
            if other is not self:
                try:
                    other.write_message(message, binary=isinstance(message, bytes))
                except WebSocketClosedError:
                    pass


async def main() -> None:
    app = Application(
        [("/", Echo), ("/broadcast", Broadcast)],
        websocket_ping_interval=options.ping_interval,
        websocket_max_message_size=16 << 20,
        log_function=lambda handler: None,
    )
    app.listen(options.port, "127.0.0.1", backlog=4096)
    await asyncio.get_running_loop().create_future()


uvloop.run(main())
