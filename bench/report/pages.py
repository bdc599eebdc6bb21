"""RESULTS.md and README.md's block, from the tables and charts."""

# ruff: noqa: RUF001

from __future__ import annotations

import re
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from bench.machine import BenchError
from bench.report import tables
from bench.report.pictures import CHARTS, IN_README, MAIN, commit, machine
from bench.report.tables import Book, Row
from bench.results import CPU, MEMORY, Results
from bench.workloads import WORKLOADS

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def filled(text: str) -> str:
    return textwrap.fill(text.strip(), 120, break_long_words=False, break_on_hyphens=False)


READ_IT = filled(f"""
A figure is the median over the rounds; below it stands the ratio to fastws, the median of the ratios within each round,
which cancels what slows a whole round down: it is the one to trust. ×2.0 takes twice what fastws takes, ×0.50 half of
it. Below that stand the least and the greatest of the rounds where they are more than {tables.WIDE:.0%} of the median
apart. **Bold** is the best Python server of a row, whoever it is; the bare C server does no more than it must and is
the floor. A dash: the server has no such feature, or was not measured. [README.md](README.md) tells how all this is
measured and what each server is made to do.
""")


# ---- RESULTS.md ----


def again(rows: list[Row]) -> list[str]:
    """The command that measures just these."""
    names = [row.name for row in rows]
    parts = [name.split("-") for name in names]
    head, tail = common(parts), common([part[::-1] for part in parts])[::-1]
    pattern = "-".join([*head, "*", *tail])
    group = rows[0].about["group"]
    chosen = names
    for choice in (group, pattern):
        if {w.name for w in WORKLOADS.values() if fnmatchcase(w.name, choice) or w.group == choice} == set(names):
            chosen = [choice]
            break
    return ["", f"Again: `python -m bench run --workloads {shlex.join(chosen)} && python -m bench report`"]


def common(parts: list[list[str]]) -> list[str]:
    """What all begin with."""
    found = []
    for together in zip(*parts, strict=False):
        if len(set(together)) > 1:
            break
        found.append(together[0])
    return found


def figures(book: Book, rows: list[Row], title: str = "") -> list[str]:
    """The table, and in a fold the throughputs."""
    if not rows:
        return []
    shared, lines = tables.figures(book, rows)
    about = rows[0].about
    unit = tables.UNITS[about["figure"]].format(each=about["each"])
    lines = [f"**{tables.plain(title or shared or about['title'])}**, {unit}", "", *lines]
    if rates := [row for row in rows if row.about.get("rates")]:
        each = about["each"]
        many = each[:-1] + "ies" if each.endswith("y") else each + "s"
        fold = ["", f"<details><summary>Throughput, {many} per second</summary>", "", *tables.throughputs(book, rates)]
        lines += [*fold, "", "</details>"]
    return lines + again(rows)


def echoes(book: Book) -> Iterator[list[str]]:
    """Tables over the parameters that most of the workloads differ by; those in none of them come first."""
    rows = book.find("echo")
    by_load: dict[tuple[int, int], list[Row]] = {}
    by_content: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        size, kind, connections, window = (
            row.about["parameters"][p] for p in ("size", "kind", "connections", "window")
        )
        by_load.setdefault((window, connections), []).append(row)
        by_content.setdefault((size, kind), []).append(row)
    loads = [by_load[load] for load in sorted(by_load) if len(by_load[load]) > 2]
    content = max(by_content.values(), key=len, default=[])
    tabled = {row.name for table in [*loads, content] for row in table if len(table) > 2}
    main = [
        row for group, figure, parameters in MAIN if group == "echo" for row in book.find(group, figure, **parameters)
    ]
    yield figures(book, [row for row in rows if row.name not in tabled or row in main], "echo, the main comparisons")
    for load in loads:
        yield figures(book, load)
    if len(content) > 2:
        yield figures(book, content)


def latencies(book: Book) -> Iterator[list[str]]:
    for row in book.find("latency"):
        run = f" ({row.run})" if row.run else ""
        yield [f"**{tables.plain(row.about['title'])}**{run}, µs", "", *tables.percentiles(book, row), *again([row])]


