"""The slow reference of FrameParser: RFC 6455 section 5 read aloud, one byte at a time, for either side."""

from __future__ import annotations

from collections.abc import Generator

from oracles.protocol import CLOSE, CONTINUATION, CONTROL, OPCODES, advance, apply_mask, parse_close, require

Frame = tuple[bool, int, bytes, int]


class FrameReader:
    """`feed` gives the frames and the code of the error that come with these bytes."""

    def __init__(self, *, masked: bool, max_frame_size: int = 1 << 20, allow_rsv: int = 0) -> None:
        self._masked = masked
        self._max_frame_size = max_frame_size
        self._allow_rsv = allow_rsv
        self._frames: list[Frame] = []
        self._code: int | None = None
        self._parser = self._parse()
        next(self._parser)

    def feed(self, data: bytes) -> tuple[list[Frame], int | None]:
        if error := advance(self._parser, data):
            self._code = error.code
        frames, self._frames = self._frames, []
        return frames, self._code

    def _parse(self) -> Generator[None, int, None]:
        """The whole stream. Each `yield` waits for one byte: a rule stands right after the byte it needs."""
        fragmented = False
        while True:
            first = yield
            second = yield
            fin, rsv, opcode = bool(first & 0x80), first >> 4 & 7, first & 0x0F
            masked, length = bool(second & 0x80), second & 0x7F
            require(rsv | self._allow_rsv == self._allow_rsv, 1002, "5.2: an RSV bit that no extension gives a meaning")
            require(opcode in OPCODES, 1002, "5.2: reserved opcode")
            require(masked == self._masked, 1002, "5.1: a client masks every frame, a server none")
            if opcode in CONTROL:
                require(fin, 1002, "5.5: a control frame is not fragmented")
                require(length <= 125, 1002, "5.5: a control frame has at most 125 bytes")
            else:
                require((opcode == CONTINUATION) == fragmented, 1002, "5.4: fragments of one message, in order")
                fragmented = not fin

            if length >= 126:
                size, least = (2, 126) if length == 126 else (8, 65536)
                length = 0
                for _ in range(size):
                    length = length * 256 + (yield)
                require(length < 2**63, 1002, "5.2: the top bit of the length is set")
                require(length >= least, 1002, "5.2: not the shortest form")
            if opcode not in CONTROL:
                require(length <= self._max_frame_size, 1009, "10.4: frame too big")

            key = bytearray(4)
            if masked:
                for index in range(4):
                    key[index] = yield
            payload = bytearray()
            for _ in range(length):
                payload.append((yield))
            payload = bytearray(apply_mask(payload, key))

            if opcode == CLOSE:
                parse_close(bytes(payload))
            self._frames.append((fin, opcode, bytes(payload), rsv))
            if opcode == CLOSE:
                return
