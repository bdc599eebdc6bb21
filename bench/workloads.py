"""What is measured: every workload by its name, and the choices of them that a run may take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product

from bench.machine import BenchError
from bench.results import CPU, LATENCY, MEMORY
from bench.servers import Server

KIB, MIB = 1024, 1024 * 1024
SIZES = [16, 125, 126, KIB, 16 * KIB, 64 * KIB, MIB]
KINDS = {"text": "ASCII text", "mixed": "text with 2-, 3- and 4-byte characters", "binary": "binary"}
CONNECTIONS = [1, 100, 1000, 10_000]
WINDOWS = [1, 16, 64]
IN_FLIGHT = 256 * MIB  # bytes, above which an echo is left out: both sides' socket buffers hold them, too
PING_INTERVAL, PING_HOLD = 4, 12  # seconds; uWebSockets counts in steps of 4
OFFER = ["--offer", "permessage-deflate; client_max_window_bits"]  # what browsers offer


@dataclass(frozen=True)
class Workload:
    name: str
    group: str
    title: str
    each: str  # what is counted
    command: list[str]  # of the generator
    parameters: dict[str, object]
    figure: str = CPU  # what counts of a sample
    needs: frozenset[str] = frozenset()  # of a server's features
    server_options: tuple[str, ...] = ()
    hold: float = 0.0  # seconds: what is measured is not the run but the rest after it
    same_as: str = ""  # the samples of this other workload, for another figure of them
    rate_of: str = ""  # an open loop: at `rate_share` of the server's throughput in this other workload
    rate_share: float = 0.0
    rate: int = 0  # an open loop: at this rate, for all servers
    rates: bool = False  # whether a throughput is told
    full: bool = False  # in a run that is --full, or names it

    def unfit(self, server: Server) -> str:
        """Why the server has no part in it; empty if it has."""
        if lacking := self.needs - server.features:
            return f"it has not {', '.join(sorted(lacking))}"
        return "" if fnmatchcase(self.name, server.only) else f"it is for {server.only} only"

    def serve(self, server: Server) -> list[str]:
        """The server's command, without --port."""
        return [*server.command, *self.server_options, *(server.deflate if "deflate" in self.needs else ())]

    def load(self, server: Server, seconds: float, rate: float = 0.0) -> list[str]:
        """The generator's command. `seconds`: where it is told how long; `rate` of an open loop, per second."""
        load = self.command if server.deflate else [word for word in self.command if word not in OFFER]
        if self.command[0] in ("echo", "open", "broadcast"):
            load = [*load, "--seconds", f"{seconds:g}"]
        return [*load, "--rate", str(round(rate))] if rate else load

    def described(self) -> dict[str, object]:
        """For the results."""
        return {
            "group": self.group,
            "title": self.title,
            "each": self.each,
            "figure": self.figure,
            "rates": self.rates,
            "parameters": self.parameters,
            "command": ["loadgen", *self.command],
        }


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB" if size >= KIB else f"{size} B"


def _label(size: int) -> str:
    return _size(size).removesuffix(" B").replace(" ", "")


def _echo(size: int, kind: str, connections: int, window: int) -> Workload:
    load = ["echo", "--connections", str(connections), "--size", str(size), "--window", str(window)]
    return Workload(
        f"echo-{_label(size)}-{kind}-{connections}-{window}",
        "echo",
        f"echo, {_size(size)} of {KINDS[kind]}, {_many(connections, 'connection')}, {window} in flight",
        "message",
        load if kind == "text" else [*load, f"--{kind}"],
        {"size": size, "kind": kind, "connections": connections, "window": window},
        rates=True,
    )


def _echoes() -> Iterator[Workload]:
    yield _echo(64, "text", 100, 1)
    yield _echo(64, "text", 100, 32)
    yield _echo(4 * KIB, "text", 20, 1)
    yield _echo(MIB, "binary", 10, 1)
    yield _echo(MIB, "mixed", 10, 1)
    for size, kind, connections, window in product(SIZES, KINDS, CONNECTIONS, WINDOWS):
        if size * connections * window <= IN_FLIGHT:
            yield _echo(size, kind, connections, window)