def grown(book: Book) -> list[str]:
    rows = book.find("scale")
    whole = [row for row in rows if row.about["parameters"]["connections"] == row.about["parameters"]["active"]]
    if len(rows) < 2 or not whole:
        return []
    base = min(whole, key=lambda row: int(row.about["parameters"]["connections"]))
    left = tables.labels(rows)[1][rows.index(base)]
    return [f"**What each server takes beside itself with {left}**", "", *tables.growth(book, rows, base)]


def handshakes(book: Book) -> Iterator[list[str]]:
    for row in book.find("connect"):
        if any(sample.latency for sample in row.results.samples if sample.workload == row.name):
            yield [
                f"**{tables.plain(row.about['title'])}**, µs until the answer",
                "",
                *tables.percentiles(book, row, lag=False),
            ]


def lost(book: Book) -> list[str]:
    rows = [row for row in book.find("broadcast") if row.about["parameters"].get("slow")]
    lines = tables.each(book, rows, lambda sample: sample.slow_lost) if rows else []
    return ["**Subscribers that do not read, disconnected by the server**", "", *lines] if lines else []


def traffic(book: Book) -> list[str]:
    rows = [row for row in book.find("deflate") if row.about["figure"] != MEMORY]
    lines = tables.each(book, rows, lambda sample: sample.bytes_in / sample.count) if rows else []
    return ["**Bytes from the server per message**, with the headers of frames", "", *lines] if lines else []


def blocking(book: Book, doing: str) -> list[str]:
    """By the server's own clock: `sending` or `receiving`."""
    rows = book.find("deflate", CPU)
    lines = tables.each(book, rows, lambda sample: 1e3 * getattr(sample, doing), 2) if rows else []
    return [f"**How long {doing} one message keeps the server's loop**, ms of CPU", "", *lines] if lines else []


def pictures(names: list[str], made: dict[str, str]) -> list[str]:
    found = [name for name in names if name in made]
    return ["\n".join(f"![{alt(made[name])}](charts/{name}.svg)" for name in found)] if found else []


def alt(svg: str) -> str:
    found = re.search(r"<title[^>]*>(.*?)</title>", svg)
    return found[1] if found else ""


def results_page(book: Book, made: dict[str, str]) -> str:
    of = book.find
    lines = ["# Results", "", f"<!-- Made by `python -m bench report`, from {', '.join(sources(book))}. -->", ""]
    for letter, (name, results) in book.runs.items():
        lines += [origin(results, name, letter if len(book.runs) > 1 else ""), ""]
    lines += [READ_IT, ""]
    sections: dict[str, list[list[str]]] = {
        "Echo": [pictures(CHARTS[:4], made), *echoes(book)],
        "Broadcast": [pictures(CHARTS[4:6], made), figures(book, of("broadcast")), lost(book)],
        "Connecting": [
            pictures(["accept"], made),
            figures(book, of("connect")),
            figures(book, of("idle", CPU, rates=True)),
            *handshakes(book),
        ],
        "Memory of idle connections": [pictures(["memory"], made), figures(book, of("idle", MEMORY))],
        "Pings": [figures(book, of("idle", CPU, rates=False))],
        "Latency": [pictures(["latency"], made), *latencies(book)],
        "Scale": [figures(book, of("scale")), grown(book)],
        "Compression": [
            *(figures(book, of("deflate", CPU, each=each)) for each in ("message", "delivery")),
            figures(book, of("deflate", MEMORY)),
            traffic(book),
            blocking(book, "sending"),
            blocking(book, "receiving"),
        ],
    }
    for title, bodies in sections.items():
        if told := [body for body in bodies if body]:
            lines += [f"## {title}", ""]
            for body in told:
                lines += [*body, ""]
    return "\n".join(lines + missing(book)).rstrip() + "\n"


def sources(book: Book) -> list[str]:
    return [name for name, _ in book.runs.values()]


def took(results: Results) -> str:
    # Samples that serve two workloads have been taken once.
    seconds = sum({(s.server, s.round, s.elapsed, s.server_cpu): s.elapsed for s in results.samples}.values())
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"


