"""granian with an RSGI application on uvloop."""

import argparse
import asyncio
from typing import Any

from granian import Granian
from granian.constants import Interfaces, Loops, RuntimeModes, TaskImpl
from granian.rsgi import ProtocolClosed, Scope, WebsocketMessageType, WebsocketProtocol

STRING, BYTES = WebsocketMessageType.string, WebsocketMessageType.bytes


async def app(scope: Scope, protocol: WebsocketProtocol) -> None:
    transport = await protocol.accept()
    try:
        while True:
            message = await transport.receive()
            if message.kind == STRING:
                await transport.send_str(message.data)
            elif message.kind == BYTES:
                await transport.send_bytes(message.data)
            else:
                break
    except ProtocolClosed:
        pass
    protocol.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mode", default="st")
    parser.add_argument("--task", default="asyncio")
    options = parser.parse_args()
    Granian(
        "granian_:app",
        address="127.0.0.1",
        port=options.port,
        interface=Interfaces.RSGI,
        workers=1,
        loop=Loops.uvloop,
        runtime_mode=RuntimeModes(options.mode),
        task_impl=TaskImpl(options.task),
        backlog=4096,
        backpressure=100_000,
        log_enabled=False,
    ).serve()
