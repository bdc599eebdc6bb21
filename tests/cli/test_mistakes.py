"""What a user does wrong, in a command, a file or a variable, is said in one line, and with it where it was done."""

import os
import re
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


# What is printed


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
