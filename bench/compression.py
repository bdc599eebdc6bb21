"""permessage-deflate in fastws and other servers, with several settings of each: CPU, bytes and memory."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.machine import BenchError, check_machine, compiled, private_bytes, provenance
from bench.measure import Server, generator, python_server, run
from bench.results import Sample, disturbance
from bench.run import core_pair, positive

OFFER = ["--offer", "permessage-deflate; client_max_window_bits"]  # what browsers offer
PEER = "aiohttp"  # at level 1, as fastws is
OFF = "fastws, off"
SERVERS = {
    "fastws": python_server("fastws", "--deflate"),
    "fastws, no history": python_server("fastws", "--deflate", "history=0"),
    "fastws, client takeover": python_server("fastws", "--deflate", "client_no_context_takeover=False"),
    OFF: python_server("fastws"),
    "picows": python_server("picows_compat"),
    "websockets": python_server("websockets", "--deflate"),
    "websockets, level 1": python_server("websockets", "--deflate", "1"),
    "aiohttp": python_server("aiohttp", "--deflate"),
    "uvicorn, websockets": python_server("uvicorn", "--deflate", "--ws", "websockets-sansio"),
    "uvicorn, wsproto": python_server("uvicorn", "--deflate", "--ws", "wsproto"),
}
MODULES = {"fastws": ["fastws"], "picows": ["picows", "uvloop"], "uvicorn, wsproto": ["uvicorn", "wsproto"]}
PUBLISHERS = ["fastws", OFF, "websockets", "websockets, level 1"]  # those that can broadcast
KIB = 1024
WIDTHS = (21, 18, 17, 13, 15, 13, 16)  # of the columns


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    command: list[str]
    each: str = "message"
    messages_each: int = 1
    servers: tuple[str, ...] = tuple(SERVERS)
    is_memory: bool = False
    peer: str = PEER

    def value(self, sample: Sample) -> float:
        return sample.memory_each if self.is_memory else sample.cpu_us


def workloads(seconds: int) -> list[Workload]:
    def echo(size: int, connections: int, name: str = "", window: int = 1, alone: bool = False) -> Workload:
        load = ["echo", "--size", str(size), "--connections", str(connections), "--window", str(window)]
        load += ["--seconds", str(seconds)] + ["--self-contained"] * alone
        text = f"{size:,} B" if size < 1000 else f"{size // KIB} KiB"
        title = f"echo, {text} of JSON, {connections:,} connection{'s' * (connections > 1)}, {window} in flight"
        return Workload(name or f"echo-{size}", title + ", no takeover by the client" * alone, load)

    exchange = ["exchange", "--size", "400", "--messages", "100", "--connections", "5000"]
    publish = ["broadcast", "--size", "400", "--connections", "10000", "--seconds", str(seconds)]
    return [
        echo(120, 64),
        echo(400, 64),
        echo(4 * KIB, 64),
        echo(64 * KIB, 16),
        echo(120, 1000, "echo-120-1000"),
        echo(400, 1000, "echo-400-1000"),
        echo(400, 1, "echo-400-pipelined", window=32),
        echo(120, 64, "echo-120-alone", alone=True),
        echo(400, 64, "echo-400-alone", alone=True),
        Workload(
            "publish",
            "publish, 400 B of JSON, to 10,000 subscribers",
            publish,
            each="delivery",
            servers=tuple(PUBLISHERS),
            peer=OFF,
        ),
        Workload(
            "memory",
            "private memory of 5,000 connections, idle after 100 messages of 400 B each",
            exchange,
            "connection",
            100,
            is_memory=True,
        ),
    ]


def available(names: list[str]) -> dict[str, list[str]]:
    """The command of each server that can run here; the others are named with the reason."""
    found = {}
    for name in names:
        modules = MODULES.get(name, [name.partition(",")[0]])
        probe = subprocess.run(
            [sys.executable, "-c", f"import {', '.join(modules)}"], capture_output=True, text=True, check=False
        )
        if probe.returncode:
            print(f"{name} is skipped: it cannot be imported ({probe.stderr.strip().splitlines()[-1]})")
        else:
            found[name] = SERVERS[name]
    return found


def collect(
    work: Workload, servers: dict[str, list[str]], rounds: int, cores: tuple[int, int]
) -> dict[str, list[Sample]]:
    """Rounds of one sample per server, each round beginning with another."""
    names = [name for name in servers if name in work.servers]
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            doing = f"  {work.name}: round {number + 1} of {rounds}, {name}"
            print(f"{doing:<70}", end="\r", file=sys.stderr, flush=True)
            command = work.command + (OFFER if name != OFF else [])
            try:
                samples[name].append(run(servers[name], command, cores, "deflateload", memory_of=private_bytes))
            except BenchError as error:
                raise BenchError(f"{work.name}, {name}, round {number + 1}: {error}") from error
    print(" " * 70, end="\r", file=sys.stderr, flush=True)
    return samples


def report(work: Workload, samples: dict[str, list[Sample]]) -> dict[str, object]:
    """Prints the table of one workload; returns the same for the JSON file."""
    peer = work.peer if work.peer in samples else next(iter(samples))
    unit = "bytes" if work.is_memory else "us CPU"
    print(f"\n{work.title}")
    columns = [f"{unit} per {work.each}", "min - max", f"of {peer}", "B to server", "B from server"]
    columns += ["server core", "generator core"]
    print(f"  {'server':<24}" + "".join(f"{c:>{WIDTHS[i]}}" for i, c in enumerate(columns)))
    rows: dict[str, object] = {}
    for name, taken in samples.items():
        values = [work.value(s) for s in taken]
        ratio = median(work.value(a) / work.value(b) for a, b in zip(taken, samples[peer], strict=True))
        digits = 0 if work.is_memory else 2 if median(values) < 10 else 1
        messages = [s.count * work.messages_each for s in taken]
        to_server = median(s.bytes_out / n for s, n in zip(taken, messages, strict=True))
        from_server = median(s.bytes_in / n for s, n in zip(taken, messages, strict=True))
        cells = [
            f"{median(values):,.{digits}f}",
            f"{min(values):,.{digits}f} - {max(values):,.{digits}f}",
            f"{ratio:.3f}",
        ]
        cells += [f"{to_server:,.1f}", f"{from_server:,.1f}"]
        cells += [f"{median(s.server_core for s in taken):.0%}", f"{median(s.generator_core for s in taken):.0%}"]
        print(f"  {name:<24}" + "".join(f"{cell:>{WIDTHS[i]}}" for i, cell in enumerate(cells)))
        rows[name] = {
            "median": median(values),
            "ratio": ratio,
            "bytes_to_server": to_server,
            "bytes_from_server": from_server,
            "samples": [asdict(s) for s in taken],
        }
    if note := disturbance(samples):
        print(f"  {note}")
    sys.stdout.flush()
    return {"unit": unit, "each": work.each, "peer": peer, "servers": rows}


@dataclass(frozen=True)
class Times:
    """Of one message: milliseconds of the loop's thread, and bytes from the server."""

    sending: float
    receiving: float
    bytes_in: float


