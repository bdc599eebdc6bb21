"""The options: defaults, limits, and what is said about a value that is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

import fastws
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
    "slow_consumer": "close",
    "send_timeout": 10,
    "close_timeout": 5,
    "text": "str",
    "binary": "bytes",
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


def test_defaults() -> None:
    assert vars(Options()) == DEFAULTS


def test_every_option_is_judged_here() -> None:
    judged = {*INTS, *CHOICES, *NUMBERS, "origins", "allowed_hosts", "keep_request", "compression"}
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
            assert str(caught.value) == f"{name}={value} is above {above}={most}: lower it, or raise {above}"
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


def test_keep_request_is_a_bool() -> None:
    assert Options(keep_request=True).keep_request is True
    with pytest.raises(ValueError, match="keep_request='no' is not known: give one of False, True"):
        Options(keep_request="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["origins", "allowed_hosts"])
def test_collections_of_strings(name: str) -> None:
    accepted: list[Any] = [None, [], ["*"], ("a", "b"), {"a"}, frozenset("a"), {"a": 1}.keys()]
    for value in accepted:
        assert getattr(Options(**{name: value}), name) is value
    with pytest.raises(TypeError, match=rf"^{name} is a collection of strings, not one string: write \['x'\]$"):
        Options(**{name: "x"})  # type: ignore[arg-type]
    wrong: list[Any] = [b"x", [b"x"], 5, [None], iter(["x"]), True]
    for value in wrong:
        with pytest.raises(TypeError, match=f"^{name} is a collection of strings, or None, got "):
            Options(**{name: value})


def test_limits_that_depend_on_each_other() -> None:
    assert Options(high_water=5, low_water=5).low_water == 5
    with pytest.raises(ValueError, match="low_water=6 is above high_water=5: lower it, or raise high_water"):
        Options(high_water=5, low_water=6)
    with pytest.raises(ValueError, match="max_request_line=301 is above max_header_size=300: lower it"):
        Options(max_header_size=300, max_request_line=301)


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
    with pytest.raises(ValueError, match="low_water=16384 is above high_water=10: lower it"):
        Options().for_route({"high_water": 10})


def test_shortest_timeout() -> None:
    off: dict[str, Any] = dict.fromkeys(TIMEOUTS, 0.0)
    assert Options(**{**off, "close_timeout": 3}).shortest_timeout() == 3
    assert Options().shortest_timeout() == 5
    for name in TIMEOUTS:
        short: dict[str, Any] = {name: 0.02}
        assert Options(**short).shortest_timeout() == 0.02
