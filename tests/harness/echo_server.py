"""A server in a process of its own, to be watched from outside: `python echo_server.py uvloop`, prints its port."""

from __future__ import annotations

import asyncio
import sys
from typing import Any


async def main() -> None:
    import fastws

    app = fastws.App(ping_interval=0)
    loop = asyncio.get_running_loop()

    @app.websocket("/")
    def echo(ws: Any, data: Any) -> None:
        ws.send(data)

    @app.websocket("/later")
    def later(ws: Any, data: Any) -> None:
        """Answers from outside of the read, sixteenfold."""
        loop.call_soon(lambda: [ws.send(data) for _ in range(16)])

    server = await app.start("127.0.0.1", 0)
    print(server.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        import uvloop

        uvloop.install()
    asyncio.run(main())
