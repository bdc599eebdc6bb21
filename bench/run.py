"""`python -m bench run`: rounds of samples, the servers in turn within each workload, into one file of results."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from bench.machine import BUILD, BenchError, build_id, check_machine, compiled, provenance
from bench.measure import run
from bench.results import FLOOR, FOLDER, LATENCY, Results, Sample
from bench.servers import SERVERS, Server, missing
from bench.workloads import QUICK, STANDARD, WORKLOADS, Workload, chosen

QUICK_SERVERS = ["fastws", "picows", "websockets", "aiohttp", "socketify", FLOOR]
QUICK_MINUTES = 5.0
SAVE_EVERY = 5.0  # seconds
GIVE_UP = 2  # failures of one server in one workload


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="README.md's table, in five minutes at most")
    parser.add_argument("--full", action="store_true", help="every combination of the matrix: many hours")
    parser.add_argument("--servers", nargs="+", metavar="NAME", help="default: all; with --quick, the best known")
    parser.add_argument("--workloads", nargs="+", metavar="PATTERN", help="names or groups, * and ? as in a shell")
    parser.add_argument("--rounds", type=positive, help="samples per server and workload (default: 5; 3 with --quick)")
    parser.add_argument("--seconds", type=seconds, help="length of an echo, broadcast or latency run (default: 1, 0.5)")
    parser.add_argument("--minutes", type=seconds, help="no sample is begun that would not end within that time")
    parser.add_argument("--cores", type=core_pair, default="0,1", help="of the server and the generator (default: 0,1)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: bench/results/{quick,standard,full}.json")
    parser.add_argument("--again", action="store_true", help="begin anew, instead of going on with what the file holds")


def core_pair(text: str) -> tuple[int, int]:
    server, generator = map(int, text.split(","))
    if server == generator or not {server, generator} <= os.sched_getaffinity(0):
        raise argparse.ArgumentTypeError(f"two different cores of {sorted(os.sched_getaffinity(0))} are needed")
    return server, generator


def positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def seconds(text: str) -> float:
    if not 0.1 <= (value := float(text)) <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not in 0.1..600")
    return value


@dataclass(frozen=True)
class Step:
    number: int  # of the round
    work: Workload
    server: Server


@dataclass
class Plan:
    """What is to be done, and how long it takes: each sample as long as the last of its kind, or else by guess."""

    steps: list[Step]
    seconds: float
    known: dict[tuple[str, str], float] = field(default_factory=dict)

    def expected(self, step: Step) -> float:
        connections = step.work.parameters.get("connections", 0)
        assert isinstance(connections, int)
        guess = 1.3 + self.seconds + 0.0004 * connections + step.work.hold
        return self.known.get((step.work.name, step.server.name), guess)

    def left(self, done: int) -> float:
        return sum(self.expected(step) for step in self.steps[done:])


def rotated(servers: list[Server], by: int) -> list[Server]:
    """Each round begins with another server, so that none always follows the same."""
    by %= len(servers)
    return servers[by:] + servers[:by]


def planned(results: Results, works: list[Workload], servers: list[Server], rounds: int) -> Plan:
    """All that is not in the results yet."""
    there = {(s.workload, s.server, s.round) for s in results.samples}
    there |= {(f["workload"], f["server"], f["round"]) for f in results.failures}
    steps = [
        Step(number, work, server)
        for number in range(rounds)
        for work in works
        if not work.same_as
        for server in rotated(servers, number)
        if not work.unfit(server) and (work.name, server.name, number) not in there
    ]
    known = {(s.workload, s.server): s.elapsed for s in results.samples}
    return Plan(steps, results.settings["seconds"], known)


class Progress:
    """One line that is written over on a terminal; a line a minute elsewhere."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._is_terminal = sys.stderr.isatty()
        self._told = time.monotonic()

    def show(self, done: int) -> None:
        now, steps = time.monotonic(), self._plan.steps
        if not self._is_terminal and now - self._told < 60:
            return
        self._told = now
        step, filled = steps[done], 20 * done // len(steps)
        text = f"{'█' * filled}{'░' * (20 - filled)} {done}/{len(steps)}, {duration(self._plan.left(done))} left: "
        text += f"round {step.number + 1}, {step.work.name}, {step.server.name}"
        print(f"\r{text:<110}" if self._is_terminal else text, end="" if self._is_terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def clear(self) -> None:
        if self._is_terminal:
            print("\r" + " " * 110, end="\r", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def rate_for(results: Results, work: Workload, server: str) -> float:
    """Of an open loop: the same for all servers, or a share of what this one did as fast as it could."""
    if not work.rate_of:
        return float(work.rate)
    peak = [sample.rate for sample in results.of(work.rate_of, server)]
    if not peak:
        raise BenchError(f"there is no throughput in {work.rate_of} to take a share of")
    return work.rate_share * median(peak)


def taken(step: Step, seconds: float, rate: float, cores: tuple[int, int]) -> Sample:
    work, server = step.work, step.server
    load, timed = work.load(server, seconds, rate), "timed" in work.needs
    sample = run(work.serve(server), load, cores, hold=work.hold, timed=timed)
    if sample.latency is not None and work.figure != LATENCY:
        del sample.latency["histogram"]  # nobody draws that of handshakes
    return replace(sample, workload=work.name, server=server.name, round=step.number, asked_rate=rate)


def carry_out(results: Results, plan: Plan, cores: tuple[int, int], path: Path, until: float) -> bool:
    """True when nothing is left to be done; every sample is in the file, at the latest when this ends."""
    progress, saved = Progress(plan), time.monotonic()
    failed = [(f["workload"], f["server"]) for f in results.failures]
    borrowers = [work for work in WORKLOADS.values() if work.same_as and work.name in results.workloads]
    try:
        for done, step in enumerate(plan.steps):
            kind = (step.work.name, step.server.name)
            if failed.count(kind) >= GIVE_UP:
                continue
            if time.monotonic() + plan.expected(step) > until:
                return False
            progress.show(done)
            try:
                sample = taken(step, plan.seconds, rate_for(results, step.work, step.server.name), cores)
            except BenchError as error:
                failed.append(kind)
                where = {"workload": kind[0], "server": kind[1], "round": step.number}
                results.failures.append({**where, "error": str(error)})
                progress.clear()
                print(f"{kind[1]}, {kind[0]}, round {step.number + 1}: {error}", file=sys.stderr)
                continue
            results.samples.append(sample)
            results.samples += [replace(sample, workload=w.name) for w in borrowers if w.same_as == step.work.name]
            plan.known[kind] = sample.elapsed
            if time.monotonic() - saved > SAVE_EVERY:
                results.save(path)
                saved = time.monotonic()
        return True
    finally:
        progress.clear()
        results.save(path)


def difference(old: Results, fresh: Results) -> str:
    """Why one cannot go on with the other; empty if it can."""
    for what in ("build", "cpu", "kernel", "cores"):
        if (before := old.provenance[what]) != (now := fresh.provenance[what]):
            return f"its {what} was {before}, not {now}"
    for package, now in fresh.provenance["versions"].items():
        if (before := old.provenance["versions"].get(package, now)) != now:
            return f"its {package} was {before}, not {now}"
    for name, server in fresh.servers.items():  # npm's are not among the packages
        if (before := old.servers.get(name, server)["version"]) != (now := server["version"]):
            return f"its {name} was {before}, not {now}"
    if (before := old.settings["seconds"]) != (now := fresh.settings["seconds"]):
        return f"its samples took {before} s, not {now}"
    return ""


def begun(path: Path, fresh: Results, again: bool) -> Results:
    """What the file holds, if both are measured in the same way, so that the run goes on; else it is moved away."""
    if not path.exists():
        return fresh
    old = Results.load(path)
    if why := "--again" if again else difference(old, fresh):
        kept = BUILD / f"{path.stem}-{old.provenance['date'].replace(':', '')}.json"
        BUILD.mkdir(exist_ok=True)
        shutil.move(path, kept)
        print(f"{path} held another run ({why}); that is in {kept} now")
        return fresh
    old.provenance["versions"] |= fresh.provenance["versions"]
    if fresh.provenance["command"] not in (commands := old.provenance["command"].split(" && ")):
        old.provenance["command"] = " && ".join([*commands, fresh.provenance["command"]])
    old.workloads |= fresh.workloads
    old.servers |= fresh.servers
    old.skipped = fresh.skipped
    old.settings = fresh.settings
    return old


def select(names: list[str]) -> tuple[list[Server], dict[str, str]]:
    """The servers that can run here, and why each of the others cannot."""
    for name in names:
        if name not in SERVERS:
            raise BenchError(f"there is no server {name!r}, only {', '.join(SERVERS)}")
    absent = {name: why for name in names if (why := missing(SERVERS[name]))}
    found = [SERVERS[name] for name in SERVERS if name in names and name not in absent]
    if not found:
        raise BenchError(f"no server to measure: {'; '.join(absent.values())}")
    return found, absent


def beside(samples: list[Sample]) -> str:
    """What was counted besides, of each, and what the server has told; empty if nothing was."""
    told = {
        "{:,.0f} B from the server": median(s.bytes_in / s.count for s in samples),
        "{:,.0f} B to it": median(s.bytes_out / s.count for s in samples),
        "{:,.0f} us for sending": median(s.sending * 1e6 for s in samples),
        "{:,.0f} us for receiving": median(s.receiving * 1e6 for s in samples),
    }
    return ", ".join(text.format(value) for text, value in told.items() if round(value))


def summary(results: Results, works: list[Workload]) -> None:
    """Each workload in a line; `report` makes tables of them."""
    for work in works:
        figures = {s: f for s in results.servers if (f := results.figure(work.name, s)) is not None}
        first = next(iter(figures), "")
        unit = {"memory": "bytes", "latency": "us until answered"}.get(work.figure, "us CPU")
        print(f"{work.title}; {unit} per {work.each}, and times {first}'s:")
        for server, figure in sorted(figures.items(), key=lambda pair: pair[1]):
            ratio = results.ratio(work.name, server, first)
            why = results.lateness(work.name, server) if work.figure == LATENCY else ""
            told = "".join(f"  ({what})" for what in (why, beside(results.of(work.name, server))) if what)
            print(f"  {server:<24}{figure:>12,.{0 if figure >= 1000 else 2}f}{ratio or 0:>9.2f}{told}")
        if disturbance := results.disturbance(work.name):
            print(f"  take care: {disturbance}")


def main(options: argparse.Namespace) -> int:
    if options.quick and options.full:
        raise BenchError("--quick and --full exclude each other")
    kind = "quick" if options.quick else "full" if options.full else "standard"
    works = chosen(options.workloads or {"quick": QUICK, "full": list(WORKLOADS), "standard": STANDARD}[kind])
    fit = [name for name, server in SERVERS.items() if not all(work.unfit(server) for work in works)]
    servers, skipped = select(options.servers or (QUICK_SERVERS if options.quick else fit))
    for name, why in skipped.items():
        print(f"{name} is skipped: {why}")
    rounds = options.rounds or (3 if options.quick else 5)
    fresh = Results(
        provenance(options.cores, [package for server in servers for package in server.packages]),
        {"rounds": rounds, "seconds": options.seconds or (0.5 if options.quick else 1.0), "kind": kind},
        {work.name: work.described() for work in works},
        {server.name: server.described() for server in servers},
        skipped=skipped,
    )
    path = options.output or FOLDER / f"{kind}.json"
    results = begun(path, fresh, options.again)
    check_machine()
    compiled("loadgen")
    plan = planned(results, works, servers, rounds)
    minutes = options.minutes or (QUICK_MINUTES if options.quick else None)
    print(f"{fresh.provenance['cpu']}, kernel {fresh.provenance['kernel']}, build {build_id()}")
    print(
        f"{len(works)} workloads, {len(servers)} servers, {rounds} rounds: {len(plan.steps)} samples to be taken, ",
        end="",
    )
    print(f"about {duration(plan.left(0))}{f', {duration(60 * minutes)} at most' if minutes else ''}; Ctrl-C, and the")
    print(f"same command goes on later. Results: {path}", flush=True)
    # The driver sleeps while a sample is taken; it stays off the server's core all the same.
    os.sched_setaffinity(0, {options.cores[1]})
    try:
        done = carry_out(
            results, plan, options.cores, path, time.monotonic() + 60 * minutes if minutes else float("inf")
        )
    except KeyboardInterrupt:
        done = False
    summary(results, works)
    if not done:
        print(f"Not all was measured; the same command goes on. Results: {path}")
    return 1 if results.failures else 0
