"""What was measured, as tables in Markdown: servers are columns, workloads are rows."""

# ruff: noqa: RUF001

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from statistics import median
from typing import Any

from bench.results import CPU, FLOOR, LATENCY, MEMORY, Results

OURS = "fastws"
WIDE = 0.1  # of the median: from where on the spread is told
UNITS = {CPU: "µs of server CPU per {each}", MEMORY: "bytes per {each}", LATENCY: "µs until the answer, median"}


# ---- what there is ----


@dataclass(frozen=True)
class Row:
    """A workload in the run that it is told from."""

    name: str
    results: Results
    run: str = ""  # the letter of that run, where there are several

    @property
    def about(self) -> dict[str, Any]:
        about: dict[str, Any] = self.results.workloads[self.name]
        return about

    def is_like(self, group: str, figure: str, parameters: dict[str, object]) -> bool:
        about = self.about
        if about["group"] != group or (figure and about["figure"] != figure):
            return False
        return all(self.value(name) == value for name, value in parameters.items())

    def value(self, parameter: str) -> object:
        """Of a parameter, or an option of the generator; 0 if the workload names neither."""
        options = self.about["command"]
        if f"--{parameter}" in options[:-1]:
            return int(options[options.index(f"--{parameter}") + 1])
        return self.about["parameters"].get(parameter, self.about.get(parameter, 0))


class Book:
    """Several runs. A workload is told from the newest that has it, never from two: only ratios within a run count."""

    def __init__(self, runs: Iterable[tuple[str, Results]]) -> None:
        dated = sorted(runs, key=lambda run: (str(run[1].provenance["date"]), run[0]))
        newest = {name: run for run in dated for name in _taken(run[1])}
        kept = [run for run in dated if any(run is chosen for chosen in newest.values())]
        self.runs = {chr(ord("A") + i): run for i, run in enumerate(kept)}
        letters = {id(run): letter if len(kept) > 1 else "" for letter, run in self.runs.items()}
        rows = [Row(name, run[1], letters[id(run)]) for name, run in newest.items()]
        order = [name for _, results in dated for name in results.workloads]
        self.rows = sorted(rows, key=lambda row: order.index(row.name))
        self.servers: dict[str, dict[str, Any]] = {}
        for _, results in kept:
            self.servers |= results.servers

    def find(self, group: str, figure: str = "", **parameters: object) -> list[Row]:
        return [row for row in self.rows if row.is_like(group, figure, parameters)]

    def columns(self, rows: list[Row]) -> list[str]:
        """The servers of a table: ours and its variants, then by what they take beside ours, the floor last."""
        found = [name for name in self.servers if any(row.results.of(row.name, name) for row in rows)]

        def rank(name: str) -> tuple[int, float]:
            if is_ours(name):
                return (0, float(name != OURS))
            against = [r for row in rows if (r := row.results.ratio(row.name, name, OURS)) is not None]
            figures = [f for row in rows if (f := row.results.figure(row.name, name)) is not None]
            return (2 if name == FLOOR else 1, median(against or figures))

        return sorted(found, key=rank)

    def is_python(self, server: str) -> bool:
        return bool(self.servers[server].get("language") == "Python")


def _taken(results: Results) -> set[str]:
    return {sample.workload for sample in results.samples} & set(results.workloads)


def is_ours(server: str) -> bool:
    return server == OURS or server.startswith(OURS + "-")


# ---- words ----


def number(value: float, figure: str = CPU) -> str:
    if figure == MEMORY or abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 0.995 else f"{value:.1f}"


def times(ratio: float) -> str:
    return f"×{ratio:.2f}" if ratio < 1.995 else f"×{ratio:.1f}" if ratio < 99.95 else f"×{ratio:,.0f}"


def rate(value: float) -> str:
    """Three digits: more are noise."""
    digits = len(str(int(value))) - 3
    return f"{round(value, -digits):,.0f}"


def without_paths(text: str) -> str:
    """An error in one line, with the names of files but not where they lie."""
    line = re.sub(r"(?<![\w/:])(?:/[\w.@+-]+)+/(?=[\w.])", "", " ".join(text.split()))
    return line if len(line) <= 200 else line[:199] + "…"


def plain(text: str) -> str:
    """Safe in a cell."""
    return escape(text, quote=False).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def labels(rows: list[Row]) -> tuple[str, list[str]]:
    """The parts that all titles share, and what is left of each."""
    split = [row.about["title"].split(", ") for row in rows]
    shared = [part for part in split[0] if all(part in parts for parts in split)]
    if len(rows) == 1:
        return split[0][0], [", ".join(split[0])]
    left = [", ".join(part for part in parts if part not in shared) or parts[0] for parts in split]
    return ", ".join(shared), left


