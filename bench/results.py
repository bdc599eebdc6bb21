"""The results of a run: every sample in one JSON file, and what may be concluded from them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import BENCH, BenchError

FOLDER = BENCH / "results"
FORMAT = 1
FLOOR = "bare"
SERVER_BUSY, GENERATOR_FREE, QUIET = 0.95, 0.90, 0.03  # shares of a core
SENT_IN_TIME, LATE = 0.98, 0.5  # of an open loop
CPU, MEMORY, LATENCY = "cpu", "memory", "latency"  # what a workload is about


@dataclass(frozen=True)
class Sample:
    """One run of one workload on one server. Seconds and bytes."""

    workload: str
    server: str
    round: int
    count: int  # of what the workload counts: messages, deliveries, connections
    seconds: float
    server_cpu: float
    server_wait: float  # runnable, but without a core
    generator_cpu: float
    memory: int  # by which the server grew
    elapsed: float = 0.0  # with all that is around the run
    bytes_in: int = 0  # what the server sent
    bytes_out: int = 0
    compressed_in: int = 0
    receiving: float = 0.0  # of the loop's thread, for each message, where the server tells it
    sending: float = 0.0
    asked_rate: float = 0.0  # of an open loop, per second
    slow_lost: int = 0
    latency: dict[str, Any] | None = None  # microseconds: p50_us ..., and the histogram
    lag: dict[str, float] | None = None

    @property
    def cpu_us(self) -> float:
        return self.server_cpu / self.count * 1e6

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def memory_each(self) -> float:
        return self.memory / self.count

    @property
    def server_core(self) -> float:
        return self.server_cpu / self.seconds

    @property
    def generator_core(self) -> float:
        return self.generator_cpu / self.seconds

    def figure(self, of: str) -> float:
        """What counts of it: microseconds of CPU or bytes, each; or the median latency in microseconds."""
        if of == LATENCY:
            assert self.latency is not None
            return float(self.latency["p50_us"])
        return self.memory_each if of == MEMORY else self.cpu_us


@dataclass
class Results:
    """What one file in bench/results holds; README.md describes the members."""

    provenance: dict[str, Any]
    settings: dict[str, Any]
    workloads: dict[str, dict[str, Any]] = field(default_factory=dict)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def load(path: Path) -> Results:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise BenchError(f"{path} cannot be read: {error}") from error
        if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
            raise BenchError(f"{path} is not a result file of format {FORMAT}")
        known = {f.name for f in fields(Sample)}
        found["samples"] = [Sample(**{k: v for k, v in s.items() if k in known}) for s in found["samples"]]
        return Results(**found)

    def save(self, path: Path) -> None:
        """Whole or not at all: a run may be ended at any moment."""
        text = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "samples"}
        lines = ",\n".join("  " + json.dumps(_without_defaults(sample)) for sample in self.samples)
        head = json.dumps({"format": FORMAT, **text}, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(head.removesuffix("\n}") + ',\n "samples": [\n' + lines + "\n ]\n}\n")
        os.replace(new, path)

    def of(self, workload: str, server: str) -> list[Sample]:
        return [s for s in self.samples if s.workload == workload and s.server == server]

    def figures(self, workload: str, server: str) -> list[float]:
        what = self.workloads[workload]["figure"]
        return [sample.figure(what) for sample in self.of(workload, server)]

    def figure(self, workload: str, server: str) -> float | None:
        """The median over the rounds; None without a sample."""
        found = self.figures(workload, server)
        return median(found) if found else None

    def ratios(self, workload: str, server: str, peer: str) -> list[float]:
        """Within each round that has both: what disturbs a whole round cancels out."""
        what = self.workloads[workload]["figure"]
        others = {sample.round: sample.figure(what) for sample in self.of(workload, peer)}
        mine = self.of(workload, server)
        return [s.figure(what) / others[s.round] for s in mine if others.get(s.round, 0) > 0]

    def ratio(self, workload: str, server: str, peer: str) -> float | None:
        """The figure to trust: absolute ones differ from one machine and hour to the next."""
        found = self.ratios(workload, server, peer)
        return median(found) if found else None

    def throughput(self, workload: str, server: str) -> float | None:
        """Per second: None if there is none, or none that counts; `objection` tells why."""
        found = self.of(workload, server)
        return median(s.rate for s in found) if found and not self.objection(workload, server) else None

    def objection(self, workload: str, server: str) -> str:
        """Why the throughput of a server must not be reported; empty if it may be."""
        found = self.of(workload, server)
        if not found:
            return "it was not measured"
        why = []
        core, generator = median(s.server_core for s in found), median(s.generator_core for s in found)
        if generator >= GENERATOR_FREE:
            why.append(f"the generator was at {generator:.0%} of its core, not below {GENERATOR_FREE:.0%}")
        if core < SERVER_BUSY:
            why.append(f"the server was at {core:.0%} of its core, not {SERVER_BUSY:.0%}")
        if server != FLOOR:
            floor = self.of(workload, FLOOR)
            if not floor:
                why.append(f"the generator's headroom is not proved: {FLOOR} was not measured")
            elif median(s.rate for s in floor) <= median(s.rate for s in found):
                why.append(f"the generator did no more against {FLOOR}")
        return " and ".join(why)

    def lateness(self, workload: str, server: str) -> str:
        """Why a latency must not be reported: it is the generator's, which sent too late. Empty if it may be."""
        found = [s for s in self.of(workload, server) if s.latency is not None and s.lag is not None]
        if not found:
            return "it was not measured"
        sent = median(s.rate / s.asked_rate for s in found)
        if sent < SENT_IN_TIME:
            return f"the generator sent only {sent:.0%} of what was due"
        share = median(s.lag["p99_us"] / s.latency["p99_us"] for s in found if s.latency and s.lag)
        if share > LATE:
            return f"the generator itself was late: its own p99 is {share:.0%} of this one"
        return ""

    def disturbance(self, workload: str) -> str:
        alone = [server for server, is_ in self.servers.items() if "threads" not in is_["features"]]
        return disturbance({server: found for server in alone if (found := self.of(workload, server))})


def disturbance(samples: dict[str, list[Sample]]) -> str:
    """Who waits for a core finds more to do in each turn: its CPU per message falls, and the ratios shift. Empty if no
    server had to."""
    waits = {server: median(s.server_wait / s.seconds for s in taken) for server, taken in samples.items()}
    loud = ", ".join(f"{server} {wait:.0%}" for server, wait in waits.items() if wait >= QUIET)
    return f"servers waited for their core ({loud})" if loud else ""


def _without_defaults(sample: Sample) -> dict[str, Any]:
    return {f.name: v for f in fields(Sample) if (v := getattr(sample, f.name)) != f.default}
