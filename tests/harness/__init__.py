"""What the tests over real sockets are written with: clients, servers, recorders, and checks for leaks."""

from .bystander import Watch, bystander
from .client import KEY, Ended, HttpResponse, RawClient, request_bytes
from .frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    WIRE_CODES,
    BadFrame,
    Frame,
    apply_mask,
    build,
    build_close,
    close_code,
    parse,
)
from .leaks import Serving, Traps, at_rest, held, open_fds
from .recorder import ANY, Recorder, make_app
from .server import ServerThread, eventually, new_loop
from .slow import CHUNK, fill, newest, slow_client

__all__ = [
    "ANY",
    "BINARY",
    "CHUNK",
    "CLOSE",
    "CONT",
    "KEY",
    "PING",
    "PONG",
    "TEXT",
    "WIRE_CODES",
    "BadFrame",
    "Ended",
    "Frame",
    "HttpResponse",
    "RawClient",
    "Recorder",
    "ServerThread",
    "Serving",
    "Traps",
    "Watch",
    "apply_mask",
    "at_rest",
    "build",
    "build_close",
    "bystander",
    "close_code",
    "eventually",
    "fill",
    "held",
    "make_app",
    "new_loop",
    "newest",
    "open_fds",
    "parse",
    "request_bytes",
    "slow_client",
]
