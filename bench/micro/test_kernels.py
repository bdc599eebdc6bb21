"""The kernels as Python sees them, beside what others have; kernels.py runs this and sets the targets beside it.

python -m pytest bench/micro/test_kernels.py --benchmark-only

"memcpy" is `bytes(bytearray)`: an allocation as in the functions that it stands beside, and a copy. aiohttp's masks in
place, so it allocates nothing; numpy's gives an array, whose `tobytes()` would be another copy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from aiohttp._websocket import mask as aiohttp_mask  # type: ignore[attr-defined]
from pytest_benchmark.fixture import BenchmarkFixture
from websockets import speedups as websockets_speedups

from bench.micro import kernels
from bench.micro.texts import TEXTS, cut
from fastws import speedups

KEY = b"\x3c\xc3\xa5\x5a"
UNMASK_SIZES = [16, 64, 1024, 65536, 1 << 20]
TEXT_SIZES = [1024, 65536, 1 << 20]

pytestmark = pytest.mark.benchmark(max_time=0.2)  # seconds; of each, the best round counts

Call = tuple[Callable[..., Any], tuple[Any, ...]]


def unmask(data: bytes) -> dict[str, Call]:
    words = numpy.frombuffer(data, numpy.uint32), numpy.frombuffer(KEY, numpy.uint32)[0]
    return {
        "fastws": (speedups.apply_mask, (data, KEY)),
        "memcpy": (bytes, (bytearray(data),)),
        "websockets": (websockets_speedups.apply_mask, (data, KEY)),
        "aiohttp": (aiohttp_mask._websocket_mask_cython, (KEY, bytearray(data))),
        "numpy": (numpy.bitwise_xor, words),
    }


def check(data: bytes) -> dict[str, Call]:
    calls: dict[str, Call] = {
        "fastws": (speedups.is_utf8, (data,)),
        "memcpy": (bytes, (bytearray(data),)),
        "CPython": (data.decode, ()),
    }
    return calls | ({"isascii": (data.isascii, ())} if data.isascii() else {})


def decode(data: bytes) -> dict[str, Call]:
    return {"fastws": (speedups.decode, (data,)), "CPython": (data.decode, ())}


def encode(text: str) -> dict[str, Call]:
    return {"fastws": (speedups.encode, (text,)), "CPython": (text.encode, ())}


def measure(benchmark: BenchmarkFixture, call: Call, **of: object) -> None:
    benchmark.group = " ".join(map(str, of.values()))
    benchmark.extra_info = of
    benchmark(call[0], *call[1])


@pytest.mark.parametrize("by", unmask(bytes(4)))
@pytest.mark.parametrize("size", UNMASK_SIZES)
def test_unmask(benchmark: BenchmarkFixture, size: int, by: str) -> None:
    data = cut("ascii", size)
    function, given = unmask(data)[by]
    result = function(*given)
    wanted = data if by == "memcpy" else bytes(a ^ b for a, b in zip(data, KEY * (size // 4), strict=True))
    assert bytes(given[1] if by == "aiohttp" else result) == wanted
    measure(benchmark, (function, given), kernel="unmask", content="binary", size=size)


@pytest.mark.parametrize(("content", "by"), [(name, by) for name in TEXTS for by in check(cut(name, 64))])
@pytest.mark.parametrize("size", TEXT_SIZES)
def test_check(benchmark: BenchmarkFixture, size: int, content: str, by: str) -> None:
    data = cut(content, size)
    function, given = check(data)[by]
    assert function(*given) in (True, data, data.decode())
    measure(benchmark, (function, given), kernel="check", content=content, size=size)


@pytest.mark.parametrize("by", decode(b""))
@pytest.mark.parametrize("content", TEXTS)
@pytest.mark.parametrize("size", TEXT_SIZES)
def test_decode(benchmark: BenchmarkFixture, size: int, content: str, by: str) -> None:
    data = cut(content, size)
    function, given = decode(data)[by]
    made = function(*given)
    assert made == data.decode()
    assert sys.getsizeof(made) == sys.getsizeof(data.decode())
    measure(benchmark, (function, given), kernel="decode", content=content, size=size)


@pytest.mark.parametrize("by", encode(""))
@pytest.mark.parametrize("content", TEXTS)
@pytest.mark.parametrize("size", TEXT_SIZES)
def test_encode(benchmark: BenchmarkFixture, size: int, content: str, by: str) -> None:
    data = cut(content, size)
    function, given = encode(data.decode())[by]
    assert function(*given) == data
    measure(benchmark, (function, given), kernel="encode", content=content, size=size)


def test_the_kernels_without_python(capsys: pytest.CaptureFixture[str]) -> None:
    """Every variant is timed with every kernel, content and size, and shown beside its target."""
    figures = kernels.without_python(milliseconds=0)
    assert all(figure.ns > 0 for figure in figures)
    variants = {figure.by for figure in figures} - {"memcpy"}
    assert {speedups.SIMD, "scalar"} <= variants
    table = kernels.rows([figure for figure in figures if figure.by != "memcpy"])
    assert len(table) == 5 * (2 + 4 * len(TEXTS))
    assert all(set(by) == variants for by in table.values())
    kernels.report_variants(figures)
    assert capsys.readouterr().out.count("at most 1.3: ") == 6
