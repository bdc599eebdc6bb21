"""Rows A3 and A4: buffers that the library lends to the app, and buffers that the app lends to the library."""

from __future__ import annotations

import array
import asyncio
import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import pytest
from harness import BINARY, CONT, TEXT, RawClient, Serving, build, bystander, eventually, make_app

# -- A3


def test_a03_a_view_kept_past_the_callback(serve: Serving) -> None:
    kept: list[memoryview] = []
    seen: list[bytes] = []

    def message(ws: Any, data: Any) -> None:
        assert isinstance(data, memoryview)
        assert data.readonly
        seen.append(bytes(data))
        kept.append(data)

    server = serve(make_app(message, binary="view"))
    with bystander(server):
        client = RawClient.open(server.port)
        sent = [b"", b"small", b"m" * 5000, b"l" * 300_000]
        for payload in sent:
            client.send(payload)
        client.send_raw(build(BINARY, b"in ", fin=False) + build(CONT, b"two"))
        eventually(lambda: len(kept) == 5)
        assert seen == [*sent, b"in two"]
        for view in kept:
            for use in (bytes, len, lambda view: view[0], lambda view: view.tobytes(), memoryview):
                with pytest.raises(ValueError, match="released"):
                    use(view)


EXPORTS: dict[str, Callable[[memoryview], Any]] = {
    "slice": lambda view: view[1:],
    "memoryview of it": memoryview,
    "slice of a slice": lambda view: view[1:][1:],
    "strided": lambda view: view[::2],
    "cast": lambda view: view.cast("c"),
    "read-only": lambda view: view.toreadonly(),
}


@pytest.mark.parametrize("size", [10, 4000, 200_000])
@pytest.mark.parametrize("how", EXPORTS)
def test_a03_what_is_exported_from_a_view_stays_what_it_was(serve: Serving, how: str, size: int) -> None:
    """The buffer is handed over to what the app still exports: later messages go elsewhere."""
    kept: list[Any] = []
    seen: list[bytes] = []

    def message(ws: Any, data: memoryview) -> None:
        if not kept:
            kept.append(EXPORTS[how](data))
        seen.append(bytes(data))

    server = serve(make_app(message, binary="view"))
    payloads = [bytes([number]) * size for number in range(1, 40)]
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(build(BINARY, payloads[0]) + build(BINARY, payloads[1]))
        for payload in payloads[2:]:
            client.send(payload)
        eventually(lambda: len(seen) == len(payloads))
        assert seen == payloads
        other = RawClient.open(server.port)
        other.send(b"\xff" * size)
        eventually(lambda: len(seen) == len(payloads) + 1)
        got = bytes(kept[0])
        assert got == payloads[0][: len(got)] and len(got) >= size // 2
        client.close()
        server.settle()
        assert bytes(kept[0]) == got
        kept.clear()
    del seen[:]


def test_a03_a_view_dies_with_an_exception_too(serve: Serving) -> None:
    kept: list[memoryview] = []

    def message(ws: Any, data: memoryview) -> None:
        kept.append(data)
        raise LookupError(data)  # the traceback holds the view as well

    server = serve(make_app(message, binary="view"))
    serve.traps.expect(LookupError)
    with bystander(server):
        client = RawClient.open(server.port)
        client.send(b"x" * 100)
        client.expect_close(1011)
        with pytest.raises(ValueError, match="released"):
            bytes(kept[0])


def test_a03_no_view_for_an_async_callback() -> None:
    """It would be released at the first await: that is refused where the route is made."""

    async def message(ws: Any, data: memoryview) -> None:
        raise NotImplementedError

    with pytest.raises(TypeError, match="view"):
        make_app(message, binary="view")


