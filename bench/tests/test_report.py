"""What is reported is what was measured, and nothing that does not count."""

# ruff: noqa: RUF001

from __future__ import annotations

import argparse
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.machine import BENCH, BenchError
from bench.report import charts, pages, pictures, tables
from bench.report.tables import Book
from bench.results import Results, Sample
from bench.workloads import QUICK, STANDARD, WORKLOADS, chosen

SVG = "{http://www.w3.org/2000/svg}"
NAMES = {"fastws": "Python", "fastws-views": "Python", "picows": "Python", "ws": "JavaScript", "bare": "C"}
README = f"before\n{pages.BEGIN}\nwhat was there\n{pages.END}\nafter\n"
# Microseconds of CPU in three rounds; the ratios within them are 2, 4 and 3, the ratio of the medians is 2.5.
OURS, PEER = [1.0, 2.0, 4.0], [2.0, 8.0, 12.0]


def sample(workload: str, server: str, number: int, us: float = 5.0, **changes: Any) -> Sample:
    """At the limit of the server's core, and not of the generator's."""
    count = round(0.97e6 / us)
    busy = {"server_cpu": us * count / 1e6, "server_wait": 0.0, "generator_cpu": 0.5, "memory": 400 * count}
    return Sample(workload, server, number, count, 1.0, **({**busy, **changes}))


def made(workloads: list[str], samples: list[Sample], **changes: Any) -> Results:
    provenance = {
        "date": "2026-11-22T10:00:00+00:00",
        "commit": "0123456789abcdef",
        "modified": False,
        "build": "b",
        "command": "python -m bench run",
        "cpu": "Some CPU",
        "cores_present": 2,
        "cores": [0, 1],
        "memory": 2**34,
        "kernel": "6.1",
        "compiler": "cc 12",
        "versions": {"CPython": "3.11", "picows": "2.3.1"},
    }
    servers = {
        name: {"title": name, "language": language, "link": "", "version": "1.0", "features": []}
        for name, language in NAMES.items()
    }
    described = {name: WORKLOADS[name].described() for name in workloads}
    return replace(
        Results(provenance, {"rounds": 3, "seconds": 1.0}, described, servers, samples),
        **changes,
    )


def compared(workload: str = QUICK[0], **changes: Any) -> list[Sample]:
    """Three rounds of ours, a peer, which is `changes`, and the floor."""
    ours = [sample(workload, "fastws", i, us) for i, us in enumerate(OURS)]
    peer = [sample(workload, "picows", i, us, **changes) for i, us in enumerate(PEER)]
    return ours + peer + [sample(workload, "bare", i, 0.5) for i in range(3)]


def rows_of(lines: list[str]) -> dict[str, dict[str, str]]:
    """The cells of a table by the names of row and column."""
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    head = [re.sub(r"<br>.*", "", cell).strip("| ") for cell in table[0]]
    return {row[0].strip(): dict(zip(head, row, strict=True)) for row in table[2:]}


def only(lines: list[str]) -> dict[str, str]:
    (row,) = rows_of(lines).values()
    return row


TOLD = [work.name for work in WORKLOADS.values() if work.name in STANDARD or work.group == "deflate"]


