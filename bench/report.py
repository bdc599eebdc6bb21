"""`python -m bench report`: RESULTS.md, the charts and README.md's figures, from the files of results."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import charts, tables
from bench.machine import BENCH, BenchError
from bench.results import FLOOR, FOLDER, LATENCY, MEMORY, Results
from bench.tables import OURS, Book, Row, is_ours

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
IN_README = [OURS, "picows", "websockets", "aiohttp", "socketify", FLOOR]
KIB, MIB = 1024, 1024 * 1024
Parameters = dict[str, object]
# What README.md and the charts compare: a group, what counts of it, and its parameters.
MAIN: list[tuple[str, str, Parameters]] = [
    ("echo", "cpu", {"size": 64, "kind": "text", "connections": 100, "window": 1}),
    ("echo", "cpu", {"size": 64, "kind": "text", "connections": 100, "window": 32}),
    ("echo", "cpu", {"size": MIB, "kind": "binary", "connections": 10, "window": 1}),
    ("echo", "cpu", {"size": MIB, "kind": "mixed", "connections": 10, "window": 1}),
    ("broadcast", "cpu", {"connections": 1000, "burst": 1, "slow": 0}),
    ("broadcast", "cpu", {"connections": 1000, "burst": 16, "slow": 0}),
    ("idle", "cpu", {"connections": 10_000, "ping": 0}),
    ("idle", "memory", {"connections": 10_000, "message": 0}),
]
CHARTS = ["echo-1", "echo-32", "echo-1MiB-binary", "echo-1MiB-text", "broadcast-1", "broadcast-16", "accept", "memory"]
READ_IT = f"""
A figure is the median over the rounds; below it stands the ratio to fastws, the median of the ratios within each round,
which cancels what slows a whole round down: it is the one to trust. ×2.0 takes twice what fastws takes, ×0.50 half of
it. Below that stand the least and the greatest of the rounds where they are more than {tables.WIDE:.0%} of the median
apart. **Bold** is the best Python server of a row, whoever it is; the bare C server does no more than it must and is
the floor. A dash: the server has no such feature, or was not measured. [README.md](README.md) tells how all this is
measured and what each server is made to do.
""".strip().replace("\n", " ")


# ---- RESULTS.md ----


def command(*workloads: str) -> str:
    return f"`python -m bench run {' '.join(workloads)} && python -m bench report`"


def section(title: str, *bodies: list[str], again: str) -> list[str]:
    lines = [f"## {title}", ""]
    for body in bodies:
        lines += [*body, ""] if body else []
    return [*lines, again, ""]


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
    return lines


def echoes(book: Book) -> Iterator[list[str]]:
    """Tables over the parameters that most of the workloads differ by; those in none of them come first."""
    rows = book.find("echo")
    by_load: dict[tuple[int, int], list[Row]] = {}
    by_content: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        size, kind, connections, window = (row.about["parameters"][p] for p in ("size", "kind", "connections", "window"))
        by_load.setdefault((window, connections), []).append(row)
        by_content.setdefault((size, kind), []).append(row)
    loads = [by_load[load] for load in sorted(by_load) if len(by_load[load]) > 2]
    content = max(by_content.values(), key=len, default=[])
    tabled = {row.name for table in [*loads, content] for row in table if len(table) > 2}
    yield figures(book, [row for row in rows if row.name not in tabled], "echo, the main comparisons")
    for load in loads:
        yield figures(book, load)
    if len(content) > 2:
        yield figures(book, content)


def latencies(book: Book) -> Iterator[list[str]]:
    for row in book.find("latency"):
        run = f" ({row.run})" if row.run else ""
        yield [f"**{tables.plain(row.about['title'])}**{run}, µs", "", *tables.percentiles(book, row)]


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
            yield [f"**{tables.plain(row.about['title'])}**, µs until the answer", ""] + tables.percentiles(
                book, row, lag=False
            )


def lost(book: Book) -> list[str]:
    rows = [row for row in book.find("broadcast") if row.about["parameters"].get("slow")]
    lines = tables.each(book, rows, lambda sample: sample.slow_lost) if rows else []
    return ["**Subscribers that do not read, disconnected by the server**", "", *lines] if lines else []


def traffic(book: Book) -> list[str]:
    rows = [row for row in book.find("deflate") if row.about["figure"] != MEMORY]
    lines = tables.each(book, rows, lambda sample: sample.bytes_in / sample.count) if rows else []
    return ["**Bytes from the server per message**, with the headers of frames", "", *lines] if lines else []


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
    sections: list[tuple[str, list[list[str]], str]] = [
        ("Echo", [pictures(CHARTS[:4], made), *echoes(book)], command("echo")),
        (
            "Broadcast",
            [pictures(CHARTS[4:6], made), figures(book, of("broadcast")), lost(book)],
            command("broadcast"),
        ),
        (
            "Connecting",
            [
                pictures(["accept"], made),
                figures(book, of("connect")),
                figures(book, of("idle", "cpu", ping=0)),
                *handshakes(book),
            ],
            command("connect", "'accept-*'"),
        ),
        (
            "Memory of idle connections",
            [pictures(["memory"], made), figures(book, of("idle", MEMORY))],
            command("'idle-*'"),
        ),
        ("Pings", [figures(book, [row for row in of("idle", "cpu") if row not in of("idle", "cpu", ping=0)])], command("'ping-*'")),
        ("Latency", [pictures(["latency"], made), *latencies(book)], command("latency")),
        ("Scale", [figures(book, of("scale")), grown(book)], command("scale")),
        (
            "Compression",
            [*(figures(book, of("deflate", figure)) for figure in ("cpu", MEMORY)), traffic(book)],
            command("deflate"),
        ),
    ]
    known = {row.about["group"] for row in book.rows} - {"echo", "broadcast", "connect", "idle", "latency", "scale", "deflate"}
    sections += [(group.capitalize(), [figures(book, of(group))], command(group)) for group in sorted(known)]
    for title, bodies, again in sections:
        if any(bodies):
            lines += section(title, *bodies, again=again)
    return "\n".join(lines + missing(book)).rstrip() + "\n"


def sources(book: Book) -> list[str]:
    return [name for name, _ in book.runs.values()]


def machine(results: Results) -> str:
    of = results.provenance
    cpu = re.sub(r"\((?:R|TM)\)|\bCPU\b| @ .*", "", str(of["cpu"]))
    gib = round(int(of.get("memory") or 0) / 2**30)
    return f"{' '.join(cpu.split())}, {of['cores_present']} cores{f', {gib} GiB' if gib else ''}, Linux {of['kernel']}"


def commit(results: Results) -> str:
    of = results.provenance
    return f"{str(of.get('commit') or 'of no commit')[:12]}{', modified' if of.get('modified') else ''}"


def took(results: Results) -> str:
    # Samples that serve two workloads have been taken once.
    seconds = sum({(s.server, s.round, s.elapsed, s.server_cpu): s.elapsed for s in results.samples}.values())
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"


def origin(results: Results, name: str, letter: str) -> str:
    of, settings = results.provenance, results.settings
    versions = ", ".join(f"{package} {version}" for package, version in sorted(of["versions"].items()))
    items = {
        "machine": f"{machine(results)}; server on core {of['cores'][0]}, generator on core {of['cores'][1]}",
        "commit": f"{commit(results)}; build {of.get('build') or 'unknown'}",
        "date": f"{of['date']}, {took(results)} in all",
        "rounds": f"{settings.get('rounds')}, of {settings.get('seconds')} s where the workload has no end of its own",
        "command": f"`{tables.without_paths(of['command'])}`",
        "versions": versions,
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


# ---- charts ----


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


def footer(rows: list[Row]) -> list[str]:
    runs = {id(row.results): row.results for row in rows}
    lines = []
    for results in runs.values():
        when = str(results.provenance["date"])[:10]
        lines.append(f"{when}, commit {commit(results)}, {machine(results)}")
    return [*lines, "× is the ratio to fastws in the same rounds. Made by: python -m bench report"]


def all_charts(book: Book) -> dict[str, str]:
    """By their names."""
    made: dict[str, str] = {}
    main = [(name, row) for name, what in zip(CHARTS, MAIN, strict=True) for row in book.find(what[0], what[1], **what[2])]
    for name, row in main:
        one = panel(book, row, book.columns([row]), spread=True)
        if len(one.bars) > 1:
            told = one.title
            made[name] = charts.bars([charts.Panel("", one.subtitle, one.bars, one.logarithmic, one.unit)], 1, 760, told, footer([row]))
    rows = [row for _, row in main]
    servers = [server for server in book.columns(rows) if kind(server) != "variant"]
    panels = [panel(book, row, servers, spread=False) for row in rows]
    if panels := [one for one in panels if len(one.bars) > 1]:
        made["overview"] = charts.bars(panels, 2, 1000, "What a WebSocket server takes: shorter is better", footer(rows))
    if row := one_latency(book):
        made["latency"] = latency_chart(book, row)
    return made


def one_latency(book: Book) -> Row | None:
    """At one rate for all, if there is such a workload, else at half of what each can do."""
    rows = book.find("latency")
    return next(iter([r for r in rows if not r.about["parameters"].get("rate_share")] + book.find("latency", rate_share=0.5) + rows), None)


def latency_chart(book: Book, row: Row) -> str:
    found = []
    for server in book.columns([row]):
        counts: Counter[float] = Counter()
        for sample in row.results.of(row.name, server):
            for upper, count in (sample.latency or {}).get("histogram", []):
                counts[upper] += count
        if counts:
            title = str(book.servers[server].get("title") or server)
            found.append(charts.Curve(title, kind(server), charts.curve(counts)))
    about = str(row.about["title"])
    subtitle = "Time from when a message should have been sent to its answer, by percentile of the messages; lower is better."
    return charts.curves(found, 900, about[0].upper() + about[1:], subtitle, footer([row])[:-1]) if found else ""


# ---- README.md ----


def readme_block(book: Book, made: dict[str, str]) -> str:
    rows = [row for group, figure, parameters in MAIN for row in book.find(group, figure, **parameters)]
    if not rows:
        raise BenchError("these results have none of the workloads of README.md's table: run --quick takes them")
    own = Book([run for run in book.runs.values()])
    own.servers = {name: about for name, about in book.servers.items() if name in IN_README}
    lines = tables.figures(own, rows, spread=False, units=True)[1]
    runs = {id(row.results): row.results for row in rows}.values()
    first = next(iter(runs))
    taken = "; ".join(f"{machine(run)}, {str(run.provenance['date'])[:10]}, commit {commit(run)}" for run in runs)
    text = f"""
