"""Keeps a server busy with clients that come, talk, misbehave and vanish, and fails if anything is left of them.

python tests/soak/run.py --minutes 20
python tests/soak/run.py --minutes 1 --leak bytes    # must fail: the server leaks on purpose
make soak-asan MINUTES=30                            # the server under sanitizers
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from harness import PATIENCE, eventually, request_bytes, unaccounted  # noqa: E402
from harness.programs import reserve_port  # noqa: E402

from soak import figures, honest, talks  # noqa: E402

PROCESSES = 2
ON_PURPOSE = re.compile(r"(?m)^Traceback.*\n(?: .*\n)+soak\.trouble\.Meddled\n")
WARM_UP = 0.15  # of the time: a first crowd, after which the base is taken


class Server:
    def __init__(self, port: int, leaks: list[str], log: IO[str]) -> None:
        self.port = port
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "app.py"), str(port), "--leak", *leaks], stdin=subprocess.DEVNULL, stderr=log
        )
        self.pid = self.process.pid
        eventually(lambda: self.process.poll() is not None or self.listens(), 10)

    def listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stats(self, query: str = "") -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30 * PATIENCE) as sock:
            sock.sendall(f"GET /stats?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = b""
            while data := sock.recv(65536):
                answer += data
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found

    def converse(self, path: str, offer: str, said: bytes) -> bytes:
        """All that a client hears that offers compression, says this and leaves."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30 * PATIENCE) as sock:
            sock.sendall(request_bytes(path, headers=[("Sec-WebSocket-Extensions", offer)]) + said + talks.CLOSE)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def rest(self) -> tuple[dict[str, Any], int]:
        """Its figures and descriptors once nobody is there any more."""

        def alone() -> bool:
            return bool(self.stats()["sockets"] == 1)

        takeover = False
        with contextlib.suppress(AssertionError):  # then the figures tell
            eventually(alone, 15)
            for offer in talks.OFFERS:  # all that is shared, so that what is held for compression is the same each time
                self.converse("/deflate", offer, talks.EACH_SIZE)
            takeover = b"client_no_context_takeover" not in self.converse("/deflate/takeover", talks.OFFERS[0], b"")
            eventually(alone, 15)
        stats = self.stats("allocated") | {"takeover": takeover}
        descriptors = []
        for _ in range(20):  # our own connection takes a moment to end, which a leak does not
            descriptors.append(figures.descriptors(self.pid))
            time.sleep(0.02)
        return stats, min(descriptors)

    def lines(self) -> list[str]:
        """The last of its log."""
        return Path(self.log.name).read_text().splitlines()[-10:]

    def errors(self) -> list[str]:
        """Lines about errors, but for those about what the logging handler raises on purpose."""
        text = ON_PURPOSE.sub("", Path(self.log.name).read_text())
        return [line for line in text.splitlines() if line.startswith(("ERROR", "CRITICAL", "WARNING", "Traceback"))]


