"""The options: defaults, limits, and what is said about a value that is wrong."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import fastws
from fastws import options
from fastws.options import OF_A_ROUTE, TABLE, TIMEOUTS, Options

DEFAULTS = {
    "handshake_timeout": 10,
    "http_timeout": 30,
    "max_header_size": 16 << 10,
    "max_headers": 100,
    "max_request_line": 8 << 10,
    "origins": None,
    "allowed_hosts": None,
    "max_message_size": 1 << 20,
    "max_fragments": 16_384,
    "message_timeout": 60,
    "ping_interval": 20,
    "ping_timeout": 20,
    "high_water": 64 << 10,
    "low_water": 16 << 10,
    "max_backpressure": 1 << 20,
    "max_burst": 16 << 20,
    "slow_consumer": "close",
    "send_timeout": 10,
    "close_timeout": 5,
    "text": "str",
    "binary": "bytes",
    "cancel_on_disconnect": True,
    "keep_request": False,
    "max_waiting": 16,
    "max_topics": 1024,
    "max_connections": 0,
    "max_connections_per_ip": 0,
    "max_pending_handshakes": 1000,
    "max_message_rate": 0,
    "max_control_rate": 100,
    "tcp_user_timeout": 60,
    "compression": None,
}

LARGEST = 2**63 - 1
INTS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "max_header_size": (256, 131_072, {"max_request_line": 16}),
    "max_request_line": (16, 16_384, {}),
    "max_headers": (1, 10_000, {}),
    "max_message_size": (0, LARGEST, {}),
    "max_fragments": (1, 2**32 - 1, {}),
    "max_waiting": (1, 1_000_000, {}),
    "max_topics": (0, 65_536, {}),
    "high_water": (0, LARGEST, {"low_water": 0}),
    "low_water": (0, 65_536, {}),
    "max_backpressure": (0, LARGEST, {}),
    "max_burst": (0, LARGEST, {}),
    "max_connections": (0, 2**31 - 1, {}),
    "max_connections_per_ip": (0, 2**31 - 1, {}),
    "max_pending_handshakes": (1, 2**31 - 1, {}),
}
NUMBERS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(TIMEOUTS, (0, 1000000)),
    "close_timeout": (0.01, 1_000_000),
    "tcp_user_timeout": (0, 86_400),
    "max_message_rate": (0, 1_000_000),
    "max_control_rate": (0, 1_000_000),
}
CHOICES = {"text": ["str", "utf8"], "binary": ["bytes", "view"], "slow_consumer": ["close", "drop"]}
FLAGS = ["keep_request", "cancel_on_disconnect"]


def test_defaults() -> None:
    assert vars(Options()) == DEFAULTS


def test_every_option_is_judged_here() -> None:
    judged = {*INTS, *CHOICES, *NUMBERS, "origins", "allowed_hosts", *FLAGS, "compression"}
    assert judged == set(TABLE)


@pytest.mark.parametrize("name", INTS)
def test_sizes_and_counts(name: str) -> None:
    least, most, others = INTS[name]
    for value in (least, most):
        given: dict[str, Any] = {**others, name: value}
        assert getattr(Options(**given), name) == value
        fastws.App(**given).websocket("/")(print)  # the core takes it, too
    for value in (least - 1, most + 1, -(2**70), 2**70):
        with pytest.raises(ValueError) as caught:
            Options(**{**others, name: value})
        above = {"low_water": "high_water", "max_request_line": "max_header_size"}.get(name)
        if above and value > most:
            assert str(caught.value) == (
                f"{name}={value} is above {above}={most}, its default: lower {name}, or raise {above}"
            )
        else:
            assert str(caught.value) == f"{name}={value} is out of range: give {least} to {most}"
    wrong: list[Any] = [1.0, float(most), math.nan, "1", None, True, b"1"]
    for value in wrong:
        with pytest.raises(TypeError, match=rf"^{name} is a (whole )?number, got .*: give {least} to {most}$"):
            Options(**{**others, name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_durations_and_rates(name: str) -> None:
    least, most = NUMBERS[name]
    for value in (least, 0.01, 1, most):
        given: dict[str, Any] = {name: value}
        assert getattr(Options(**given), name) == value
        fastws.App(**given).websocket("/")(print)
    for value in (-1, -1e-9, most + 1, math.inf, -math.inf, math.nan):
        given = {name: value}
        with pytest.raises(ValueError) as caught:
            Options(**given)
        assert str(caught.value) == f"{name}={value!r} is out of range: give {least} to {most}"
    wrong: list[Any] = ["1", None, True]
    for value in wrong:
        with pytest.raises(TypeError, match=f"^{name} is a number, got {value!r}: give "):
            Options(**{name: value})


def test_close_timeout_is_always_on() -> None:
    with pytest.raises(ValueError, match=r"close_timeout=0 is out of range: give 0\.01 to"):
        Options(close_timeout=0)


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str) -> None:
    for value in CHOICES[name]:
        assert getattr(Options(**{name: value}), name) == value  # type: ignore[arg-type]
    wrong: list[Any] = ["other", "", None, 1, CHOICES[name]]
    for value in wrong:
        with pytest.raises(ValueError) as caught:
            Options(**{name: value})
        known = ", ".join(map(repr, CHOICES[name]))
        assert str(caught.value) == f"{name}={value!r} is not known: give one of {known}"


def test_compression() -> None:
    assert Options().deflate is None
    assert Options(compression="deflate").deflate == fastws.Deflate()
    assert Options(compression=fastws.Deflate(level=9)).deflate == fastws.Deflate(level=9)
    for wrong in ("gzip", True, 9, {"level": 1}):
        with pytest.raises(ValueError, match=r"compression=.* is not known: give None, 'deflate' or a fastws.Deflate"):
            Options(compression=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_bools(name: str) -> None:
    for value in (False, True):
        assert getattr(Options(**{name: value}), name) is value  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name}='no' is not known: give one of False, True"):
        Options(**{name: "no"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["origins", "allowed_hosts"])
def test_collections_of_strings(name: str) -> None:
    one, other = ("http://a", "https://b:81") if name == "origins" else ("a", "*.b:81")
    accepted: list[Any] = [None, [], ["*"], (one, other), {one}, frozenset([one]), {one: 1}.keys()]
    for value in accepted:
        assert getattr(Options(**{name: value}), name) is value
    with pytest.raises(TypeError, match=rf"^{name} is a collection of strings, not one string: write \['x'\]$"):
        Options(**{name: "x"})  # type: ignore[arg-type]
    wrong: list[Any] = [b"x", b"", bytearray(), [b"x"], 5, [None], iter([one]), (x for x in [one]), True, {one: 1}]
    for value in wrong:
        with pytest.raises(TypeError, match=f"^{name} is a collection of strings, or None, got "):
            Options(**{name: value})


def test_limits_that_depend_on_each_other() -> None:
    assert Options(high_water=5, low_water=5).low_water == 5
    with pytest.raises(ValueError, match="low_water=6 is above high_water=5: lower low_water, or raise high_water"):
        Options(high_water=5, low_water=6)
    with pytest.raises(ValueError, match="max_request_line=301 is above max_header_size=300: lower max_"):
        Options(max_header_size=300, max_request_line=301)


@pytest.mark.parametrize(
    ("name", "most", "values"),
    [
        ("low_water", "high_water", {0: 0, 10: 2, 20_000: 5000, 65_536: 16_384, 1 << 30: 16_384}),
        ("max_request_line", "max_header_size", {256: 128, 10_000: 5000, 16_384: 8192, 131_072: 8192}),
    ],
)
def test_a_limit_of_which_only_the_larger_one_is_set(name: str, most: str, values: dict[int, int]) -> None:
    """Nothing is said about an option that was not set: it keeps its proportion."""
    for value, expected in values.items():
        given: dict[str, Any] = {most: value}
        assert getattr(Options(**given), name) == expected
        fastws.App(**given).websocket("/")(print)
    wrong: list[Any] = [-1, "1", None, 2**70]
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match=f"^{most}.* (is out of range|is a whole number)"):
            Options(**{most: value})


def test_what_is_not_set_stays_so() -> None:
    options = Options(high_water=1000, max_topics=5)
    assert options.given == {"high_water": 1000, "max_topics": 5}
    assert (options.low_water, repr(options)) == (250, "Options(high_water=1000, max_topics=5)")
    assert options.for_route({"high_water": 2000}).low_water == 500
    assert options.replaced({"high_water": 1 << 20}).low_water == 16_384
    with pytest.raises(ValueError, match="low_water=300 is above high_water=100: "):
        options.replaced({"low_water": 300}).for_route({"high_water": 100})
    for same in (copy.copy(options), copy.deepcopy(options), pickle.loads(pickle.dumps(options))):
        assert (same, same.given) == (options, options.given)


def test_options_do_not_change() -> None:
    options = Options()
    for name in ("text", "max_mesage_size"):
        with pytest.raises(AttributeError, match=f"cannot set {name}: options do not change"):
            setattr(options, name, "utf8")
        with pytest.raises(AttributeError):
            delattr(options, name)
    with pytest.raises(TypeError):
        Options(1)  # type: ignore[arg-type, call-arg]
    assert options == Options() != Options(text="utf8")
    assert repr(Options(text="utf8", max_topics=5)) == "Options(text='utf8', max_topics=5)"


def test_for_route() -> None:
    app = Options(max_fragments=7, text="utf8")
    route = app.for_route({"text": "str", "ping_interval": 0})
    assert vars(route) == {**DEFAULTS, "max_fragments": 7, "ping_interval": 0}
    assert app.text == "utf8"
    assert app.for_route({}) == app


@pytest.mark.parametrize("name", sorted(TABLE.keys() - OF_A_ROUTE))
def test_for_route_refuses_what_is_the_apps(name: str) -> None:
    with pytest.raises(TypeError) as caught:
        Options().for_route({name: DEFAULTS[name]})
    assert str(caught.value) == f"{name} is an option of the whole App, not of one route: give it to App()"
    assert vars(Options().replaced({name: DEFAULTS[name]})) == DEFAULTS


@pytest.mark.parametrize("change", [Options().for_route, Options().replaced, lambda changes: fastws.App(**changes)])
def test_unknown_names(change: Any) -> None:
    with pytest.raises(TypeError) as caught:
        change({"max_mesage_size": 5})
    assert str(caught.value) == "unknown option 'max_mesage_size': did you mean max_message_size?"
    with pytest.raises(TypeError) as caught:
        change({"colour": 5})
    assert str(caught.value) == f"unknown option 'colour': the options are {', '.join(sorted(DEFAULTS))}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("max_size", "did you mean max_message_size?"),
        ("max_msg_size", "did you mean max_message_size?"),
        ("ws_max_size", "did you mean max_message_size?"),
        ("websocket_max_message_size", "did you mean max_message_size?"),
        ("maxPayloadLength", "did you mean max_message_size?"),
        ("maxMessageSize", "did you mean max_message_size?"),
        ("max_frame_size", "did you mean max_message_size?"),
        ("max_queue", "did you mean max_waiting?"),
        ("ws_max_queue", "did you mean max_waiting?"),
        ("open_timeout", "did you mean handshake_timeout?"),
        ("heartbeat", "did you mean ping_interval?"),
        ("ws_ping_interval", "did you mean ping_interval?"),
        ("enable_auto_ping", "did you mean ping_interval?"),
        ("idleTimeout", "did you mean ping_timeout?"),
        ("backpressureLimit", "did you mean max_backpressure?"),
        ("perMessageDeflate", "did you mean compression?"),
        ("limit_concurrency", "did you mean max_connections?"),
        ("cors_allowed_origins", "did you mean origins?"),
        ("port", "give it to app.run() or app.start()"),
        ("uds_permissions", "give it to app.run() or app.start()"),
        ("ssl", "there is no TLS yet: put a proxy in front"),
        ("subprotocols", "return request.accept(subprotocol=...) from a callback `upgrade`"),
        ("process_request", "write a callback `upgrade(request)`"),
    ],
)
def test_names_of_other_servers(name: str, said: str) -> None:
    wrong: dict[str, Any] = {name: 5}
    for give in (fastws.App, fastws.App().configure, lambda **options: fastws.App().websocket("/", **options)):
        with pytest.raises(TypeError) as caught:
            give(**wrong)
        assert str(caught.value) == f"unknown option {name!r}: {said}"


def test_names_of_others_lead_to_ours() -> None:
    assert not options._FOREIGN.keys() & TABLE.keys() and set(options._FOREIGN.values()) <= TABLE.keys()
    assert not options._ELSEWHERE.keys() & TABLE.keys()
    running = inspect.signature(fastws.App.run).parameters.keys() - {"self"}
    assert running <= options._ELSEWHERE.keys()


class LikeAnInt:
    """As a number of numpy's, which is no int and may look like one."""

    def __index__(self) -> int:
        return 5

    def __repr__(self) -> str:
        return "5"


