"""The options: every limit and default of fastws stands here, once."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Literal

#: A Python bytes object can be no longer than this.
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Sizes in bytes, durations in seconds. A duration of 0 switches the deadline off; `close_timeout` is always on.

    Options of the App are the defaults of every route; those of the handshake, which are needed before the route is
    known, cannot be set per route.
    """

    # The opening handshake
    handshake_timeout: float = 10.0
    """From accept to the 101, however the bytes trickle. On breach: the socket is closed."""
    max_header_size: int = 16 * 1024
    """The whole request head. On breach: 431."""
    max_request_line: int = 8 * 1024
    """Method, target and version. On breach: 414."""
    max_headers: int = 100
    """Header lines in a request. On breach: 431."""
    allowed_hosts: Collection[str] | None = None
    """Hosts that are served, "*.example.com" for subdomains; None is any. On breach: 403."""
    origins: Collection[str] | None = None
    """Origins whose pages may connect, "*" for all; None is those of the same host. A request without Origin is not a
    browser's and is let in. On breach: 403."""
    keep_request: bool = False
    """Keep the request in `ws.request`; costs some kilobytes per connection."""

    # Messages
    max_message_size: int = 1024 * 1024
    """One message, all its fragments together. On breach: close with 1009, as soon as the header says so."""
    max_fragments: int = 16_384
    """Frames of one message, empty ones counted. On breach: close with 1008."""
    message_timeout: float = 60.0
    """From a message's first byte to its last. On breach: close with 1008."""
    text: Literal["str", "utf8"] = "str"
    """How text comes to `message`: as str, or as validated UTF-8 in bytes."""
    binary: Literal["bytes", "view"] = "bytes"
    """How binary comes to `message`: as bytes, or as a memoryview that ends when the callback returns."""
    max_waiting: int = 16
    """Messages and events that wait behind a running async callback; then reading pauses."""

    # Sending
    high_water: int = 64 * 1024
    """With more than this unsent, nothing more is read from that peer."""
    low_water: int = 16 * 1024
    """At or below this, reading goes on and `drain` is called."""
    max_backpressure: int = 1024 * 1024
    """With more than this unsent, `slow_consumer` decides about a further message."""
    slow_consumer: Literal["close", "drop"] = "close"
    """Close with 1008, or drop the message that was to be sent."""
    send_timeout: float = 10.0
    """For a peer to take any of what is unsent. On breach: the connection is terminated."""

    # Topics
    max_topics: int = 1024
    """Topics that one connection is subscribed to. On breach: `subscribe` raises RuntimeError."""

    # Life and death
    ping_interval: float = 20.0
    """A Ping is sent after this long without a byte from the peer."""
    ping_timeout: float = 20.0
    """For any byte to come after that Ping. On breach: close with 1011."""
    close_timeout: float = 5.0
    """For the peer to finish the close handshake, and for its async callbacks to end. On breach: terminated,
    cancelled."""

    def __post_init__(self) -> None:
        for name in TIMEOUTS:
            self._check_number(name, 0.01 if name == "close_timeout" else 0, 1_000_000)
        self._check_int("max_header_size", 256, 128 * 1024)
        self._check_int("max_request_line", 16, self.max_header_size)
        self._check_int("max_headers", 1, 10_000)
        self._check_int("max_message_size", 0, _LARGEST)
        self._check_int("max_fragments", 1, 2**32 - 1)
        self._check_int("max_waiting", 1, 1_000_000)
        self._check_int("max_topics", 0, 65_536)
        self._check_int("high_water", 0, _LARGEST)
        self._check_int("low_water", 0, self.high_water)
        self._check_int("max_backpressure", 0, _LARGEST)
        self._choose("text", "str", "utf8")
        self._choose("binary", "bytes", "view")
        self._choose("slow_consumer", "close", "drop")
        self._choose("keep_request", False, True)
        for name in ("origins", "allowed_hosts"):
            self._check_strings(name)

    def _check_number(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} is a number, got {value!r}: give {least} to {most}")
        if not least <= value <= most:
            raise ValueError(f"{name}={value!r} is out of range: give {least} to {most}")

    def _check_int(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int):
            raise TypeError(f"{name} is a whole number, got {value!r}: give {least} to {most}")
        self._check_number(name, least, most)

    def _check_strings(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, str):
            raise TypeError(f"{name} is a collection of strings, not one string: write [{value!r}]")
        if value is not None and not (isinstance(value, Collection) and all(isinstance(one, str) for one in value)):
            raise TypeError(f"{name} is a collection of strings, or None, got {value!r}: write a list, say")

    def _choose(self, name: str, *choices: str | bool) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(
                f"{name}={getattr(self, name)!r} is not known: give one of {', '.join(map(repr, choices))}"
            )

    def replaced(self, changes: dict[str, object]) -> "Options":
        """These options with some changed. TypeError for an unknown name."""
        names = {field.name for field in fields(self)}
        for name in changes:
            if name not in names:
                raise TypeError(f"unknown option {name!r}: the options are {', '.join(sorted(names))}")
        return replace(self, **changes)  # type: ignore[arg-type]

    def for_route(self, changes: dict[str, object]) -> "Options":
        """These options with a route's own. TypeError for an unknown name, or one that is not a route's to set."""
        for name in changes:
            if name in APP_ONLY:
                raise TypeError(f"{name} is an option of the whole App, not of one route: give it to App()")
        return self.replaced(changes)

    def shortest_timeout(self) -> float:
        """The shortest deadline that is on."""
        durations: list[float] = [getattr(self, name) for name in TIMEOUTS]
        return min(duration for duration in durations if duration > 0)


#: Needed before the route of a request is known.
APP_ONLY = frozenset({"handshake_timeout", "max_header_size", "max_request_line", "max_headers", "allowed_hosts"})

TIMEOUTS = (
    "handshake_timeout",
    "message_timeout",
    "send_timeout",
    "ping_interval",
    "ping_timeout",
    "close_timeout",
)
