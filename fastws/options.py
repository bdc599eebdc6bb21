"""The options: each stands here once, with its type, its default, what it may be and what it is for.

`App(...)`, the decorators, the command line's flags, the FASTWS_ variables, configuration files and docs/options.md are
all made from `TABLE`, which is made from the two TypedDicts.
"""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypedDict, final, get_type_hints

from fastws.compression import Deflate

if sys.version_info >= (3, 11):
    from typing import Unpack
elif TYPE_CHECKING:
    from typing_extensions import Unpack

#: A Python bytes object can be no longer than this.
_LARGEST = 2**63 - 1
#: In milliseconds it must fit into 32 bits.
_LONGEST = 1_000_000

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


def _judge_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, got {value!r}: give {least} to {most}")
    if not least <= value <= most:
        raise ValueError(f"{name}={value!r} is out of range: give {least} to {most}")


def _number(least: float, most: float, metavar: str) -> Kind:
    form = "a number, 20 say; 0 is off" if least == 0 else "a number, 20 say"
    return Kind(lambda name, value, options: _judge_number(name, value, least, most), float, metavar, form=form)


def _whole(least: int, most: int | str, metavar: str = "N", example: int = 100) -> Kind:
    """`most` may be the name of another option."""

    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        limit = options[most] if isinstance(most, str) else most
        if not isinstance(value, int):
            raise TypeError(f"{name} is a whole number, got {value!r}: give {least} to {limit}")
        if isinstance(most, str) and value > limit >= least:
            raise ValueError(f"{name}={value!r} is above {most}={limit!r}: lower it, or raise {most}")
        _judge_number(name, value, least, limit)

    return Kind(check, int, metavar, form=f"a whole number, {example} say")


def _bytes(least: int, most: int | str) -> Kind:
    return _whole(least, most, "BYTES", 65_536)


def _strings() -> Kind:
    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        if isinstance(value, str):
            raise TypeError(f"{name} is a collection of strings, not one string: write [{value!r}]")
        if value is not None and not (isinstance(value, Collection) and all(isinstance(one, str) for one in value)):
            raise TypeError(f"{name} is a collection of strings, or None, got {value!r}: write a list, say")

    def parse(text: str) -> list[str]:
        names = [one.strip() for one in text.split(",")]
        if "" in names:
            raise ValueError(text)
        return names

    return Kind(check, parse, "A,B", form="one, or several with commas between them, or none", optional=True)


def _choice(*choices: str | bool) -> Kind:
    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        if value not in choices:
            raise ValueError(f"{name}={value!r} is not known: give one of {', '.join(map(repr, choices))}")

    return Kind(check, str, choices=tuple(map(str, choices)))


def _compression() -> Kind:
    def check(name: str, value: object, options: Mapping[str, Any]) -> None:
        if not (value is None or isinstance(value, Deflate) or value == "deflate"):
            raise ValueError(f"{name}={value!r} is not known: give None, 'deflate' or a fastws.Deflate")

    def parse(text: str) -> str:
        if text != "deflate":
            raise ValueError(text)
        return text

    return Kind(check, parse, "none|deflate", form="none or deflate", optional=True)


_SECONDS = _number(0, _LONGEST, "SECONDS")
_RATE = _number(0, 1_000_000, "PER_SECOND")


class RouteOptions(TypedDict, total=False):
    """Options of a route, and of the App for all routes that set nothing else. Sizes in bytes, durations in seconds,
    rates per second. A duration or a rate of 0 is off; `close_timeout` is always on."""

    origins: Annotated[
        Collection[str] | None,
        Option(
            None,
            _strings(),
            HANDSHAKE,
            'Origins whose pages may connect, "*" for all; None is those of the same host. A request without Origin is '
            "not a browser's and is let in. On breach: 403.",
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
            "At or below this, reading goes on and `drain` is called.",
        ),
    ]
    max_backpressure: Annotated[
        int,
        Option(
            1024 * 1024,
            _bytes(0, _LARGEST),
            SENDING,
            "With more than this unsent, `slow_consumer` decides about a further message.",
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
            _number(0.01, _LONGEST, "SECONDS"),
            LIFE,
            "For the peer to finish the close handshake, and for its async callbacks to end; begins anew whenever it "
            "has taken 4 KiB of what was sent before. On breach: terminated, cancelled.",
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
        Option(8 * 1024, _bytes(16, "max_header_size"), HANDSHAKE, "Method, target and version. On breach: 414."),
    ]
    max_headers: Annotated[
        int,
        Option(100, _whole(1, 10_000), HANDSHAKE, "Header lines in a request. On breach: 431."),
    ]
    allowed_hosts: Annotated[
        Collection[str] | None,
        Option(
            None,
            _strings(),
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

    def __init__(self, **values: "Unpack[AppOptions]") -> None:
        for name in values:
            if name not in TABLE:
                raise TypeError(unknown(name, TABLE))
        vars(self).update({name: option.default for name, option in TABLE.items()} | values)
        for name, option in TABLE.items():
            option.kind.check(name, getattr(self, name), vars(self))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot set {name}: options do not change; an App's are given to App() or configure()")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name}: options do not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        changed = [f"{name}={value!r}" for name, value in vars(self).items() if value != TABLE[name].default]
        return f"Options({', '.join(changed)})"

    def replaced(self, changes: Mapping[str, Any]) -> "Options":
        """These options with some changed. Errors as from `Options()`."""
        return Options(**{**vars(self), **changes}) if changes else self

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


def unknown(name: str, known: Collection[str]) -> str:
    """What is said of a name that is none of the known ones."""
    close = get_close_matches(name, known, 1)
    return f"unknown option {name!r}: " + (
        f"did you mean {close[0]}?" if close else f"the options are {', '.join(sorted(known))}"
    )
