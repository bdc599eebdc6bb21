"""The slow reference of the protocol half: RFC 6455 read aloud, one byte at a time.

It has the interface of the compiled half, so that the two can be compared feed by feed. Nothing in it is clever:
speed, memory and buffering are the business of the code that is tested against it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

# Section 5.2 and the registry of section 11.8: every other opcode is reserved.
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}
CONTROL = {CLOSE, PING, PONG}

# Section 7.4.1 with the codes registered since (1012-1014), and the ranges of section 7.4.2. 1004 is reserved; 1005,
# 1006 and 1015 only stand for what was never on the wire.
CLOSE_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}

KEY = b"\xa1\x5c\x0f\xe3"

Event = tuple[Any, ...]


class ProtocolError(Exception):
    """What fails the connection (section 7.1.7): the close code and why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Utf8:
    """RFC 3629 section 4, whose grammar says for each first byte what every later byte may be."""

    TAIL = range(0x80, 0xC0)
    CHARACTERS = (
        (range(0x00, 0x80), ()),
        (range(0xC2, 0xE0), (TAIL,)),
        (range(0xE0, 0xE1), (range(0xA0, 0xC0), TAIL)),  # below: overlong
        (range(0xE1, 0xED), (TAIL, TAIL)),
        (range(0xED, 0xEE), (range(0x80, 0xA0), TAIL)),  # above: surrogates
        (range(0xEE, 0xF0), (TAIL, TAIL)),
        (range(0xF0, 0xF1), (range(0x90, 0xC0), TAIL, TAIL)),  # below: overlong
        (range(0xF1, 0xF4), (TAIL, TAIL, TAIL)),
        (range(0xF4, 0xF5), (range(0x80, 0x90), TAIL, TAIL)),  # above: beyond U+10FFFF
    )

    def __init__(self) -> None:
        self._awaited: tuple[range, ...] = ()

    def feed(self, data: bytes) -> int:
        """The index of the first byte that cannot be right, or -1. After one, the state means nothing."""
        for index, byte in enumerate(data):
            if self._awaited:
                if byte not in self._awaited[0]:
                    return index
                self._awaited = self._awaited[1:]
            else:
                for first, rest in self.CHARACTERS:
                    if byte in first:
                        self._awaited = rest
                        break
                else:
                    return index
        return -1

    def complete(self) -> bool:
        """Whether no unfinished character is pending."""
        return not self._awaited


def advance(parser: Generator[None, int, None], data: bytes) -> ProtocolError | None:
    """Sends the bytes to the parser one by one; the error of the one that broke a rule, if one did. A parser that has
    ended takes no more."""
    try:
        for byte in data:
            parser.send(byte)
    except StopIteration:
        pass
    except ProtocolError as error:
        return error
    return None


