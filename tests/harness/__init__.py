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
from .in_loop import client_of, echo_app, echoes, elsewhere, serves, unix_client, unix_echoes, until
from .leaks import Serving, Traps, at_rest, held, open_fds
from .recorder import ANY, Recorder, echo, make_app
from .server import ServerThread, eventually, new_loop, on_loop
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
    "client_of",
    "close_code",
    "echo",
    "echo_app",
    "echoes",
    "elsewhere",
    "eventually",
    "fill",
    "held",
    "make_app",
    "new_loop",
    "newest",
    "on_loop",
    "open_fds",
    "parse",
    "request_bytes",
    "serves",
    "slow_client",
    "unix_client",
    "unix_echoes",
    "until",
]
