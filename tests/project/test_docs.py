"""What a reader would copy from README.md and docs/ runs, and what the tables of docs/migrating.md name is there."""

from __future__ import annotations

import ast
import asyncio
import logging
import os
import re
import subprocess
import sys

import pytest
from harness import RawClient, Serving, eventually
from harness.programs import ROOT, serving, talks

import fastws
import fastws.http

#: docs/auth.md has a test of its own.
COPIED_FROM = ("README.md", "docs/callbacks.md", "docs/running.md", "docs/compression.md")
BLOCKS = [
    block
    for path in COPIED_FROM
    for block in re.findall(r"^```python\n(.*?)^```$", (ROOT / path).read_text(), re.MULTILINE | re.DOTALL)
]


def is_program(block: str) -> bool:
    """Whole programs import what they use; the rest are excerpts."""
    return "app.run(" in block and "import fastws" in block


PROGRAMS = [block for block in BLOCKS if is_program(block)]


def test_the_readme_shows_a_program() -> None:
    assert PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS)
def test_readme_programs(program: str) -> None:
    """Each is an echo at the path that it names."""
    path = re.search(r'@app\.websocket\("([^"{]+)"', program)
    assert path, "which path is it that this program serves?"
    with serving(program) as port:
        talks(port, path[1])


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_are_python(block: str) -> None:
    compile(block, "a page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_a_coroutine_per_connection(serve: Serving) -> None:
    (block,) = (block for block in BLOCKS if "create_task(self.run(" in block)
    app = fastws.App()
    exec(block, {"app": app, "asyncio": asyncio, "logging": logging})
    server = serve(app)
    clients = [RawClient.open(server.port, "/pairs") for _ in range(2)]
    for count in range(100):
        for number, client in enumerate(clients):
            client.send(f"{number}.{count}")
    for start in range(0, 100, 2):
        for number, client in enumerate(clients):
            assert client.recv() == f"{number}.{start} and {number}.{start + 1}"
    clients[0].send_close(1000)
    clients[0].expect_close(1000)
    clients[1].reset()
    eventually(lambda: server.call(lambda: len(asyncio.all_tasks())) == 2)  # the server's, and this call's own


def test_every_run_is_served_or_an_excerpt() -> None:
    """A block that calls app.run and is no program is one line, about the call itself."""
    for block in BLOCKS:
        if "app.run(" in block and not is_program(block):
            assert len(block.strip().splitlines()) == 1, f"neither a program nor one line: {block}"


def test_the_page_of_options_is_what_the_table_says() -> None:
    command = [sys.executable, str(ROOT / "docs/make_options.py"), "--check"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr


PAGES = sorted(str(path.relative_to(ROOT)) for where in ("", "docs/", "tests/") for path in ROOT.glob(f"{where}*.md"))


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path: str) -> None:
    """To a file, and to a heading in it."""
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", (ROOT / path).read_text()):
        found = (ROOT / path).parent / target if target else ROOT / path
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w-]", "", one.lower().replace(" ", "-")) for one in headings}, heading


# docs/migrating.md

TABLES = re.findall(r"(?:^\|.*\n)+", (ROOT / "docs/migrating.md").read_text(), re.MULTILINE)
OURS = [re.sub(r"\\\|", "/", row.split(" | ")[1]) for table in TABLES for row in table.splitlines()[2:]]

#: What the names in the right column stand for.
STAND_FOR = {
    "app": fastws.App,
    "ws": fastws.WebSocket,
    "server": fastws.Server,
    "request": fastws.Request,
    "fastws": fastws,
}


def test_there_are_three_tables() -> None:
    assert len(TABLES) == 3
    for table in TABLES:
        head, line, *rows = table.splitlines()
        assert line == "|---|---|"
        assert all(row.count(" | ") == 1 for row in [head, *rows])
        assert 12 <= len(rows) <= 16


@pytest.mark.parametrize("cell", OURS)
def test_what_the_tables_name_is_there(cell: str) -> None:
    """Attributes, methods, callbacks, and the options in quotes of code that have a value or stand alone."""
    for code in re.findall(r"`([^`]+)`", cell):
        if code.startswith("fastws serve"):
            continue
        named = re.findall(r"\b(app|ws|server|request|fastws)\.(\w+)", code)
        for thing, attribute in named:
            assert hasattr(instance(thing), attribute), f"{thing}.{attribute}"
        callback = re.fullmatch(r"(?:async )?(?:def )?(\w+)\((?:self, )?(?:ws|request).*\)", code)
        option = re.fullmatch(r"(\w+)(?:=.*)?", code)
        if callback:
            assert callback[1] in fastws.handlers.CALLBACKS
        elif option and option[1] not in ("SENT", "QUEUED", "DROPPED"):
            assert option[1] in fastws.options.TABLE or option[1] in fastws.handlers.CALLBACKS, code
        else:
            assert named or callback or option, f"what is {code}?"


def instance(thing: str) -> object:
    """Server sets its connections in its constructor: they are none of its class's attributes."""
    return type("Server", (fastws.Server,), {"connections": ()}) if thing == "server" else STAND_FOR[thing]
