"""The rules of the tree: what may stand where, and that everything is tested somewhere."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
from pathlib import Path

import pytest

import fastws

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "fastws" / "core"
SIMD = ROOT / "fastws" / "_simd"
PARTS = sorted(CORE.glob("*/*.pyx"))
MODULES = sorted((ROOT / "fastws").glob("*.py"))

#: Where a part or module is tested, if not in test_NAME.py of the folder that mirrors its own.
TESTED_IN = {
    # the protocol half, as one extension without a socket
    "frame": ["core/protocol/test_protocol.py", "core/protocol/test_protocol_property.py"],
    "message": ["core/protocol/test_protocol.py", "core/protocol/test_protocol_property.py"],
    "closing": ["core/protocol/test_protocol.py", "hostile/test_frames.py"],
    "kernels": ["core/protocol/test_speedups.py"],
    "compressing": ["core/connection/test_compression_messages.py"],
    # the smaller parts, with those that they serve
    "buffer": ["core/io/test_buffer.py", "hostile/test_api_buffers.py"],
    "deadlines": ["core/connection/test_deadlines.py", "hostile/test_deadlines.py"],
    "limits": ["hostile/test_limits.py", "hostile/test_floods.py"],
    "wire": ["core/io/test_socket.py", "core/io/test_pushed.py"],
    "crowd": ["core/io/test_toy.py", "hostile/test_limits.py"],
    "prepared": ["core/connection/test_payload.py", "core/connection/test_compression_publish.py"],
    "opening": ["core/connection/test_opening.py", "app/test_upgrade_hooks.py", "hostile/test_upgrade.py"],
    "route": ["app/test_app.py", "app/test_options.py"],
    "sending": ["core/connection/test_watermarks.py", "core/io/test_outbox.py"],
    "service": ["core/connection/test_service.py", "serving/test_server.py", "serving/test_stop.py"],
    # modules
    "__init__": ["project/test_layout.py"],
    "__main__": ["running/test_run.py", "cli/test_cli.py"],
    "causes": ["serving/test_stats.py"],
    "compression": ["core/connection/test_compression_offers.py"],
    "constants": ["project/test_layout.py"],
    "frames": ["core/protocol/test_parser.py"],
    "speedups": ["core/protocol/test_speedups.py"],
}


def included(path: Path) -> list[str]:
    return re.findall(r'^include "(?:core/)?([\w/]+)\.pyx"', path.read_text(), re.MULTILINE)


# Tests


@pytest.mark.parametrize("path", [*PARTS, *MODULES], ids=lambda path: path.name)
def test_everything_has_a_test_file(path: Path) -> None:
    folder = path.parent.relative_to(ROOT / "fastws") if path in PARTS else "app"
    for name in TESTED_IN.get(path.stem, [f"{folder}/test_{path.stem}.py"]):
        assert (ROOT / "tests" / name).is_file(), f"tests/{name} is missing for {path.name}"


def test_no_alias_is_left_over() -> None:
    # The tests of an installed package run in a tree without fastws/__init__.py.
    assert set(TESTED_IN) <= {path.stem for path in [*PARTS, *MODULES]} | {"__init__"}


def test_the_readme_of_the_tests_names_every_folder() -> None:
    tests = ROOT / "tests"
    named = set(re.findall(r"^\| `([\w/]+)/` \|", (tests / "README.md").read_text(), re.MULTILINE))
    assert named >= {str(path.parent.relative_to(tests)) for path in tests.rglob("test_*.py")}
    assert [name for name in named if not (tests / name).is_dir()] == []


# Parts and halves


def test_every_part_is_included_once() -> None:
    names = [f"{path.parent.name}/{path.stem}" for path in PARTS]
    assert sorted(included(ROOT / "fastws" / "_speedups.pyx")) == sorted(names)


@pytest.mark.parametrize(("half", "alone"), [("protocol", "_protocol.pyx"), ("io", "_toy.pyx")])
def test_each_half_is_compiled_alone(half: str, alone: str) -> None:
    """All of it, in the order in which it stands in the core: so nothing in it can name what stands elsewhere."""
    whole = included(ROOT / "fastws" / "_speedups.pyx")
    parts = [name.removeprefix(f"{half}/") for name in whole if name.startswith(f"{half}/")]
    assert included(ROOT / "tests" / "core" / half / alone) == parts


# The package


def test_one_version() -> None:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    assert found[1] == fastws.__version__


def test_public_names() -> None:
    assert fastws.__all__ == sorted(fastws.__all__, key=lambda name: (not name.isupper(), name))
    for name in fastws.__all__:
        assert hasattr(fastws, name)
        assert inspect.getdoc(getattr(fastws, name)), f"fastws.{name} has no docstring"


PUBLIC = [getattr(fastws, name) for name in fastws.__all__ if isinstance(getattr(fastws, name), type)]
MEMBERS = [
    (kind, name)
    for kind in PUBLIC
    for name, value in vars(kind).items()
    if not name.startswith("_") and (callable(value) or isinstance(value, property | classmethod | staticmethod))
]


@pytest.mark.parametrize(("kind", "name"), MEMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_public_methods_have_docstrings(kind: type, name: str) -> None:
    assert inspect.getdoc(inspect.getattr_static(kind, name)), f"{kind.__name__}.{name} has no docstring"


def test_constants() -> None:
    assert (fastws.SENT, fastws.QUEUED, fastws.DROPPED) == (0, 1, 2)
    state = fastws.ReadyState
    assert (state.CONNECTING, state.OPEN, state.CLOSING, state.CLOSED) == (0, 1, 2, 3)


def test_the_stub_names_what_a_websocket_has() -> None:
    stub = ast.parse((ROOT / "fastws" / "_speedups.pyi").read_text())
    (kind,) = [node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "WebSocket"]
    named = {node.name for node in kind.body if isinstance(node, ast.FunctionDef)}
    named |= {
        node.target.id for node in kind.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert named == {name for name in dir(fastws.WebSocket) if not name.startswith("_")}


# All files


def tracked() -> list[Path]:
    """The tree's files: git's where this is its checkout, else all that was not made here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [path for path in (ROOT / name for name in listed.stdout.split("\0") if name) if path.is_file()]
    made = re.compile(r"(?:build|\.[^/]+|[^/]+\.egg-info|(?:.+/)?__pycache__)/.*|.+\.so")
    names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    return [ROOT / name for name in names if not made.fullmatch(name)]


MACHINE = re.compile(
    r"/(?:work|root|home|Users)/\w|/tmp/bash|\b(?:pypi\.org|registry\.npmjs|deb\.debian|files\.pythonhosted)\b"
)


def test_no_machine_path_and_no_registry_host() -> None:
    files = tracked()
    assert len(files) > 50
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if MACHINE.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_product_of_a_build_is_tracked() -> None:
    assert [path for path in tracked() if path.suffix in {".so", ".o", ".pyc"} or path.name == "_speedups.c"] == []
