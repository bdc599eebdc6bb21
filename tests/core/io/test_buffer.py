"""binary="view" and text="utf8": what the app is handed, for how long, and what becomes of what it keeps."""

from __future__ import annotations

import array
import asyncio
import os
import struct
from collections.abc import Callable
from typing import Any, Literal

import pytest
from harness import BINARY, CONT, TEXT, RawClient, Serving, build, eventually, in_fragments, make_app

SIZES = [0, 1, 125, 126, 65_535, 65_536, 200_000, 1_000_000, 3_000_000]


class Views:
    """Keeps what `keep` makes of each view, and a copy of what it was."""

    def __init__(self, keep: Callable[[Any], Any] = bytes) -> None:
        self.keep = keep
        self.copies: list[bytes] = []
        self.kept: list[Any] = []
        self.kinds: list[tuple[type, bool]] = []
        self.views: list[Any] = []

    def message(self, ws: Any, data: Any) -> None:
        self.kinds.append((type(data), ws.is_text))
        if isinstance(data, memoryview):
            assert data.readonly and data.format == "B" and data.contiguous and data.ndim == 1
            self.copies.append(bytes(data))
            self.kept.append(self.keep(data))
            self.views.append(data)
        else:
            self.copies.append(data)


def serve_views(serve: Serving, views: Views, **options: Any) -> RawClient:
    server = serve(make_app(views, binary="view", max_message_size=1 << 30, **options))
    return RawClient.open(server.port)


def cut(payload: bytes, pieces: int) -> bytes:
    """`payload` as one message of so many frames."""
    return in_fragments(BINARY, payload, [len(payload) // pieces] * (pieces - 1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pieces", [1, 3])
def test_views(serve: Serving, size: int, pieces: int) -> None:
    views = Views()
    client = serve_views(serve, views)
    payload = os.urandom(size)
    client.send_raw(cut(payload, pieces) + build(BINARY, b"next"))
    eventually(lambda: views.kept == [payload, b"next"])
    for view in views.views:
        with pytest.raises(ValueError, match="released"):
            bytes(view)


KEPT: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bytes]]] = {
    "a slice": (lambda view: view[:], bytes),
    "a memoryview": (memoryview, bytes),
    "a cast": (lambda view: view.cast("c"), lambda kept: kept.tobytes()),
    "a copy in a bytearray": (bytearray, bytes),
    "a copy in an array": (lambda view: array.array("B", view), lambda kept: kept.tobytes()),
    "an iterator of struct": (
        lambda view: struct.iter_unpack(f"{len(view)}s", view),
        lambda kept: b"".join(one for (one,) in kept),
    ),
}


@pytest.mark.parametrize("size", [10, 100_000, 1_000_000])
@pytest.mark.parametrize("how", list(KEPT))
def test_what_is_kept_stays_what_it_was(serve: Serving, how: str, size: int) -> None:
    """Whatever comes later, on this connection or another, from the same read or the next."""
    keep, read = KEPT[how]
    views = Views(keep)
    client = serve_views(serve, views)
    other = RawClient.open(serve.threads[0].port)
    payloads = [os.urandom(size) for _ in range(12)]
    for at, payload in enumerate(payloads):
        (other if at % 3 == 2 else client).send_raw(build(BINARY, payload) * 2)
        eventually(lambda at=at: len(views.kept) == 2 * at + 2)
    expected = [payload for payload in payloads for _ in range(2)]
    assert views.copies == expected
    assert [read(kept) for kept in views.kept] == expected
    views.kept.clear()
    client.send(b"still")
    eventually(lambda: views.copies[-1] == b"still")


def test_a_view_kept_across_the_end_of_everything(serve: Serving) -> None:
    views = Views(lambda view: view[1:])
    client = serve_views(serve, views)
    client.send(b"kept")
    eventually(lambda: views.kept)
    client.close()
    serve.threads[0].stop()
    assert bytes(views.kept[0]) == b"ept"


@pytest.mark.parametrize("where", ["whole", "in pieces"])
def test_a_view_can_be_sent_back(serve: Serving, where: str) -> None:
    def echo(ws: Any, data: Any) -> None:
        ws.send(data)
        ws.send(data[::-1].tobytes())
        ws.send(data[1:])

    app = make_app()
    app.websocket("/", binary="view", max_message_size=1 << 30, max_backpressure=1 << 30)(echo)
    client = RawClient.open(serve(app).port)
    for size in (1, 125, 70_000, 2_000_000):
        payload = os.urandom(size)
        client.send_raw(cut(payload, 1 if where == "whole" else 4 if size > 4 else 1))
        assert client.recv() == payload
        assert client.recv() == payload[::-1]
        assert client.recv() == payload[1:]


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_view_that_waited_ends_with_its_callback_too(serve: Serving, pieces: int) -> None:
    """It came while an async callback ran."""
    gate = asyncio.Event()

    class Handler(Views):
        async def open(self, ws: Any) -> None:
            await gate.wait()

    views = Handler()
    client = serve_views(serve, views)
    client.send_raw(cut(b"123456789", pieces) + build(BINARY, b"abc"))
    server = serve.threads[0]
    server.settle()
    assert not views.copies
    server.call(gate.set)
    eventually(lambda: views.copies == [b"123456789", b"abc"])
    for view in views.views:
        with pytest.raises(ValueError, match="released"):
            bytes(view)


@pytest.mark.parametrize("binary", ["bytes", "view"])
@pytest.mark.parametrize("text", ["str", "utf8"])
def test_kinds(serve: Serving, text: Literal["str", "utf8"], binary: Literal["bytes", "view"]) -> None:
    """In every mode text and binary can be told apart, whole, in pieces, large, and between each other."""
    views = Views()
    app = make_app()
    app.websocket("/", binary=binary, text=text, max_message_size=1 << 30)(views)
    client = RawClient.open(serve(app).port)
    texts = ["", "ascii", "é€😀", "x" * 70_000, "é" * 300_000]
    for one in texts:
        encoded = one.encode()
        half = len(encoded) // 2
        client.send_raw(build(TEXT, encoded) + build(BINARY, encoded))
        client.send_raw(build(TEXT, encoded[:half], fin=False) + build(CONT, encoded[half:]))
        client.send_raw(build(BINARY, encoded[:half], fin=False) + build(CONT, encoded[half:]))
    eventually(lambda: len(views.copies) == 4 * len(texts))
    as_text = (str if text == "str" else bytes, True)
    as_binary = (bytes if binary == "bytes" else memoryview, False)
    assert views.kinds == [as_text, as_binary, as_text, as_binary] * len(texts)
    for number, one in enumerate(texts):
        wanted = one if text == "str" else one.encode()
        assert views.copies[4 * number : 4 * number + 4] == [wanted, one.encode()] * 2


def test_is_text_is_right_for_those_that_waited(serve: Serving) -> None:
    seen: list[tuple[bytes, bool]] = []

    async def message(ws: Any, data: bytes) -> None:
        before = ws.is_text
        await asyncio.sleep(0.001)
        seen.append((data, before))

    app = make_app()
    app.websocket("/", text="utf8")(message)
    client = RawClient.open(serve(app).port)
    client.send_raw(b"".join(build(TEXT if number % 3 else BINARY, b"%d" % number) for number in range(40)))
    eventually(lambda: len(seen) == 40)
    assert seen == [(b"%d" % number, number % 3 != 0) for number in range(40)]
