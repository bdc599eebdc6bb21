"""Request heads for the protocol half alone, as tests/core/protocol/build.py compiles it."""

from __future__ import annotations

from typing import Any

from core.protocol._protocol import RequestHead

from .client import request_bytes

GOOD = request_bytes("/chat?x=1", headers=[("Origin", "http://localhost"), ("X-Empty", ""), ("Cookie", "a=b")])
LIMITS = (16384, 8192, 100)


def head(data: bytes, limits: tuple[int, int, int] = LIMITS) -> Any:
    """The outcome of a head that comes in one piece, and the handshake."""
    request = RequestHead(*limits)
    return request.feed(data), request.handshake
