"""`python -m bench report`: RESULTS.md, the charts and README.md's figures, from the files of results."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.machine import BENCH, BenchError
from bench.report.pages import BEGIN, END, readme_block, results_page
from bench.report.pictures import all_charts
from bench.report.tables import Book
from bench.results import FOLDER, Results


def with_block(readme: str, block: str) -> str:
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise BenchError(f"README.md needs {BEGIN} and, below it, {END}, once each")
    return readme[: readme.index(BEGIN)] + block + readme[readme.index(END) + len(END) :]


def committed() -> list[Path]:
    """The results that git knows, all that there are where it knows nothing."""
    if not FOLDER.is_dir():
        return []
    listed = subprocess.run(["git", "ls-files", "-z", "."], cwd=FOLDER, capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name.endswith(".json")] if not listed.returncode else []
    found = [FOLDER / name for name in names if (FOLDER / name).exists()]
    return sorted(found) if found else sorted(FOLDER.glob("*.json"))


def outputs(files: list[Path], root: Path) -> dict[Path, str]:
    """What the results give, by file."""
    book = Book([(file.name, Results.load(file)) for file in files])
    if not book.rows:
        raise BenchError("these files hold no sample")
    made = all_charts(book)
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
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="of results (default: all of bench/results)"
    )
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
