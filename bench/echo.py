"""Server CPU of fastws, picows and websockets under one load generator; bench/README.md explains."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from bench.measure import BENCH, BenchError, Sample, check_machine, compiled, python_server, run

FLOOR = "bare C"
PEER = "picows"
SERVERS = ["fastws", "picows", "websockets", FLOOR]
PACKAGES = ["fastws", "httptools", "picows", "aiofastnet", "websockets", "aiohttp", "uvicorn", "wsproto", "uvloop"]
SERVER_BUSY, GENERATOR_FREE, QUIET = 0.95, 0.90, 0.03


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    unit: str
    each: str
    command: list[str]
    value: Callable[[Sample], float]
    is_rate: bool = True
    grown_from: str = ""  # the smaller workload that it is compared with, in the same rounds

    @property
    def rate(self) -> str:
        return (self.each[:-1] + "ies" if self.each.endswith("y") else self.each + "s") + "/s"


def workloads(seconds: int) -> list[Workload]:
    def echo(window: int) -> Workload:
        title = f"echo, 64 B text, 100 connections, {window} in flight"
        load = ["echo", "--connections", "100", "--size", "64", "--window", str(window), "--seconds", str(seconds)]
        return Workload(f"echo-{window}", title, "us CPU", "message", load, lambda s: s.cpu_us)

    def large(kind: str, content: str, flag: str) -> Workload:
        title = f"echo, 1 MiB of {content}, 4 connections, 1 in flight"
        load = ["echo", "--connections", "4", "--size", str(1 << 20), flag, "--seconds", str(seconds)]
        return Workload(f"echo-1m-{kind}", title, "us CPU", "message", load, lambda s: s.cpu_us)

    def broadcast(name: str, subscribers: int, burst: int, grown_from: str = "") -> Workload:
        title = f"broadcast, 64 B text, to {subscribers:,} subscribers, {burst} at a time"
        load = ["broadcast", "--connections", str(subscribers), "--size", "64", "--burst", str(burst)]
        load += ["--seconds", str(seconds)]
        return Workload(name, title, "us CPU", "delivery", load, lambda s: s.cpu_us, grown_from=grown_from)

    return [
        echo(1),
        echo(32),
        large("text", "text in several scripts", "--mixed"),
        large("chinese", "Chinese text", "--chinese"),
        large("binary", "binary", "--binary"),
        broadcast("broadcast-1", 1000, 1),
        broadcast("broadcast-10k", 10_000, 1, "broadcast-1"),
        broadcast("broadcast-16", 1000, 16),
        broadcast("broadcast-16-10k", 10_000, 16, "broadcast-16"),
        Workload(
            "connect",
            "connect, upgrade and reset, 64 at a time, 5,000 in all",
            "us CPU",
            "connection",
            ["connect", "--connections", "5000", "--at-once", "64"],
            lambda s: s.cpu_us,
        ),
        Workload(
            "accept",
            "accept and upgrade 10,000 connections that stay, 64 at a time",
            "us CPU",
            "connection",
            ["idle", "--connections", "10000", "--at-once", "64"],
            lambda s: s.cpu_us,
        ),
        Workload(
            "idle",
            "resident memory of 10,000 idle connections",
            "bytes",
            "connection",
            ["idle", "--connections", "10000", "--at-once", "64"],
            lambda s: s.memory_each,
            is_rate=False,
        ),
    ]


def available(names: list[str]) -> dict[str, list[str]]:
    """The command of each server that can run here; the others are named with the reason."""
    found = {}
    for name in names:
        if name == FLOOR:
            found[name] = [str(compiled("bare"))]
            continue
        probe = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False)
        if probe.returncode:
            print(f"{name} is skipped: it cannot be imported ({probe.stderr.strip().splitlines()[-1]})")
        else:
            found[name] = python_server(name)
    return found


def together(works: list[Workload]) -> list[list[Workload]]:
    """The workloads in the groups that share their rounds: each with those that it has grown into."""
    groups: list[list[Workload]] = []
    for work in works:
        if groups and work.grown_from in [w.name for w in groups[-1]]:
            groups[-1].append(work)
        else:
            groups.append([work])
    return groups


def collect(
    works: list[Workload], servers: dict[str, list[str]], rounds: int, cores: tuple[int, int]
) -> dict[str, dict[str, list[Sample]]]:
    """Rounds of one sample per workload and server; each begins with another server, so that none always follows the
    same. The samples by the names of workload and server."""
    samples: dict[str, dict[str, list[Sample]]] = {work.name: {name: [] for name in servers} for work in works}
    for number in range(rounds):
        for name in [*servers][number % len(servers) :] + [*servers][: number % len(servers)]:
            for work in works:
                doing = f"  {work.name}: round {number + 1} of {rounds}, {name}"
                print(f"{doing:<70}", end="\r", file=sys.stderr, flush=True)
                try:
                    samples[work.name][name].append(run(servers[name], work.command, cores))
                except BenchError as error:
                    raise BenchError(f"{work.name}, {name}, round {number + 1}: {error}") from error
    print(" " * 70, end="\r", file=sys.stderr, flush=True)
    return samples


def ratio(of: Workload, mine: list[Sample], to: Workload, peer: list[Sample] | None) -> float | None:
    """The median over the rounds of the ratio within each: what disturbs a whole round cancels out."""
    if not peer:
        return None
    return median(of.value(a) / to.value(b) for a, b in zip(mine, peer, strict=True) if to.value(b) > 0)


def objections(samples: list[Sample]) -> str:
    """Why the throughput of these samples does not count; empty if it does."""
    why = []
    core, generator = median(s.server_core for s in samples), median(s.generator_core for s in samples)
    if core < SERVER_BUSY:
        why.append(f"the server was at {core:.0%} of its core, not {SERVER_BUSY:.0%}")
    if generator >= GENERATOR_FREE:
        why.append(f"the generator was at {generator:.0%} of its core, not below {GENERATOR_FREE:.0%}")
    return " and ".join(why)


def disturbance(samples: dict[str, list[Sample]]) -> str:
    """Who waits for a core finds more to do in each turn: its CPU per message falls, and the ratios shift."""
    waits = {name: median(s.server_wait / s.seconds for s in taken) for name, taken in samples.items()}
    if max(waits.values()) < QUIET:
        return ""
    shares = ", ".join(f"{name} {wait:.0%}" for name, wait in waits.items())
    return f"The machine is not quiet, take these figures with care: servers waited for their core ({shares})."


def report(work: Workload, samples: dict[str, list[Sample]]) -> dict[str, object]:
    """Prints the table of one workload; returns the same for the JSON file."""
    print(f"\n{work.title}")
    columns = [f"{work.unit} per {work.each}", "min - max", f"of {PEER}"]
    if work.is_rate:
        columns += [work.rate, "server core", "generator core"]
    print(f"  {'server':<12}" + "".join(f"{c:>24}" if i == 0 else f"{c:>17}" for i, c in enumerate(columns)))
    notes: list[str] = []
    rows: dict[str, object] = {}
    for name, taken in samples.items():
        values = [work.value(s) for s in taken]
        share = ratio(work, taken, work, samples.get(PEER))
        digits = 0 if work.unit == "bytes" else 2 if median(values) < 100 else 1
        line = f"  {name:<12}{median(values):>24,.{digits}f}"
        line += f"{f'{min(values):,.{digits}f} - {max(values):,.{digits}f}':>17}"
        line += f"{'-' if share is None else f'{share:.3f}':>17}"
        why = objections(taken) if work.is_rate else ""
        if work.is_rate:
            rate = f"{median(s.rate for s in taken):,.0f}"
            line += f"{f'({rate})' if why else rate:>17}{median(s.server_core for s in taken):>17.0%}"
            line += f"{median(s.generator_core for s in taken):>17.0%}"
        print(line)
        if why:
            notes.append(f"{name}: the throughput does not count: {why}.")
        rows[name] = {
            "median": median(values),
            "min": min(values),
            "max": max(values),
            f"ratio_to_{PEER}": share,
            "throughput_objection": why or None,
            "samples": [asdict(s) for s in taken],
        }
    if work.is_rate:
        notes += [headroom(samples), disturbance(samples)]
    for note in filter(None, notes):
        print(f"  {note}")
    sys.stdout.flush()
    return {"title": work.title, "unit": f"{work.unit} per {work.each}", "command": work.command, "servers": rows}


def growth(
    work: Workload, samples: dict[str, list[Sample]], smaller: Workload, before: dict[str, list[Sample]]
) -> dict[str, float | None]:
    """Prints what each server's cost has grown by from the smaller workload; returns the same by server."""
    grown = {name: ratio(work, taken, smaller, before[name]) for name, taken in samples.items()}
    factors = ", ".join(f"{name} {factor:.2f}" for name, factor in grown.items() if factor)
    print(f"  A {work.each} costs this many times what it costs in {smaller.name}: {factors}.")
    if floor := grown.get(FLOOR):
        beside = ", ".join(f"{name} {factor / floor:.2f}" for name, factor in grown.items() if factor and name != FLOOR)
        print(f"  Beside {FLOOR}, whose growth is the machine's: {beside}.")
    sys.stdout.flush()
    return grown


