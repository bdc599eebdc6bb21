"""What a user does wrong, in a command, a file or a variable, is said in one line, and with it where it was done."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import pytest

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


def mistake(*arguments: str, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    """The line that it gives."""
    result = run("serve", "served_app:app", *arguments, cwd=cwd, variables=variables)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert re.fullmatch("fastws: .+\n", result.stderr)
    return result.stderr


# Interrupts and errors while the application is imported


def test_an_interrupt_of_the_import_is_silent(app_dir: Path) -> None:
    (app_dir / "served_app.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
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


def values(told: str) -> list[str]:
    """The lines without who set what."""
    return [line.partition("  # ")[0] for line in told.split("\n")]


def test_strange_characters_are_printed_as_toml(app_dir: Path) -> None:
    """Also where the standard output is said not to be UTF-8, and from a file with a strange name."""
    (app_dir / "served_app.py").write_text(
        f"import fastws\napp = fastws.App(origins=[{STRANGE!r}])\n"
        f"app.websocket({'/' + STRANGE!r}, origins=[{STRANGE!r}])(print)\n"
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


def test_what_is_no_unicode_is_not_printed_as_toml(app_dir: Path) -> None:
    told = mistake("--print-config", "--uds", os.fsdecode(b"a\xff"), cwd=app_dir)
    assert "what follows 'uds = \"a' is no Unicode: TOML cannot have it" in told


def test_the_demo_prints_its_configuration_alone(tmp_path: Path) -> None:
    told = run("demo", "--print-config", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    (tmp_path / "our.toml").write_text(told.stdout)
    again = run("demo", "--print-config", "--config", "our.toml", cwd=tmp_path)
    assert values(again.stdout) == values(told.stdout)
