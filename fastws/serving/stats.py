"""What a server counts: the figures of `App.stats` and `Server.stats`, by name."""

from collections.abc import Iterable
from typing import TypedDict, cast

from fastws.causes import CLOSED, REFUSED


class Stats(TypedDict):
    """At any time, accepted == handshakes + connections + answered + all of refused + all of closed."""

    accepted: int
    """Sockets accepted so far."""
    answered: int
    """Requests answered by http routes, OPTIONS included."""
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
