"""_speedups.pyi says what the compiled core says, of all that is public and of whatever else it describes."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from harness.programs import ROOT

import fastws
import fastws.speedups
from fastws import _speedups

STUB = ast.parse((ROOT / "fastws/_speedups.pyi").read_text())
PUBLIC = {*fastws.__all__, *fastws.speedups.__all__}


def declared() -> Iterator[tuple[str, ast.AST, Any]]:
    """The functions, classes, methods and properties of the stub: name, stub, what it stands for."""
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and hasattr(_speedups, node.name):
            real = getattr(_speedups, node.name)
            yield node.name, node, real
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("__"):
                    yield f"{node.name}.{part.name}", part, getattr(real, part.name)


@pytest.mark.parametrize(("name", "stub", "real"), [pytest.param(*one, id=one[0]) for one in declared()])
def test_docstrings(name: str, stub: Any, real: Any) -> None:
    first, _, rest = (real.__doc__ or "").partition("\n")
    has_signature = re.match(rf"(\w+\.)?{stub.name}\(", first)
    described = ast.get_docstring(stub)
    assert described or name.partition(".")[0] not in PUBLIC
    assert described in (None, inspect.cleandoc(rest if has_signature else real.__doc__ or ""))


SIGNED = [one for one in declared() if one[0].partition(".")[0] in {"WebSocket", "prepare", *fastws.speedups.__all__}]


@pytest.mark.parametrize(
    ("stub", "real"),
    [pytest.param(stub, real, id=name) for name, stub, real in SIGNED if callable(real) and not isinstance(real, type)],
)
def test_signatures(stub: Any, real: Any) -> None:
    """inspect, help() and editors show the parameters and defaults that the stub has."""
    copied = ast.FunctionDef(**{**vars(stub), "returns": None, "decorator_list": []})
    for argument in ast.walk(copied.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    namespace: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(ast.Module([copied], [])), "stub", "exec"), namespace)
    shown, meant = inspect.signature(real), inspect.signature(namespace[stub.name])
    assert [(one.name, one.default) for one in shown.parameters.values()] == [
        (one.name, one.default) for one in meant.parameters.values()
    ]
    behind = [one.name for one in meant.parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    assert [one.name for one in shown.parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY] == behind
    assert inspect.getdoc(real) == ast.get_docstring(stub)


def test_all_methods_have_signatures() -> None:
    assert len([one for one in SIGNED if one[0].startswith("WebSocket.") and callable(one[2])]) == 12
    assert "send(self, /, data, *, compress=None)" in pydoc.plain(pydoc.render_doc(fastws.WebSocket))
    assert not hasattr(mock.create_autospec(fastws.WebSocket, instance=True), "recv")


def test_all_is_there() -> None:
    """What the core has and users see stands in the stub, with all its methods."""
    names = {name for name, _, _ in declared()}
    for name in PUBLIC & set(vars(_speedups)):
        real = getattr(_speedups, name)
        if callable(real) and real.__module__ == "fastws._speedups":
            assert name in names
            if isinstance(real, type):
                assert {f"{name}.{part}" for part in vars(real) if not part.startswith("_")} - names <= {
                    f"{name}.{part}" for part in ("data", "id", "path", "path_params", "query_string", "subprotocol")
                }