def whole() -> Results:
    """All standard workloads, and those of compression, small."""
    latency = {f"{p}_us": 10.0 * i for i, p in enumerate(("p50", "p90", "p99", "p999", "max"), 1)}
    latency["histogram"] = [[10.0 * i, 1000 // i] for i in range(1, 40)]  # type: ignore[assignment]
    samples = []
    for name in TOLD:
        work = WORKLOADS[name]
        for at, server in enumerate(NAMES):
            for number in range(2):
                more: dict[str, Any] = {}
                if work.group in ("latency", "connect"):
                    more = {"latency": latency, "lag": {"p99_us": 1.0}, "asked_rate": 0.97e6 / (at + 3)}
                if "timed" in work.needs:
                    more = {"sending": 0.00063, "receiving": 0.00028}
                samples.append(sample(name, server, number, 3.0 + at, slow_lost=number, bytes_in=900, **more))
    return made(TOLD, samples, skipped={"tornado": "it is not here"})


# ---- figures ----


def test_medians_and_ratios_within_rounds() -> None:
    book = Book([("x.json", made(QUICK[:1], compared()))])
    row = only(tables.figures(book, book.rows)[1])
    assert row["fastws"] == "**2.0**<br><sub>1.0–4.0</sub>"
    assert row["picows"] == "8.0<br><sub>×3.0</sub><br><sub>2.0–12.0</sub>"  # not 4.0, of the medians
    assert row["bare"] == "0.50<br><sub>×0.25</sub>"


def test_the_best_python_server_is_bold_whoever_it_is() -> None:
    samples = [sample(QUICK[0], server, 0, us) for server, us in (("fastws", 3.0), ("picows", 2.0), ("ws", 1.0))]
    book = Book([("x.json", made(QUICK[:1], samples))])
    assert {s: "**" in text for s, text in only(tables.figures(book, book.rows)[1]).items() if s in NAMES} == {
        "fastws": False,
        "picows": True,
        "ws": False,
    }


def test_columns_begin_with_ours_and_end_with_the_floor() -> None:
    costs = {"bare": 1.0, "ws": 2.0, "picows": 9.0, "fastws-views": 6.0, "fastws": 5.0}
    book = Book([("x.json", made(QUICK[:1], [sample(QUICK[0], s, 0, us) for s, us in costs.items()]))])
    assert book.columns(book.rows) == ["fastws", "fastws-views", "ws", "picows", "bare"]


def test_failed_and_missing_servers() -> None:
    failed = [{"workload": QUICK[0], "server": "ws", "round": i, "error": "/some/where/x.py: a|b\nc"} for i in range(2)]
    failed.append({"workload": QUICK[0], "server": "picows", "round": 3, "error": "lost"})
    samples = [*compared(), sample(QUICK[1], "ws", 0)]
    book = Book([("x.json", made(QUICK[:2], samples, failures=failed))])
    lines = tables.figures(book, book.rows)[1]
    first, second = rows_of(lines).values()
    assert first["ws"] == "failed<sup>2</sup>"
    assert first["picows"].startswith("8.0<sup>1</sup>")
    assert second["fastws"] == "–"
    assert "<sup>1</sup> 1 of 4 rounds failed: lost" in lines[-1]
    assert "<sup>2</sup> it failed: x.py: a\\|b c" in lines[-1]
    page = pages.results_page(book, {})
    assert "- ws, `echo-64-text-100-1`, 2 rounds: x.py: a\\|b c" in page
    assert "/some" not in page


def test_servers_of_fewer_rounds_are_told() -> None:
    samples = [*compared(), *(sample(QUICK[0], server, 0) for server in ("fastws-views", "ws"))]
    samples += [sample(QUICK[1], "bare", 0), sample(QUICK[1], "ws", 0), sample(QUICK[1], "ws", 1)]
    results = made(QUICK[:2], samples)
    assert pages.rounds(replace(results, settings={"rounds": 3})) == "3 (1 of fastws-views, ws)"
    assert pages.rounds(replace(results, settings={"rounds": 1})) == "1"


def test_a_noisy_machine_is_told() -> None:
    book = Book([("x.json", made(QUICK[:1], compared(server_wait=0.2)))])
    lines = tables.figures(book, book.rows)[1]
    assert any("picows up to 20%" in line for line in lines)


# ---- what does not count ----


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"generator_cpu": 0.93}, "the generator was at 93% of its core, not below 90%"),
        ({"server_cpu": 0.8}, "the server was at 80% of its core, not 95%"),
    ],
)
def test_a_throughput_that_does_not_count_is_not_told(changes: dict[str, Any], reason: str) -> None:
    counts = Book([("x.json", made(QUICK[:1], compared()))])
    assert only(tables.throughputs(counts, counts.rows))["picows"] == "121,000"
    book = Book([("x.json", made(QUICK[:1], compared(**changes)))])
    lines = tables.throughputs(book, book.rows)
    assert only(lines)["picows"] == "–<sup>1</sup>"
    assert f"<sup>1</sup> It does not count: {reason}." in lines[-1]
    assert "121,000" not in pages.results_page(book, {})


def test_no_throughput_without_the_floor() -> None:
    samples = [s for s in compared() if s.server != "bare"]
    book = Book([("x.json", made(QUICK[:1], samples))])
    row = only(tables.throughputs(book, book.rows))
    assert row["fastws"] == row["picows"] == "–<sup>1</sup>"


