"""What somebody new writes, and what the command says to it: the mistake, and what to write instead."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness.programs import ROOT

from fastws.cli import NEEDED
from fastws.cli.commands import SETTINGS
from fastws.cli.config import ALIASES, OF_THE_CODE, flag, variable
from fastws.options import TABLE

from .conftest import Command, mistake_of

APP = """\
import fastws
app = fastws.App(origins=["https://a.example"], allowed_hosts=["a.example"], compression="deflate")
@app.websocket("/echo")
def echo(ws, data):
    ws.send(data)
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(APP)
    return tmp_path


# What is set against what another option is by itself


def test_both_options_and_what_set_them_are_named(app_dir: Path, command: Command) -> None:
    arguments = ["serve", "server:app", "--check-config", "--low-water", "8001"]
    told = mistake_of(command(*arguments, FASTWS_HIGH_WATER="8000"))
    assert told == (
        "low_water=8001 is above high_water=8000: lower low_water, or raise high_water "
        "(low_water in --low-water, high_water in FASTWS_HIGH_WATER)"
    )


def test_an_option_that_was_not_set_is_not_named(app_dir: Path, command: Command) -> None:
    """It follows the one that was. What is printed says so, and says the same when it is read."""
    printed = command("serve", "server:app", "--print-config", "--high-water", "10", FASTWS_MAX_HEADER_SIZE="256")
    assert "\nhigh_water = 10  # a flag\nlow_water = 2  # default, by high_water\n" in printed.stdout
    assert "\nmax_request_line = 128  # default, by max_header_size\n" in printed.stdout
    assert (printed.returncode, printed.stderr) == (0, "")
    (app_dir / "our.toml").write_text(printed.stdout)
    again = command("serve", "server:app", "--print-config", "--config", "our.toml")
    assert "\nlow_water = 2  # our.toml\n" in again.stdout
    (app_dir / "server.py").write_text(APP.replace("App(", "App(high_water=400, low_water=399, max_header_size=1000, "))
    printed = command("serve", "server:app", "--print-config")
    assert "\nlow_water = 399  # App()\n" in printed.stdout
    assert "\nmax_request_line = 500  # default, by max_header_size\n" in printed.stdout


def test_port_of_other_programs_is_not_read(app_dir: Path, command: Command) -> None:
    """As a host of containers sets it."""
    printed = command("serve", "server:app", "--print-config", PORT="1234", HOST="10.0.0.1")
    assert '\nhost = "127.0.0.1"  # default\nport = 8765  # default\n' in printed.stdout


@pytest.mark.parametrize("given", ["660", "0660", "0o660"])
def test_permissions_are_octal(app_dir: Path, command: Command, given: str) -> None:
    printed = command("serve", "server:app", "--print-config", "--uds", "x", "--uds-permissions", given)
    assert "\nuds_permissions = 0o660  # a flag\n" in printed.stdout
    (app_dir / "our.toml").write_text(printed.stdout)
    again = command("serve", "server:app", "--print-config", "--config", "our.toml")
    assert "\nuds_permissions = 0o660  # our.toml\n" in again.stdout
    for wrong, why in (("rw", "is no octal number"), ("980", "is no octal number"), ("1777", "is not in the range")):
        told = mistake_of(command("serve", "server:app", "--check-config", FASTWS_UDS_PERMISSIONS=wrong))
        assert why in told and "660" in told and "FASTWS_UDS_PERMISSIONS" in told


@pytest.mark.parametrize("name", ["sockets", "\0abstract"])
def test_permissions_without_a_path(app_dir: Path, command: Command, name: str) -> None:
    uds = ["--uds", name] if name[0] == "\0" else []
    ended = command("serve", "server:app", "--uds-permissions", "600", *uds)
    assert ended.returncode == 2
    assert "uds_permissions are those of a Unix socket's file: give its path in uds=" in ended.stderr


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("*", "write host='0.0.0.0', or host=None for every interface (in --host)"),
        ("localhost:8000", "write host='localhost', port=8000 (in --host)"),
        ("http://localhost", "write host='localhost' (in --host)"),
        ("/run/socket", "for a Unix socket write uds='/run/socket' (in --host)"),
    ],
)
def test_a_host_that_is_none(app_dir: Path, command: Command, host: str, right: str) -> None:
    assert right in mistake_of(command("serve", "server:app", "--check-config", "--host", host))