def _is_standard(work: Workload) -> bool:
    """Of the echoes: every size with every content, and with more in flight; every count of connections. The others are
    what lies between them."""
    if work.group != "echo":
        return not work.full
    size, kind, connections, window = (work.parameters[p] for p in ("size", "kind", "connections", "window"))
    if size not in SIZES or connections not in CONNECTIONS:
        return True
    return (connections == 100 and (window == 1 or (kind == "text" and window == 64))) or (
        size == 125 and kind == "text"
    )


def _broadcasts() -> Iterator[Workload]:
    for subscribers, burst, slow in product([100, 1000, 10_000], [1, 16], [False, True]):
        lagging = subscribers // 100 if slow else 0
        load = ["broadcast", "--connections", str(subscribers), "--size", "64", "--burst", str(burst)]
        yield Workload(
            f"broadcast-{subscribers}-{burst}{'-slow' * slow}",
            "broadcast",
            f"broadcast, 64 B text, to {_many(subscribers, 'subscriber')}, {burst} at a time"
            f"{f', {lagging} more that do not read' * slow}",
            "delivery",
            [*load, "--slow", str(lagging)] if slow else load,
            {"size": 64, "connections": subscribers, "burst": burst, "slow": lagging},
            needs=frozenset({"broadcast"}),
        )


def _connects() -> Iterator[Workload]:
    for at_once, count in ((1, 2000), (64, 5000), (512, 5000), (5000, 5000)):
        name = "storm-5000" if at_once == count else f"connect-{at_once}"
        title = "a storm of 5,000 at once" if at_once == count else f"{at_once} at a time"
        yield Workload(
            name,
            "connect",
            f"connect, upgrade and reset, {title}",
            "connection",
            ["connect", "--connections", str(count), "--at-once", str(at_once)],
            {"connections": count, "at_once": at_once},
            rates=True,
        )


def _idles() -> Iterator[Workload]:
    def idle(name: str, title: str, connections: int, *more: str, **changes: object) -> Workload:
        load = ["idle", "--connections", str(connections), "--at-once", "64", *more]
        parameters: dict[str, object] = {"connections": connections}
        return Workload(name, "idle", title, "connection", load, parameters, **({"figure": MEMORY} | changes))  # type: ignore[arg-type]

    yield idle("accept-10000", "accept and upgrade 10,000 connections that stay", 10_000, figure=CPU, rates=True)
    yield idle("idle-10000", "resident memory of 10,000 idle connections", 10_000, same_as="accept-10000")
    yield idle("idle-18000", "resident memory of 18,000 idle connections", 18_000)
    yield idle(
        "idle-10000-after",
        "resident memory of 10,000 idle connections after a message of 64 KiB each",
        10_000,
        "--message",
        str(64 * KIB),
    )
    yield idle(
        "ping-10000",
        f"10,000 idle connections, pinged every {PING_INTERVAL} s, for {PING_HOLD} s",
        10_000,
        figure=CPU,
        needs=frozenset({"ping"}),
        server_options=("--ping-interval", str(PING_INTERVAL)),
        hold=PING_HOLD,
    )


def _latencies() -> Iterator[Workload]:
    peak = "echo-64-text-100-1"
    for share in (25, 50, 75, 0):
        at = f"at {share} % of its rate in {peak}" if share else "10,000 messages a second"
        yield Workload(
            f"latency-{share}" if share else "latency-10k",
            "latency",
            f"echo, 64 B text, 100 connections, open loop, {at}",
            "message",
            ["open", "--connections", "100", "--size", "64"],
            {"size": 64, "connections": 100, "rate_share": share / 100, "rate": 0 if share else 10_000},
            figure=LATENCY,
            rate_of=peak if share else "",
            rate_share=share / 100,
            rate=0 if share else 10_000,
        )


