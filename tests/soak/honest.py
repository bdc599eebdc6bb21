"""Clients that see how the server does: one beside the crowds, and some when all have left."""

from __future__ import annotations

import threading
import time

from harness import PATIENCE, RawClient

from soak import figures, talks

LIMIT = 10 * PATIENCE  # seconds
AT_REST = 0.1  # of a core; far more than a server takes that has nothing to do, and less than a loop that spins


def lacks(port: int, pid: int) -> list[str]:
    """What the server does not do while nobody else is there, who would wake it."""
    found = []
    for probe in (_task_sends, _deadline_comes, _rests_beside_a_child):
        try:
            probe(port, pid)
        except (OSError, AssertionError) as error:
            found.append(f"{probe.__name__[1:].replace('_', ' ')}: {error!r}")
    return found


def _task_sends(port: int, pid: int) -> None:
    for path, said in (("/deep/send/later", "(" * talks.DEEP), ("/later", "hello")):
        with RawClient.open(port, path) as client:
            client.send(said)
            client.recv()


def _deadline_comes(port: int, pid: int) -> None:
    """One that comes before the next that is planned, so that another timer is needed, is made at the stack's end."""
    with RawClient.connect(port) as silent, RawClient.open(port, "/deep/close/now") as deep:
        deep.send("(" * talks.DEEP)
        deep.recv_frame()
        silent.expect_eof(LIMIT)


def _rests_beside_a_child(port: int, pid: int) -> None:
    """The child has copies of every descriptor, which the server and its peers close meanwhile."""
    with RawClient.open(port, "/fork") as asking:
        left, ended = RawClient.open(port, "/fork"), RawClient.open(port, "/fork")
        left.send("keep")
        left.recv()
        try:
            left.close()
            ended.send("terminate")
            ended.expect_eof(LIMIT)
            time.sleep(0.2)
            used, began = figures.cpu(pid), time.monotonic()
            time.sleep(1)
            share = (figures.cpu(pid) - used) / (time.monotonic() - began)
            assert share < AT_REST, f"the server uses {share:.0%} of a core and has nothing to do"
        finally:
            ended.close()
            asking.send("release")
            asking.recv()


class Bystander(threading.Thread):
    """Echoes all the while, some times a second; `trips` is how long each took."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.trips: list[float] = []
        self._client = RawClient.open(port, "/echo")
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.05):
            began = time.monotonic()
            self._client.send("still there?")
            self._client.recv()
            self.trips.append(time.monotonic() - began)

    def leave(self) -> None:
        self._over.set()
        self.join()
        self._client.close()

    def __str__(self) -> str:
        trips = sorted(self.trips) or [0.0]
        half, most, worst = (1000 * trips[int(share * (len(trips) - 1))] for share in (0.5, 0.99, 1))
        return f"a bystander's round trips: half within {half:.1f} ms, 99 % within {most:.1f} ms, worst {worst:.1f} ms"
