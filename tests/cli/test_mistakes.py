"""What a user does wrong, in a command, a file or a variable, is said in one line, and with it where it was done."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import pytest

from .conftest import Command, mistake_of

Mistake = Callable[..., str]

APP = """\
import fastws
app = fastws.App()
@app.websocket("/echo", low_water=16000)
def echo(ws, data):
    ws.send(data)
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "served_app.py").write_text(APP)
    return tmp_path


def run(
    *arguments: str, cwd: Path, stdout: IO[str] | int = subprocess.PIPE, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastws", *arguments],
        cwd=cwd,
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=30,
        check=False,
    )


@pytest.fixture
def mistake(command: Command, app_dir: Path) -> Mistake:
    """The line that a mistake gives."""

    def mistake(*arguments: str, **variables: str) -> str:
        result = command("serve", "served_app:app", *arguments, **variables)
        mistake_of(result)
        return result.stderr

    return mistake


# Files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (f"{name} = {value}", f"{name} is {what}, got ")
            for name, what in (
                ("port", "a whole number"),
                ("backlog", "a whole number"),
                ("shutdown_timeout", "a number"),
            )
            for value in ("[1]", "{ a = 1 }", "2026-01-01", "true", '"5"')
        ),
        *(
            (f"{name} = {value}", f"{name} is a string, got ")
            for name in ("host", "uds", "loop", "log_level", "app", "app_dir")
            for value in ('["a"]', "{}", "true", "1")
        ),
        ("port = inf", "port is a whole number, got inf"),
        ("port = 1.9", "port is a whole number, got 1.9"),
        ("port = 70000", "70000 is not in the range 0<=x<=65535 (in our.toml)"),
        ("shutdown_timeout = nan", "nan is no number of seconds (in our.toml)"),
        ('loop = "trio"', "'trio' is not one of 'auto', 'uvloop', 'asyncio' (in our.toml)"),
        ('slow_consumer = "shoot"', "'shoot' is not one of 'close', 'drop' (in our.toml)"),
        ("slow_consumer = [5]", "(in our.toml)"),
        ('compression = "zip"', "give 'none', 'deflate' or a table like { level = 6 } (in our.toml)"),
        ('max_topics = "5"', "max_topics is a whole number, got '5': give 0 to 65536 (in our.toml)"),
        ('ping_interval = "5"', "ping_interval is a number, got '5': give 0 to 1000000 (in our.toml)"),
        ('origins = "*"', "origins is a collection of strings, not one string: write ['*'] (in our.toml)"),
        ('origins = { "*" = 1 }', "origins is not a table, got {'*': 1} (in our.toml)"),
        ('[route."/echo"]\nmax_topics = "5"', "got '5': give 0 to 65536 (in our.toml, [route.\"/echo\"])"),
        ('[route."/echo"]\ncompression = { level = 90 }', 'our.toml, [route."/echo"], compression: level=90'),
        ("uds_permissions = 660", "660 is not in the range: write 0o660 or '660' (in our.toml)"),
        ("uds_permissions = 0o1000", "512 is not in the range: "),
        ('uds_permissions = "rw"', "'rw' is no octal number: give 660, say (in our.toml)"),
        ("uds_permissions = true", "uds_permissions is an octal number, 0o660 say, got True (in our.toml)"),
        ("max_size = 5", "our.toml: unknown option 'max_size': did you mean max_message_size?"),
        ("origins = ['a.example']", "write \"https://a.example\" (in our.toml)"),
        ("allowed_hosts = ['http://a.example']", "write \"a.example\" (in our.toml)"),
        ('uds = "a\\u0000b"', "uds cannot have a NUL in it, got 'a\\x00b' (in our.toml)"),
        ('host = "\\u0000"', "host cannot have a NUL in it, got '\\x00' (in our.toml)"),
        ('app_dir = "a\\u0000b"', "app_dir cannot have a NUL in it"),
        (f"port = {'9' * 5000}", "our.toml is no TOML: "),
        (f"port = 0x{'f' * 5000}", "our.toml is no TOML: an integer has more than 64 bits"),
        (f"shutdown_timeout = {'9' * 400}", "our.toml is no TOML: an integer has more than 64 bits"),
        (f"origins = [0x{'f' * 5000}]", "our.toml is no TOML: an integer has more than 64 bits"),
        (f"origins = {'[' * 5000}{']' * 5000}", "our.toml is nested too deeply"),
        (f"port.{'a.' * 2000}a = 1", "our.toml is nested too deeply"),
    ],
)  # fmt: skip
def test_wrong_values_in_a_file(app_dir: Path, mistake: Mistake, text: str, message: str) -> None:
    (app_dir / "our.toml").write_text(f"{text}\n")
    assert message in mistake("--config", "our.toml", "--check-config")


def test_a_file_without_an_end(mistake: Mistake) -> None:
    assert "/dev/zero is larger than 1 MiB" in mistake("--config", "/dev/zero")


def test_a_file_called_in_two_lines(mistake: Mistake) -> None:
    assert "cannot read no\\nne.toml" in mistake("--config", "no\nne.toml")


