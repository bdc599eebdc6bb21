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

from .conftest import Command, Ended

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


def mistake(ended: Ended) -> str:
    """The line that it gives."""
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    found = re.fullmatch("fastws: (.+)\n", ended.stderr)
    assert found, ended.stderr
    return found[1]


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
    told = mistake(command("serve", "server:app", *mode))
    assert told == 'server.py calls app.run() while it is imported: put it under `if __name__ == "__main__":`'


def test_the_module_that_runs_it_is_named(app_dir: Path, command: Command) -> None:
    """Not the one that is served and imports it, nor the one whose function it calls."""
    (app_dir / "helpers.py").write_text("def start(app):\n    app.run('192.0.2.1')\n")
    (app_dir / "package").mkdir()
    (app_dir / "package" / "runs.py").write_text("import helpers, server\nhelpers.start(server.app)\n")
    (app_dir / "outer.py").write_text("import package.runs\nfrom server import app\n")
    assert mistake(command("serve", "outer:app")).startswith("package/runs.py calls app.run() while it is imported: ")


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
    assert mistake(command("serve", name)) == f"{name!r} does not name an application: write {right}"


# One name


@pytest.mark.parametrize("name", ["--shutdown-timeout", "--timeout-graceful-shutdown"])
def test_the_time_to_shut_down_has_the_name_of_run(app_dir: Path, command: Command, name: str) -> None:
    told = command("serve", "server:app", "--print-config", name, "0.5").stdout
    assert "\nshutdown_timeout = 0.5  # a flag\n" in told


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
    told = mistake(command("demo"))
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
