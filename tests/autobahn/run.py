"""Runs the Autobahn testsuite against echo servers and judges its report: every case must be OK.

    python tests/autobahn/run.py                  # against server.py beside this file
    python tests/autobahn/run.py --full           # without leaving out what cases.py leaves out
    python tests/autobahn/run.py --cases 6 7.1.6  # only these cases or groups of cases
    python tests/autobahn/run.py --server 'python other_echo.py {port}'

The testsuite comes from install.sh beside this file. Logs and the suite's own pages are left in reports/.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cases import INFORMATIONAL, TARGETS, Target, cost, in_group

HERE = Path(__file__).resolve().parent
REPORTS = HERE / "reports"

AGENT = "server"
SPEC = "spec.json"
LIST_CASES = "from autobahntestsuite.case import Cases; print(' '.join(case.__name__[4:] for case in Cases))"
DETAIL_LENGTH = 400
PATIENCE = float(os.environ.get("PATIENCE", "1"))
# What the suite's client waits for, by default 5, 1 and 1 s; an end by one of the server's own limits comes later.
OPTIONS = {
    "openHandshakeTimeout": 5 * PATIENCE,
    "closeHandshakeTimeout": PATIENCE,
    "serverConnectionDropTimeout": PATIENCE,
}
SHARD_COST = 25  # seconds, so that no shard is much longer than the others at the end


def all_cases(python: Path) -> list[str]:
    listed = subprocess.run([python, "-c", LIST_CASES], capture_output=True, text=True, check=True).stdout.split()
    return [case.replace("_", ".") for case in listed]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Server:
    """The server under test, from the moment it accepts connections until it has ended on SIGTERM."""

    def __init__(self, command: str) -> None:
        self.port = free_port()
        self.log = REPORTS / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                shlex.split(command.format(port=self.port)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_until_ready(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    sys.exit(f"autobahn: the server did not start:\n{self.log.read_text(errors='replace')}")
                time.sleep(0.05)

    def stop(self, seconds: float = 10) -> list[str]:
        """Ends the server; returns what was wrong with it."""
        problems = []
        if (code := self.process.poll()) is not None:
            problems.append(f"the server ended during the run, with {code}")
        else:
            self.process.terminate()
            try:
                code = self.process.wait(seconds)
                if code not in (0, -signal.SIGTERM):
                    problems.append(f"the server ended on SIGTERM with {code}")
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                problems.append(f"the server did not end within {seconds:.0f} s of SIGTERM")
        if "Traceback" in self.log.read_text(errors="replace"):
            problems.append(f"the server logged a traceback: {self.log}")
        return problems


class Shard:
    """One wstest process, which runs its cases one after another and writes a report at the end."""

    def __init__(self, target: Target, number: int, cases: list[str]) -> None:
        self.target = target
        self.cases = cases
        self.name = f"{target.name}-{number}"
        self.directory = REPORTS / self.name
        self.cost = sum(map(cost, cases))

    def run(self, wstest: Path, port: int, deadline: float) -> str | None:
        """Returns what was wrong with the process itself."""
        self.directory.mkdir()
        servers = [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}/{self.target.name}"}]
        spec = self.directory / SPEC
        spec.write_text(
            json.dumps({"outdir": str(self.directory), "servers": servers, "cases": self.cases, "options": OPTIONS})
        )
        path = self.directory / "wstest.log"
        hint = {} if self.target.hint else {"NO_HINT": "1"}
        with path.open("wb") as log:
            process = subprocess.Popen(
                [wstest, "-m", "fuzzingclient", "-s", spec],
                cwd=self.directory,
                env={
                    **os.environ,
                    "PYTHONPATH": str(HERE / "python27"),
                    "PYTHONDONTWRITEBYTECODE": "1",  # which Python 2 writes beside the source
                    "PATIENCE": str(PATIENCE),
                    **hint,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            begun = path.read_text(errors="replace").count("Running test case ID")
            return f"{self.name} was not done in time: it had begun {begun} of {len(self.cases)} cases"
        return f"{self.name} ended with {code}: {path}" if code else None

    def results(self) -> dict[str, dict[str, Any]]:
        index = self.directory / "index.json"
        if not index.exists():
            return {}
        results: dict[str, dict[str, Any]] = json.loads(index.read_text()).get(AGENT, {})
        return results

    def details(self, result: dict[str, Any]) -> dict[str, Any]:
        details: dict[str, Any] = json.loads((self.directory / result["reportfile"]).read_text())
        return details


def clip(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= DETAIL_LENGTH else text[:DETAIL_LENGTH] + " ..."


def explain(shard: Shard, case: str, verdict: str, details: dict[str, Any]) -> str:
    lines = [
        f"{shard.target.name} {case}: {verdict}",
        f"    does       {clip(details['description'])}",
        f"    expects    {clip(details['expectation'])}",
        f"    result     {clip(details['result'])}",
    ]
    if details["behavior"] != "OK":
        lines += [f"    {kind:10} {clip(events)}" for kind, events in details["expected"].items()]
        lines.append(f"    got        {clip(details['received'])}")
    if details["behaviorClose"] != "OK":
        lines += [
            f"    close      {clip(details['resultClose'])}",
            f"    close got  code {details['remoteCloseCode']}, reason {clip(details['remoteCloseReason'])},"
            f" clean {details['wasClean']} {clip(details['wasNotCleanReason'] or '')}",
            f"    close want {clip(details['expectedClose'])}",
        ]
    return "\n".join(lines)


def judge(target: Target, shards: list[Shard], *, verdicts_only: bool) -> int:
    """Prints each case that is not as it must be and the count of all; returns how many are not."""
    ok = informational = failed = 0
    seconds = 0.0
    for shard in shards:
        results = shard.results()
        for case in shard.cases:
            if case not in results:
                print(f"{target.name} {case}: NOT RUN")
                failed += 1
                continue
            result, details = results[case], shard.details(results[case])
            verdict = f"{result['behavior']}, close {result['behaviorClose']}"
            fault = None if verdicts_only else target.fault(case, details)
            seconds += result["duration"] / 1000
            if case in INFORMATIONAL and verdict == "INFORMATIONAL, close INFORMATIONAL":
                informational += 1
            elif verdict == "OK, close OK" and fault is None:
                ok += 1
            else:
                failed += 1
                print(explain(shard, case, f"{verdict}; {fault}" if fault else verdict, details))
    cases = sum(len(shard.cases) for shard in shards)
    print(
        f"autobahn: {target.name}: {cases} of {target.count} cases in {seconds:.0f} s of {len(shards)} shards,"
        f" {ok} OK, {informational} informational, {failed} failed"
    )
    return failed


def prepare_reports() -> None:
    """Empties the directory of reports, of what this program and the suite write there and of nothing else."""
    REPORTS.mkdir(exist_ok=True)
    for spec in REPORTS.glob(f"*/{SPEC}"):
        for file in spec.parent.iterdir():
            file.unlink()
        spec.parent.rmdir()


def deal(target: Target, cases: list[str]) -> list[Shard]:
    """Shards of about the same cost: the dearest case first, each to that which has least so far."""
    hands: list[list[str]] = [[] for _ in range(min(len(cases), math.ceil(sum(map(cost, cases)) / SHARD_COST)))]
    for case in sorted(cases, key=cost, reverse=True):
        min(hands, key=lambda hand: sum(map(cost, hand))).append(case)
    return [Shard(target, number, hand) for number, hand in enumerate(hands)]


def select(python: Path, options: argparse.Namespace) -> list[Shard]:
    every = all_cases(python)
    shards = []
    for target in TARGETS:
        cases = [case for case in every if target.runs(case)]
        if len(cases) != target.count:
            sys.exit(f"autobahn: the suite has {len(cases)} cases for {target.name}, not {target.count}")
        if options.cases:
            cases = [case for case in cases if any(in_group(case, group) for group in options.cases)]
        elif not options.full:
            cases = [case for case in cases if target.selects(case)]
        if target.name in options.targets:
            shards += deal(target, cases)
    return shards


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the Autobahn testsuite against echo servers.")
    names = [target.name for target in TARGETS]
    parser.add_argument("--server", help="instead of server.py; only the suite's own verdicts count then")
    parser.add_argument("--venv", type=Path, default=HERE.parents[1] / ".venv-2.7", help="where the suite is installed")
    parser.add_argument("--parallel", type=int, default=4, help="wstest processes at a time (default: %(default)s)")
    parser.add_argument("--timeout", type=float, help="seconds for the whole run (default: 840; with --full, 7200)")
    parser.add_argument("--full", action="store_true", help="leave out no case of compression: 20 minutes")
    parser.add_argument("--targets", nargs="+", default=names, choices=names, metavar="TARGET", help=", ".join(names))
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="cases or groups, such as 6 or 7.1.6")
    options = parser.parse_args()

    wstest = options.venv / "bin" / "wstest"
    if not wstest.exists():
        parser.error(f"no testsuite in {options.venv}: install.sh installs it")
    shards = select(options.venv / "bin" / "python", options)
    if not shards:
        parser.error("no such case")
    prepare_reports()
    started = time.monotonic()
    deadline = started + (options.timeout or (7200 if options.full else 840))
    server = Server(options.server or shlex.join([sys.executable, str(HERE / "server.py"), "{port}"]))
    pool = ThreadPoolExecutor(options.parallel)
    try:
        server.wait_until_ready()
        # The longest first, so that they all end at about the same time.
        jobs = [
            pool.submit(shard.run, wstest, server.port, deadline)
            for shard in sorted(shards, key=lambda shard: shard.cost, reverse=True)
        ]
        problems = [problem for job in jobs if (problem := job.result())]
    finally:
        pool.shutdown(cancel_futures=True)
        problems_of_server = server.stop()
    print(f"autobahn: took {time.monotonic() - started:.1f} s, reports in {REPORTS}")
    for problem in problems + problems_of_server:
        print(f"autobahn: {problem}")
    failed = sum(
        judge(target, [shard for shard in shards if shard.target is target], verdicts_only=bool(options.server))
        for target in dict.fromkeys(shard.target for shard in shards)
    )
    return 1 if failed or problems or problems_of_server else 0


if __name__ == "__main__":
    sys.exit(main())