# Where there is nothing to serve on, or no working directory


def test_a_path_that_is_none(app_dir: Path, command: Command) -> None:
    (app_dir / "our.toml").write_text("uds = ''\n")
    told = mistake_of(command("serve", "server:app", "--check-config", "--config", "our.toml"))
    assert told == "Invalid value for '--uds': '' is no path: give that of a Unix socket (in our.toml)"


@pytest.mark.parametrize(("path", "why"), [("server.py/x", "Not a directory"), ("x" * 300, "File name too long")])
def test_a_path_that_cannot_be(app_dir: Path, command: Command, path: str, why: str) -> None:
    ended = command("serve", "server:app", "--uds", path)
    assert (ended.returncode, ended.stderr) == (1, f"fastws: cannot listen on {path}: {why}\n")


def test_a_working_directory_that_has_gone(app_dir: Path) -> None:
    (app_dir / "gone").mkdir()
    script = f"cd gone && rmdir ../gone && PYTHONPATH='{ROOT}' '{sys.executable}' -m fastws serve server:app"
    ended = subprocess.run(["sh", "-c", script], check=False, cwd=app_dir, capture_output=True, text=True)
    assert ended.stderr == "fastws: the working directory has been deleted: change to another one\n"
    assert ended.returncode == 2


# An application that runs itself: at an address that is nobody's, so that it ends in any case


@pytest.mark.parametrize("mode", [[], ["--check-config"], ["--print-config"]])
@pytest.mark.parametrize(
    "call",
    [
        "app.run('192.0.2.1')",
        "def main():\n    app.run('192.0.2.1')\nmain()",
        "try:\n    app.run('192.0.2.1')\nfinally:\n    pass",
    ],
)
def test_an_app_that_runs_while_it_is_imported(app_dir: Path, command: Command, mode: list[str], call: str) -> None:
    (app_dir / "server.py").write_text(f"{APP}{call}\n")
    told = mistake_of(command("serve", "server:app", *mode))
    assert told == 'server.py calls app.run() while it is imported: put it under `if __name__ == "__main__":`'


def test_the_module_that_runs_it_is_named(app_dir: Path, command: Command) -> None:
    """Not the one that is served and imports it, nor the one whose function it calls."""
    (app_dir / "helpers.py").write_text("def start(app):\n    app.run('192.0.2.1')\n")
    (app_dir / "package").mkdir()
    (app_dir / "package" / "runs.py").write_text("import helpers, server\nhelpers.start(server.app)\n")
    (app_dir / "outer.py").write_text("import package.runs\nfrom server import app\n")
    assert mistake_of(command("serve", "outer:app")).startswith(
        "package/runs.py calls app.run() while it is imported: "
    )


def test_an_app_that_runs_under_main(app_dir: Path, command: Command) -> None:
    (app_dir / "server.py").write_text(f'{APP}if __name__ == "__main__":\n    app.run()\n')
    assert command("serve", "server:app", "--check-config") == (0, "fastws: the configuration is right\n", "")


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("server.py", "server:app"),
        ("server.py:app", "server:app"),
        ("./server.py:other.app", "server:other.app"),
        ("inside/server.py", "inside.server:app"),
        ("../server.py", "module:app"),
        ("server", "module:app"),
    ],
)
def test_a_file_for_a_module(app_dir: Path, command: Command, name: str, right: str) -> None:
    assert mistake_of(command("serve", name)) == f"{name!r} does not name an application: write {right}"


# None, and other forms


OPTIONAL = sorted(name for name, option in TABLE.items() if option.kind.optional)


def test_what_may_be_none() -> None:
    assert OPTIONAL == ["allowed_hosts", "compression", "origins"]
    for name, option in TABLE.items():
        if option.kind.optional:
            option.kind.check(name, None, {})
        else:
            with pytest.raises((TypeError, ValueError)):
                option.kind.check(name, None, {name: option.default for name, option in TABLE.items()})


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("text", ["none", "None"])
def test_none_in_a_flag_a_variable_and_a_file(app_dir: Path, command: Command, name: str, text: str) -> None:
    """The App has something else. The file of --print-config says it, too."""
    serve = ("serve", "server:app", "--print-config")
    assert f'{name} = "none"  # a flag\n' in command(*serve, flag(name), text).stdout
    assert f'{name} = "none"  # {variable(name)}\n' in command(*serve, **{variable(name): text}).stdout
    (app_dir / "our.toml").write_text(f'{name} = "{text}"\n')
    told = command(*serve, "--config", "our.toml").stdout
    assert f'{name} = "none"  # our.toml\n' in told
    (app_dir / "again.toml").write_text(told)
    assert f'{name} = "none"  # again.toml\n' in command(*serve, "--config", "again.toml").stdout


