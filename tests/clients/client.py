"""One interface to all client libraries, so that each test is written once. Everything blocks: what a client does by
itself, a pong for a ping say, it is sure to do only inside of a call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from harness.deflating import Params
from harness.server import PATIENCE, ServerThread

TIMEOUT = 5.0 * PATIENCE  # seconds, for everything that waits
NOT_CLEAN = (1006, "")  # what `closed` gives where no Close came (RFC 6455 section 7.1.5)
NO_CODE = 1005  # what stands for a Close without a code

T = TypeVar("T")


class Refused(Exception):
    """The opening handshake failed. `status` is the answer's, None where it was a 101 that the client did not like."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Client(Protocol):
    """One open connection."""

    subprotocol: str | None
    extensions: str  # the answer to what was offered, "" for none
    compressed: list[bool]  # of each message received, where the library sees it

    def send(self, data: str | bytes) -> None: ...

    def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool = False) -> None:
        """One message, a frame for each fragment; `pings`: with `b"0"`, `b"1"` ... in pings between them."""

    def recv(self) -> str | bytes:
        """The next message."""

    def ping(self, data: bytes) -> bytes:
        """What the pong brought back."""

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Sends a Close, with None one without a code."""

    def closed(self) -> tuple[int, str]:
        """The code and reason that the client reports, once the connection is over."""

    def abort(self, *, reset: bool) -> None:
        """Ends the socket without a Close, `reset` with a RST."""

    def release(self) -> None:
        """Gives back all that it holds, whatever state it is in."""


class Library:
    """Opens connections. The attributes say what a library cannot do by its public interface, or does otherwise."""

    name: ClassVar[str]
    fragments: ClassVar[bool] = True
    wants_a_subprotocol: ClassVar[bool] = False  # where it offers some and the server takes none, it refuses the 101
    offers: ClassVar[Sequence[Params]] = ()  # of compression, all that it can make
    offers_several: ClassVar[bool] = False  # at once
    sees_compression: ClassVar[bool] = False  # see Client.compressed

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        show_pongs: bool = False,
        compression: Sequence[Params] | None = None,
    ) -> Client:
        """Raises Refused. Without `show_pongs`, `ping` need not work. `compression` is what is offered, None what the
        library offers by itself."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The process that its connections are of."""
        return os.getpid()

    def end(self) -> None:
        """After the last connection."""


class Connect:
    """The `connect` fixture: opens connections; the options are `Library.connect`'s."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._opened: list[Client] = []

    def __call__(self, server: ServerThread, path: str = "/", **options: Any) -> Client:
        client = self._library.connect(f"ws://127.0.0.1:{server.port}{path}", **options)
        self._opened.append(client)
        return client

    def release(self) -> None:
        """All that are open."""
        while self._opened:
            self._opened.pop(0).release()


class OnLoop:
    """A client written for asyncio, on a loop of its own that runs inside of the calls."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def run(self, waiting: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(waiting, TIMEOUT))

    def close_loop(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
