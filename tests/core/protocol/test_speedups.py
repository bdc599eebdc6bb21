"""fastws.speedups: the kernels as plain functions."""

from __future__ import annotations

import asyncio
import ctypes
import doctest
import mmap
import os
import re
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets.frames
from harness.frames import build
from hypothesis import given
from hypothesis import strategies as st
from oracles import protocol as oracle
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from fastws import speedups
from fastws._speedups import SIMD

from .test_protocol_property import almost_utf8, examples

KEY = b"\x01\x80\xff\x10"


def mapped(data: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memory


READERS: list[Callable[[Any], object]] = [
    speedups.is_utf8,
    speedups.decode,
    lambda data: speedups.apply_mask(data, KEY),
]
BYTES_LIKE: list[Callable[[bytes], Any]] = [
    bytes,
    bytearray,
    memoryview,
    lambda data: memoryview(bytearray(b"-" + data + b"-"))[1:-1],
    lambda data: memoryview(data).cast("B", (2, len(data) // 2)),
    lambda data: array("B", data),
    lambda data: array("H", data),
    mapped,
]
NOT_BYTES_LIKE = ["text", None, 5, [1, 2], memoryview(b"abcdef")[::2], memoryview(b"abcdef")[::-1]]

both_kinds_of_text = st.text() | st.text("aé€🙂\ud800\udfff") | st.text(st.characters(max_codepoint=0xFF))
long_texts = st.builds(lambda text, times: text * times, both_kinds_of_text, st.sampled_from([1, 1, 3, 50]))


def test_all() -> None:
    assert speedups.__all__ == sorted(speedups.__all__, key=lambda name: (not name.isupper(), name))
    assert all(getattr(speedups, name).__doc__ for name in speedups.__all__)
    assert speedups.SIMD == SIMD


def test_the_example() -> None:
    failed, tried = doctest.testmod(speedups)
    assert (failed, tried) == (0, 7)


@pytest.mark.parametrize("path", ["README.md", "docs/speedups.md"])
def test_what_the_documents_show(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).resolve().parents[3] / path).read_text()
    blocks = [block for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) if "fastws.speedups" in block]
    assert blocks
    monkeypatch.setattr(websockets.frames, "apply_mask", None)
    for block in blocks:
        exec(compile(block, path, "exec"), {})
    assert vars(websockets.frames)["apply_mask"] is speedups.apply_mask


def test_no_argument_is_kept() -> None:
    data = bytearray("Привет".encode())
    counts = sys.getrefcount(data), sys.getrefcount(KEY)
    for read in READERS:
        read(data)
    for wrong in ("text", b"", None):
        with pytest.raises((TypeError, ValueError)):
            speedups.apply_mask(data, wrong)  # type: ignore[arg-type]
    assert (sys.getrefcount(data), sys.getrefcount(KEY)) == counts
    data.extend(b"a bytearray that is exported cannot grow")


@pytest.mark.parametrize("make", BYTES_LIKE)
def test_bytes_like(make: Callable[[bytes], Any]) -> None:
    text = "Grüße, 中文 🎉!!"
    data = text.encode()
    assert len(data) % 2 == 0
    assert speedups.is_utf8(make(data)) is True
    assert speedups.decode(make(data)) == text
    masked = speedups.apply_mask(make(data), KEY)
    assert type(masked) is bytes
    assert masked == oracle.apply_mask(data, KEY)
    assert speedups.apply_mask(data, make(KEY)) == masked


@pytest.mark.parametrize("wrong", NOT_BYTES_LIKE)
def test_not_bytes_like(wrong: Any) -> None:
    for read in READERS:
        with pytest.raises(TypeError, match=f"expected a C-contiguous bytes-like object, got {type(wrong).__name__}: "):
            read(wrong)
    with pytest.raises(TypeError, match=f"expected a bytes-like key, got {type(wrong).__name__}: "):
        speedups.apply_mask(b"data", wrong)


class TestApplyMask:
    @pytest.mark.parametrize("n", [*range(70), 100, 4095, 4096, 4097, 5000])
    def test_against_the_reference(self, n: int) -> None:
        data = bytes(i * 7 & 0xFF for i in range(n))
        for key in (KEY, bytes(4), b"\xff" * 4):
            masked = speedups.apply_mask(data, key)
            assert masked == oracle.apply_mask(data, key)
            assert speedups.apply_mask(masked, key) == data

    @pytest.mark.parametrize("key", [b"", b"\x00", b"abc", b"abcde", bytes(8)])
    def test_a_key_of_another_length(self, key: bytes) -> None:
        with pytest.raises(ValueError, match=f"^a masking key has 4 bytes, got {len(key)}$"):
            speedups.apply_mask(b"data", key)
        with pytest.raises(ValueError):
            vars(websockets.frames)["apply_mask"](b"data", key)


class TestSerialize:
    @pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
    @pytest.mark.parametrize("mask", [None, KEY])
    def test_against_the_reference(self, length: int, mask: bytes | None) -> None:
        payload = bytes(i * 7 & 0xFF for i in range(length))
        for opcode in range(16):
            for rsv in range(8):
                for fin in (True, False):
                    frame = speedups.Frame(fin, opcode, payload, rsv)
                    assert speedups.serialize(frame, mask=mask) == build(opcode, payload, fin=fin, rsv=rsv, mask=mask)

    @pytest.mark.parametrize("make", BYTES_LIKE)
    def test_bytes_like(self, make: Callable[[bytes], Any]) -> None:
        assert speedups.serialize((True, 2, make(b"payload!"), 0), mask=make(KEY)) == build(2, b"payload!", mask=KEY)

    @pytest.mark.parametrize(
        ("frame", "mask", "kind", "says"),
        [
            ((True, 16, b"", 0), None, ValueError, "an opcode is 0 to 15, got 16"),
            ((True, -1, b"", 0), None, ValueError, "an opcode is 0 to 15, got -1"),
            ((True, 1, b"", 8), None, ValueError, "the reserved bits are 0 to 7, got 8"),
            ((True, 1, b"", 0), b"abc", ValueError, "a masking key has 4 bytes, got 3"),
            ((True, 1, "text", 0), None, TypeError, "expected a C-contiguous bytes-like payload, got str"),
            ((True, 1, b"", 0), "mask", TypeError, "expected a bytes-like key, got str"),
            ((True, "1", b"", 0), None, TypeError, "an opcode is an int, got str"),
            ((True, 1.5, b"", 0), None, TypeError, "an opcode is an int, got float"),
            ((True, 1, b"", None), None, TypeError, "the reserved bits are an int, got NoneType"),
            ((True, 1, b""), None, TypeError, r"a frame is \(fin, opcode, payload, rsv\), got a tuple of 3"),
            (b"abcd", None, TypeError, r"a frame is \(fin, opcode, payload, rsv\), got bytes"),
            (5, None, TypeError, r"a frame is \(fin, opcode, payload, rsv\), got int"),
        ],
    )
    def test_what_is_no_frame(self, frame: Any, mask: Any, kind: type[Exception], says: str) -> None:
        with pytest.raises(kind, match=f"^{says}"):
            speedups.serialize(frame, mask=mask)


class TestText:
    @examples(500)
    @given(almost_utf8 | long_texts.map(lambda text: text.encode("utf-8", "surrogatepass")), st.integers(0, 40))
    def test_decode_is_cpythons(self, data: bytes, ascii_before: int) -> None:
        data = b"a" * ascii_before + data
        try:
            text = data.decode()
        except UnicodeDecodeError as expected:
            assert not speedups.is_utf8(data)
            with pytest.raises(UnicodeDecodeError) as caught:
                speedups.decode(data)
            assert caught.value.args == expected.args
            assert str(caught.value) == str(expected)
        else:
            assert speedups.is_utf8(data)
            found = speedups.decode(data)
            assert found == text
            assert hash(found) == hash(text)
            assert sys.getsizeof(found) == sys.getsizeof(data.decode())
            assert found.isascii() == text.isascii()

    @examples(500)
    @given(long_texts, st.integers(0, 40))
    def test_encode_is_cpythons(self, text: str, ascii_before: int) -> None:
        text = "a" * ascii_before + text
        size = sys.getsizeof(text)
        try:
            data = text.encode()
        except UnicodeEncodeError as expected:
            with pytest.raises(UnicodeEncodeError) as caught:
                speedups.encode(text)
            assert caught.value.args == expected.args
            assert str(caught.value) == str(expected)
        else:
            assert speedups.encode(text) == data
        assert sys.getsizeof(text) == size  # no UTF-8 is kept in it

    @pytest.mark.parametrize("wrong", [b"bytes", None, 5])
    def test_encode_takes_str(self, wrong: Any) -> None:
        with pytest.raises(TypeError):
            speedups.encode(wrong)

    @pytest.mark.parametrize("text", ["", "plain", "Grüße", "日本", "🎉"])
    def test_encode_takes_subclasses(self, text: str) -> None:
        class Text(str):
            __slots__ = ()

        assert speedups.encode(Text(text)) == text.encode()

    @pytest.mark.before(3, 12)  # which knows only one kind of str
    @pytest.mark.filterwarnings("ignore:PyUnicode_FromUnicode")
    def test_encode_of_an_old_str(self) -> None:
        """A C extension may have made a str whose characters CPython has not looked at yet."""
        for text in ("日本é", "plain"):
            make = ctypes.pythonapi.PyUnicode_FromUnicode
            make.restype, make.argtypes = ctypes.py_object, (ctypes.c_wchar_p, ctypes.c_ssize_t)
            old = make(None, len(text))
            place = ctypes.pythonapi.PyUnicode_AsUnicode
            place.restype, place.argtypes = ctypes.c_void_p, (ctypes.py_object,)
            wide = (ctypes.c_wchar * len(text))(*text)
            ctypes.memmove(place(old), wide, ctypes.sizeof(wide))
            assert speedups.encode(old) == text.encode()


def test_apply_mask_drops_into_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real client and server of websockets over loopback, which mask and unmask with this apply_mask."""
    calls: list[tuple[type, type, int]] = []

    def counted(data: Any, mask: Any) -> bytes:
        calls.append((type(data), type(mask), len(data)))
        return speedups.apply_mask(data, mask)

    text = "text, Grüße 🎉 " * 3000
    messages: list[str | bytes] = ["", b"", "a", text, *map(os.urandom, (125, 126, 65536)), bytes(300_000)]

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async def talk(compression: str | None) -> None:
        async with serve(echo, "127.0.0.1", 0, compression=compression) as server:
            port = server.sockets[0].getsockname()[1]
            uri = f"ws://127.0.0.1:{port}"
            async with connect(uri, compression=compression, proxy=None) as ws:
                for message in messages:
                    await ws.send(message)
                    assert await ws.recv() == message
                for view in (bytearray(b"bytearray"), memoryview(b"memoryview")):
                    await ws.send(view)
                    assert await ws.recv() == bytes(view)
                await ws.send([text[:100], text[100:]])
                assert await ws.recv() == text
                await (await ws.ping(b"are you there?"))

    monkeypatch.setattr(websockets.frames, "apply_mask", counted)
    asyncio.run(asyncio.wait_for(talk(None), 30))
    assert sorted(size for _, _, size in calls)[-2:] == [300_000] * 2  # masked by one, unmasked by the other
    calls.clear()
    asyncio.run(asyncio.wait_for(talk("deflate"), 30))
    assert len(calls) >= 2 * (len(messages) + 4)
    assert {kind for kind, _, _ in calls} >= {bytes, memoryview}