# Variables


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FASTWS_PORT", "true", "'true' is not a valid int"),
        ("FASTWS_PORT", "1.9", "'1.9' is not a valid int"),
        ("FASTWS_PORT", "70000", "70000 is not in the range"),
        ("FASTWS_PORT", "9" * 5000, "is not a valid int"),
        ("FASTWS_BACKLOG", "true", "'true' is not a valid int"),
        ("FASTWS_LOOP", "trio", "'trio' is not one of"),
        ("FASTWS_SHUTDOWN_TIMEOUT", "inf", "inf is not in the range"),
        ("FASTWS_MAX_TOPICS", "9" * 5000, "is not N"),
        ("FASTWS_ORIGINS", ", ,", "', ,' is not A,B"),
        ("FASTWS_ALLOWED_HOSTS", "a.example,", "'a.example,' is not A,B"),
    ],
)
def test_wrong_variables(mistake: Mistake, name: str, value: str, message: str) -> None:
    told = mistake("--check-config", **{name: value})
    assert message in told
    assert told.endswith(f" (in {name})\n")


def test_the_kernels_that_there_are_not(app_dir: Path) -> None:
    result = run("serve", "served_app:app", "--check-config", cwd=app_dir, variables={"FASTWS_SIMD": "nonsense"})
    assert result.returncode != 0
    last = result.stderr.splitlines()[-1]
    assert re.search(r"FASTWS_SIMD=nonsense: this processor has .*\bscalar\b.*; set one of them, or nothing", last)


# Who is to blame


def test_a_routes_table_is_to_blame(app_dir: Path, mistake: Mistake) -> None:
    """Also where the same option is right in a variable."""
    (app_dir / "our.toml").write_text('[route."/echo"]\nmax_topics = -1\n')
    told = mistake("--config", "our.toml", FASTWS_MAX_TOPICS="5")
    assert told == 'fastws: max_topics=-1 is out of range: give 0 to 65536 (in our.toml, [route."/echo"])\n'


def test_the_code_of_a_route_is_to_blame(mistake: Mistake) -> None:
    told = mistake("--low-water", "100", "--high-water", "1000")
    assert told == (
        "fastws: low_water=16000 is above high_water=1000: lower low_water, or raise high_water "
        "(low_water in websocket(), high_water in --high-water, for the route '/echo')\n"
    )


# Interrupts and errors while the application is imported


def test_an_interrupt_of_the_import_is_silent(app_dir: Path) -> None:
    (app_dir / "served_app.py").write_text(
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    result = run("serve", "served_app:app", cwd=app_dir)
    assert (result.returncode, result.stdout, result.stderr) == (128 + signal.SIGINT, "", "")


def test_a_module_that_reads_too_far_keeps_its_traceback(app_dir: Path) -> None:
    (app_dir / "served_app.py").write_text("\ninput()\n")
    result = run("serve", "served_app:app", cwd=app_dir)
    assert result.returncode == 1
    assert result.stderr.endswith("EOFError: EOF when reading a line\n")
    assert 'served_app.py", line 2, in <module>' in result.stderr
    assert "click.exceptions" not in result.stderr


# What is printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "served_app:app", "--print-config"],
        ["serve", "served_app:app", "--check-config"],
        ["serve", "--help"],
        ["--version"],
    ],
)
def test_an_output_that_is_full(app_dir: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = run(*arguments, cwd=app_dir, stdout=full)
    assert (result.returncode, result.stderr) == (1, "fastws: cannot write: No space left on device\n")


STRANGE = "\U0001f600\x7f\x01\t\\\"'\xe4\u2028"
STRANGE_PATH = "\U0001f600'\xe4\u2028\x85%5C"


def values(told: str) -> list[str]:
    """The lines without who set what."""
    return [line.partition("  # ")[0] for line in told.split("\n")]


def test_strange_characters_are_printed_as_toml(app_dir: Path) -> None:
    """Also where the standard output is said not to be UTF-8, and from a file with a strange name."""
    (app_dir / "served_app.py").write_text(
        f"import fastws\napp = fastws.App()\napp.websocket({'/' + STRANGE_PATH!r}, origins=['null'])(print)\n"
    )
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    told = run("serve", "served_app:app", "--print-config", "--uds", STRANGE, cwd=app_dir, variables=ascii_only)
    assert (told.returncode, told.stderr) == (0, "")
    for name in "our.toml", "o\nu\x7fr \U0001f600.toml", "again.toml":
        (app_dir / name).write_text(told.stdout)
        again = run("serve", "served_app:app", "--print-config", "--config", name, cwd=app_dir, variables=ascii_only)
        assert (again.returncode, again.stderr) == (0, "")
        assert values(again.stdout) == values(told.stdout)
        told = again


def test_what_is_no_unicode_is_not_printed_as_toml(mistake: Mistake) -> None:
    told = mistake("--print-config", "--uds", os.fsdecode(b"a\xff"))
    assert "what follows 'uds = \"a' is no Unicode: TOML cannot have it" in told


def test_the_demo_prints_its_configuration_alone(tmp_path: Path) -> None:
    told = run("demo", "--print-config", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    (tmp_path / "our.toml").write_text(told.stdout)
    again = run("demo", "--print-config", "--config", "our.toml", cwd=tmp_path)
    assert values(again.stdout) == values(told.stdout)
