"""Where the value of an option comes from: a flag, a FASTWS_ variable, a file, the App, the table of options.

The first of these that says something decides. A route's own value wins over every value that is set for the App,
because its author knew what the route is for. A file can set it in a table of the route's own, [route."/path"].
"""

import json
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import click
from click.core import ParameterSource

import fastws
from fastws.options import OF_A_ROUTE, SECTIONS, TABLE, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Variables that are no options, and no option may be called like one: FASTWS_SIMD chooses the kernels, FASTWS_STRICT
#: makes warnings of a build errors; the others are for what is to come.
SWITCHES = frozenset({"FASTWS_SIMD", "FASTWS_STRICT", "FASTWS_TLS", "FASTWS_RING"})

#: Those that an operator can set.
OF_THE_OPERATOR = {name: option for name, option in TABLE.items() if not option.of_the_code}
OF_THE_CODE = TABLE.keys() - OF_THE_OPERATOR.keys()

#: The flags that uvicorn calls otherwise: its names are taken, too. In files and variables they are not.
ALIASES = {
    "max_connections": "--limit-concurrency",
    "max_message_size": "--ws-max-size",
    "ping_interval": "--ws-ping-interval",
    "ping_timeout": "--ws-ping-timeout",
    "shutdown_timeout": "--timeout-graceful-shutdown",
}
#: "ws_max_size" and the others, each with our name.
_OURS = {alias.removeprefix("--").replace("-", "_"): name for name, alias in ALIASES.items()}


def flag(name: str) -> str:
    """What an option or a setting is called in a command."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """What an option or a setting is called in the environment."""
    return f"FASTWS_{name.upper()}"


A_FLAG = "a flag"

#: What a file may have: 1 MiB, in integers the 64 bits of TOML, and tables as deep as a route's compression.
_LARGEST_FILE = 1024 * 1024
_INTEGERS = range(-(2**63), 2**63)
_DEEPEST = 4

_TYPES_IN_A_FILE = {
    str: ("a string", (str,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    object: ("an octal number, 0o660 say", (int, str)),  # permissions
}


def read_file(path: str, settings: Mapping[str, type]) -> dict[str, Any]:
    """The settings and options in a TOML file, and the tables of routes in "route". `settings` has the type of each.
    click.UsageError for unknown names and wrong types; ranges are judged later, together with flags and variables."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise click.UsageError(f"{path} is larger than 1 MiB: that is no configuration")
        found: dict[str, Any] = tomllib.loads(data.decode())
        _refuse_extremes(found)
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise click.UsageError(f"{path} is nested too deeply") from None
    except ValueError as error:  # also of int(), for more digits than it takes
        raise click.UsageError(f"{path} is no TOML: {error}") from None
    routes = found.get("route", {})
    if not isinstance(routes, dict) or not all(isinstance(own, dict) for own in routes.values()):
        raise click.UsageError(f'{path}: options of a route stand in a table of their own: [route."/path"]')
    top = {*settings, *OF_THE_OPERATOR}
    _refuse_unknown(path, found, top | {"route"})
    for route, own in routes.items():
        if misplaced := sorted(own.keys() & top - OF_A_ROUTE):
            raise click.UsageError(
                f"{misplaced[0]} is not an option of one route: write it above the tables of routes "
                f"(in {place_of_route(path, route)})"
            )
        _refuse_unknown(place_of_route(path, route), own, OF_THE_OPERATOR.keys() & OF_A_ROUTE)
    for where, values in ((path, found), *((place_of_route(path, route), own) for route, own in routes.items())):
        for name, value in values.items():
            if name == "compression":
                values[name] = _compression(where, value)
            elif name != "route":
                _judge_type(where, name, value, settings.get(name))
    for own in routes.values():
        for name, value in own.items():
            if TABLE[name].kind.means_none(value):  # at the top of the file it is read as a flag is
                own[name] = None
    return found


def place_of_route(path: str, route: str) -> str:
    """The table of a route in a file."""
    return f"{path}, [route.{_toml(route)}]"


def _refuse_extremes(value: object, depth: int = 0) -> None:
    """RecursionError or ValueError for what cannot be converted, nor be shown in a message."""
    if isinstance(value, dict | list):
        if depth > _DEEPEST:
            raise RecursionError
        for one in value.values() if isinstance(value, dict) else value:
            _refuse_extremes(one, depth + 1)
    elif isinstance(value, int) and value not in _INTEGERS:
        raise ValueError("an integer has more than 64 bits")


def _judge_type(where: str, name: str, value: object, setting: type | None) -> None:
    """click.UsageError for a value of a file that has not the type of the setting, or else of the option."""
    if setting is None and OF_THE_OPERATOR[name].kind.means_none(value):
        return
    try:
        if setting is None:
            if isinstance(value, dict):
                raise TypeError(f"{name} is not a table, got {value!r}")
            OF_THE_OPERATOR[name].kind.check(name, value, vars(fastws.Options()))
        else:
            what, types = _TYPES_IN_A_FILE[setting]
            if type(value) not in types:  # and a bool is no int
                raise TypeError(f"{name} is {what}, got {value!r}")
            # A NUL at the start of a Unix socket's name makes an abstract one.
            if isinstance(value, str) and "\0" in value and not (name == "uds" and value[0] == "\0"):
                raise TypeError(f"{name} cannot have a NUL in it, got {value!r}")
    except TypeError as error:
        raise click.UsageError(f"{error} (in {where})") from None
    except ValueError:
        pass  # the range may depend on flags and variables


