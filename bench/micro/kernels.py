"""The kernels against their targets: with Python around them and without; bench/README.md explains."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.machine import BENCH, BenchError, compiled
from bench.micro.texts import LARGEST, TEXTS, cut
from fastws.speedups import SIMD

PEERS = ["memcpy", "CPython", "isascii", "websockets", "aiohttp", "numpy"]
NEAR_MEMCPY, FEW_NS = 1.3, 5.0
TIMES_CPYTHON = {"check": 8.0, "decode": 3.0, "encode": 3.0}


@dataclass(frozen=True)
class Figure:
    """The best time of one kernel: `by` a variant of it, fastws, or another's function that does the same."""

    by: str
    kernel: str
    content: str
    size: int
    ns: float

    @property
    def speed(self) -> float:
        """Bytes in a nanosecond: GB/s."""
        return self.size / self.ns


Row = tuple[str, str, int]  # kernel, content, size


def rows(figures: list[Figure]) -> dict[Row, dict[str, Figure]]:
    """The figures that stand beside each other, by whose they are."""
    found: dict[Row, dict[str, Figure]] = {}
    for figure in figures:
        found.setdefault((figure.kernel, figure.content, figure.size), {})[figure.by] = figure
    return found


def without_python(milliseconds: int = 20) -> list[Figure]:
    program = compiled("micro/kernels", "-O3")  # as the extension is compiled
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in TEXTS]
        for path in paths:
            path.write_bytes(cut(path.name, LARGEST))
        command = [str(program), str(milliseconds), *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"kernels ended with {done.returncode}: {done.stderr.strip()}")
    fields = [line.split() for line in done.stdout.splitlines()]
    return [Figure(by, kernel, content, int(size), float(ns)) for by, kernel, content, size, ns in fields]


def through_python() -> tuple[list[Figure], dict[str, Any]]:
    """The figures, and what pytest-benchmark says of the machine and the commit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(BENCH / "micro" / "test_kernels.py"),
        ]
        command += ["--benchmark-only", f"--benchmark-json={path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCH.parent)
        if done.returncode:
            raise BenchError(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        report = json.loads(path.read_text())
    figures = [
        Figure(by=one["params"]["by"], **one["extra_info"], ns=one["stats"]["min"] * 1e9)
        for one in report["benchmarks"]
    ]
    return figures, {key: report[key] for key in ("machine_info", "commit_info", "datetime")}


def size_name(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"


def target(text: str, met: bool) -> str:
    return f"   {text}: {'met' if met else 'MISSED'}"


def table(
    title: str,
    columns: list[str],
    figures: dict[Row, Any],
    cells: Callable[[Row], list[str]],
    verdict: Callable[[Row], str],
) -> None:
    print(f"\n{title}\n")
    print(f"  {'kernel':<16}{'content':<10}{'size':>8}" + "".join(f"{column:>12}" for column in columns))
    for row in figures:
        kernel, content, size = row
        line = f"  {kernel:<16}{content:<10}{size_name(size):>8}" + "".join(f"{cell:>12}" for cell in cells(row))
        print(line + verdict(row))
    sys.stdout.flush()


def report_variants(figures: list[Figure]) -> None:
    copies = {figure.size: figure for figure in figures if figure.by == "memcpy"}
    variants = list(dict.fromkeys(figure.by for figure in figures if figure.by != "memcpy"))
    table_of = rows([figure for figure in figures if figure.by != "memcpy"])

    def cells(row: Row) -> list[str]:
        copy = copies[row[2]]
        best = table_of[row][SIMD]
        speeds = [f"{table_of[row][variant].speed:.2f}" for variant in variants]
        return [*speeds, f"{copy.speed:.2f}", f"{best.ns:,.1f}", f"{best.ns / copy.ns:.2f}"]

    def verdict(row: Row) -> str:
        kernel, content, size = row
        ns = table_of[row][SIMD].ns
        if kernel.startswith("unmask") and content == "binary" and size == 16:
            return target(f"under {FEW_NS:g} ns", ns < FEW_NS)
        if (kernel, content) in (("unmask", "binary"), ("check", "ascii")) and size >= 1024:
            return target(f"at most {NEAR_MEMCPY}", ns <= NEAR_MEMCPY * copies[size].ns)
        return ""

    title = f"Without Python: GB/s of each variant and of memcpy; of {SIMD}, ns, and the ratio to memcpy's"
    table(title, [*variants, "memcpy", "ns", "of memcpy"], table_of, cells, verdict)


def report_python(figures: list[Figure]) -> None:
    table_of = rows(figures)

    def cells(row: Row) -> list[str]:
        own, others = table_of[row]["fastws"], [table_of[row].get(peer) for peer in PEERS]
        return [f"{own.ns:,.0f}", f"{own.speed:.2f}", *(f"{o.ns / own.ns:.2f}" if o else "-" for o in others)]

    def verdict(row: Row) -> str:
        kernel, content, _ = row
        if kernel not in TIMES_CPYTHON or content == "ascii":
            return ""
        times = table_of[row]["CPython"].ns / table_of[row]["fastws"].ns
        return target(f"{TIMES_CPYTHON[kernel]:g} times CPython", times >= TIMES_CPYTHON[kernel])

    title = f"Through Python, {SIMD}: ns and GB/s of fastws; how many times their time is fastws'"
    table(title, ["fastws ns", "GB/s", *PEERS], table_of, cells, verdict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=["c", "python"], help="without Python, or through it (default: both)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, with where it comes from")


def main(options: argparse.Namespace) -> int:
    results: dict[str, Any] = {"variant": SIMD, "load_before": os.getloadavg()}
    if options.only != "python":
        figures = without_python()
        report_variants(figures)
        results["without_python"] = [asdict(figure) for figure in figures]
    if options.only != "c":
        figures, where = through_python()
        report_python(figures)
        results |= where | {"through_python": [asdict(figure) for figure in figures]}
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0
