"""fastws.speedups: the kernels as plain functions."""

from __future__ import annotations

from itertools import cycle

import pytest

from fastws import speedups


@pytest.mark.parametrize("n", [0, 1, 3, 4, 7, 8, 15, 16, 17, 100, 5000])
def test_apply_mask(n: int) -> None:
    data = bytes(i * 7 & 0xFF for i in range(n))
    masked = speedups.apply_mask(data, b"\x01\x80\xff\x10")
    assert masked == bytes(a ^ b for a, b in zip(data, cycle(b"\x01\x80\xff\x10"), strict=False))
    assert speedups.apply_mask(masked, b"\x01\x80\xff\x10") == data


@pytest.mark.parametrize("text", ["", "a", "é", "plain text", "Grüße", "Привет, мир", "日本語", "mixed 🎉 ünd 中"])
def test_text_both_ways(text: str) -> None:
    for repeated in (text, text * 100):
        assert speedups.encode(repeated) == repeated.encode()
        assert speedups.decode(repeated.encode()) == repeated
        assert speedups.is_utf8(repeated.encode())