def _refuse_unknown(where: str, names: Collection[str], known: Collection[str]) -> None:
    for name in sorted(names):
        if name in known:
            continue
        if name in OF_THE_CODE:
            raise click.UsageError(f"{where}: {_only_in_code(name)}")
        if name in _OURS:
            raise click.UsageError(f"{where}: unknown option {name!r}: did you mean {_OURS[name]}?")
        raise click.UsageError(f"{where}: {unknown(name, known)}")


def _only_in_code(name: str) -> str:
    return f"{name} is for the code alone to set, which is written for it: give it to App() or websocket()"


def _compression(path: str, value: object) -> object:
    """In a file compression is "deflate", "none", or a table of the settings of fastws.Deflate."""
    if not isinstance(value, dict):
        if value != "deflate" and not TABLE["compression"].kind.means_none(value):
            right = "'none', 'deflate' or a table like { level = 6 }"
            raise click.UsageError(f"compression={value!r} is not known: give {right} (in {path})")
        return value
    _refuse_unknown(f"{path}, compression", value, {one.name for one in fields(fastws.Deflate)})
    try:
        return fastws.Deflate(**value)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"{path}, compression: {error}") from None


def look_at_environment(settings: Collection[str]) -> list[str]:
    """What is wrong with variables that are probably meant for us. Not all that begin with FASTWS_ are: for a service
    called "fastws" Kubernetes sets FASTWS_SERVICE_HOST and, of all names, FASTWS_PORT, to "tcp://10.0.0.1:80". That is
    taken out of the environment."""
    if os.environ.get("FASTWS_PORT", "").startswith(("tcp://", "udp://")):
        del os.environ["FASTWS_PORT"]
    known = {variable(name) for name in (*settings, "config", *OF_THE_OPERATOR)}
    of_the_code = {variable(name): name for name in OF_THE_CODE}
    ours = {variable(alias): [variable(name)] for alias, name in _OURS.items()}
    mistakes = []
    for name in sorted(os.environ):
        if not name.startswith("FASTWS_") or name in known | SWITCHES:
            continue
        if name in of_the_code:
            mistakes.append(f"{name}: {_only_in_code(of_the_code[name])}")
        elif close := ours.get(name) or get_close_matches(name, known, 1, 0.9):
            mistakes.append(f"{name} is not known: did you mean {close[0]}?")
    return mistakes


def source_of(context: click.Context, name: str) -> str | None:
    """Where a value was set; None for a default."""
    source = context.get_parameter_source(name)
    if source is ParameterSource.COMMANDLINE:
        return A_FLAG
    if source is ParameterSource.ENVIRONMENT:
        return variable(name)
    if source is ParameterSource.DEFAULT_MAP:
        return str(context.params["config"])
    return None


def describe(app: fastws.App, before: fastws.Options, context: click.Context, settings: Mapping[str, Any]) -> str:
    """All settings and options as a TOML file, with where each comes from. `before`: the App's options by itself."""
    lines = ["# Running"]
    for name, value in settings.items():
        lines.append(_line(name, value, source_of(context, name) or "default"))
    for section in SECTIONS:
        lines += ["", f"# {section}"]
        for name, option in OF_THE_OPERATOR.items():
            if option.section == section:
                by_app = "App()" if before.given.get(name, option.default) != option.default else "default"
                if name not in app.options.given and getattr(app.options, name) != option.default:
                    by_app = f"default, by {option.kind.below}"
                lines.append(_line(name, getattr(app.options, name), source_of(context, name) or by_app))
    in_file = (context.default_map or {}).get("route", {})
    for path, own in app.routes.items():
        if shown := {name: value for name, value in own.items() if name in OF_THE_OPERATOR}:
            lines += ["", f"[route.{_toml(path)}]"]
            for name, value in shown.items():
                by_file = name in in_file.get(path, {})
                lines.append(_line(name, value, str(context.params["config"]) if by_file else "websocket()"))
    return "\n".join(lines) + "\n"


def _line(name: str, value: object, source: str) -> str:
    comment = repr(source)[1:-1]  # a file's name may have a newline
    if value is None and name not in TABLE:
        return f"# {name} is not set"
    if name == "uds_permissions":
        return f"{name} = {value:#o}  # {comment}"
    return f"{name} = {_toml(value)}  # {comment}"


def _toml(value: object) -> str:
    if isinstance(value, fastws.Deflate):
        return "{ " + ", ".join(f"{one.name} = {_toml(getattr(value, one.name))}" for one in fields(value)) + " }"
    if value is None:
        return '"none"'
    if isinstance(value, bool | int | float | str):
        # Of JSON's strings TOML refuses two things: surrogate pairs in escapes, and a bare U+007F.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(_toml(one) for one in sorted(value))}]"  # type: ignore[call-overload]  # strings
