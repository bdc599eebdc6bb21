"""The kernels of fastws as plain functions, and a parser of frames, for programs that have a socket of their own.

>>> from fastws.speedups import Frame, FrameParser, apply_mask, is_utf8, serialize
>>> apply_mask(b"Hello", b"\\x37\\xfa\\x21\\x3d").hex()
'7f9f4d5158'
>>> is_utf8(b"caf\\xc3\\xa9"), is_utf8(b"caf\\xe9")
(True, False)
>>> parser = FrameParser(masked=True)  # what a client sends
>>> parser.feed(bytes.fromhex("818537fa213d7f9f"))
[]
>>> parser.feed(bytes.fromhex("4d5158"))
[Frame(fin=True, opcode=1, payload=b'Hello', rsv=0)]
>>> serialize(Frame(True, 1, b"Hello")).hex()  # as a server sends it
'810548656c6c6f'
"""

from fastws._speedups import SIMD, FrameParser, apply_mask, decode, encode, is_utf8, serialize
from fastws.frames import Frame, ProtocolError

__all__ = ["SIMD", "Frame", "FrameParser", "ProtocolError", "apply_mask", "decode", "encode", "is_utf8", "serialize"]
