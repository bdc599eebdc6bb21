"""Node's ws, in a process of its own that `node/client.js` runs in."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.deflating import Params, every_offer

from .client import TIMEOUT, Client, Library, Refused

FOLDER = Path(__file__).parent / "node"


def is_installed() -> bool:
    return shutil.which("node") is not None and (FOLDER / "node_modules" / "ws").is_dir()


class NodeProcess:
    """Takes commands, gives events."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", "client.js"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._read = bytearray()
        self.connections = 0

    def tell(self, do: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        line = memoryview(json.dumps({"do": do, **arguments}).encode() + b"\n")
        while line:
            line = line[self._process.stdin.write(line) :]

    def event(self) -> dict[str, Any]:
        """The next one."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + TIMEOUT
        while (end := self._read.find(b"\n")) < 0:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("no event of Node's")
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            assert data, f"Node ended with {self._process.wait()}"
            self._read += data
        line = self._read[:end]
        del self._read[: end + 1]
        event: dict[str, Any] = json.loads(line)
        return event

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        with self._process:  # closes the pipes: Node ends with its input
            pass


class NodeClient:
    def __init__(
        self, node: NodeProcess, url: str, subprotocols: Sequence[str], compression: Sequence[Params] | None
    ) -> None:
        self._node = node
        self._over: tuple[int, str] | None = None
        node.connections += 1
        self._number = node.connections
        self.compressed: list[bool] = []
        deflate = None if compression is None else next(map(_options, compression))
        node.tell("connect", connection=self._number, url=url, subprotocols=subprotocols, deflate=deflate)
        event = self._next("open", "error", "unexpected-response")
        if event["event"] != "open":
            raise Refused(event.get("status"))
        self.subprotocol = event["subprotocol"] or None
        self.extensions = event["extensions"]

    def _next(self, *kinds: str) -> dict[str, Any]:
        """The next event of this connection and these kinds. Pongs may come before it, an error before a "close"."""
        while True:
            event = self._node.event()
            if event["connection"] == self._number:
                if event["event"] in kinds:
                    return event
                assert event["event"] in ("error", "pong"), event

    def send(self, data: str | bytes) -> None:
        if isinstance(data, str):
            self._node.tell("send", text=data)
        else:
            self._node.tell("send", bytes=b64encode(data).decode())

    def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool = False) -> None:
        for number, fragment in enumerate(fragments):
            if pings and number:
                self._node.tell("ping", bytes=b64encode(b"%d" % (number - 1)).decode())
            last = number == len(fragments) - 1
            self._node.tell("fragment", bytes=b64encode(fragment).decode(), isText=text, fin=last)

    def recv(self) -> str | bytes:
        event = self._next("message")
        self.compressed.append(event["compressed"])
        return b64decode(event["bytes"]) if "bytes" in event else str(event["text"])

    def ping(self, data: bytes) -> bytes:
        self._node.tell("ping", bytes=b64encode(data).decode())
        return b64decode(self._next("pong")["bytes"])

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        self._node.tell("close", code=code, reason=reason)

    def closed(self) -> tuple[int, str]:
        if self._over is None:
            event = self._next("close")
            self._over = event["code"], event["reason"]
        return self._over

    def abort(self, *, reset: bool) -> None:
        self._node.tell("abort", reset=reset)

    def release(self) -> None:
        self._node.tell("abort", reset=False)


def _options(offer: Params) -> dict[str, Any]:
    """What makes it offer this, and compress whatever it sends."""
    options: dict[str, Any] = {"threshold": 0, "clientMaxWindowBits": offer.client_max_window_bits or False}
    if offer.server_no_context_takeover:
        options["serverNoContextTakeover"] = True
    if offer.client_no_context_takeover:
        options["clientNoContextTakeover"] = True  # False would refuse an answer with it
    if offer.server_max_window_bits:
        options["serverMaxWindowBits"] = offer.server_max_window_bits
    return options


class NodeWs(Library):
    name = "node-ws"
    wants_a_subprotocol = True
    offers = every_offer()
    sees_compression = True

    def __init__(self) -> None:
        self.node = NodeProcess()

    def connect(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        show_pongs: bool = False,
        compression: Sequence[Params] | None = None,
    ) -> Client:
        return NodeClient(self.node, url, subprotocols, compression)

    @property
    def pid(self) -> int:
        return self.node.pid

    def end(self) -> None:
        self.node.end()
