"""The command line: `fastws serve module:app`, `fastws demo`. Flags are named as uvicorn's where they mean the same."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

import fastws
from fastws.options import NAMES, Kind, Options
from fastws.serving.server import STOP_TIMEOUT

#: What uvicorn calls the same.
ALIASES = {
    "max_connections": "--limit-concurrency",
    "max_message_size": "--ws-max-size",
    "ping_interval": "--ws-ping-interval",
    "ping_timeout": "--ws-ping-timeout",
}
#: What the application's code is written for; a flag could only break it.
OF_THE_CODE = frozenset({"text", "binary", "keep_request"})


class _UserError(Exception):
    """The command line asks for what is not there: told in one line, exit code 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 if the server cannot listen, 2 for a mistake in the command."""
    parser = _make_parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.error("say what to do: `fastws serve module:app`, `fastws demo`, or `fastws --help`")
    try:
        app = _make_demo(options) if options.command == "demo" else _load_app(options.app, options.app_dir)
    except _UserError as exc:
        return _fail(2, str(exc))
    try:
        app.configure(**{name: value for name, value in vars(options).items() if name in NAMES})
    except ValueError as exc:
        return _fail(2, str(exc))
    # The application's own logging, set up while it was imported, is left as it is.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("fastws").setLevel(options.log_level.upper())
    try:
        app.run(
            host=options.host,
            port=options.port,
            loop=options.loop,
            backlog=options.backlog,
            shutdown_timeout=options.timeout_graceful_shutdown,
        )
    except (OSError, ImportError) as exc:
        return _fail(1, f"cannot serve on {options.host} port {options.port}: {getattr(exc, 'strerror', None) or exc}")
    return 0


def _fail(code: int, message: str) -> int:
    print(f"fastws: {message}", file=sys.stderr)
    return code


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastws", description="A WebSocket server.")
    parser.add_argument("--version", action="version", version=f"fastws {fastws.__version__}")
    commands = parser.add_subparsers(dest="command")
    serve = _add_command(commands, "serve", "serve an application")
    serve.add_argument("app", metavar="module:app", help="where the fastws.App is")
    serve.add_argument("--app-dir", metavar="DIR", default=".", help="where to look for the module first")
    _add_command(commands, "demo", "serve a page with a chat room and an echo meter")
    return parser


def _add_command(commands: "argparse._SubParsersAction[_Parser]", name: str, what: str) -> _Parser:
    """A command that serves, with the flags that say where and how."""
    command = commands.add_parser(name, help=what, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on")
    command.add_argument("--port", type=_port, default=8765, help="port to listen on; 0 takes a free one")
    command.add_argument("--loop", choices=("auto", "uvloop", "asyncio"), default="auto", help="event loop")
    command.add_argument("--backlog", type=_positive, default=4096, help="connections that wait to be accepted")
    command.add_argument(
        "--log-level", choices=("critical", "error", "warning", "info", "debug"), default="info", help="what to tell"
    )
    command.add_argument(
        "--timeout-graceful-shutdown",
        metavar="SECONDS",
        type=_seconds,
        default=STOP_TIMEOUT,
        help="how long connections may take to close when the server stops",
    )
    limits = command.add_argument_group(
        "options of the app", "Instead of those given to its App(); what a route sets for itself stays."
    )
    for one in fields(Options):
        if one.name not in OF_THE_CODE:
            kind: Kind = one.metadata["kind"]
            limits.add_argument(
                f"--{one.name.replace('_', '-')}",
                *([ALIASES[one.name]] if one.name in ALIASES else []),
                dest=one.name,
                type=kind.parse,
                choices=kind.choices or None,
                metavar=kind.metavar or None,
                default=argparse.SUPPRESS,
                help=f"{one.metadata['what']} (default: the app's, or {one.default})",
            )
    return command


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 0 to 65535")


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 2**31:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds < float("inf"):
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")


def _make_demo(options: argparse.Namespace) -> fastws.App:
    from fastws.demo import app

    host = f"[{options.host}]" if ":" in options.host else options.host
    print("Open the address below in a browser: a chat room and an echo meter. Ctrl-C ends it.")
    print("The echo from a command line:  pip install websockets")
    print(f"  python -m websockets ws://{host}:{options.port or 'PORT'}/echo", flush=True)
    return app


def _load_app(name: str, app_dir: str) -> fastws.App:
    module_name, _, attributes = name.partition(":")
    if not module_name or not attributes or not all(module_name.split(".")):
        raise _UserError(f"{name!r} does not name an application: write module:app")
    sys.path.insert(0, os.path.abspath(app_dir))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        # Only if it is the module itself, or a package it is in; what it imports in turn keeps its traceback.
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        raise _UserError(f"there is no module {exc.name!r} in {os.path.abspath(app_dir)} or on sys.path") from None
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise _UserError(f"module {module_name!r} has no {attributes!r}") from None
    if not isinstance(found, fastws.App):
        raise _UserError(f"{name!r} is a {type(found).__name__}, not a fastws.App")
    return found
