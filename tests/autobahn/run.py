"""Runs the Autobahn testsuite against an echo server and judges its report: every case must be OK.

    python tests/autobahn/run.py                  # against server.py beside this file
    python tests/autobahn/run.py --cases 6 7.1.6  # only these cases or groups of cases
    python tests/autobahn/run.py --server 'python other_echo.py {port}'

The testsuite comes from install.sh beside this file. Logs and the suite's own pages are left in reports/.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPORTS = HERE / "reports"

# Not run: permessage-deflate (RFC 7692), which the server under test leaves off, as is the default.
EXCLUDED = ("12", "13")

# What remains of the version that install.sh pins; another number means that cases were lost on the way.
EXPECTED_CASES = 301

# The suite sets INFORMATIONAL for these, behaviour and close, whatever has happened: they cannot be OK.
INFORMATIONAL = {
    "7.1.6": "a 256 KiB message, a close and a ping back to back; what comes back before the close is left open",
    "7.13.1": "close code 5000, which RFC 6455 section 7.4.2 leaves without a meaning",
    "7.13.2": "close code 65535, likewise",
}

AGENT = "server"
LIST_CASES = "from autobahntestsuite.case import Cases; print(' '.join(case.__name__[4:] for case in Cases))"
DETAIL_LENGTH = 400


def in_group(case: str, group: str) -> bool:
    return case == group or case.startswith(group + ".")


def select_cases(python: Path, groups: Sequence[str]) -> list[str]:
    listed = subprocess.run([python, "-c", LIST_CASES], capture_output=True, text=True, check=True).stdout.split()
    cases = [case.replace("_", ".") for case in listed]
    cases = [case for case in cases if not any(in_group(case, group) for group in EXCLUDED)]
    if len(cases) != EXPECTED_CASES:
        sys.exit(f"autobahn: the suite has {len(cases)} cases without {', '.join(EXCLUDED)}.*, not {EXPECTED_CASES}")
    if groups:
        cases = [case for case in cases if any(in_group(case, group) for group in groups)]
    return cases


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

    def __init__(self, wstest: Path, number: int, port: int, cases: list[str]) -> None:
        self.name = f"shard-{number}"
        self.cases = cases
        self.directory = REPORTS / self.name
        self.directory.mkdir()
        servers = [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}/"}]
        spec = self.directory / "spec.json"
        spec.write_text(json.dumps({"outdir": str(self.directory), "servers": servers, "cases": cases}))
        with (self.directory / "wstest.log").open("wb") as log:
            self.process = subprocess.Popen(
                [wstest, "-m", "fuzzingclient", "-s", spec],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self, deadline: float) -> list[str]:
        """Waits for the end; returns what was wrong with the process itself."""
        try:
            code = self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            begun = (self.directory / "wstest.log").read_text(errors="replace").count("Running test case ID")
            return [f"{self.name} was not done in time: it had begun {begun} of {len(self.cases)} cases"]
        return [f"{self.name} ended with {code}: {self.directory / 'wstest.log'}"] if code else []

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


def explain(case: str, result: dict[str, Any], details: dict[str, Any]) -> str:
    behavior, close = result["behavior"], result["behaviorClose"]
    lines = [
        f"{case}: {behavior}, close {close}",
        f"    does       {clip(details['description'])}",
        f"    expects    {clip(details['expectation'])}",
        f"    result     {clip(details['result'])}",
    ]
    if behavior != "OK":
        lines += [f"    {kind:10} {clip(events)}" for kind, events in details["expected"].items()]
        lines.append(f"    got        {clip(details['received'])}")
    if close != "OK":
        lines += [
            f"    close      {clip(details['resultClose'])}",
            f"    close got  code {details['remoteCloseCode']}, reason {clip(details['remoteCloseReason'])},"
            f" clean {details['wasClean']} {clip(details['wasNotCleanReason'] or '')}",
            f"    close want {clip(details['expectedClose'])}",
        ]
    return "\n".join(lines)


def judge(shards: list[Shard], cases: list[str]) -> int:
    """Prints each case that is not as it must be and the count of all; returns how many are not."""
    where = {case: (shard, result) for shard in shards for case, result in shard.results().items()}
    ok = informational = 0
    for case in cases:
        if case not in where:
            print(f"{case}: NOT RUN")
            continue
        shard, result = where[case]
        verdict = (result["behavior"], result["behaviorClose"])
        if case in INFORMATIONAL and verdict == ("INFORMATIONAL", "INFORMATIONAL"):
            informational += 1
        elif verdict == ("OK", "OK"):
            ok += 1
        else:
            print(explain(case, result, shard.details(result)))
    failed = len(cases) - ok - informational
    print(f"autobahn: {len(cases)} cases, {ok} OK, {informational} informational, {failed} failed")
    return failed


def prepare_reports() -> None:
    """Empties the directory of reports, of what this program and the suite write there and of nothing else."""
    REPORTS.mkdir(exist_ok=True)
    for directory in REPORTS.glob("shard-*"):
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the Autobahn testsuite against an echo server.")
    parser.add_argument("--server", default=shlex.join([sys.executable, str(HERE / "server.py"), "{port}"]))
    parser.add_argument("--venv", type=Path, default=HERE.parents[1] / ".venv-2.7", help="where the suite is installed")
    parser.add_argument("--shards", type=int, default=4, help="wstest processes at a time (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the whole run (default: %(default)s)")
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="cases or groups, such as 6 or 7.1.6")
    options = parser.parse_args()

    if not (options.venv / "bin" / "wstest").exists():
        parser.error(f"no testsuite in {options.venv}: install.sh installs it")
    cases = select_cases(options.venv / "bin" / "python", options.cases)
    if not cases:
        parser.error("no such case")
    prepare_reports()
    started = time.monotonic()
    server = Server(options.server)
    shards: list[Shard] = []
    try:
        server.wait_until_ready()
        # Dealt out in turn, so that neighbours, which take about as long as each other, are spread.
        for number in range(min(options.shards, len(cases))):
            shards.append(Shard(options.venv / "bin" / "wstest", number, server.port, cases[number :: options.shards]))
        problems = [problem for shard in shards for problem in shard.wait(started + options.timeout)]
        print(f"autobahn: took {time.monotonic() - started:.1f} s in {len(shards)} shards, reports in {REPORTS}")
    finally:
        for shard in shards:
            shard.process.kill()
        faults = server.stop()
    for problem in problems + faults:
        print(f"autobahn: {problem}")
    failed = judge(shards, cases)
    return 1 if failed or problems or faults else 0


if __name__ == "__main__":
    sys.exit(main())