@dataclass
class Notes:
    """Footnotes of one table; equal ones share their mark."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"<sup>{self.texts.index(text) + 1}</sup>"

    def lines(self) -> list[str]:
        if not self.texts:
            return []
        return ["", "<br>\n".join(f"<sup>{i}</sup> {text}" for i, text in enumerate(self.texts, 1))]


# ---- tables ----


def grid(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def heads(book: Book, servers: list[str], full: bool = False) -> list[str]:
    """With links and versions only where they do not stand elsewhere already."""
    found = []
    for name in servers:
        about = book.servers[name]
        title = plain(str(about.get("title") or name))
        head = f"[{title}]({about['link']})" if about.get("link") and full else title
        version = about.get("version") if full else ""
        found.append(f"{head}<br><sub>{plain(str(version))}</sub>" if version else head)
    return found


def best(row: Row, book: Book, servers: list[str]) -> set[str]:
    """Who has the least figure of the Python servers, whoever it is; several, if they do not differ as printed."""
    figure = row.about["figure"]
    found = {s: f for s in servers if book.is_python(s) and (f := row.results.figure(row.name, s)) is not None}
    if len(found) < 2:
        return set()
    least = number(min(found.values()), figure)
    return {server for server, value in found.items() if number(value, figure) == least}


def failures(row: Row, server: str, notes: Notes) -> str:
    """The mark of the rounds that failed; none, none."""
    failed = [f for f in row.results.failures if f["workload"] == row.name and f["server"] == server]
    if not failed:
        return ""
    done = len(row.results.of(row.name, server))
    rounds = f"{len(failed)} of {len(failed) + done} rounds" if done else "it"
    return notes.mark(f"{rounds} failed: {plain(without_paths(str(failed[0]['error'])))}")


def figures(book: Book, rows: list[Row], spread: bool = True, full: bool = False) -> tuple[str, list[str]]:
    """The table of what counts of these workloads, and what its rows have in common: the median, the ratio to ours, and
    the spread where it is wide. `full`: on its own, with units, versions and links."""
    servers, notes = book.columns(rows), Notes()
    shared, names = labels(rows)
    if full:
        names = [f"{row.about['title']}, {'bytes' if row.about['figure'] == MEMORY else 'µs'}" for row in rows]

    def cell(row: Row, server: str, bold: bool) -> str:
        values = row.results.figures(row.name, server)
        mark = failures(row, server, notes)
        if not values:
            return f"failed{mark}" if mark else "–"
        figure, middle = row.about["figure"], median(values)
        text = number(middle, figure)
        lines = [(f"**{text}**" if bold else text) + mark]
        against = row.results.ratio(row.name, server, OURS)
        if against is not None and against > 0 and server != OURS:
            lines.append(f"<sub>{times(against)}</sub>")
        if spread and max(values) - min(values) > WIDE * abs(middle):
            lines.append(f"<sub>{number(min(values), figure)}–{number(max(values), figure)}</sub>")
        return "<br>".join(lines)

    lines = []
    for row, name in zip(rows, names, strict=True):
        bold = best(row, book, servers)
        note = row.results.disturbance(row.name)
        quiet = notes.mark(f"Not quiet, take with care: {'; '.join(disturbances(rows))}.") if note else ""
        run = f" ({row.run})" if row.run else ""
        lines.append([plain(name) + run + quiet, *(cell(row, server, server in bold) for server in servers)])
    return shared, grid(["", *heads(book, servers, full)], lines) + notes.lines()


def disturbances(rows: list[Row]) -> list[str]:
    """One line for a whole table: who waited, and how much at the worst."""
    worst: dict[str, int] = {}
    for row in rows:
        for server, share in re.findall(r"([\w-]+) (\d+)%", row.results.disturbance(row.name)):
            worst[server] = max(worst.get(server, 0), int(share))
    return [f"servers waited for their core ({', '.join(f'{s} up to {p}%' for s, p in worst.items())})"]


def throughputs(book: Book, rows: list[Row]) -> list[str]:
    """Per second, where it counts; else the mark of the reason why not, which stands below with its range."""
    servers = book.columns(rows)
    reasons: dict[str, list[int]] = {}

    def marks(objection: str) -> str:
        found = []
        for reason in objection.split(" and "):
            share = re.search(r"was at (\d+)%", reason)
            kind = reason.replace(share[0], "was at #") if share else reason
            shares = reasons.setdefault(kind, [])
            shares.extend([int(share[1])] if share else [])
            found.append(str(list(reasons).index(kind) + 1))
        return f"–<sup>{', '.join(sorted(found))}</sup>"

    def cell(row: Row, server: str) -> str:
        if not row.results.of(row.name, server):
            return ""
        reached = row.results.throughput(row.name, server)
        return rate(reached) if reached is not None else marks(row.results.objection(row.name, server))

    body = [
        [plain(name), *(cell(row, server) for server in servers)]
        for row, name in zip(rows, labels(rows)[1], strict=True)
    ]
    notes = []
    for i, (kind, shares) in enumerate(reasons.items(), 1):
        span = (
            f"{min(shares)} to {max(shares)}%" if shares and min(shares) < max(shares) else f"{min(shares, default=0)}%"
        )
        notes.append(f"<sup>{i}</sup> It does not count: {plain(kind.replace('#', span))}.")
    return grid(["", *heads(book, servers)], body) + (["", "<br>\n".join(notes)] if notes else [])


def percentiles(book: Book, row: Row, lag: bool = True) -> list[str]:
    """The latencies of one workload: servers are rows. A percentile is the median over the rounds, the maximum the
    greatest of all. Bold as elsewhere, unless each server had another rate to bear. `lag`: of an open loop."""
    servers, notes = book.columns([row]), Notes()
    taken = {server: [s for s in row.results.of(row.name, server) if s.latency] for server in servers}
    reasons = {server: row.results.lateness(row.name, server) if lag else "" for server in servers}
    told: dict[str, list[float]] = {}
    for server, samples in taken.items():
        if samples and not reasons[server]:
            parts = [[s.latency[f"{p}_us"] for s in samples if s.latency] for p in ("p50", "p99", "p999", "max")]
            told[server] = [*map(median, parts[:3]), max(parts[3])]
    python = [parts for server, parts in told.items() if book.is_python(server)]
    compared = len(python) > 1 and not row.value("rate_share")
    least = [f"{min(column):,.0f}" if compared else "" for column in zip(*python, strict=True)]

    def cells(server: str) -> list[str]:
        if server not in told:
            reason = notes.mark(f"It does not count: {reasons[server]}.")
            return [f"–{reason}"] * 4
        texts = [f"{part:,.0f}" for part in told[server]]
        if not book.is_python(server):
            return texts
        return [f"**{text}**" if text == best else text for text, best in zip(texts, least, strict=True)]

    lines = []
    for server, samples in taken.items():
        if samples:
            offered = median(s.asked_rate or s.rate for s in samples)
            lags = [s.lag["p99_us"] for s in samples if s.lag]
            end = [f"{median(lags):,.0f}" if lags else "–"] if lag else []
            head = heads(book, [server])[0] + failures(row, server, notes)
            lines.append([head, rate(offered), *cells(server), *end])
    names = ["", "offered per second" if lag else "per second", "p50", "p99", "p99.9", "max"]
    return grid([*names, *(["generator's lag, p99"] if lag else [])], lines) + notes.lines()


def growth(book: Book, rows: list[Row], base: Row) -> list[str]:
    """What each server takes beside itself in `base`: the median over the rounds."""
    servers = book.columns([base])

    def cell(row: Row, server: str) -> str:
        figure = row.about["figure"]
        before = {s.round: s.figure(figure) for s in base.results.of(base.name, server)}
        found = [
            s.figure(figure) / before[s.round] for s in row.results.of(row.name, server) if before.get(s.round, 0) > 0
        ]
        return times(median(found)) if found else "–"

    others = [row for row in rows if row is not base and row.results is base.results]
    names = dict(zip((row.name for row in rows), labels(rows)[1], strict=True))
    body = [[plain(names[row.name]), *(cell(row, server) for server in servers)] for row in others]
    return grid(["", *heads(book, servers)], body)


def each(book: Book, rows: list[Row], value: Callable[[Any], float], digits: int = 0) -> list[str]:
    """Any other figure of the samples, without ratios; rows and servers of which it is 0 are left out."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        for server in book.columns(rows):
            if taken := row.results.of(row.name, server):
                found.setdefault(row.name, {})[server] = median(value(s) for s in taken)
    names = dict(zip((row.name for row in rows), labels(rows)[1], strict=True))
    told = {name: values for name, values in found.items() if any(values.values())}
    if not told:
        return []
    servers = [s for s in book.columns(rows) if any(s in values for values in told.values())]
    body = [
        [plain(names[name]), *(f"{values[s]:,.{digits}f}" if s in values else "–" for s in servers)]
        for name, values in told.items()
    ]
    return grid(["", *heads(book, servers)], body)