class Reader:
    """A server's receiving side: a client's bytes in, events out.

    Events: ("text", str), ("binary", bytes), ("ping", bytes), ("pong", bytes), ("close", code, reason) and
    ("fail", code, message). After one of the last two there are no others.
    """

    def __init__(self, max_message_size: int = 1 << 20, max_fragments: int = 16384) -> None:
        self._max_message_size = max_message_size
        self._max_fragments = max_fragments
        self._events: list[Event] = []
        self._parser = self._parse()
        next(self._parser)

    def feed(self, data: bytes) -> list[Event]:
        """What these bytes bring about."""
        if error := advance(self._parser, data):
            self._events.append(("fail", error.code, error.message))
        events, self._events = self._events, []
        return events

    def _parse(self) -> Generator[None, int, None]:
        """The whole conversation. Each `yield` waits for one byte: a rule stands right after the byte it needs."""
        kind = None  # the opcode of the message whose fragments are coming, None between messages
        message = bytearray()
        fragments = 0
        utf8 = Utf8()

        while True:
            # Section 5.2: the first two bytes of a frame.
            first = yield
            second = yield
            fin, rsv, opcode = bool(first & 0x80), first & 0x70, first & 0x0F
            masked, length = bool(second & 0x80), second & 0x7F
            require(rsv == 0, 1002, "5.2: an RSV bit is set and no extension gives it a meaning")
            require(opcode in OPCODES, 1002, "5.2: reserved opcode")
            require(masked, 1002, "5.1: a client masks every frame")
            if opcode in CONTROL:
                require(fin, 1002, "5.5: a control frame is not fragmented")
                require(length <= 125, 1002, "5.5: a control frame has at most 125 bytes")
            elif opcode == CONTINUATION:
                require(kind is not None, 1002, "5.4: nothing to continue")
            else:
                require(kind is None, 1002, "5.4: the fragments of two messages do not interleave")

            # Section 5.2: network byte order, the top bit of 64 is 0, and the shortest form is the only one.
            if length == 126:
                length = 0
                for _ in range(2):
                    length = length * 256 + (yield)
                require(length >= 126, 1002, "5.2: a length that 7 bits could say")
            elif length == 127:
                length = 0
                for _ in range(8):
                    length = length * 256 + (yield)
                require(length < 2**63, 1002, "5.2: the top bit of the length is set")
                require(length >= 65536, 1002, "5.2: a length that 16 bits could say")

            if opcode not in CONTROL:
                if opcode != CONTINUATION:
                    kind, message, fragments, utf8 = opcode, bytearray(), 0, Utf8()
                # Section 10.4: limits, known from the header alone. 1009 and 1008 are of section 7.4.1.
                require(len(message) + length <= self._max_message_size, 1009, "10.4: message too big")
                fragments += 1
                require(fragments <= self._max_fragments, 1008, "10.4: too many fragments")

            key = bytearray()
            for _ in range(4):
                key.append((yield))

            # Section 5.3: byte i of the payload is masked with byte i modulo 4 of the key.
            payload = bytearray()
            for index in range(length):
                byte = (yield) ^ key[index % 4]
                payload.append(byte)
                if kind == TEXT and opcode not in CONTROL:
                    require(utf8.feed(bytes([byte])) == -1, 1007, "8.1: not UTF-8")

            if opcode == CLOSE:
                self._events.append(("close", *parse_close(bytes(payload))))
                return
            if opcode == PING:
                self._events.append(("ping", bytes(payload)))
            elif opcode == PONG:
                self._events.append(("pong", bytes(payload)))
            else:
                message += payload
                if fin:
                    if kind == TEXT:
                        require(utf8.complete(), 1007, "8.1: the text ends within a character")
                        self._events.append(("text", message.decode()))
                    else:
                        self._events.append(("binary", bytes(message)))
                    kind = None


def require(legal: bool, code: int, message: str) -> None:
    if not legal:
        raise ProtocolError(code, message)


def parse_close(body: bytes) -> tuple[int, str]:
    """The code and reason in the body of a close frame (sections 5.5.1 and 7.4)."""
    if not body:
        return 1005, ""  # section 7.1.5
    require(len(body) >= 2, 1002, "5.5.1: a close code has two bytes")
    code = body[0] * 256 + body[1]
    require(code in CLOSE_CODES, 1002, "7.4: not a close code that may be sent")
    utf8 = Utf8()
    require(utf8.feed(body[2:]) == -1 and utf8.complete(), 1007, "5.5.1: the reason is not UTF-8")
    return code, body[2:].decode()


def apply_mask(data: bytes | bytearray, key: bytes | bytearray) -> bytes:
    """Section 5.3; masking and unmasking are the same."""
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(data))


def build_frame(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """A server's frame: unmasked (section 5.1), its length in the shortest form (section 5.2)."""
    if len(payload) <= 125:
        length = bytes([len(payload)])
    elif len(payload) <= 65535:
        length = bytes([126]) + len(payload).to_bytes(2, "big")
    else:
        length = bytes([127]) + len(payload).to_bytes(8, "big")
    return bytes([0x80 * fin + opcode]) + length + payload


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    mask: bytes = KEY,
    rsv: int = 0,
    length_form: int | None = None,
    declared: int | None = None,
    masked: bool = True,
) -> bytes:
    """Any frame that a client could send, legal or not.

    `rsv` is 4 for RSV1, 2 for RSV2, 1 for RSV3; `length_form` is 7, 16 or 64 bits, the shortest by default;
    `declared` is the length to claim where it is not that of the payload; `masked=False` leaves the key out as well.
    """
    length = len(payload) if declared is None else declared
    if length_form is None:
        length_form = 7 if length <= 125 else 16 if length <= 65535 else 64
    if length_form == 7:
        if length > 125:
            raise ValueError("7 bits hold at most 125: 126 and 127 announce the longer forms")
        low, extended = length, b""
    else:
        low, extended = {16: 126, 64: 127}[length_form], length.to_bytes(length_form // 8, "big")
    header = bytes([0x80 * fin + 0x10 * rsv + opcode, 0x80 * masked + low]) + extended
    return header + (mask + apply_mask(payload, mask) if masked else payload)
