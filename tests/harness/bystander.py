"""The three side conditions of every attack, as one context manager."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .client import RawClient
from .leaks import at_rest, open_fds, unaccounted
from .recorder import Event, Recorder
from .server import PATIENCE, ServerThread, eventually


class Watch:
    """An honest connection that echoes all through the attack. `worst` is its longest round trip in seconds."""

    def __init__(self, server: ServerThread, host: str) -> None:
        self.server = server
        self.worst = 0.0
        self.echoed = 0
        self._client = RawClient.connect(server.port)
        self._client.handshake("/bystander", host=host)
        self._failed: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bystander", daemon=True)
        self.echo()
        RawClient.opened.remove(self._client)  # it outlives the attackers

    def echo(self) -> None:
        sent = f"bystander {self.echoed}"
        began = time.monotonic()
        self._client.send(sent)
        got = self._client.recv()
        assert got == sent, f"the bystander sent {sent!r} and got {got!r}"
        self.worst = max(self.worst, time.monotonic() - began)
        self.echoed += 1

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.01):
                self.echo()
        except BaseException as error:
            self._failed = error

    def start(self) -> None:
        self.worst = 0.0
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10 * PATIENCE)
        if self._failed is not None:
            raise AssertionError("the bystander's connection did not survive") from self._failed
        self.echo()

    def close(self) -> None:
        self._stop.set()
        self._client.close()


@contextmanager
def bystander(
    server: ServerThread, recorder: Recorder | None = None, expected: Sequence[Event] = (), *, host: str = "localhost"
) -> Iterator[Watch]:
    """Around an attack: (a) a connection opened before it echoes during and after it; (b) once the attackers have left,
    descriptors, connections and buffered bytes are where they were, and every connection was counted once; (c)
    `recorder` saw exactly `expected`."""
    watch = Watch(server, host)
    try:
        server.settle()
        fds_before = open_fds()
        before = at_rest(server.stats())
        assert before == {"connections": 1, "handshakes": 0, "buffered_bytes": 0, "sockets": 1}, before
        watch.start()
        yield watch
        watch.stop()
        for client in list(RawClient.opened):
            client.close()
        eventually(lambda: at_rest(server.stats()) == before, 3.0, f"back at {before}")
        assert not unaccounted(server.stats())
        eventually(lambda: len(open_fds()) <= len(fds_before), 3.0, f"back at {len(fds_before)} descriptors")
        if recorder is not None:
            eventually(
                lambda: recorder.events == list(expected),
                1.0,
                f"the callbacks should have seen {list(expected)}, not {recorder.events}",
            )
    finally:
        watch.close()
