"""Plays the corpus over real sockets: many connections at a time, cut alike, so that one barrier serves them all."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from harness import ANY, CLOSE, PONG, Frame, RawClient, Recorder, ServerThread, close_code, eventually, frames, make_app
from harness.recorder import Event
from oracles.corpus import CASES, Case

BATCH = 250
Job = tuple[Case, Sequence[bytes]]


def cases_of(*rows: str) -> list[Case]:
    """The corpus' cases of these rows, "f1" for example."""
    found = [case for case in CASES if case.name.split("_")[0] in rows]
    assert found, rows
    return found


def due(case: Case) -> list[Event]:
    """What the callbacks see of a case, from open to close, when the peer then just leaves."""
    events: list[Event] = [("open",)]
    for event in case.events:
        if event[0] in ("text", "binary"):
            events.append(("message", event[1]))
        elif event[0] == "fail":
            events.append(("close", event[1], ANY))
        else:
            events.append(event)
    if events[-1][0] != "close":
        events.append(("close", 1006, ANY))
    return events


class Stage:
    """A server with one route per set of options that the cases ask for, and a player."""

    def __init__(self, serve: Callable[[Any], ServerThread], cases: Iterable[Case] = CASES) -> None:
        self.recorder = Recorder()
        self.routes: dict[tuple[tuple[str, int], ...], str] = {}
        app = make_app()
        for case in cases:
            key = tuple(sorted(case.options.items()))
            if key not in self.routes:
                self.routes[key] = f"/{len(self.routes)}"
                app.websocket(self.routes[key], **case.options)(self.recorder.handler())
        self.server = serve(app)
        self._number = itertools.count()

    def play(self, jobs: Iterable[Job]) -> int:
        """Sends each job's pieces, one segment and one read each, and checks callbacks and wire. How many it played."""
        played = 0
        jobs = iter(jobs)
        while batch := list(itertools.islice(jobs, BATCH)):
            self._play_batch([(str(next(self._number)), *job) for job in batch])
            played += len(batch)
        return played

    def _play_batch(self, batch: list[tuple[str, Case, Sequence[bytes]]]) -> None:
        clients = []
        for number, case, _ in batch:
            client = RawClient.connect(self.server.port)
            clients.append(client)
            client.send_raw(_request(self.routes[tuple(sorted(case.options.items()))], number))
        for client in clients:
            assert client.recv_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        for step in range(max(len(pieces) for _, _, pieces in batch)):
            for client, (_, _, pieces) in zip(clients, batch, strict=True):
                if step < len(pieces) and pieces[step]:
                    client.send_raw(pieces[step])
            self.server.settle()
        for client, (_, case, pieces) in zip(clients, batch, strict=True):
            try:
                _check_wire(client, case)
            except AssertionError as error:
                raise AssertionError(f"{case.name} in {_shape(pieces)}: {error}") from error
            client.close()
        for number, case, pieces in batch:
            expected = due(case)
            eventually(
                lambda number=number, expected=expected: self.recorder.of.get(number) == expected,
                3.0,
                f"{case.name} in {_shape(pieces)} should give {expected}, gave {self.recorder.of.get(number)}",
            )


def _request(path: str, number: str) -> bytes:
    return (
        f"GET {path}?{number} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def _shape(pieces: Sequence[bytes]) -> str:
    return f"{len(pieces)} pieces of {[len(piece) for piece in pieces[:3]]}..."


def _check_wire(client: RawClient, case: Case) -> None:
    """Pongs (the latest at least: section 5.5.3), then the Close frame that is due and the end, or neither."""
    pings = [event[1] for event in case.events if event[0] == "ping"]
    code = case.close_code
    found: list[Frame] = []
    if code is None:  # all that was sent is handled, so its answers are here
        client.drain_now()
        assert not client.ended
        found += frames(client.buffer)
    while code is not None and (not found or found[-1].opcode != CLOSE):
        found.append(client.recv_frame())
    pongs = [frame.payload for frame in found if frame.opcode == PONG]
    assert all(frame.opcode in (PONG, CLOSE) for frame in found), found
    assert pongs[-1:] == pings[-1:] and _is_subsequence(pongs, pings), f"pings {pings} were answered by {pongs}"
    if code is None:
        assert not client.buffer
        return
    expected = None if code == 1005 else code
    assert close_code(found[-1].payload) == expected, f"expected a Close {expected}, got {found[-1].payload!r}"
    client.expect_eof()


def _is_subsequence(some: Sequence[bytes], of: Sequence[bytes]) -> bool:
    rest = iter(of)
    return all(any(item == other for other in rest) for item in some)


def whole(cases: Iterable[Case]) -> Iterator[Job]:
    """Each stream in one segment, up to the byte that its last event is due with: what fails, fails there."""
    for case in cases:
        yield case, [case.stream[: len(case.stream) - case.ignored]]


def with_the_rest(cases: Iterable[Case]) -> Iterator[Job]:
    """Each stream in one segment with all that comes too late."""
    for case in cases:
        if case.ignored:
            yield case, [case.stream]


def in_two(cases: Iterable[Case]) -> Iterator[Job]:
    for case in cases:
        for cut in range(1, len(case.stream)):
            yield case, [case.stream[:cut], case.stream[cut:]]


def by_bytes(cases: Iterable[Case]) -> Iterator[Job]:
    for case in cases:
        yield case, [case.stream[at : at + 1] for at in range(len(case.stream))]


def memory_of(pid: int | str = "self") -> int:
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def timed(function: Callable[[], Any]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began
