"""fastws: a WebSocket server library. Plain callbacks, a Cython core, its own epoll inside uvloop."""

from fastws._speedups import PreparedMessage, WebSocket, prepare
from fastws.app import App
from fastws.compression import Deflate
from fastws.constants import ReadyState, SendStatus
from fastws.handlers import Handler
from fastws.http import Accept, Headers, Request, Response
from fastws.options import Options
from fastws.serving.server import Server
from fastws.serving.stats import Stats

__version__ = "0.1.0"

SENT = SendStatus.SENT
QUEUED = SendStatus.QUEUED
DROPPED = SendStatus.DROPPED

__all__ = [
    "DROPPED",
    "QUEUED",
    "SENT",
    "Accept",
    "App",
    "Deflate",
    "Handler",
    "Headers",
    "Options",
    "PreparedMessage",
    "ReadyState",
    "Request",
    "Response",
    "SendStatus",
    "Server",
    "Stats",
    "WebSocket",
    "prepare",
]
