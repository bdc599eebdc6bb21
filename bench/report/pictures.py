"""Which charts there are: what they compare, and between whom."""

# ruff: noqa: RUF001

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from statistics import median

from bench.report import charts, tables
from bench.report.tables import OURS, Book, Row, is_ours
from bench.results import CPU, FLOOR, MEMORY, Results

IN_README = [OURS, "picows", "websockets", "aiohttp", "socketify", FLOOR]
MIB = 1024 * 1024
Parameters = dict[str, object]
# What README.md and the charts compare: a group, what counts of it, and its parameters.
MAIN: list[tuple[str, str, Parameters]] = [
    ("echo", CPU, {"size": 64, "kind": "text", "connections": 100, "window": 1}),
    ("echo", CPU, {"size": 64, "kind": "text", "connections": 100, "window": 32}),
    ("echo", CPU, {"size": MIB, "kind": "binary", "connections": 10, "window": 1}),
    ("echo", CPU, {"size": MIB, "kind": "mixed", "connections": 10, "window": 1}),
    ("broadcast", CPU, {"connections": 1000, "burst": 1, "slow": 0}),
    ("broadcast", CPU, {"connections": 1000, "burst": 16, "slow": 0}),
    ("idle", CPU, {"connections": 10_000, "rates": True}),
    ("idle", MEMORY, {"connections": 10_000, "message": 0}),
]
CHARTS = ["echo-1", "echo-32", "echo-1MiB-binary", "echo-1MiB-text", "broadcast-1", "broadcast-16", "accept", "memory"]


def machine(results: Results) -> str:
    of = results.provenance
    cpu = re.sub(r"\((?:R|TM)\)|\bCPU\b| @ .*", "", str(of["cpu"]))
    gib = round(int(of.get("memory") or 0) / 2**30)
    return f"{' '.join(cpu.split())}, {of['cores_present']} cores{f', {gib} GiB' if gib else ''}, Linux {of['kernel']}"


def commit(results: Results) -> str:
    of = results.provenance
    return f"{str(of.get('commit') or 'of no commit')[:12]}{', modified' if of.get('modified') else ''}"


def kind(server: str) -> str:
    return "ours" if server == OURS else "variant" if is_ours(server) else "floor" if server == FLOOR else "other"


def panel(book: Book, row: Row, servers: list[str], spread: bool) -> charts.Panel:
    found = []
    about = row.about
    for server in servers:
        if values := row.results.figures(row.name, server):
            against = row.results.ratio(row.name, server, OURS)
            beside = "" if against is None or against <= 0 or server == OURS else tables.times(against)
            middle = median(values)
            told = tables.number(middle, about["figure"])
            low, high = (min(values), max(values)) if spread else (middle, middle)
            title = str(book.servers[server].get("title") or server)
            found.append(charts.Bar(title, kind(server), middle, low, high, told, beside))
    found.sort(key=lambda bar: (bar.kind == "floor", bar.value))
    memory = about["figure"] == MEMORY
    scale = "logarithmic scale, less is better" if memory else "shorter is better"
    unit = tables.UNITS[about["figure"]].format(each=about["each"])
    title = str(about["title"])
    return charts.Panel(title[0].upper() + title[1:], f"{unit}; {scale}", found, memory, "B" if memory else "")


def footer(rows: list[Row], spread: bool = False) -> list[str]:
    runs = {id(row.results): row.results for row in rows}
    lines = []
    for results in runs.values():
        when = str(results.provenance["date"])[:10]
        lines.append(f"{when}, commit {commit(results)}, {machine(results)}")
    lines += ["Thin lines go from the least to the greatest of the rounds, bars to the median."] if spread else []
    return [*lines, "× is the ratio to fastws in the same rounds. Made by: python -m bench report"]


def all_charts(book: Book) -> dict[str, str]:
    """By their names."""
    made: dict[str, str] = {}
    main = [
        (name, row) for name, what in zip(CHARTS, MAIN, strict=True) for row in book.find(what[0], what[1], **what[2])
    ]
    for name, row in main:
        one = panel(book, row, book.columns([row]), spread=row.about["figure"] != MEMORY)
        if len(one.bars) > 1:
            made[name] = charts.bars(
                [replace(one, title="")], 1, 760, one.title, footer([row], spread=not one.logarithmic)
            )
    rows = [row for _, row in main]
    servers = [server for server in book.columns(rows) if server in IN_README]
    panels = [panel(book, row, servers, spread=False) for row in rows]
    if panels := [one for one in panels if len(one.bars) > 1]:
        made["overview"] = charts.bars(panels, 2, 1000, "What WebSocket servers take: less is better", footer(rows))
    at = one_latency(book)
    if at and (svg := latency_chart(book, at)):
        made["latency"] = svg
    return made


def one_latency(book: Book) -> Row | None:
    """At one rate for all, if there is such a workload, else at half of what each can do."""
    rows = [*book.find("latency", rate_share=0), *book.find("latency", rate_share=0.5), *book.find("latency")]
    return rows[0] if rows else None


def latency_chart(book: Book, row: Row) -> str:
    found = []
    for server in book.columns([row]):
        if kind(server) == "variant" or row.results.lateness(row.name, server):
            continue
        counts: Counter[float] = Counter()
        for sample in row.results.of(row.name, server):
            for upper, count in (sample.latency or {}).get("histogram", []):
                counts[upper] += count
        if counts:
            title = str(book.servers[server].get("title") or server)
            found.append(charts.Curve(title, kind(server), charts.curve(counts)))
    about = str(row.about["title"])
    subtitle = (
        "Time from when a message should have been sent to its answer, by percentile of the messages; lower is better."
    )
    return charts.curves(found, 900, about[0].upper() + about[1:], subtitle, footer([row])[:-1]) if found else ""
