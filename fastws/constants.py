"""The two enumerations of the public API; both are ints."""

from enum import IntEnum
from typing import NoReturn


class SendStatus(IntEnum):
    """What became of a message that was handed to `ws.send`. To be compared: its truth would mislead, as SENT is 0."""

    SENT = 0  #: it goes out with this turn of the loop
    QUEUED = 1  #: the peer reads too slowly; wait for `drain`, or `await ws.drained()`
    DROPPED = 2  #: the connection is not open, or its slow-consumer policy dropped the message

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"fastws.{self.name} is neither true nor false: compare, with `ws.send(data) == fastws.DROPPED` say"
        )


class ReadyState(IntEnum):
    """The state of a connection, as in the W3C WebSocket API."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3