def timed(command: list[str], size: int, offer: list[str], seconds: int, cores: tuple[int, int]) -> Times:
    """One connection, one message in flight, timed in the server."""
    load = ["echo", "--path", "/timed", "--size", str(size), "--connections", "1", "--seconds", str(seconds), *offer]
    with Server(command, cores[0]) as server, generator(load, server.port, cores[1], "deflateload") as loading:
        done = loading.go()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/times", timeout=10) as answer:
            times = json.load(answer)
    each = 1e3 / times["count"]
    return Times(times["sending"] * each, times["receiving"] * each, done["bytes_in"] / done["count"])


def blocking(rounds: int, seconds: int, cores: tuple[int, int]) -> dict[str, object]:
    """How long large messages keep the loop busy."""
    print("\nhow long one message of JSON keeps fastws' loop busy, in ms of CPU; median of the rounds")
    print(f"  {'size':<10}{'level':>8}{'send':>12}{'receive':>12}{'B from server':>16}")
    results: dict[str, object] = {}
    kinds = [(size, level) for size in (64 * KIB, 1024 * KIB) for level in ("off", "1", "6", "9")]
    found: dict[tuple[int, str], list[Times]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for size, level in kinds:
            command = SERVERS[OFF] if level == "off" else python_server("fastws", "--deflate", f"level={level}")
            offer = [] if level == "off" else OFFER
            found[size, level].append(timed(command, size, offer, seconds, cores))
    for (size, level), times in found.items():
        sending, receiving = median(t.sending for t in times), median(t.receiving for t in times)
        line = f"  {f'{size // KIB:,} KiB':<10}{level:>8}{sending:>12.2f}{receiving:>12.2f}"
        print(f"{line}{median(t.bytes_in for t in times):>16,.0f}", flush=True)
        results[f"{size}, level {level}"] = [asdict(t) for t in times]
    return results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [*(work.name for work in workloads(1)), "blocking"]
    parser.add_argument("--rounds", type=positive, default=5, help="samples per server and workload (default: 5)")
    parser.add_argument("--seconds", type=positive, default=1, help="length of a run (default: 1)")
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=list(SERVERS), help="default: all")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="workloads (default: all)")
    parser.add_argument("--cores", type=core_pair, default="0,1", help="of the server and the generator (default: 0,1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample, with where it comes from")


def measure(options: argparse.Namespace) -> dict[str, object]:
    servers = available(options.servers)
    results: dict[str, object] = {}
    for work in workloads(options.seconds):
        if work.name in options.only and set(work.servers) & set(servers):
            rounds = min(options.rounds, 2) if work.is_memory else options.rounds  # which hardly varies
            results[work.name] = report(work, collect(work, servers, rounds, options.cores))
    if "blocking" in options.only and "fastws" in servers:
        results["blocking"] = blocking(options.rounds, options.seconds, options.cores)
    return results


def main(options: argparse.Namespace) -> int:
    check_machine()
    os.sched_setaffinity(0, {options.cores[1]})
    compiled("deflateload")
    where = provenance(options.cores, ["picows", "websockets", "aiohttp", "uvicorn", "wsproto"])
    print(f"{where['cpu']}, kernel {where['kernel']}")
    print(f"{options.rounds} rounds, servers interleaved; median, and the spread over the rounds")
    results = measure(options)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"provenance": where, "workloads": results}, indent=1) + "\n")
    return 0
