"""fastws beside other WebSocket servers: README.md, in this folder, explains."""

from __future__ import annotations

import argparse
import sys

from bench import compare, profiling, report, run
from bench.machine import BenchError
from bench.micro import kernels
from bench.servers import SERVERS, missing
from bench.workloads import STANDARD, WORKLOADS

COMMANDS = {
    "run": (run, "measure servers, into a file of results"),
    "report": (report, "RESULTS.md, charts and README.md's table from the results"),
    "compare": (compare, "tell two commits of fastws apart"),
    "profile": (profiling, "a flame graph, and system calls per message"),
    "kernels": (kernels, "the SIMD kernels beside memcpy, CPython and other libraries"),
}


def show() -> int:
    for name, server in SERVERS.items():
        print(f"{name:<24}{missing(server) or server.title}")
    print()
    for name, work in WORKLOADS.items():
        print(f"{'*' if name in STANDARD else ' '} {name:<26}{work.title}")
    print("\n*: in a run that is neither --quick nor --full")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name servers and workloads")
    for name, (module, help) in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=help, description=module.__doc__))
    options = parser.parse_args()
    try:
        return show() if options.command == "list" else COMMANDS[options.command][0].main(options)
    except BenchError as error:
        print(f"bench {options.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
