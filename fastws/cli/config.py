"""Where the value of an option comes from: a flag, a FASTWS_ variable, a file, the App, the table of options.

The first of these that says something decides. A route's own value wins over every value that is set for the App,
because its author knew what the route is for. A file can set it in a table of the route's own, [route."/path"].
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
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


def variable(name: str) -> str:
    """What an option or a setting is called in the environment."""
    return f"FASTWS_{name.upper()}"


def read_file(path: str, settings: frozenset[str]) -> dict[str, Any]:
    """The settings and options in a TOML file, and the tables of routes in "route". click.UsageError for what is wrong
    there; what values may be is judged later."""
    try:
        found: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} is no TOML: {error}") from None
    routes = found.get("route", {})
    if not isinstance(routes, dict) or not all(isinstance(own, dict) for own in routes.values()):
        raise click.UsageError(f'{path}: options of a route stand in a table of their own: [route."/path"]')
    _refuse_unknown(path, found.keys() - {"route"}, settings | OF_THE_OPERATOR.keys())
    for own in routes.values():
        _refuse_unknown(path, own.keys(), OF_THE_OPERATOR.keys() & OF_A_ROUTE)
    for values in (found, *routes.values()):
        if "compression" in values:
            values["compression"] = _compression(path, values["compression"])
    return found


def _refuse_unknown(path: str, names: Any, known: Any) -> None:
    for name in sorted(names):
        if name not in known:
            raise click.UsageError(f"{path}: {unknown(name, known)}")


def _compression(path: str, value: object) -> object:
    """In a file compression is "deflate", "none", or a table of the settings of fastws.Deflate."""
    if not isinstance(value, dict):
        return None if value == "none" else value
    _refuse_unknown(f"{path}, compression", value.keys(), {one.name for one in fields(fastws.Deflate)})
    try:
        return fastws.Deflate(**value)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"{path}, compression: {error}") from None


def look_at_environment(settings: frozenset[str]) -> list[str]:
    """Warnings about variables that are probably meant for us. Not all that begin with FASTWS_ are: for a service
    called "fastws" Kubernetes sets FASTWS_SERVICE_HOST and, of all names, FASTWS_PORT, to "tcp://10.0.0.1:80". That is
    taken out of the environment."""
    if os.environ.get("FASTWS_PORT", "").startswith(("tcp://", "udp://")):
        del os.environ["FASTWS_PORT"]
    known = {variable(name) for name in settings | OF_THE_OPERATOR.keys()}
    warnings = []
    for name in sorted(os.environ):
        if name.startswith("FASTWS_") and name not in known | SWITCHES:
            close = get_close_matches(name, known, 1, 0.9)
            if close:
                warnings.append(f"{name} is not known: did you mean {close[0]}?")
    return warnings


def source_of(context: click.Context, name: str) -> str | None:
    """Where a value was set; None for a default."""
    source = context.get_parameter_source(name)
    if source is ParameterSource.COMMANDLINE:
        return "a flag"
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
                by_app = "App()" if getattr(before, name) != option.default else "default"
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
    if value is None and name != "compression":
        return f"# {name} is not set  # {comment}"
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