def headroom(samples: dict[str, list[Sample]]) -> str:
    """What the generator can do is what it did against the floor; the servers must stay well below."""
    if FLOOR not in samples:
        return f"The generator's headroom is not shown: {FLOOR} was not run."
    floor = samples[FLOOR]
    rate, core = median(s.rate for s in floor), median(s.generator_core for s in floor)
    text = f"The generator reached {rate:,.0f}/s against {FLOOR} at {core:.0%} of its core"
    others = {name: median(s.rate for s in taken) for name, taken in samples.items() if name != FLOOR}
    if others:
        fastest = max(others, key=lambda name: others[name])
        text += f", {rate / others[fastest]:.1f} times what it did against {fastest}"
    return text + "."


def output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCH)
    except OSError:
        return ""
    return done.stdout.strip()


def versions() -> list[str]:
    found = [f"{platform.python_implementation()} {platform.python_version()}", f"zlib {zlib.ZLIB_RUNTIME_VERSION}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def provenance(options: argparse.Namespace) -> dict[str, object]:
    models = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith(("model name", "CPU part"))]
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": output_of("git", "rev-parse", "HEAD") or None,
        "modified": bool(output_of("git", "status", "--porcelain")),
        "command": shlex.join([f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "rounds": options.rounds,
        "cores": options.cores,
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores_present": os.cpu_count(),
        "kernel": platform.release(),
        "compiler": output_of(os.environ.get("CC", "cc"), "--version").partition("\n")[0],
        "versions": versions(),
    }


def core_pair(text: str) -> tuple[int, int]:
    server, generator = map(int, text.split(","))
    if server == generator or not {server, generator} <= os.sched_getaffinity(0):
        raise argparse.ArgumentTypeError(f"two different cores of {sorted(os.sched_getaffinity(0))} are needed")
    return server, generator


def positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def parse(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, default=5, help="samples per server and workload (default: 5)")
    parser.add_argument("--seconds", type=positive, default=3, help="length of an echo or broadcast run (default: 3)")
    parser.add_argument("--servers", nargs="+", choices=[*SERVERS, "bare"], default=SERVERS, help="default: all")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="workloads (default: all)")
    parser.add_argument("--cores", type=core_pair, default="0,1", help="of the server and the generator (default: 0,1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample, with where it comes from")
    options = parser.parse_args()
    options.servers = [s for s in SERVERS if s in options.servers or (s == FLOOR and "bare" in options.servers)]
    return options


def main() -> int:
    options = parse([w.name for w in workloads(1)])
    try:
        check_machine()
        # The driver sleeps while a sample is taken; it stays off the server's core all the same.
        os.sched_setaffinity(0, {options.cores[1]})
        compiled("loadgen")
        servers = available(options.servers)
        if not servers:
            raise BenchError("no server to measure")
        where = provenance(options)
        print(f"{where['cpu']}, kernel {where['kernel']}, {', '.join(versions())}")
        print(f"{options.rounds} rounds, servers interleaved; median, and the spread over the rounds")
        results = {}
        for group in together([work for work in workloads(options.seconds) if work.name in options.only]):
            samples = collect(group, servers, options.rounds, options.cores)
            for work in group:
                results[work.name] = report(work, samples[work.name])
                if work.grown_from == group[0].name:
                    before = samples[group[0].name]
                    results[work.name]["growth"] = growth(work, samples[work.name], group[0], before)
    except BenchError as error:
        print(f"echo.py: {error}", file=sys.stderr)
        return 1
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"provenance": where, "workloads": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
