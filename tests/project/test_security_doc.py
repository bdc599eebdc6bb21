"""What docs/security.md names is there, and what is there it names: options, tests, and the rows of tests/hostile."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import fastws
from fastws.options import TABLE

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "security.md"
HOSTILE = ROOT / "tests" / "hostile"
TEXT = DOC.read_text()
ROW = re.compile(r"_([hfmsac]\d\d)(?![a-z0-9])")
PROOFS = sorted(set(re.findall(r"\[(test_\w+)\]\(([^)]+)\)", TEXT)))

#: Options that say how something is handed over, and limit nothing.
NO_LIMITS = {"text", "binary", "keep_request"}
OPTIONS = set(TABLE)


def threats() -> list[list[str]]:
    """The cells of all rows of the tables that have a column for options."""
    tables = re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines() if not line.startswith(("| threat", "|---"))]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return [row for row in rows if len(row) == 4]


@cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def rows_of_the_tests() -> set[str]:
    return {row for path in HOSTILE.glob("test_*.py") for name in names_in(path) for row in ROW.findall(name)}


def test_there_are_tables() -> None:
    assert len(threats()) >= 30
    assert len(PROOFS) > 40


@pytest.mark.parametrize("threat", threats(), ids=lambda row: re.sub(r"\W+", " ", row[0])[:40])
def test_every_threat_has_an_answer_and_a_proof(threat: list[str]) -> None:
    what, answer, options, proof = threat
    assert what and answer
    assert re.search(r"\[test_\w+\]", proof)
    named = re.findall(r"`([^`]+)`", options)
    assert options == ", ".join(f"`{name}`" for name in named)
    assert set(named) <= OPTIONS


@pytest.mark.parametrize(("name", "path"), PROOFS)
def test_every_test_named_is_there(name: str, path: str) -> None:
    file = (DOC.parent / path).resolve()
    rows = ROW.findall(name)
    assert any(found.startswith(name) or set(rows) & set(ROW.findall(found)) for found in names_in(file)), file


def test_every_limit_is_named() -> None:
    named = {name for threat in threats() for name in re.findall(r"`(\w+)`", threat[2])}
    assert named == OPTIONS - NO_LIMITS


def test_every_row_is_named() -> None:
    named = {row for name, _ in PROOFS for row in ROW.findall(name)}
    assert named == rows_of_the_tests()


def test_no_number_of_a_series_is_missing() -> None:
    """A row without a test would otherwise be missed by both."""
    rows = rows_of_the_tests()
    for series in "hfmsac":
        numbers = sorted(int(row[1:]) for row in rows if row[0] == series)
        assert numbers == list(range(1, numbers[-1] + 1)), series


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)", TEXT))))
def test_links_lead_somewhere(target: str) -> None:
    assert (DOC.parent / target).exists()


def test_the_arithmetic() -> None:
    """Of the memory that 10,000 connections may take."""
    default = fastws.Options()
    mib = 1 << 20

    def total(options: fastws.Options, message: int) -> float:
        each: float = options.max_message_size + mib / 4 + options.max_backpressure + message
        return 10_000 * each / (1 << 30)

    assert f"1 MiB that is {total(default, mib):.0f} GiB" in " ".join(TEXT.split())
    small = fastws.Options(max_message_size=16_384, max_backpressure=65_536, high_water=65_536)
    assert f"messages of 16 KiB, {total(small, 16_384):.1f} GiB" in " ".join(TEXT.split())
    burst = (default.max_backpressure + default.max_burst) // mib + 2
    assert f"{burst} MiB where those have 1 MiB" in TEXT
    assert f"{default.max_backpressure / default.send_timeout / 1000:.0f} KB/s" in " ".join(TEXT.split())


def test_the_readme_leads_here() -> None:
    assert "(docs/security.md)" in (ROOT / "README.md").read_text()