def rounds(results: Results) -> str:
    """Of the run, and of the servers that mostly have fewer: those may be left out of a later command of it."""
    whole = int(results.settings["rounds"])
    fewer: dict[int, list[str]] = {}
    for server in results.servers:
        taken = Counter(Counter(s.workload for s in results.samples if s.server == server).values())
        if taken and (usual := taken.most_common(1)[0][0]) < whole:
            fewer.setdefault(usual, []).append(server)
    few = "; ".join(f"{count} of {', '.join(servers)}" for count, servers in sorted(fewer.items()))
    return f"{whole} ({few})" if few else str(whole)


def server_named(about: dict[str, Any]) -> str:
    title = f"[{about['title']}]({about['link']})" if about.get("link") else str(about["title"])
    return f"{title} {about.get('version') or ''}".rstrip()


def origin(results: Results, name: str, letter: str) -> str:
    of, settings = results.provenance, results.settings
    told = {str(about.get("title") or name) for name, about in results.servers.items()}
    others = sorted(of["versions"].items(), key=lambda item: item[0].lower())
    versions = ", ".join(f"{package} {version}" for package, version in others if package not in told)
    items = {
        "machine": f"{machine(results)}; server on core {of['cores'][0]}, generator on core {of['cores'][1]}",
        "commit": f"{commit(results)}; build {of.get('build') or 'unknown'}",
        "date": f"{of['date']}, {took(results)} in all",
        "rounds": f"{rounds(results)}, of {settings.get('seconds')} s where the workload has no end of its own",
        "command": f"`{tables.without_paths(of['command'])}`",
        "servers": ", ".join(server_named(about) for about in results.servers.values()),
        "other versions": versions,
        "compiler": str(of.get("compiler") or "unknown"),
        "all samples": f"[{name}](results/{name})",
    }
    head = f"Run {letter}" if letter else "One run"
    return f"{head}:\n\n" + "\n".join(f"- {what}: {value}" for what, value in items.items())


def missing(book: Book) -> list[str]:
    """What was not measured, and why."""
    lines = []
    for letter, (_, results) in book.runs.items():
        run = f" ({letter})" if len(book.runs) > 1 else ""
        lines += [f"- {name}{run}: {tables.plain(tables.without_paths(why))}" for name, why in results.skipped.items()]
        found = Counter(
            (f["server"], f["workload"], tables.plain(tables.without_paths(str(f["error"])))) for f in results.failures
        )
        for (server, workload, error), count in found.items():
            rounds = f"{count} round{'s' if count > 1 else ''}"
            lines.append(f"- {server}, `{workload}`{run}, {rounds}: {error}")
    return ["## Skipped and failed", "", *(lines or ["Nothing."]), ""]


# ---- README.md ----


def readme_block(book: Book, made: dict[str, str]) -> str:
    rows = [row for group, figure, parameters in MAIN for row in book.find(group, figure, **parameters)]
    if not rows:
        raise BenchError("these results have none of the workloads of README.md's table: run --quick takes them")
    own = Book(book.runs.values())
    own.servers = {name: about for name, about in book.servers.items() if name in IN_README}
    lines = tables.figures(own, rows, spread=False, full=True)[1]
    runs = {id(row.results): row.results for row in rows}.values()
    first = next(iter(runs))
    taken = "; ".join(f"{machine(run)}, {str(run.provenance['date'])[:10]}, commit {commit(run)}" for run in runs)
    text = filled(f"""
Server CPU in µs (per message, delivery or connection) and memory in bytes: medians of {first.settings.get("rounds")}
rounds, and below them the ratio to fastws, taken within each round: ×2.0 takes twice as much. Bold is the best Python
server of these; the bare C server, which does not even look at the text, is the floor. CPython
{first.provenance["versions"].get("CPython", "")}, {taken}. It is made again by `python -m bench run --quick && python
-m bench report`; [bench/RESULTS.md](bench/RESULTS.md) has everything else that was measured, and the spread.
""")
    shown = [f"![{alt(made[name])}](bench/charts/{name}.svg)" for name in ("overview", "latency") if made.get(name)]
    return "\n".join([BEGIN, text, "", *lines, "", *"\n\n".join(shown).splitlines(), END])