def test_a_latency_of_the_generator_is_not_told() -> None:
    latency = {"p50_us": 10.0, "p99_us": 20.0, "p999_us": 30.0, "max_us": 40.0, "histogram": [[10.0, 100]]}
    rate = 0.97e6 / 5

    def one(server: str, late: float) -> Sample:
        return sample("latency-10k", server, 0, latency=latency, lag={"p99_us": late}, asked_rate=rate)

    results = made(["latency-10k"], [one("fastws", 1.0), one("picows", 15.0)])
    book = Book([("x.json", results)])
    rows = rows_of(tables.percentiles(book, book.rows[0]))
    assert [rows["fastws"][p] for p in ("p50", "p99", "p99.9", "max")] == ["10", "20", "30", "40"]
    assert [rows["picows"][p] for p in ("p50", "p99", "p99.9", "max")] == ["–<sup>1</sup>"] * 4
    assert "picows" not in pictures.latency_chart(book, book.rows[0])


# ---- several runs ----


def test_a_workload_is_told_from_the_newest_run_that_has_it() -> None:
    old = made(QUICK[:2], compared() + compared(QUICK[1]))
    new = made(QUICK[:1], [sample(QUICK[0], "fastws", 0, 7.0)])
    new.provenance = {**new.provenance, "date": "2026-12-01T10:00:00+00:00"}
    book = Book([("new.json", new), ("old.json", old)])
    assert {row.name: (row.run, row.results) for row in book.rows} == {QUICK[0]: ("B", new), QUICK[1]: ("A", old)}
    (first, second) = rows_of(tables.figures(book, book.rows)[1]).items()
    assert first[0].endswith("(B)")
    assert first[1]["fastws"] == "7.0"
    assert first[1]["picows"] == "–"  # never beside a figure of another run
    assert second[0].endswith("(A)")
    newer = Book([("old.json", made(QUICK[:1], compared())), ("new.json", new)])
    assert [name for name, _ in newer.runs.values()] == ["new.json"]


@pytest.mark.parametrize("names", [["scale-*"], ["echo-*-100-1"], ["idle-*"], ["deflate-120", "deflate-400"]])
def test_the_command_beside_a_table_measures_just_its_rows(names: list[str]) -> None:
    rows = [name for name in WORKLOADS if any(fnmatchcase(name, pattern) for pattern in names)]
    book = Book([("x.json", made(rows, [sample(name, "fastws", 0) for name in rows]))])
    found = re.search(r"--workloads (.*?) &&", pages.again(book.rows)[-1])
    assert found
    told = chosen(found[1].replace("'", "").split())
    assert {work.name for work in told if not any(w.same_as == work.name for w in told)} == set(rows)


# ---- files ----


Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "README.md").write_text(README)
    whole().save(tmp_path / "x.json")

    def main(*arguments: str, file: Path = tmp_path / "x.json") -> int:
        parser = argparse.ArgumentParser()
        report.add_arguments(parser)
        return report.main(parser.parse_args([str(file), *arguments]), tmp_path)

    return main


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_same_results_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    assert run() == 0
    before = contents(tmp_path)
    assert {f"bench/charts/{name}.svg" for name in [*pictures.CHARTS, "overview", "latency"]} <= set(before)
    assert run() == 0
    assert contents(tmp_path) == before


def test_only_the_block_of_the_readme_changes(run: Run, tmp_path: Path) -> None:
    run()
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"before\n{pages.BEGIN}\n")
    assert text.endswith(f"\n{pages.END}\nafter\n")
    assert "what was there" not in text
    block = text[text.index(pages.BEGIN) : text.index(pages.END)]
    assert len(rows_of(block.splitlines())) == len(QUICK)
    assert "python -m bench run --quick && python -m bench report" in " ".join(block.split())
    for link in re.findall(r"!\[.*?\]\((.*?)\)", block):
        assert (tmp_path / link).exists()
    for link in re.findall(r"!\[.*?\]\((.*?)\)", (tmp_path / "bench" / "RESULTS.md").read_text()):
        assert (tmp_path / "bench" / link).exists()


@pytest.mark.parametrize("readme", ["nothing", README + pages.BEGIN, f"{pages.END}\n{pages.BEGIN}"])
def test_a_readme_without_the_block_is_left_alone(run: Run, tmp_path: Path, readme: str) -> None:
    (tmp_path / "README.md").write_text(readme)
    with pytest.raises(BenchError, match=r"README\.md needs"):
        run()
    assert (tmp_path / "README.md").read_text() == readme


