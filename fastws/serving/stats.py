"""What a server counts: the figures of `App.stats` and `Server.stats`, by name."""

from collections.abc import Iterable
from typing import TypedDict, cast

#: Why a socket was sent away before it was an open connection. Those named after an option are breaches of it.
REFUSED = (
    "malformed",  # 400
    "max_request_line",  # 414
    "max_header_size",  # 431, also for max_headers
    "method",  # 405
    "http_version",  # 505
    "version",  # 426, also for a plain request to a WebSocket route
    "not_found",  # 404
    "origins",  # 403
    "allowed_hosts",  # 403
    "max_connections",  # 503
    "max_connections_per_ip",  # 503
    "max_pending_handshakes",
    "handshake_timeout",
    "by_app",  # `upgrade` answered with a Response
    "error",  # 500: a callback raised, or returned nonsense
    "left",  # the peer went before it was answered
    "stopping",
)

#: What ended an open connection. Those named after an option are breaches of it.
CLOSED = (
    "by_peer",  # with a Close frame
    "by_app",  # `close` or `terminate`
    "lost",  # the peer's system ended it, or the network did, without a Close frame
    "protocol_error",  # 1002
    "invalid_text",  # 1007
    "invalid_compression",  # 1007
    "max_message_size",  # 1009
    "max_fragments",
    "max_control_rate",
    "max_message_rate",
    "message_timeout",
    "ping_timeout",
    "send_timeout",
    "close_timeout",  # the app closed it, and the peer did not answer
    "max_backpressure",
    "error",  # 1011: a callback raised
    "stopping",
)


class Stats(TypedDict):
    """At any time, accepted == handshakes + connections + answered + all of refused + all of closed."""

    accepted: int
    """Sockets accepted so far."""
    answered: int
    """Requests answered by http routes."""
    refused: dict[str, int]
    """Sockets that never became an open connection, by reason."""
    closed: dict[str, int]
    """Connections that were open, by what ended them."""
    handshakes: int
    """Sockets whose request is not decided yet."""
    connections: int
    """Connections open now."""
    sockets: int
    """All sockets held: the two above, and those that linger until their peer hangs up."""
    topics: int
    """Topics that have subscribers, counted for each server."""
    buffered_bytes: int
    """Kept for connections: unsent output, input not looked at yet, parts of messages, messages that wait."""
    deflations: int
    """Messages compressed, those included that did not shrink; a published one counts once, for all its subscribers."""
    inflations: int
    """Compressed messages received."""
    compression_bytes: int
    """Held for compression: what all connections share, and the histories and inflaters of each."""


def total(servers: Iterable[Stats]) -> Stats:
    """The sum of several servers' figures."""
    sums = dict.fromkeys(Stats.__annotations__, 0)
    by_reason = {"refused": dict.fromkeys(REFUSED, 0), "closed": dict.fromkeys(CLOSED, 0)}
    for one in servers:
        for name, value in one.items():
            if isinstance(value, int):
                sums[name] += value
        for reason in REFUSED:
            by_reason["refused"][reason] += one["refused"][reason]
        for reason in CLOSED:
            by_reason["closed"][reason] += one["closed"][reason]
    return cast(Stats, {**sums, **by_reason})