@pytest.mark.parametrize("value", [LikeAnInt(), Decimal(5), Fraction(5), 5j])
def test_numbers_of_other_types(value: Any) -> None:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    for name, what in (("max_topics", "a whole number"), ("ping_interval", "a number")):
        with pytest.raises(TypeError) as caught:
            Options(**{name: value})
        assert f"{name} is {what}, got {value!r} (of type {kind}): give 0 to " in str(caught.value)


def test_none_for_off() -> None:
    """As websockets and picows have it."""
    wrong: dict[str, Any] = {"ping_interval": None}
    with pytest.raises(TypeError, match=r"^ping_interval is a number, got None: give 0, which is off$"):
        Options(**wrong)


def test_a_number_for_a_choice() -> None:
    wrong: list[Any] = [1, 0, 1.0, None]
    for value in wrong:
        with pytest.raises(ValueError, match=f"keep_request={value} is not known: give one of False, True"):
            Options(keep_request=value)


def test_type_checkers_know_the_names() -> None:
    """mypy, which checks the tests, complains about an ignored error that is none: it must find these three."""
    app = fastws.App(max_message_size=1)
    app.websocket("/x", ping_interval=5)(print)
    app.configure("/x", ping_timeout=1)
    with pytest.raises(TypeError):
        fastws.App(max_mesage_size=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        app.websocket("/x", ping_intreval=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        app.configure("/x", ping_timeuot=1)  # type: ignore[call-arg]


def test_a_route_is_judged_like_the_app() -> None:
    with pytest.raises(ValueError, match="low_water=16384 is above high_water=10: lower low_water"):
        Options(low_water=16_384).for_route({"high_water": 10})


def test_shortest_timeout() -> None:
    off: dict[str, Any] = dict.fromkeys(TIMEOUTS, 0.0)
    assert Options(**{**off, "close_timeout": 3}).shortest_timeout() == 3
    assert Options().shortest_timeout() == 5
    for name in TIMEOUTS:
        short: dict[str, Any] = {name: 0.02}
        assert Options(**short).shortest_timeout() == 0.02
