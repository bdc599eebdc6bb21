"""The two enumerations of the public API; both are ints."""

from enum import IntEnum


class SendStatus(IntEnum):
    """What became of a message that was handed to `ws.send`."""

    SENT = 0  #: it goes out with this turn of the loop
    QUEUED = 1  #: the peer reads too slowly; wait for `drain`, or `await ws.drained()`
    DROPPED = 2  #: the connection is not open, or its slow-consumer policy dropped the message


class ReadyState(IntEnum):
    """The state of a connection, as in the W3C WebSocket API."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3