def test_a03_a_coroutine_made_by_hand_loses_its_view(serve: Serving) -> None:
    """Before its first step, of the message that waits behind the first, too: the callback has returned."""
    outcomes: list[Any] = []

    async def later(data: memoryview) -> None:
        for _ in range(2):
            try:
                outcomes.append(bytes(data))
            except ValueError:
                outcomes.append("released")
            await asyncio.sleep(0.01)

    server = serve(make_app(lambda ws, data: later(data), binary="view"))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send_raw(build(BINARY, b"x" * 1000) * 2)
        eventually(lambda: len(outcomes) == 4)
    assert outcomes == ["released"] * 4


def test_a03_text_and_binary_can_be_told_apart(serve: Serving) -> None:
    kinds: list[type] = []
    server = serve(make_app(lambda ws, data: kinds.append(type(data)), binary="view", text="utf8"))
    client = RawClient.open(server.port)
    client.send_raw(build(TEXT, "é".encode()) + build(BINARY, b"b"))
    eventually(lambda: len(kinds) == 2)
    assert kinds == [bytes, memoryview]


# -- A4


def released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


def mapped() -> mmap.mmap:
    area = mmap.mmap(-1, 4096)
    area.write(b"mapped")
    return area


BYTES = bytes(range(256)) * 4
BUFFERS: dict[str, tuple[Callable[[], Any], bytes | None]] = {  # None: TypeError
    "bytes": (lambda: BYTES, BYTES),
    "empty": (lambda: b"", b""),
    "empty view": (lambda: memoryview(b""), b""),
    "empty bytearray": (bytearray, b""),
    "bytearray": (lambda: bytearray(BYTES), BYTES),
    "read-only view": (lambda: memoryview(BYTES), BYTES),
    "writable view": (lambda: memoryview(bytearray(BYTES)), BYTES),
    "slice": (lambda: memoryview(BYTES)[3:77], BYTES[3:77]),
    "array of ints": (lambda: array.array("i", range(100)), array.array("i", range(100)).tobytes()),
    "array of doubles": (lambda: array.array("d", [1.5] * 9), array.array("d", [1.5] * 9).tobytes()),
    "cast to longs": (lambda: memoryview(BYTES).cast("q"), BYTES),
    "two dimensions": (lambda: memoryview(BYTES).cast("B", [32, 32]), BYTES),
    "zero dimensions": (lambda: memoryview(ctypes.c_int(7)), bytes(ctypes.c_int(7))),
    "ctypes array": (lambda: (ctypes.c_int16 * 5)(1, 2, 3, 4, 5), bytes((ctypes.c_int16 * 5)(1, 2, 3, 4, 5))),
    "mmap": (mapped, b"mapped" + bytes(4090)),
    "every second byte": (lambda: memoryview(BYTES)[::2], None),
    "backwards": (lambda: memoryview(BYTES)[::-1], None),
    "strided longs": (lambda: memoryview(BYTES).cast("q")[::3], None),
    "int": (lambda: 7, None),
    "None": (lambda: None, None),
    "list": (lambda: [1, 2], None),
    "released view": (released, None),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_a04_any_buffer(serve: Serving, name: str) -> None:
    """The right bytes, or a TypeError (a released view: ValueError, as everywhere) and nothing on the wire."""
    make, expected = BUFFERS[name]
    raised: list[type] = []

    def message(ws: Any, data: Any) -> None:
        try:
            ws.send(make())
        except (TypeError, ValueError) as error:
            raised.append(type(error))
        ws.send("next")

    server = serve(make_app(message))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send("go")
        if expected is not None:
            assert client.recv() == expected
        assert client.recv() == "next"
    assert raised == ([] if expected is not None else [ValueError if name == "released view" else TypeError])


CHANGES: dict[str, Callable[[bytearray], Any]] = {
    "overwritten": lambda data: data.__setitem__(slice(None), b"\xee" * len(data)),
    "emptied": lambda data: data.clear(),
    "grown": lambda data: data.extend(b"\xee" * 10_000_000),
    "shrunk": lambda data: data.__delitem__(slice(10, None)),
}


@pytest.mark.parametrize("size", [10, 20_000, 10_000_000])
@pytest.mark.parametrize("change", CHANGES)
def test_a04_a_buffer_changed_right_after_send(serve: Serving, change: str, size: int) -> None:
    """What was sent is what the buffer held when `send` was called; and it is the app's again when `send` returns."""

    def message(ws: Any, data: Any) -> None:
        buffer = bytearray(b"\x11" * size)
        ws.send(buffer)
        CHANGES[change](buffer)
        ws.send("next")

    server = serve(make_app(message, max_backpressure=64 << 20))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send("go")
        assert client.recv() == b"\x11" * size
        assert client.recv() == "next"


def test_a04_bytes_freed_right_after_send(serve: Serving) -> None:
    """Large bytes need no copy, so they must be kept alive until they are on the wire."""

    def message(ws: Any, data: Any) -> None:
        for number in range(8):
            ws.send(bytes([number]) * 3_000_000)

    server = serve(make_app(message, max_backpressure=64 << 20))
    with bystander(server):
        client = RawClient.connect(server.port, receive_buffer=65536)
        client.handshake()
        client.send("go")
        server.settle()
        for number in range(8):
            assert client.recv() == bytes([number]) * 3_000_000


TEXTS: dict[str, tuple[Any, str | None]] = {  # None: an exception
    "ascii": ("plain", "plain"),
    "latin-1": ("é" * 100, "é" * 100),
    "wide": ("€" * 40_000, "€" * 40_000),
    "astral": ("🙂" * 40_000, "🙂" * 40_000),
    "empty": ("", ""),
    "nul": ("a\0b", "a\0b"),
    "subclass": (type("Text", (str,), {})("sub"), "sub"),
    "lone surrogate": ("\ud800", None),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a04_any_text(serve: Serving, name: str) -> None:
    """A str that has no UTF-8 raises UnicodeEncodeError (a ValueError) and sends nothing."""
    text, expected = TEXTS[name]
    raised: list[bool] = []

    def message(ws: Any, data: Any) -> None:
        try:
            ws.send(text)
        except ValueError as error:
            raised.append(isinstance(error, UnicodeEncodeError))
        ws.send("next")

    server = serve(make_app(message))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send("go")
        if expected is not None:
            assert client.recv() == expected
        assert client.recv() == "next"
    assert raised == ([] if expected is not None else [True])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda ws: ws.send(), TypeError),
        (lambda ws: ws.send_text("str"), TypeError),
        (lambda ws: ws.ping(7), TypeError),
        (lambda ws: ws.ping(b"x" * 126), ValueError),
        (lambda ws: ws.close("1000"), TypeError),
        (lambda ws: ws.close(0), ValueError),
        (lambda ws: ws.close(1005, "a reason without a code"), ValueError),
        (lambda ws: ws.close(1006), ValueError),
        (lambda ws: ws.close(1015), ValueError),
        (lambda ws: ws.close(999), ValueError),
        (lambda ws: ws.close(5000), ValueError),
        (lambda ws: ws.close(-1), (ValueError, OverflowError)),
        (lambda ws: ws.close(1 << 70), (ValueError, OverflowError)),
        (lambda ws: ws.close(1000, "x" * 124), ValueError),
        (lambda ws: ws.close(1000, "€" * 42), ValueError),
        (lambda ws: ws.close(1000, "\ud800"), ValueError),
        (lambda ws: ws.close(1000, b"bytes"), TypeError),
    ],
)
def test_a04_wrong_arguments(serve: Serving, call: Callable[[Any], Any], error: Any) -> None:
    """They raise in the app, send nothing, and leave the connection as it was."""
    raised: list[BaseException] = []

    def message(ws: Any, data: Any) -> None:
        try:
            call(ws)
        except Exception as exception:
            raised.append(exception)
        ws.send("next")

    server = serve(make_app(message))
    with bystander(server):
        client = RawClient.open(server.port)
        client.send("go")
        assert client.recv() == "next"
    assert len(raised) == 1
    assert isinstance(raised[0], error), repr(raised[0])
