"""The options: each stands here once, with its type, its default, what it may be and what it is for.

`App(...)`, the decorators, the command line's flags, the FASTWS_ variables, configuration files and docs/options.md are
all made from `TABLE`, which is made from the two TypedDicts.
"""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypedDict, final, get_type_hints

from fastws.compression import Deflate
from fastws.http import host_mistake, origin_mistake

if sys.version_info >= (3, 11):
    from typing import Unpack
elif TYPE_CHECKING:
    from typing_extensions import Unpack

#: A Python bytes object can be no longer than this.
_LARGEST = 2**63 - 1
#: In milliseconds it must fit into 32 bits.
LONGEST = 1_000_000

# Sections, in the order in which help and docs/options.md have them.
HANDSHAKE = "The opening handshake"
HOW_MANY = "How many"
MESSAGES = "Messages"
COMPRESSION = "Compression"
SENDING = "Sending"
TOPICS = "Topics"
LIFE = "Life and death"
SECTIONS = (HANDSHAKE, HOW_MANY, MESSAGES, COMPRESSION, SENDING, TOPICS, LIFE)


@dataclass(frozen=True, slots=True)
class Kind:
    """What an option may be: `check(name, value, options)` raises TypeError or ValueError, where `options` has the
    values of all; `parse(text)` reads a flag or a variable, and raises ValueError."""

    check: Callable[[str, object, Mapping[str, Any]], None]
    parse: Callable[[str], object]
    metavar: str = ""
    choices: tuple[str, ...] = ()
    #: What to write in a flag or a variable.
    form: str = ""
    #: None is one of the values: "none" in a flag, a variable or a file.
    optional: bool = False
    #: The option that is its upper bound.
    below: str = ""

    def means_none(self, value: object) -> bool:
        """Whether what a flag, a variable or a file has stands for None."""
        return self.optional and isinstance(value, str) and value.lower() == "none"


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table. `what` says what the option is for, and what happens on breach."""

    default: Any
    kind: Kind
    section: str
    what: str
    #: Only the code may set it: another value would break it.
    of_the_code: bool = False


def shown(value: object) -> str:
    """The value, and its type where that is not seen from it: a number of numpy's may look like an int."""
    own = isinstance(value, bool | int | float | str | bytes | list | tuple | dict | set | frozenset | None)
    return repr(value) if own else f"{value!r} (of type {type(value).__module__}.{type(value).__qualname__})"


