"""What a FrameParser makes of bytes, and what it raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Frame(NamedTuple):
    """One frame (RFC 6455 section 5.2)."""

    fin: bool
    opcode: int  #: 0 continuation, 1 text, 2 binary, 8 Close, 9 Ping, 10 Pong
    payload: bytes  #: unmasked
    rsv: int = 0  #: the reserved bits: 4 for RSV1, 2 for RSV2, 1 for RSV3


class ProtocolError(ValueError):
    """The peer broke a rule of RFC 6455, or a limit; its connection is to be failed (section 7.1.7).

    code: for the Close frame that says so (section 7.4.1): 1002, 1007 in a Close whose reason is not UTF-8, or 1009 for
        a frame over the limit.
    frames: those that came before the bad one in what was fed, and have not been returned.
    """

    def __init__(self, message: str, code: int = 1002, frames: Iterable[Frame] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.frames = list(frames)
