"""The commands."""

import logging
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

import fastws
from fastws.cli import config
from fastws.cli.config import A_FLAG, ALIASES, OF_THE_OPERATOR, flag, place_of_route, source_of, variable
from fastws.cli.loading import load_app
from fastws.options import SECTIONS, TABLE, Kind
from fastws.running import runner
from fastws.serving.lifespan import is_of_lifespan
from fastws.serving.server import STOP_TIMEOUT
from fastws.serving.sockets import LARGEST_BACKLOG, judge_address, judge_permissions

RUNNING = "Running"


class _Flag(click.Option):
    """A flag, a FASTWS_ variable and a name in a file, in a section of the help."""

    def __init__(self, name: str, section: str, **settings: Any) -> None:
        aliases = [ALIASES[name]] if name in ALIASES else []
        super().__init__([flag(name), *aliases, name], envvar=variable(name), **settings)
        self.section = section

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            return super().type_cast_value(ctx, value)
        except click.BadParameter as error:  # it names the flag
            source = source_of(ctx, str(self.name))
            if source == A_FLAG:
                raise
            raise click.BadParameter(f"{error.message.rstrip('.')} (in {source})", error.ctx, error.param) from None


class _Parsed(click.ParamType):  # type: ignore[type-arg]  # it is generic only in recent ones
    """What a Kind of option parses. What a file has is of some type already, and is judged with all the others."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.metavar
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if self._kind.means_none(value):
            return None
        try:
            return self._kind.parse(value)
        except ValueError:
            self.fail(f"{value!r} is not {self.name}: give {self._kind.form}", param, ctx)


class _Whole(click.IntRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a valid integer: give {self.min} to {self.max}", param, ctx)
        whole: int = super().convert(number, param, ctx)
        return whole


class _Seconds(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a valid float: give seconds, {self.min} to {self.max}", param, ctx)
        if math.isnan(number):  # it is in every range
            self.fail(f"{value} is no number of seconds", param, ctx)
        seconds: float = super().convert(number, param, ctx)
        return seconds


class _Path(click.ParamType):  # type: ignore[type-arg]  # it is generic only in recent ones
    name = "PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("'' is no path: give that of a Unix socket", param, ctx)
        return str(value)


class _Octal(click.ParamType):  # type: ignore[type-arg]  # it is generic only in recent ones
    name = "OCTAL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            mode = value if isinstance(value, int) else int(value, 8)  # TOML has octal numbers
        except ValueError:
            self.fail(f"{value!r} is no octal number: give 660, say", param, ctx)
        if not 0 <= mode <= 0o777:
            right = f"write 0o{value} or '{value}'" if value is mode else "give three digits, 660 say"
            self.fail(f"{value!r} is not in the range: {right}", param, ctx)
        return mode


class _Command(click.Command):
    """Its help has the options in their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in ("", RUNNING, *SECTIONS):
            flags = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
            shown = [one for one in flags if getattr(one, "section", "") == section]
            if rows := [row for one in shown if (row := one.get_help_record(ctx))]:
                with formatter.section(section or "Options"):
                    formatter.write_dl(rows)