def judge_number(name: str, value: object, least: float, most: float) -> None:
    """TypeError or ValueError for what is no int or float from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, got {shown(value)}: give {least} to {most}")
    if not least <= value <= most:
        raise ValueError(f"{name}={value!r} is out of range: give {least} to {most}")


def _number(least: float, most: float, metavar: str) -> Kind:
    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        if value is None and least == 0:
            raise TypeError(f"{name} is a number, got None: give 0, which is off")
        judge_number(name, value, least, most)

    form = "a number, 20 say; 0 is off" if least == 0 else "a number, 20 say"
    return Kind(check, float, metavar, form=form)


def _whole(least: int, most: int | str, metavar: str = "N", example: int = 100) -> Kind:
    """`most` may be the name of another option."""

    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        limit = options[most] if isinstance(most, str) else most
        if not isinstance(value, int):
            raise TypeError(f"{name} is a whole number, got {shown(value)}: give {least} to {limit}")
        if isinstance(most, str) and value > limit >= least:
            by_default = ", its default" if limit == TABLE[most].default else ""
            raise ValueError(f"{name}={value!r} is above {most}={limit!r}{by_default}: lower {name}, or raise {most}")
        judge_number(name, value, least, limit)

    below = most if isinstance(most, str) else ""
    return Kind(check, int, metavar, form=f"a whole number, {example} say", below=below)


def _bytes(least: int, most: int | str) -> Kind:
    return _whole(least, most, "BYTES", 65_536)


def _strings(mistake: Callable[[str], str | None]) -> Kind:
    """`mistake` says what is wrong with one of them."""

    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        if value is None:
            return
        if isinstance(value, str):
            raise TypeError(f"{name} is a collection of strings, not one string: write [{value!r}]")
        if not isinstance(value, Collection) or isinstance(value, Mapping | bytes | bytearray | memoryview):
            raise TypeError(f"{name} is a collection of strings, or None, got {value!r}: write a list, say")
        for one in value:
            if not isinstance(one, str):
                raise TypeError(f"{name} is a collection of strings, or None, got {value!r}: {one!r} is no string")
            if (wrong := mistake(one)) is not None:
                raise ValueError(f"{name} cannot have {one!r}: {wrong}")

    def parse(text: str) -> list[str]:
        names = [one.strip() for one in text.split(",")]
        if "" in names:
            raise ValueError(text)
        return names

    return Kind(check, parse, "A,B", form="one, or several with commas between them, or none", optional=True)


def _choice(*choices: str | bool) -> Kind:
    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        if not any(isinstance(value, type(one)) and value == one for one in choices):
            raise ValueError(f"{name}={value!r} is not known: give one of {', '.join(map(repr, choices))}")

    return Kind(check, str, choices=tuple(map(str, choices)))


def _compression() -> Kind:
    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        if not (value is None or isinstance(value, Deflate) or value == "deflate"):
            raise ValueError(f"{name}={value!r} is not known: give None, 'deflate' or a fastws.Deflate(...)")

    def parse(text: str) -> str:
        if text != "deflate":
            raise ValueError(text)
        return text

    return Kind(check, parse, "none|deflate", form="none or deflate", optional=True)


_SECONDS = _number(0, LONGEST, "SECONDS")
_RATE = _number(0, 1_000_000, "PER_SECOND")


class RouteOptions(TypedDict, total=False):
    """Options of a route, and of the App for all routes that set nothing else. Sizes in bytes, durations in seconds,
    rates per second. A duration or a rate of 0 is off; `close_timeout` is always on."""

    origins: Annotated[
        Collection[str] | None,
        Option(
            None,
            _strings(origin_mistake),
            HANDSHAKE,
            'Origins whose pages may connect, "*" for all; None is those of the same host. A request without Origin is '
            "not a browser's and is let in. On breach: 403.",
        ),
    ]
    cancel_on_disconnect: Annotated[
        bool,
        Option(
            True,
            _choice(False, True),
            LIFE,
            "Cancel the async callback that runs when the connection breaks off or fails. False lets it end within "
            "`close_timeout`, and then calls `close`.",
            of_the_code=True,
        ),
    ]
    keep_request: Annotated[
        bool,
        Option(
            False,
            _choice(False, True),
            HANDSHAKE,
            "Keep the request in `ws.request`; costs some kilobytes per connection.",
            of_the_code=True,
        ),
    ]
    max_message_size: Annotated[
        int,
        Option(
            1024 * 1024,
            _bytes(0, _LARGEST),
            MESSAGES,
            "One message, all its fragments together. On breach: close with 1009, as soon as the header says so.",
        ),
    ]
    max_fragments: Annotated[
        int,
        Option(
            16_384,
            _whole(1, 2**32 - 1),
            MESSAGES,
            "Frames of one message, empty ones counted. On breach: close with 1008.",
        ),
    ]
    message_timeout: Annotated[
        float,
        Option(60.0, _SECONDS, MESSAGES, "From a message's first byte to its last. On breach: close with 1008."),
    ]
    max_message_rate: Annotated[
        float,
        Option(
            0.0,
            _RATE,
            MESSAGES,
            "Messages per second from one peer, twice as many in a burst. On breach: close with 1008.",
        ),
    ]
    max_control_rate: Annotated[
        float,
        Option(
            100.0,
            _RATE,
            MESSAGES,
            "Pings and Pongs per second from one peer, twice as many in a burst; a Pong for each of our own Pings is "
            "free. On breach: close with 1008.",
        ),
    ]
    text: Annotated[
        Literal["str", "utf8"],
        Option(
            "str",
            _choice("str", "utf8"),
            MESSAGES,
            "How text comes to `message`: as str, or as validated UTF-8 in bytes.",
            of_the_code=True,
        ),
    ]
    binary: Annotated[
        Literal["bytes", "view"],
        Option(
            "bytes",
            _choice("bytes", "view"),
            MESSAGES,
            "How binary comes to `message`: as bytes, or as a memoryview that ends when the callback returns.",
            of_the_code=True,
        ),
    ]
    max_waiting: Annotated[
        int,
        Option(
            16,
            _whole(1, 1_000_000),
            MESSAGES,
            "Messages and events that wait behind a running async callback. On breach, and where messages of more than "
            "`high_water` bytes wait: reading pauses.",
        ),
    ]
    compression: Annotated[
        Literal["deflate"] | Deflate | None,
        Option(
            None,
            _compression(),
            COMPRESSION,
            "permessage-deflate for clients that offer it; settings in a `fastws.Deflate`, or in a table of a file. "
            "Corrupt data: closed with 1007.",
        ),
    ]
    high_water: Annotated[
        int,
        Option(
            64 * 1024,
            _bytes(0, _LARGEST),
            SENDING,
            "With more than this unsent, nothing more is read from that peer.",
        ),
    ]
    low_water: Annotated[
        int,
        Option(
            16 * 1024,
            _bytes(0, "high_water"),
            SENDING,
            "At or below this, reading goes on and `drain` is called. By default no more than a quarter of "
            "`high_water`.",
        ),
    ]
    max_backpressure: Annotated[
        int,
        Option(
            1024 * 1024,
            _bytes(0, _LARGEST),
            SENDING,
            "A peer is slow once more than this is unsent and it does not take as much within `send_timeout`: "
            "`slow_consumer` decides about a further message.",
        ),
    ]
    max_burst: Annotated[
        int,
        Option(
            16 * 1024 * 1024,
            _bytes(0, _LARGEST),
            SENDING,
            "What may be sent on top within that time. On breach the peer is slow at once; with 0, as soon as more "
            "than `max_backpressure` is unsent.",
        ),
    ]
    slow_consumer: Annotated[
        Literal["close", "drop"],
        Option(
            "close",
            _choice("close", "drop"),
            SENDING,
            "Close with 1008, or drop the message that was to be sent.",
        ),
    ]
    send_timeout: Annotated[
        float,
        Option(
            10.0,
            _SECONDS,
            SENDING,
            "For a peer to take 4 KiB of what is unsent, or all. On breach: the connection is terminated.",
        ),
    ]
    max_topics: Annotated[
        int,
        Option(
            1024,
            _whole(0, 65_536),
            TOPICS,
            "Topics that one connection is subscribed to. On breach: `subscribe` raises RuntimeError.",
        ),
    ]
    ping_interval: Annotated[
        float,
        Option(20.0, _SECONDS, LIFE, "A Ping is sent after this long without a byte from the peer."),
    ]
    ping_timeout: Annotated[
        float,
        Option(20.0, _SECONDS, LIFE, "For any byte to come after that Ping. On breach: close with 1011."),
    ]
    close_timeout: Annotated[
        float,
        Option(
            5.0,
            _number(0.01, LONGEST, "SECONDS"),
            LIFE,
            "For the peer to finish the close handshake, and for its async callbacks to end; begins anew whenever it "
            "has taken 4 KiB of what was sent before, and with an async `close` that others have kept waiting. On "
            "breach: terminated, cancelled.",
        ),
    ]


class AppOptions(RouteOptions, total=False):
    """Options of an App: those of its routes, and those that are needed before the route of a request is known, or for
    all of them together."""

    handshake_timeout: Annotated[
        float,
        Option(
            10.0,
            _SECONDS,
            HANDSHAKE,
            "From accept to the 101, however the bytes trickle. On breach: closed, with 503 where it was an async "
            "`upgrade` that took too long, which is cancelled.",
        ),
    ]
    http_timeout: Annotated[
        float,
        Option(
            30.0,
            _SECONDS,
            HANDSHAKE,
            "For the async callback of an http route, from the request's last byte. On breach: 503, cancelled.",
        ),
    ]
    max_header_size: Annotated[
        int,
        Option(16 * 1024, _bytes(256, 128 * 1024), HANDSHAKE, "The whole request head. On breach: 431."),
    ]
    max_request_line: Annotated[
        int,
        Option(
            8 * 1024,
            _bytes(16, "max_header_size"),
            HANDSHAKE,
            "Method, target and version. By default no more than half of `max_header_size`. On breach: 414.",
        ),
    ]
    max_headers: Annotated[
        int,
        Option(100, _whole(1, 10_000), HANDSHAKE, "Header lines in a request. On breach: 431."),
    ]
    allowed_hosts: Annotated[
        Collection[str] | None,
        Option(
            None,
            _strings(host_mistake),
            HANDSHAKE,
            'Hosts that are served, "*.example.com" for subdomains; None is any. On breach: 403.',
        ),
    ]
    max_connections: Annotated[
        int,
        Option(
            0,
            _whole(0, 2**31 - 1),
            HOW_MANY,
            "Open connections of a server; 0 is as many as RLIMIT_NOFILE leaves. On breach: 503 with Retry-After. "
            "Plain http routes are still answered.",
        ),
    ]
    max_connections_per_ip: Annotated[
        int,
        Option(
            0,
            _whole(0, 2**31 - 1),
            HOW_MANY,
            "Open connections from one IPv4 address or one IPv6 /64; 0 is off. On breach: 503 with Retry-After.",
        ),
    ]
    max_pending_handshakes: Annotated[
        int,
        Option(
            1000,
            _whole(1, 2**31 - 1),
            HOW_MANY,
            "Sockets that are not yet, or no longer, an open connection; never more than an eighth of RLIMIT_NOFILE. "
            "On breach: the oldest is closed.",
        ),
    ]
    tcp_user_timeout: Annotated[
        float,
        Option(
            60.0,
            _number(0, 86_400, "SECONDS"),
            LIFE,
            "For the peer's system to acknowledge what ours has sent, be it only a keepalive probe, so that a peer "
            "that is gone is found even while it is not read from or not pinged; looked at four times in that time. "
            "On breach: as if it had reset.",
        ),
    ]


def _rows(options: type) -> dict[str, Option]:
    rows = {name: hint.__metadata__[0] for name, hint in get_type_hints(options, include_extras=True).items()}
    return dict(sorted(rows.items(), key=lambda row: (SECTIONS.index(row[1].section), row[0] in OF_A_ROUTE)))


#: Those that a route can set for itself.
OF_A_ROUTE = frozenset(RouteOptions.__annotations__)

#: Every option by name, in the order of the sections.
TABLE = _rows(AppOptions)

#: The deadlines.
TIMEOUTS = tuple(name for name, option in TABLE.items() if option.kind.metavar == "SECONDS")


@final
class Options:
    """The values of all options: read-only attributes. TypeError for a name that is no option's or a value of a wrong
    type, ValueError for one out of range."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    __slots__ = ("__dict__", "given")

    given: "Mapping[str, Any]"
    """What was set, by name: the others have their defaults."""

    def __init__(self, **values: "Unpack[AppOptions]") -> None:
        for name in values:
            if name not in TABLE:
                raise TypeError(unknown(name, TABLE))
        object.__setattr__(self, "given", MappingProxyType(values))
        vars(self).update({name: _default(option, values) for name, option in TABLE.items()} | values)
        for name, option in TABLE.items():
            option.kind.check(name, getattr(self, name), vars(self))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot set {name}: options do not change; an App's are given to App() or configure()")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name}: options do not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> "tuple[partial[Options], tuple[()]]":
        return partial(Options, **self.given), ()

    def __repr__(self) -> str:
        given = [(name, value) for name, value in vars(self).items() if name in self.given]
        changed = [f"{name}={value!r}" for name, value in given if value != TABLE[name].default]
        return f"Options({', '.join(changed)})"

    def replaced(self, changes: Mapping[str, Any]) -> "Options":
        """These options with some changed. Errors as from `Options()`."""
        return Options(**{**self.given, **changes}) if changes else self

    def for_route(self, changes: Mapping[str, Any]) -> "Options":
        """These options with a route's own. TypeError for one that is not a route's to set."""
        for name in changes:
            if name in TABLE and name not in OF_A_ROUTE:
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


