"""`python -m bench compare A B`: builds two commits, measures them in turn, and tells what changed between them."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.machine import BENCH, BUILD, BenchError, check_machine, compiled, output_of, provenance
from bench.results import Results
from bench.run import begun, carry_out, core_pair, duration, planned, positive, seconds
from bench.servers import SERVERS, Server
from bench.workloads import QUICK, chosen

HERE = "."
RESAMPLES = 10_000
CONFIDENCE = 0.95


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="a commit, or . for the checkout as it is")
    parser.add_argument("b", metavar="B", help="the one to hold against it")
    parser.add_argument("--server", default="fastws", choices=[s for s in SERVERS if s.startswith("fastws")])
    parser.add_argument(
        "--workloads", nargs="+", metavar="PATTERN", default=QUICK, help="default: those of run --quick"
    )
    parser.add_argument("--rounds", type=positive, default=15, help="pairs of samples per workload (default: 15)")
    parser.add_argument("--seconds", type=seconds, default=0.5, help="length of a sample (default: 0.5)")
    parser.add_argument("--cores", type=core_pair, default="0,1", help="of the server and the generator (default: 0,1)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: bench/build/compare-A-B.json")


def full_name(commit: str) -> str:
    name = output_of("git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if not name:
        raise BenchError(f"there is no commit {commit!r}")
    return name


def built(commit: str, server: str) -> Server:
    """The server with fastws as it was then, named by the commit; the benchmark's side is as it is now."""
    if commit == HERE:
        return replace(SERVERS[server], name=HERE)
    name = full_name(commit)
    tree = BUILD / f"commit-{name[:12]}"
    if not (tree / ".built").exists():
        print(f"building {commit} in {tree} ...", flush=True)
        tree.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "archive", name], cwd=BENCH.parent, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{commit} cannot be built:\n{done.stderr[-2000:]}")
        (tree / ".built").touch()
    environment = ["env", f"PYTHONPATH={tree}"]  # it goes before what is installed, which may be this checkout
    found = output_of(*environment, sys.executable, "-c", "import fastws; print(fastws.__file__)")
    if not Path(found).is_relative_to(tree):
        raise BenchError(f"fastws comes from {found or 'nowhere'}, not from {tree}")
    command = [*environment, *SERVERS[server].command]
    return replace(SERVERS[server], name=name[:12], command=command)


def interval(ratios: list[float], draws: int = RESAMPLES) -> tuple[float, float]:
    """Of the median of paired ratios, by the bootstrap's percentiles: Efron, "Bootstrap methods: another look at the
    jackknife", Annals of Statistics 7 (1979). It supposes nothing of how noise is distributed."""
    chance = random.Random(1)
    medians = sorted(median(chance.choices(ratios, k=len(ratios))) for _ in range(draws))
    outside = (1 - CONFIDENCE) / 2
    return medians[int(outside * draws)], medians[int((1 - outside) * draws) - 1]


def verdict(low: float, high: float) -> str:
    return "less" if high < 1 else "more" if low > 1 else "no difference can be told"


def tell(results: Results, a: str, b: str) -> None:
    print(f"\n{b} (B) against {a} (A), median of the ratios within each round, {CONFIDENCE:.0%} confidence:")
    print(f"  {'workload':<24}{'A':>12}{'B':>12}{'B / A':>9}{'interval':>18}")
    for name, work in results.workloads.items():
        ratios = results.ratios(name, b, a)
        first, second = results.figure(name, a), results.figure(name, b)
        if len(ratios) < 3 or first is None or second is None:
            print(f"  {name:<24}too few samples: {len(ratios)}")
            continue
        low, high = interval(ratios)
        digits = 0 if work["figure"] == "memory" else 3
        print(
            f"  {name:<24}{first:>12,.{digits}f}{second:>12,.{digits}f}{median(ratios):>9.3f}"
            f"{f'{low:.3f} - {high:.3f}':>18}  {verdict(low, high)}"
        )
        if disturbance := results.disturbance(name):
            print(f"    take care: {disturbance}")


def main(options: argparse.Namespace) -> int:
    if options.a == options.b:
        raise BenchError("A and B are the same")
    works = chosen(options.workloads)
    check_machine()
    compiled("loadgen")
    for commit in {options.a, options.b} - {HERE}:
        full_name(commit)  # before the minute that it takes to build the other
    sides = [built(commit, options.server) for commit in (options.a, options.b)]
    a, b = (server.name for server in sides)
    fresh = Results(
        {**provenance(options.cores, []), "build": [a, b]},
        {"rounds": options.rounds, "seconds": options.seconds, "kind": "compare"},
        {work.name: work.described() for work in works},
        {server.name: server.described() for server in sides},
    )
    path = options.output or BUILD / f"compare-{a}-{b.replace(HERE, 'here')}.json"
    # A commit does not change, so that its samples stay; what is not committed does.
    results = begun(path, fresh, again=HERE in (a, b))
    plan = planned(results, works, sides, options.rounds)
    print(f"{len(plan.steps)} samples to be taken, about {duration(plan.left(0))}; results: {path}", flush=True)
    os.sched_setaffinity(0, {options.cores[1]})
    try:
        carry_out(results, plan, options.cores, path, until=float("inf"))
    except KeyboardInterrupt:
        pass
    tell(results, a, b)
    return 1 if results.failures else 0
