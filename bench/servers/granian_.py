"""granian with an RSGI application on uvloop: one worker, in a process of its own, as its documentation has it for one
core; the runtime mode and the threads that it chooses by itself are as fast as any other. A thread of Rust does the
input and output, one of Python runs the loop, and both stay on one core here. A broadcast is a loop of sends.

Its backpressure is the number of connections, each of which is a request that does not end. It has neither keepalive
nor permessage-deflate.
"""

import argparse
from typing import Any

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.rsgi import (  # type: ignore[attr-defined]
    ProtocolClosed,
    Scope,
    WebsocketMessageType,
    WebsocketProtocol,
)

STRING, BYTES = WebsocketMessageType.string, WebsocketMessageType.bytes

subscribers: set[Any] = set()


async def app(scope: Scope, protocol: WebsocketProtocol) -> None:
    transport = await protocol.accept()
    try:
        await (broadcast if scope.path == "/broadcast" else echo)(transport)
    except ProtocolClosed:
        pass
    protocol.close(None)


async def echo(transport: Any) -> None:
    while True:
        message = await transport.receive()
        if message.kind == STRING:
            await transport.send_str(message.data)
        elif message.kind == BYTES:
            await transport.send_bytes(message.data)
        else:
            return


async def broadcast(transport: Any) -> None:
    subscribers.add(transport)
    try:
        while (message := await transport.receive()).kind:
            for other in [*subscribers]:
                if other is not transport:
                    try:
                        if message.kind == STRING:
                            await other.send_str(message.data)
                        else:
                            await other.send_bytes(message.data)
                    except ProtocolClosed:
                        pass
    finally:
        subscribers.discard(transport)


if __name__ == "__main__":  # the worker imports it once more
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    Granian(
        f"{__file__}:app",
        address="127.0.0.1",
        port=options.port,
        interface=Interfaces.RSGI,
        workers=1,
        loop=Loops.uvloop,
        backlog=4096,
        backpressure=100_000,
        log_enabled=False,
        workers_kill_timeout=1,
    ).serve()