@pytest.mark.parametrize("name", ["compression", "origins"])
def test_none_in_the_table_of_a_route(app_dir: Path, command: Command, name: str) -> None:
    (app_dir / "our.toml").write_text(f'[route."/echo"]\n{name} = "None"\n')
    told = command("serve", "server:app", "--print-config", "--config", "our.toml").stdout
    assert told.endswith(f'[route."/echo"]\n{name} = "none"  # our.toml\n')


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("compression", "zip", "'zip' is not none|deflate: give none or deflate"),
        ("compression", "Deflate(level=6)", "'Deflate(level=6)' is not none|deflate: give none or deflate"),
        ("max_message_size", "64k", "'64k' is not BYTES: give a whole number, 65536 say"),
        ("max_topics", "none", "'none' is not N: give a whole number, 100 say"),
        ("ping_interval", "20s", "'20s' is not SECONDS: give a number, 20 say; 0 is off"),
        ("close_timeout", "20s", "'20s' is not SECONDS: give a number, 20 say"),
        ("max_message_rate", "1/s", "'1/s' is not PER_SECOND: give a number, 20 say; 0 is off"),
        ("origins", " ", "' ' is not A,B: give one, or several with commas between them, or none"),
        ("allowed_hosts", "a,,b", "'a,,b' is not A,B: give one, or several with commas between them, or none"),
        ("port", "abc", "'abc' is not a valid integer: give 0 to 65535"),
        ("backlog", "abc", "'abc' is not a valid integer: give 1 to 2147483647"),
        ("shutdown_timeout", "soon", "'soon' is not a valid float: give seconds, 0 to 1000000"),
    ],
)
def test_what_fits_where_it_was_said(app_dir: Path, command: Command, name: str, value: str, message: str) -> None:
    serve = ("serve", "server:app")
    names = " / ".join(f"'{one}'" for one in (flag(name), *([ALIASES[name]] if name in ALIASES else [])))
    assert mistake_of(command(*serve, flag(name), value)) == f"Invalid value for {names}: {message}"
    told = mistake_of(command(*serve, **{variable(name): value}))
    assert told == f"Invalid value for {names}: {message} (in {variable(name)})"


def test_a_flag_is_named(app_dir: Path, command: Command) -> None:
    told = mistake_of(command("serve", "server:app", "--max-topics", "-1"))
    assert told == "max_topics=-1 is out of range: give 0 to 65536 (in --max-topics)"


# Variables


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FASTWS_MAX_MESAGE_SIZE", "is not known: did you mean FASTWS_MAX_MESSAGE_SIZE?"),
        ("FASTWS_SHUTDOWN_TIMEOUTS", "is not known: did you mean FASTWS_SHUTDOWN_TIMEOUT?"),
        ("FASTWS_CONFIGS", "is not known: did you mean FASTWS_CONFIG?"),
        *(
            (variable(alias[2:].replace("-", "_")), f"is not known: did you mean {variable(name)}?")
            for name, alias in ALIASES.items()
        ),
        *(
            (variable(name), f"{name} is for the code alone to set, which is written for it: give it to App()")
            for name in sorted(OF_THE_CODE)
        ),
    ],
)
def test_a_variable_that_does_nothing(app_dir: Path, command: Command, name: str, message: str) -> None:
    """It is no configuration that is right, and shows what it is all the same."""
    told = mistake_of(command("serve", "server:app", "--check-config", **{name: "1"}))
    assert told.startswith(name) and message in told
    shown = command("serve", "server:app", "--print-config", **{name: "1"})
    assert (shown.returncode, shown.stderr) == (0, f"fastws: {told}\n")