def _default(option: Option, given: Mapping[str, Any]) -> Any:
    """What holds where the option is not set: its default, which is reduced in proportion where another option is its
    upper bound and is set to less than that one's default."""
    most = given.get(option.kind.below)
    if not isinstance(most, int):
        return option.default
    return min(option.default, most * option.default // TABLE[option.kind.below].default)


#: What other servers call our options, without prefixes "ws_" and "websocket_", and camelCase as snake_case.
_FOREIGN = {
    "allow_origins": "origins",
    "auto_ping_idle_timeout": "ping_interval",
    "auto_ping_reply_timeout": "ping_timeout",
    "backpressure_limit": "max_backpressure",
    "close_on_backpressure_limit": "slow_consumer",
    "compress": "compression",
    "cors_allowed_origins": "origins",
    "enable_auto_ping": "ping_interval",
    "h11_max_incomplete_event_size": "max_header_size",
    "heartbeat": "ping_interval",
    "idle_timeout": "ping_timeout",
    "limit_concurrency": "max_connections",
    "max_connections_per_host": "max_connections_per_ip",
    "max_frame_size": "max_message_size",
    "max_msg_size": "max_message_size",
    "max_payload": "max_message_size",
    "max_payload_length": "max_message_size",
    "max_queue": "max_waiting",
    "max_size": "max_message_size",
    "open_timeout": "handshake_timeout",
    "per_message_deflate": "compression",
    "send_pings": "ping_interval",
    "trusted_hosts": "allowed_hosts",
    "write_limit": "low_water",
}
#: Arguments of `App.start` and `App.run`, not options.
_RUNNING = ("host", "port", "uds", "uds_permissions", "sock", "loop", "backlog", "reuse_port", "shutdown_timeout")
#: What to do instead, for names that stand for no option.
_ELSEWHERE = {
    **dict.fromkeys(_RUNNING, "give it to app.run() or app.start()"),
    **dict.fromkeys(("ssl", "ssl_context", "tls", "ssl_certfile"), "there is no TLS yet: put a proxy in front"),
    **dict.fromkeys(("process_request", "verify_client", "check_origin"), "write a callback `upgrade(request)`"),
    **dict.fromkeys(("subprotocols", "protocols"), "return request.accept(subprotocol=...) from a callback `upgrade`"),
}


def unknown(name: str, known: Collection[str]) -> str:
    """What is said of a name that is none of the known ones."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    snake = snake.removeprefix("ws_").removeprefix("websocket_")
    close = [one for one in (snake, _FOREIGN.get(snake)) if one in known] or get_close_matches(name, known, 1)
    if close and snake not in _ELSEWHERE:
        return f"unknown option {name!r}: did you mean {close[0]}?"
    return f"unknown option {name!r}: " + _ELSEWHERE.get(snake, f"the options are {', '.join(sorted(known))}")