def test_check(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--check") == 1
    assert contents(tmp_path)["README.md"].decode() == README, "--check writes nothing"
    run()
    assert run("--check") == 0
    for name in ("README.md", "bench/RESULTS.md", "bench/charts/overview.svg"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("fastws", "slowws", 1))
        capsys.readouterr()
        assert run("--check") == 1
        assert name in capsys.readouterr().err
        (tmp_path / name).write_text(text)
    (tmp_path / "bench" / "charts" / "of-yore.svg").write_text("<svg/>")
    assert run("--check") == 1
    run()
    assert not (tmp_path / "bench" / "charts" / "of-yore.svg").exists()
    (tmp_path / "bench" / "charts" / "latency.svg").unlink()
    assert run("--check") == 1


def test_what_is_committed_is_what_the_committed_results_give() -> None:
    if report.committed():
        assert report.main(argparse.Namespace(files=[], check=True)) == 0, "python -m bench report"
    else:
        assert not (BENCH / "RESULTS.md").exists()


def test_every_workload_is_in_the_page(run: Run, tmp_path: Path) -> None:
    run()
    page = (tmp_path / "bench" / "RESULTS.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("|  |")]
    assert len(rows) >= len(TOLD)
    for title in (
        "Echo",
        "Broadcast",
        "Connecting",
        "Memory of idle connections",
        "Pings",
        "Latency",
        "Scale",
        "Compression",
    ):
        assert f"\n## {title}\n" in page
    assert "- tornado: it is not here" in page
    assert "**echo, permessage-deflate**, µs of server CPU per message\n" in page
    assert "**broadcast**, µs of server CPU per delivery\n" in page
    for doing, ms in (("sending", "0.63"), ("receiving", "0.28")):
        table = page[page.index(f"**How long {doing} one message") :].split("\n\n")[1]
        assert {row["fastws"] for row in rows_of(table.splitlines()).values()} == {ms}


# ---- charts ----


def widest(element: ET.Element) -> tuple[float, float]:
    """From where to where a text may reach, if its font is wide."""
    width = charts.width_of(element.text or "", float(element.get("font-size", "0")))
    x = float(element.get("x", "0"))
    return {"start": (x, x + width), "middle": (x - width / 2, x + width / 2), "end": (x - width, x)}[
        element.get("text-anchor", "start")
    ]


@pytest.mark.parametrize("name", [*pictures.CHARTS, "overview", "latency"])
def test_a_chart_is_well_formed_and_within_its_frame(name: str) -> None:
    results = whole()
    results.servers["picows"]["title"] = "a server <with> a & name that is rather long"
    svg = pictures.all_charts(Book([("x.json", results)]))[name]
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    assert "prefers-color-scheme: dark" in svg
    _, _, width, height = map(float, root.get("viewBox", "").split())
    texts = list(root.iter(f"{SVG}text"))
    assert len(texts) > 10
    for element in texts:
        left, right = widest(element)
        assert 0 <= left < right <= width, element.text
        assert 0 < float(element.get("y", "0")) < height, element.text
    for shape in root.iter(f"{SVG}rect"):
        assert float(shape.get("x", "0")) + float(shape.get("width", "0")) <= width


@pytest.mark.parametrize("name", ["echo-1", "overview", "latency"])
def test_no_label_covers_another(name: str) -> None:
    svg = pictures.all_charts(Book([("x.json", whole())]))[name]
    texts = list(ET.fromstring(svg).iter(f"{SVG}text"))
    for i, one in enumerate(texts):
        for other in texts[i + 1 :]:
            apart = abs(float(one.get("y", "0")) - float(other.get("y", "0")))
            (left, right), (start, end) = widest(one), widest(other)
            assert apart >= 10 or right <= start or end <= left, (one.text, other.text)


def test_bars_are_as_long_as_their_figures() -> None:
    svg = pictures.all_charts(Book([("x.json", made(QUICK[:1], compared()))]))["echo-1"]
    bars = {r.get("class"): float(r.get("width", "0")) for r in ET.fromstring(svg).iter(f"{SVG}rect")}
    assert bars["other"] / bars["ours"] == pytest.approx(8 / 2, rel=0.01)
    assert bars["floor"] / bars["ours"] == pytest.approx(0.5 / 2, rel=0.01)


def test_percentiles_of_a_histogram() -> None:
    points = dict(charts.curve({10.0: 500, 20.0: 400, 50.0: 90, 900.0: 10}))
    assert points[2.0] == 10.0
    assert points[10.0] == 20.0
    assert max(points) == pytest.approx(100.0)
    assert points[max(points)] == 50.0  # the last ten are no percentile to tell


def test_labels_that_would_cover_each_other_move_apart() -> None:
    placed = charts.apart([5.0, 6.0, 7.0, 90.0, 99.0], 10, 0, 100)
    assert all(b - a >= 10 for a, b in pairwise(placed))
    assert placed[-1] <= 100
