"""Row A3: what an app keeps of a binary="view" message raises BufferError or shows that message for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from harness import (
    BINARY,
    PATIENCE,
    RawClient,
    ServerThread,
    Serving,
    build,
    client_of,
    eventually,
    make_app,
    new_loop,
    until,
)
from harness.deflating import DeflateClient, Params

SIZE = 3000
OWN = b"own message." * (SIZE // 12)
OTHER = b"of another!!" * (SIZE // 12)


def shows(keep: Any) -> bytes | None:
    """What can be seen of it; None where it refuses."""
    try:
        return bytes(memoryview(keep))
    except (BufferError, ValueError):
        return None


KEEPS: dict[str, Callable[[Any], list[Any]]] = {
    "obj": lambda view: [view.obj],
    "obj, exported and let go": lambda view: [view.obj, bytes(memoryview(view.obj))][:1],
    "obj, exported": lambda view: [view.obj, memoryview(view.obj)],
    "obj under a slice": lambda view: [view.obj, view[12:24]],
    "obj of a released view": lambda view: [view.obj, view.release()][:1],
}


class Keeping:
    def __init__(self, keep: Callable[[Any], list[Any]]) -> None:
        self.keep = keep
        self.kept: list[Any] = []
        self.delivered = 0

    def message(self, ws: Any, data: Any) -> None:
        self.delivered += 1
        if ws.query_string == "keeps":
            self.kept = self.keep(data)


def overwrite(server: ServerThread, handler: Keeping, other: RawClient, count: int = 3) -> None:
    before = handler.delivered
    for _ in range(count):
        other.send(OTHER)
    eventually(lambda: handler.delivered == before + count)


@pytest.mark.parametrize("how", ["plain", "inflated"])
@pytest.mark.parametrize("keep", KEEPS)
def test_a03_what_is_kept_of_a_view_never_shows_another_message(serve: Serving, keep: str, how: str) -> None:
    handler = Keeping(KEEPS[keep])
    options = {"compression": "deflate"} if how == "inflated" else {}
    server = serve(make_app(handler, binary="view", **options))
    if how == "inflated":
        clients: list[Any] = [DeflateClient.offer(server.port, Params(), path=f"/?{who}") for who in ("keeps", "other")]
    else:
        clients = [RawClient.open(server.port, f"/?{who}") for who in ("keeps", "other")]
    client, other = clients
    client.send(OWN)
    eventually(lambda: handler.kept)
    for passed in range(3):
        with ThreadPoolExecutor(1) as elsewhere:
            seen = list(elsewhere.map(shows, handler.kept))
        for shown in seen + [shows(one) for one in handler.kept]:
            assert shown in (None, OWN, OWN[12:24]), shown[:40]
        if len(handler.kept) > 1 and passed:
            handler.kept.pop()  # the slice or the export dies
        overwrite(server, handler, other)


def test_a03_a_view_released_in_its_callback_while_that_runs_the_loop(serve: Serving) -> None:
    """The window is open until the callback returns, whatever else is inflated meanwhile."""
    seen: list[bytes] = []
    others: list[bytes] = []

    class Handler:
        def message(self, ws: Any, data: Any) -> None:
            if ws.query_string == "other":
                others.append(bytes(data))
                return
            keep = data.obj
            data.release()
            if serve.loop_kind == "asyncio":
                loop: Any = asyncio.get_running_loop()
                deadline = time.monotonic() + 5 * PATIENCE
                while len(others) < 3 and time.monotonic() < deadline:
                    loop.call_later(0.005, lambda: None)
                    loop._run_once()
                assert len(others) == 3
            seen.append(bytes(memoryview(keep)))

    server = serve(make_app(Handler, binary="view", compression="deflate"))
    client = DeflateClient.offer(server.port, Params(), path="/?keeps")
    other = DeflateClient.offer(server.port, Params(), path="/?other")
    client.send(OWN)
    for _ in range(3):
        other.send(OTHER)
    eventually(lambda: seen and len(others) == 3)
    assert seen == [OWN]


def test_a03_a_view_of_a_callback_that_was_interrupted(loop_kind: str, no_leaked_fds: None) -> None:
    """It ends with that callback like any other."""
    kept: list[Any] = []
    others: list[bytes] = []

    class Handler:
        def message(self, ws: Any, data: Any) -> None:
            if ws.query_string == "other":
                others.append(bytes(data))
            else:
                kept.append(data.obj)
                del data  # the traceback would keep it
                raise KeyboardInterrupt

    app = make_app(Handler, binary="view")
    loop = new_loop(loop_kind)
    server = loop.run_until_complete(app.start("127.0.0.1", 0))
    try:
        client = loop.run_until_complete(client_of(server.port, "/?keeps"))
        other = loop.run_until_complete(client_of(server.port, "/?other"))
        client.send_raw(build(BINARY, OWN))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(5 * PATIENCE))
        other.send_raw(build(BINARY, OTHER))
        loop.run_until_complete(until(lambda: others))
        assert others == [OTHER]
        assert shows(kept[0]) in (None, OWN)
    finally:
        for one in list(RawClient.opened):
            one.close()
        loop.run_until_complete(server.stop(1))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
