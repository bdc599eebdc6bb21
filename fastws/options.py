"""The options: every limit and default of fastws stands here, once."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from fastws.compression import Deflate

#: A Python bytes object can be no longer than this.
_LARGEST = 2**63 - 1
#: In milliseconds it must fit into 32 bits.
_LONGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """What an option may be: `check(name, options)` raises TypeError or ValueError, `parse(text)` is for a command
    line."""

    check: Callable[[str, "Options"], None]
    parse: Callable[[str], Any]
    metavar: str = ""
    choices: tuple[str, ...] = ()


def _option(default: Any, kind: Kind, what: str, *, app_only: bool = False) -> Any:
    """`what` says what the option is for, and what happens on breach. `app_only`: not for a route, as it is needed
    before the route is known, or concerns all of them."""
    return field(default=default, metadata={"kind": kind, "what": what, "app_only": app_only})


def _judge_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, got {value!r}: give {least} to {most}")
    if not least <= value <= most:
        raise ValueError(f"{name}={value!r} is out of range: give {least} to {most}")


def _number(least: float, most: float, metavar: str) -> Kind:
    return Kind(lambda name, options: _judge_number(name, getattr(options, name), least, most), float, metavar)


def _whole(least: int, most: int | str) -> Kind:
    """`most` may be the name of another option, further up."""

    def check(name: str, options: "Options") -> None:
        value = getattr(options, name)
        limit = getattr(options, most) if isinstance(most, str) else most
        if not isinstance(value, int):
            raise TypeError(f"{name} is a whole number, got {value!r}: give {least} to {limit}")
        _judge_number(name, value, least, limit)

    return Kind(check, int, "N")


def _strings() -> Kind:
    def check(name: str, options: "Options") -> None:
        value = getattr(options, name)
        if isinstance(value, str):
            raise TypeError(f"{name} is a collection of strings, not one string: write [{value!r}]")
        if value is not None and not (isinstance(value, Collection) and all(isinstance(one, str) for one in value)):
            raise TypeError(f"{name} is a collection of strings, or None, got {value!r}: write a list, say")

    return Kind(check, lambda text: [one.strip() for one in text.split(",")], "A,B")


def _choice(*choices: str | bool) -> Kind:
    def check(name: str, options: "Options") -> None:
        value = getattr(options, name)
        if value not in choices:
            raise ValueError(f"{name}={value!r} is not known: give one of {', '.join(map(repr, choices))}")

    return Kind(check, str, choices=tuple(map(str, choices)))


def _compression() -> Kind:
    def check(name: str, options: "Options") -> None:
        value = getattr(options, name)
        if not (value is None or isinstance(value, Deflate) or value == "deflate"):
            raise ValueError(f"{name}={value!r} is not known: give None, 'deflate' or a fastws.Deflate")

    return Kind(check, lambda text: None if text == "none" else text, "none|deflate")


_SECONDS = _number(0, _LONGEST, "SECONDS")
_RATE = _number(0, 1_000_000, "PER_SECOND")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Sizes in bytes, durations in seconds, rates per second. A duration or a rate of 0 is off; `close_timeout` is
    always on.

    Options of the App are the defaults of every route; some are the whole App's and cannot be set per route.
    """

    # The opening handshake
    handshake_timeout: float = _option(
        10.0, _SECONDS, "From accept to the 101, however the bytes trickle. On breach: closed.", app_only=True
    )
    max_header_size: int = _option(
        16 * 1024, _whole(256, 128 * 1024), "The whole request head. On breach: 431.", app_only=True
    )
    max_request_line: int = _option(
        8 * 1024, _whole(16, "max_header_size"), "Method, target and version. On breach: 414.", app_only=True
    )
    max_headers: int = _option(100, _whole(1, 10_000), "Header lines in a request. On breach: 431.", app_only=True)
    allowed_hosts: Collection[str] | None = _option(
        None,
        _strings(),
        'Hosts that are served, "*.example.com" for subdomains; None is any. On breach: 403.',
        app_only=True,
    )
    origins: Collection[str] | None = _option(
        None,
        _strings(),
        'Origins whose pages may connect, "*" for all; None is those of the same host. A request without Origin is '
        "not a browser's and is let in. On breach: 403.",
    )
    keep_request: bool = _option(
        False, _choice(False, True), "Keep the request in `ws.request`; costs some kilobytes per connection."
    )

    # How many
    max_connections: int = _option(
        0,
        _whole(0, 2**31 - 1),
        "Open connections of a server; 0 is as many as RLIMIT_NOFILE leaves. On breach: 503 with Retry-After. "
        "Plain http routes are still answered.",
        app_only=True,
    )
    max_connections_per_ip: int = _option(
        0,
        _whole(0, 2**31 - 1),
        "Open connections from one IPv4 address or one IPv6 /64; 0 is off. On breach: 503 with Retry-After.",
        app_only=True,
    )
    max_pending_handshakes: int = _option(
        1000,
        _whole(1, 2**31 - 1),
        "Sockets that are not yet, or no longer, an open connection; never more than an eighth of RLIMIT_NOFILE. "
        "On breach: the oldest is closed.",
        app_only=True,
    )

    # Messages
    max_message_size: int = _option(
        1024 * 1024,
        _whole(0, _LARGEST),
        "One message, all its fragments together. On breach: close with 1009, as soon as the header says so.",
    )
    max_fragments: int = _option(
        16_384, _whole(1, 2**32 - 1), "Frames of one message, empty ones counted. On breach: close with 1008."
    )
    message_timeout: float = _option(
        60.0, _SECONDS, "From a message's first byte to its last. On breach: close with 1008."
    )
    max_message_rate: float = _option(
        0.0, _RATE, "Messages per second from one peer, twice as many in a burst. On breach: close with 1008."
    )
    max_control_rate: float = _option(
        100.0,
        _RATE,
        "Pings and Pongs per second from one peer, twice as many in a burst; a Pong for each of our own Pings is free. "
        "On breach: close with 1008.",
    )
    text: Literal["str", "utf8"] = _option(
        "str", _choice("str", "utf8"), "How text comes to `message`: as str, or as validated UTF-8 in bytes."
    )
    binary: Literal["bytes", "view"] = _option(
        "bytes",
        _choice("bytes", "view"),
        "How binary comes to `message`: as bytes, or as a memoryview that ends when the callback returns.",
    )
    max_waiting: int = _option(
        16,
        _whole(1, 1_000_000),
        "Messages and events that wait behind a running async callback. On breach, and where messages of more than "
        "`high_water` bytes wait: reading pauses.",
    )

    # Compression
    compression: Literal["deflate"] | Deflate | None = _option(  # noqa: RUF009
        None,
        _compression(),
        "permessage-deflate for clients that offer it; settings in a `fastws.Deflate`. Corrupt data: closed with 1007.",
    )

    # Sending
    high_water: int = _option(
        64 * 1024, _whole(0, _LARGEST), "With more than this unsent, nothing more is read from that peer."
    )
    low_water: int = _option(
        16 * 1024, _whole(0, "high_water"), "At or below this, reading goes on and `drain` is called."
    )
    max_backpressure: int = _option(
        1024 * 1024, _whole(0, _LARGEST), "With more than this unsent, `slow_consumer` decides about a further message."
    )
    slow_consumer: Literal["close", "drop"] = _option(
        "close", _choice("close", "drop"), "Close with 1008, or drop the message that was to be sent."
    )
    send_timeout: float = _option(
        10.0, _SECONDS, "For a peer to take 4 KiB of what is unsent, or all. On breach: the connection is terminated."
    )

    # Topics
    max_topics: int = _option(
        1024,
        _whole(0, 65_536),
        "Topics that one connection is subscribed to. On breach: `subscribe` raises RuntimeError.",
    )

    # Life and death
    ping_interval: float = _option(20.0, _SECONDS, "A Ping is sent after this long without a byte from the peer.")
    ping_timeout: float = _option(20.0, _SECONDS, "For any byte to come after that Ping. On breach: close with 1011.")
    close_timeout: float = _option(
        5.0,
        _number(0.01, _LONGEST, "SECONDS"),
        "For the peer to finish the close handshake, and for its async callbacks to end; begins anew whenever it has "
        "taken 4 KiB of what was sent before. On breach: terminated, cancelled.",
    )
    tcp_user_timeout: float = _option(
        60.0,
        _number(0, 86_400, "SECONDS"),
        "For the peer's system to acknowledge what ours has sent, be it only a keepalive probe, so that a peer that "
        "is gone is found even while it is not read from or not pinged; looked at four times in that time. "
        "On breach: as if it had reset.",
        app_only=True,
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            one.metadata["kind"].check(one.name, self)

    def replaced(self, changes: dict[str, object]) -> "Options":
        """These options with some changed. TypeError for an unknown name."""
        for name in changes:
            if name not in NAMES:
                raise TypeError(f"unknown option {name!r}: the options are {', '.join(sorted(NAMES))}")
        return replace(self, **changes)  # type: ignore[arg-type]

    def for_route(self, changes: dict[str, object]) -> "Options":
        """These options with a route's own. TypeError for an unknown name, or one that is not a route's to set."""
        for name in changes:
            if name in APP_ONLY:
                raise TypeError(f"{name} is an option of the whole App, not of one route: give it to App()")
        return self.replaced(changes)

    @property
    def deflate(self) -> Deflate | None:
        """The settings of compression, if it is on."""
        return Deflate() if self.compression == "deflate" else self.compression

    def shortest_timeout(self) -> float:
        """The shortest deadline that is on."""
        durations: list[float] = [getattr(self, name) for name in TIMEOUTS]
        return min(duration for duration in durations if duration > 0)


NAMES = frozenset(one.name for one in fields(Options))

#: Needed before the route of a request is known, or for all of them together.
APP_ONLY = frozenset(one.name for one in fields(Options) if one.metadata["app_only"])

#: The deadlines that fastws keeps itself.
TIMEOUTS = (
    "handshake_timeout",
    "message_timeout",
    "send_timeout",
    "ping_interval",
    "ping_timeout",
    "close_timeout",
    "tcp_user_timeout",
)