def _scales() -> Iterator[Workload]:
    for connections in CONNECTIONS[1:]:
        for active in (connections, connections // 100):
            load = ["echo", "--connections", str(connections), "--active", str(active), "--size", "64"]
            yield Workload(
                f"scale-{connections}-{active}",
                "scale",
                f"echo, 64 B text, 1 in flight, {_many(connections, 'connection')}, {active:,} of them active",
                "message",
                load,
                {"size": 64, "connections": connections, "active": active},
            )


def _deflate(name: str, title: str, command: list[str], *needs: str, **parameters: int) -> Workload:
    load = [*command, "--connections", str(parameters["connections"]), "--json", *OFFER]
    needed = frozenset({"deflate", *needs})
    return Workload(name, "deflate", title, "message", load, dict(parameters), needs=needed, full=True)


def _deflated_echo(size: int, connections: int, *options: str, window: int = 1) -> Workload:
    title = f"echo, {_size(size)} of JSON, permessage-deflate, {_many(connections, 'connection')}"
    load = ["echo", "--size", str(size), "--window", str(window), *options]
    name = f"deflate-{_label(size)}-{connections}-{window}"
    title += f", {window} in flight" * (window > 1)
    return _deflate(name, title, load, size=size, connections=connections)


def _deflated_idle(messages: int) -> Workload:
    title = "resident memory of 5,000 connections with permessage-deflate, "
    title += f"idle after {messages} messages of 400 B each"
    load = ["idle", "--at-once", "64", "--message", "400", "--messages", str(messages)]
    work = _deflate(f"deflate-idle-5000-{messages}", title, load, size=400, connections=5000)
    return replace(work, each="connection", figure=MEMORY)


def _deflates() -> Iterator[Workload]:
    for size, connections in ((120, 100), (400, 100), (16 * KIB, 20)):
        yield replace(_deflated_echo(size, connections), name=f"deflate-{_label(size)}", full=False)
    yield replace(_deflated_idle(20), name="deflate-idle-5000", full=False)
    for size, connections in ((120, 64), (400, 64), (4 * KIB, 64), (64 * KIB, 16), (120, 1000), (400, 1000)):
        yield _deflated_echo(size, connections)
    yield _deflated_echo(400, 1, window=32)
    for size in (120, 400):
        work = _deflated_echo(size, 64, "--self-contained")
        yield replace(work, name=f"{work.name}-alone", title=f"{work.title}, no takeover by the client")
    title = "broadcast, 400 B of JSON, permessage-deflate, to 10,000 subscribers"
    load = ["broadcast", "--size", "400", "--burst", "1"]
    work = _deflate("deflate-broadcast-10000", title, load, "broadcast", size=400, connections=10_000)
    yield replace(work, each="delivery")
    yield _deflated_idle(100)
    for size in (64 * KIB, MIB):
        title = f"echo, {_size(size)} of JSON, permessage-deflate, 1 connection, timed by the server"
        load = ["echo", "--path", "/timed", "--size", str(size), "--window", "1"]
        yield _deflate(f"deflate-timed-{_label(size)}", title, load, "timed", size=size, connections=1)


def _all() -> Iterator[Workload]:
    yield from _echoes()
    yield from _broadcasts()
    yield from _connects()
    yield from _idles()
    yield from _latencies()
    yield from _scales()
    yield from _deflates()


WORKLOADS = {work.name: work for work in _all()}
STANDARD = [work.name for work in WORKLOADS.values() if _is_standard(work)]
QUICK = [  # the rows of README.md's table
    "echo-64-text-100-1",
    "echo-64-text-100-32",
    "echo-1MiB-binary-10-1",
    "echo-1MiB-mixed-10-1",
    "broadcast-1000-1",
    "broadcast-1000-16",
    "accept-10000",
    "idle-10000",
]


def chosen(patterns: list[str]) -> list[Workload]:
    """Those whose names or groups match one of the patterns, with those that they rest on, in the order of the list."""
    names = set()
    for pattern in patterns:
        found = [w.name for w in WORKLOADS.values() if fnmatchcase(w.name, pattern) or fnmatchcase(w.group, pattern)]
        if not found:
            raise BenchError(f"no workload or group of them is called {pattern!r}; `list` names them all")
        names.update(found)
    for work in [WORKLOADS[name] for name in names]:
        names.update(filter(None, (work.same_as, work.rate_of)))
    return [work for work in WORKLOADS.values() if work.name in names]