# Files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[route."/echo"]\nmax_connections = 5',
            "max_connections is not an option of one route: write it above the tables of routes "
            '(in our.toml, [route."/echo"])',
        ),
        ('[route."/echo"]\nport = 5', "port is not an option of one route: write it above the tables of routes"),
        ('[route."/echo"]\ntext = "utf8"', 'our.toml, [route."/echo"]: text is for the code alone to set'),
        (
            "keep_request = true",
            "our.toml: keep_request is for the code alone to set, which is written for it: give it to App() or "
            "websocket()",
        ),
        ('[routes."/echo"]\nmax_topics = 5', "our.toml: unknown option 'routes': did you mean route?"),
        ("ws_max_size = 5", "our.toml: unknown option 'ws_max_size': did you mean max_message_size?"),
        ("timeout_graceful_shutdown = 5", "'timeout_graceful_shutdown': did you mean shutdown_timeout?"),
        ('compression = "zip"', "compression='zip' is not known: give 'none', 'deflate' or a table like { level = 6 }"),
        ("compression = true", "compression=True is not known: give 'none', 'deflate' or a table like { level = 6 }"),
        (
            '[route."/echo"]\ncompression = "zip"',
            "give 'none', 'deflate' or a table like { level = 6 } (in our.toml, [route.\"/echo\"])",
        ),
    ],
)
def test_a_file_is_told_the_place(app_dir: Path, command: Command, text: str, message: str) -> None:
    (app_dir / "our.toml").write_text(f"{text}\n")
    assert message in mistake_of(command("serve", "server:app", "--check-config", "--config", "our.toml"))


def test_the_table_of_compression_that_is_proposed(app_dir: Path, command: Command) -> None:
    (app_dir / "our.toml").write_text("compression = { level = 6 }\n")
    assert command("serve", "server:app", "--check-config", "--config", "our.toml").returncode == 0


# One name


@pytest.mark.parametrize("name", ["--shutdown-timeout", "--timeout-graceful-shutdown"])
def test_the_time_to_shut_down_has_the_name_of_run(app_dir: Path, command: Command, name: str) -> None:
    told = command("serve", "server:app", "--print-config", name, "0.5").stdout
    assert "\nshutdown_timeout = 0.5  # a flag\n" in told


# What is shown


def test_help_is_about_flags(app_dir: Path, command: Command) -> None:
    """None is written as in a flag; what is no flag has no row; a demo's App has no options of the user's."""
    serve, demo = command("serve", "--help").stdout, command("demo", "--help").stdout
    assert "None" not in serve
    assert not re.search(r"^ +APP *$", serve, re.MULTILINE)
    assert "the App's, or" in serve and "uvicorn's" in serve
    assert "App's" not in demo and "App()" not in demo


def test_what_is_not_set_is_a_comment_without_another(app_dir: Path, command: Command) -> None:
    assert "\n# uds is not set\n" in command("serve", "server:app", "--print-config").stdout


def test_the_page_of_options_has_every_name() -> None:
    page = (ROOT / "docs/options.md").read_text()
    for name in (*SETTINGS, "config", *TABLE):
        assert f"\n| `{name}`" in page, name
    for name, alias in ALIASES.items():
        assert re.search(rf"^\| `{name}`.*`{alias}`", page, re.MULTILINE), alias


# Before anything runs


def test_what_the_command_needs_is_what_the_extra_installs() -> None:
    extra = re.search(r"^cli = \[(.+)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert extra
    for requirement in NEEDED.values():
        assert re.search(rf'"{requirement}[";]', extra[1]), requirement


@pytest.mark.parametrize("module", NEEDED)
def test_without_what_the_command_needs(command: Command, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """PyPI has another fastws: what is proposed is a package that is the right one there."""
    monkeypatch.setitem(sys.modules, module, None)
    assert importlib.util.find_spec(module) is None
    told = mistake_of(command("demo"))
    assert told == f"the command line needs {module}: pip install '{NEEDED[module]}'"


def test_make_run_says_how_to_take_another_port(tmp_path: Path) -> None:
    """The environment is there already, so that make calls the command alone, which greets only once it listens."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "fastws"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastws "$@"\n')
    script.chmod(0o755)
    built = tmp_path / ".built"
    built.touch()
    outside_of_make = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            ["make", "--silent", "-o", str(built), "run", f"VENV={tmp_path}", f"PORT={port}"],
            cwd=ROOT,
            env={**outside_of_make, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "make run PORT=" in done.stderr