Server CPU in µs (per message, delivery or connection) and memory in bytes: medians of {first.settings.get("rounds")}
rounds, and the ratio to fastws within them: ×2.0 takes twice as much. Bold is the best Python server; the bare C server
is the floor. CPython {first.provenance["versions"].get("CPython", "")}, {taken}. It is made again by
`python -m bench run --quick && python -m bench report`; [bench/RESULTS.md](bench/RESULTS.md) has everything else that
was measured: all sizes, loads and servers, latency, and the spread.
""".strip().replace("\n", " ")
    shown = [f"![{alt(made[name])}](bench/charts/{name}.svg)" for name in ("overview", "latency") if made.get(name)]
    return "\n".join([BEGIN, text, "", *lines, "", *"\n\n".join(shown).splitlines(), END])


def with_block(readme: str, block: str) -> str:
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise BenchError(f"README.md needs {BEGIN} and, below it, {END}, once each")
    return readme[: readme.index(BEGIN)] + block + readme[readme.index(END) + len(END) :]


# ---- command ----


def committed() -> list[Path]:
    """The results that git knows, all that there are where it knows nothing."""
    listed = subprocess.run(["git", "ls-files", "-z", "."], cwd=FOLDER, capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name.endswith(".json")] if not listed.returncode else []
    return sorted(FOLDER / name for name in names) if names else sorted(FOLDER.glob("*.json"))


def outputs(files: list[Path], root: Path) -> dict[Path, str]:
    """What the results give, by file."""
    book = Book([(file.name, Results.load(file)) for file in files])
    if not book.rows:
        raise BenchError("these files hold no sample")
    made = {name: svg for name, svg in all_charts(book).items() if svg}
    readme = root / "README.md"
    return {
        root / "bench" / "RESULTS.md": results_page(book, made),
        readme: with_block(readme.read_text(), readme_block(book, made)),
        **{root / "bench" / "charts" / f"{name}.svg": svg for name, svg in made.items()},
    }


def stale(root: Path, wanted: dict[Path, str]) -> list[Path]:
    """Charts that nothing makes any more."""
    return sorted(path for path in (root / "bench" / "charts").glob("*.svg") if path not in wanted)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="of results (default: all of bench/results)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the committed files say otherwise")


def main(options: argparse.Namespace, root: Path = BENCH.parent) -> int:
    files = options.files or (committed() if options.check else sorted(FOLDER.glob("*.json")))
    if not files:
        raise BenchError("there are no results: python -m bench run")
    wanted = outputs(files, root)
    if options.check:
        wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        for path in wrong + stale(root, wanted):
            print(f"{path.relative_to(root)} is not what the results give: python -m bench report", file=sys.stderr)
        return int(bool(wrong + stale(root, wanted)))
    for path in stale(root, wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(root))
    return 0