@contextlib.contextmanager
def crowds(port: int, options: argparse.Namespace, counts: Counter[str], problems: list[str]) -> Iterator[list[Any]]:
    """The clients' processes, which need no sanitizers; at the end all clients leave."""
    command = [sys.executable, str(HERE / "peers.py"), str(port), "--count", str(options.count // PROCESSES)]
    command += ["--churn", str(options.churn / PROCESSES), "--budget", str(options.budget), "--kinds", *options.kinds]
    plain = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONMALLOC")}
    processes = [
        subprocess.Popen([*command, "--seed", str(seed)], stdout=subprocess.PIPE, text=True, env=plain)
        for seed in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # it is ready, and minds SIGTERM
        yield processes
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            told, _ = process.communicate(timeout=30 * PATIENCE)
            if process.returncode:
                problems.append(f"a process of clients ended with {process.returncode}")
            else:
                counts.update(json.loads(told))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def watch(server: Server, processes: list[Any], seconds: float, least: int = 0) -> list[figures.Sample]:
    """Once a second, until the time is up and `least` connections have been accepted."""
    began = time.monotonic()
    samples: list[figures.Sample] = []
    while (passed := time.monotonic() - began) < seconds or samples[-1].stats["accepted"] < least:
        samples.append(figures.take(server.pid, passed, server.stats("memory")))
        if any(process.poll() is not None for process in [*processes, server.process]):
            break
        time.sleep(max(0.0, began + len(samples) - time.monotonic()))
    return samples


def soak(options: argparse.Namespace) -> list[str]:
    """What is wrong at the end."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.NamedTemporaryFile("w+", suffix=".log"))
        port = stack.enter_context(reserve_port()).getsockname()[1]
        server = Server(port, options.leak, log)
        stack.callback(server.process.wait)
        stack.callback(server.process.kill)
        problems: list[str] = []
        try:
            keep_busy(server, options, problems)
        except (OSError, ValueError, AssertionError) as error:  # it did not answer, or not all of it
            server.process.kill()
            return [*problems, f"{error!r}; the server ended with {server.process.wait()}", *server.lines()]
        server.process.send_signal(signal.SIGTERM)
        if server.process.wait(30 * PATIENCE):
            problems += [f"the server ended with {server.process.returncode}", *server.lines()]
        problems += [f"logged: {line}" for line in server.errors()[:5]]
    return problems


def keep_busy(server: Server, options: argparse.Namespace, problems: list[str]) -> None:
    counts: Counter[str] = Counter()
    seconds = options.minutes * 60
    with crowds(server.port, options, Counter(), problems) as processes:
        watch(server, processes, seconds * WARM_UP)
    server.rest()
    problems += honest.lacks(server.port, server.pid)
    base, base_descriptors = server.rest()
    with crowds(server.port, options, counts, problems) as processes:
        bystander = honest.Bystander(server.port)
        samples = watch(server, processes, seconds * (1 - WARM_UP), options.least)
        bystander.leave()
    server.rest()
    problems += honest.lacks(server.port, server.pid)
    end, descriptors = server.rest()
    print(bystander)
    tell(samples, counts, base, end)
    problems += figures.left_over(base, end)
    if descriptors != base_descriptors:
        problems.append(f"{descriptors} descriptors are open, before there were {base_descriptors}")
    for stats in [*(sample.stats for sample in samples), end]:
        problems += unaccounted(stats)
        if not 0 <= stats["connections"] <= stats["sockets"] or stats["handshakes"] < 0:
            problems.append(f"there cannot be so many: {stats}")
    found = figures.trend(samples)
    if "LD_PRELOAD" in os.environ:
        print("the memory tells nothing, as sanitizers keep what was freed")
    elif found is None:
        print("too short a time to tell a slope of memory")
    else:
        print(f"memory in the second half: {found.per_second * 60 / 1024:+,.1f} KiB a minute,", end=" ")
        print(f"{found.growth / 1024:+,.0f} KiB in all; up to {found.allowed / 1024:,.0f} KiB is noise")
        if found:
            problems.append("memory grows")


def tell(samples: list[figures.Sample], counts: Counter[str], base: dict[str, Any], end: dict[str, Any]) -> None:
    print("second     private    resident  buffered  KiB   open    fds   CPU % of a core")
    step = max(len(samples) // 12, 1)
    for before, now in itertools.pairwise(samples[::step]):
        bytes_of = now.stats["memory"] | now.stats
        sizes = [f"{bytes_of[name] // 1024:,}" for name in ("private", "resident", "buffered_bytes")]
        print(f"{now.at:6.0f}{sizes[0]:>12}{sizes[1]:>12}{sizes[2]:>10}     ", end="")
        print(f"{now.stats['connections']:7,}{now.descriptors:7,}{100 * _load(before, now):6.0f}")
    middle = statistics.median(sample.private for sample in samples[len(samples) // 2 :])
    most = max(sample.stats["connections"] for sample in samples)
    print(f"server CPU {100 * _load(samples[0], samples[-1]):.0f} % of a core, {most:,} connections at most,", end=" ")
    print(f"{middle / 1024:,.0f} KiB private in the middle")
    print("clients: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    for name in ("refused", "closed"):
        print(f"{name}: " + ", ".join(f"{reason} {count:,}" for reason, count in end[name].items() if count))
    print(f"accepted {end['accepted']:,}, answered {end['answered']:,}; at rest, allocated", end=" ")
    print(" then ".join("{blocks:,} blocks, {bytes:,} bytes".format(**then["allocated"]) for then in (base, end)))


def _load(before: figures.Sample, now: figures.Sample) -> float:
    return (now.cpu - before.cpu) / max(now.at - before.at, 0.01)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--count", type=int, default=2000, help="connections at a time")
    parser.add_argument("--churn", type=float, default=130, help="new connections a second")
    parser.add_argument("--least", type=int, default=0, help="connections in all, if the time has to be longer for it")
    parser.add_argument("--budget", type=float, default=0.35, help="of a core, for each of two processes of clients")
    parser.add_argument("--kinds", nargs="*", default=[], help="of clients, by their classes' names; all by default")
    parser.add_argument(
        "--leak", nargs="*", default=[], help="connections, bytes, descriptors: to see that it is noticed"
    )
    problems = soak(parser.parse_args())
    for problem in problems[:10]:
        print(f"WRONG: {problem}")
    print("FAILED" if problems else "passed")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