def _read_config(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    if path is not None:
        ctx.default_map = config.read_file(path, SETTINGS)
    return path


def _running() -> list[click.Parameter]:
    return [
        _Flag("host", RUNNING, default="127.0.0.1", show_default=True, help="Address to listen on."),
        _Flag(
            "port",
            RUNNING,
            type=_Whole(0, 65535),
            metavar="N",
            default=8765,
            show_default=True,
            help="Port to listen on; 0 takes a free one.",
        ),
        _Flag("uds", RUNNING, type=_Path(), metavar="PATH", help="Unix socket to listen on instead."),
        _Flag(
            "uds_permissions",
            RUNNING,
            type=_Octal(),
            metavar="OCTAL",
            help="Who may connect to the Unix socket, 660 or 666 say: who may write. Without it what the umask leaves, "
            "mostly your own user.",
        ),
        _Flag(
            "loop",
            RUNNING,
            type=click.Choice(["auto", "uvloop", "asyncio"]),
            default="auto",
            show_default=True,
            help="Event loop.",
        ),
        _Flag(
            "backlog",
            RUNNING,
            type=_Whole(1, LARGEST_BACKLOG),
            metavar="N",
            default=4096,
            show_default=True,
            help="Connections that wait to be accepted.",
        ),
        _Flag(
            "log_level",
            RUNNING,
            type=click.Choice(["critical", "error", "warning", "info", "debug"]),
            default="info",
            show_default=True,
            help="What to tell; of all loggers where the application configures none.",
        ),
        _Flag(
            "shutdown_timeout",
            RUNNING,
            type=_Seconds(0, 1_000_000),
            metavar="SECONDS",
            default=STOP_TIMEOUT,
            show_default=True,
            help="How long connections may take to close when the server stops; 0 ends them at once.",
        ),
    ]


#: What is said of a process rather than of an App, and of which type it is in a file.
SETTINGS: dict[str, type] = {
    "app": str,
    "app_dir": str,
    **{str(one.name): {_Whole: int, _Seconds: float, _Octal: object}.get(type(one.type), str) for one in _running()},
}


def _options(default: str) -> list[click.Parameter]:
    """A flag for each option. Without one, what the App says holds."""
    return [
        _Flag(
            name,
            option.section,
            type=click.Choice(option.kind.choices) if option.kind.choices else _Parsed(option.kind),
            metavar=option.kind.metavar or None,
            help=f"{option.what}  [default: {default}{option.default}]".replace("None", "none"),
        )
        for name, option in OF_THE_OPERATOR.items()
    ]


def _serving(
    name: str,
    what: str,
    load: Callable[..., fastws.App],
    greet: Callable[[fastws.Server], object],
    *parameters: click.Parameter,
) -> _Command:
    """A command that serves the App that load() returns, and greets once that listens."""
    of_the_user = name == "serve"
    app = ", that before what the application gives to its App()" if of_the_user else ""
    file = click.Option(
        ["--config"],
        metavar="FILE",
        is_eager=True,
        callback=_read_config,
        envvar=variable("config"),
        help='A TOML file with the options; those of a route in tables [route."/path"].',
    )
    check = click.Option(["--check-config"], is_flag=True, help="Say whether all is right, and do not serve.")
    show = click.Option(["--print-config"], is_flag=True, help="Show every option and who set it; do not serve.")
    return _Command(
        name,
        # Not yet called: click would take an EOFError or a KeyboardInterrupt of the user's module for its own.
        callback=click.pass_context(lambda ctx, **given: partial(_serve, ctx, load, greet, given)),
        params=[*parameters, file, check, show, *_running(), *_options("the App's, or " if of_the_user else "")],
        help=f"{what}\n\nEach option is also a variable, FASTWS_MAX_MESSAGE_SIZE say. A flag comes before a variable, "
        f"that before a file{app}. What a route sets for itself stays. Of a flag with two names, the second is "
        "uvicorn's. A duration or a rate of 0 is off.",
    )


def _serve(
    ctx: click.Context,
    load: Callable[..., fastws.App],
    greet: Callable[[fastws.Server], object],
    given: dict[str, Any],
) -> int:
    app = load(given)
    before = app.options
    with _blaming(lambda name: source_of(ctx, name)):
        judge_permissions(given["uds_permissions"], given["uds"])
        if given["uds"] is None:
            judge_address(given["host"], given["port"])
    _configure(ctx, app, {name: given[name] for name in OF_THE_OPERATOR if source_of(ctx, name)})
    if given["print_config"]:
        settings = {name: given[name] for name in (str(one.name) for one in _running())}
        return _say(config.describe(app, before, ctx, settings))
    if given["check_config"]:
        return 2 if ctx.obj else _say("fastws: the configuration is right\n")
    return _run(ctx, app, greet, given)


@contextmanager
def _blaming(source: Callable[[str], str | None], route: str | None = None) -> Iterator[None]:
    """click.UsageError, with the sources of the options that it names, for what is wrong."""
    try:
        yield
    except (TypeError, ValueError) as error:
        first = str(error).partition("=")[0].partition(" ")[0]
        names = dict.fromkeys([first, *(name for name in re.findall(r"(\w+)=", str(error)) if name in TABLE)])
        places = {name: flag(name) if place == A_FLAG else place for name in names if (place := source(name))}
        if len(places) == 1 and first in places:
            where = [f"in {places[first]}"]
        else:
            where = [f"{name} in {place}" for name, place in places.items()]
        if route is not None:
            where.append(f"for the route {route!r}")
        raise click.UsageError(f"{error}" + (f" ({', '.join(where)})" if where else "")) from None


def _configure(ctx: click.Context, app: fastws.App, changes: dict[str, Any]) -> None:
    """Set the options of the app, then those that the file has for its routes."""
    with _blaming(lambda name: source_of(ctx, name)):
        options = app.options.replaced(changes)
    for path, own in app.routes.items():
        with _blaming(lambda name: "websocket()" if name in own else source_of(ctx, name), path):  # noqa: B023
            options.for_route(own)
    app.configure(**changes)
    for path, own in (ctx.default_map or {}).get("route", {}).items():
        place = place_of_route(ctx.params["config"], path)
        with _blaming(lambda name: place):  # noqa: B023
            app.configure(path, **own)


def _run(ctx: click.Context, app: fastws.App, greet: Callable[[fastws.Server], object], given: dict[str, Any]) -> int:
    async def start() -> fastws.Server:
        names = ("host", "port", "uds", "uds_permissions", "backlog")
        server = await app.start(**{name: given[name] for name in names})
        greet(server)
        return server

    level: int = getattr(logging, given["log_level"].upper())
    log = logging.getLogger("fastws")
    if source_of(ctx, "log_level") or not log.level:  # the application may have set it while it was imported
        log.setLevel(level)
    try:
        runner.run(start, given["loop"], given["shutdown_timeout"], level)
    except (OSError, ImportError) as error:
        if is_of_lifespan(error):
            raise
        return _fail(1, str(getattr(error, "strerror", None) or error))
    return 0


def _fail(code: int, message: str) -> int:
    """In one line, whatever a file or a flag is called."""
    print("fastws:", message.replace("\n", "\\n"), file=sys.stderr)
    return code


def _say(text: str) -> int:
    """On the standard output, in UTF-8 as TOML is."""
    try:
        click.echo(text.encode(), nl=False)
    except UnicodeEncodeError as error:
        line = text[: error.start].rpartition("\n")[2]
        return _fail(2, f"what follows {line!r} is no Unicode: TOML cannot have it")
    except OSError as error:
        return _cannot_write(error)
    return 0


def _cannot_write(error: OSError) -> int:
    with open(os.devnull, "w") as nothing:  # for what the interpreter would try to write again at its end
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    return _fail(1, f"cannot write: {error.strerror}")


def _load_demo(given: dict[str, Any]) -> fastws.App:
    from fastws.demo import app

    return app


def _greet(server: fastws.Server) -> None:
    if server.port:  # a browser does not open a Unix socket
        _say(
            f"Open {server.urls[0]} in a browser: a chat room and an echo meter. Ctrl-C ends it.\n"
            "The echo from a command line:  pip install websockets\n"
            f"  python -m websockets {server.urls[0].replace('http:', 'ws:')}/echo\n"
        )


@click.group()
@click.version_option(fastws.__version__, message="fastws %(version)s")
def cli() -> None:
    """A WebSocket server."""


cli.add_command(
    _serving(
        "serve",
        "Serve an application: APP is module:name, where its fastws.App is.",
        lambda given: load_app(given["app"], given["app_dir"]),
        lambda server: None,
        click.Argument(["app"], metavar="APP", envvar=variable("app")),
        _Flag("app_dir", "", metavar="DIR", default=".", show_default=True, help="Where to look for the module first."),
    )
)
cli.add_command(_serving("demo", "Serve a page with a chat room and an echo meter.", _load_demo, _greet))


def run(argv: Sequence[str] | None) -> int:
    """See `fastws.cli.main`. A mistake is told in one line."""
    mistakes = config.look_at_environment(SETTINGS)
    for mistake in mistakes:
        print(f"fastws: {mistake}", file=sys.stderr)
    arguments = argv if argv is None else list(argv)
    try:
        try:
            serve = cli.main(args=arguments, prog_name="fastws", standalone_mode=False, obj=mistakes)
        except OSError as error:  # help and the version are written by click
            return _cannot_write(error)
        return serve() if callable(serve) else 0
    except click.exceptions.NoArgsIsHelpError:
        return _fail(2, "say what to do: `fastws serve module:app`, `fastws demo`, or `fastws --help`")
    except click.ClickException as error:
        return _fail(2, error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
