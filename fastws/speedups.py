"""The kernels of fastws as plain functions, for programs that have a socket of their own."""

from fastws._speedups import SIMD, apply_mask, decode, encode, is_utf8

__all__ = ["SIMD", "apply_mask", "decode", "encode", "is_utf8"]
