"""permessage-deflate (RFC 7692): its settings, and what is agreed on in the opening handshake."""

import re
from dataclasses import dataclass

#: Least and most of each whole number in Deflate.
_RANGES = {
    "level": (1, 9),
    "window_bits": (9, 15),
    "mem_level": (1, 9),
    "history": (0, 32_768),
    "threshold": (0, 2**31 - 1),
    "client_window_bits": (9, 15),
    "max_inflater_memory": (0, 2**63 - 1),
}
_LONGEST = 1_000_000  # seconds; in milliseconds it must fit into 32 bits

_BITS = {str(bits): bits for bits in range(8, 16)}
_REST_OF_QUOTED = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """How messages are compressed. TypeError or ValueError for a setting out of range."""

    level: int = 1
    """zlib's, 1 to 9: speed against size."""
    window_bits: int = 15
    """How far what is sent may refer back, 9 to 15 for 512 bytes to 32 KiB, unless the client asks for less."""
    mem_level: int = 8
    """zlib's, 1 to 9, for its tables, which all connections share."""
    history: int = 2048
    """Bytes kept for each connection of what was sent, to which later messages refer; 0 to 32,768. 0 keeps nothing:
    each message is compressed by itself."""
    history_timeout: float = 30.0
    """Seconds without a compressed message, after which its history is given up; 0 is never."""
    threshold: int = 64
    """Messages of fewer bytes are sent as they are."""
    server_no_context_takeover: bool = False
    """No message refers to one before it, as with `history=0`."""
    client_no_context_takeover: bool = True
    """The same is asked of clients. If not, each that sends compressed messages takes up to 40 KB."""
    client_window_bits: int = 15
    """Asked of clients that offer to be asked, 9 to 15: how far what they send may refer back."""
    max_inflater_memory: int = 64 * 1024 * 1024
    """Bytes, over all connections of a server, for clients whose messages refer back. On breach: further clients are
    asked for client_no_context_takeover."""

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is a whole number, got {value!r}: give {least} to {most}")
            if not least <= value <= most:
                raise ValueError(f"{name}={value!r} is out of range: give {least} to {most}")
        if isinstance(self.history_timeout, bool) or not isinstance(self.history_timeout, int | float):
            raise TypeError(f"history_timeout is a number, got {self.history_timeout!r}: give 0 to {_LONGEST}")
        if not 0 <= self.history_timeout <= _LONGEST:
            raise ValueError(f"history_timeout={self.history_timeout!r} is out of range: give 0 to {_LONGEST}")
        for name in ("server_no_context_takeover", "client_no_context_takeover"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is True or False, got {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a client and the server have agreed on."""

    answer: str
    """The value of Sec-WebSocket-Extensions in the 101."""
    window_bits: int
    """Of what the server sends, 8 to 15."""
    takeover: bool
    """What the server sends may refer to what it sent before."""
    client_window_bits: int
    """Of what the client sends."""
    client_takeover: bool


def negotiate(deflate: Deflate, offers: bytes, client_takeover: bool) -> Agreement | None:
    """Take the first of a client's offers that can be accepted (RFC 7692 section 5), or None.

    offers: the value of Sec-WebSocket-Extensions, those of several headers joined by commas. client_takeover: there is
    memory for a client whose messages refer back.
    """
    for offer in _without_quoted(offers.decode("latin-1")).split(","):
        name, *parameters = (part.strip(" \t") for part in offer.split(";"))
        if name == "permessage-deflate" and (found := _read(parameters)) is not None:
            return _agree(deflate, found, client_takeover)
    return None


def _without_quoted(header: str) -> str:
    """The header with a lone quotation mark for each quoted string, in which commas and semicolons separate nothing. No
    parameter that is known here need be quoted, and with a quotation mark in it none is known."""
    pieces = []
    at = 0
    while (start := header.find('"', at)) >= 0:
        pieces.append(header[at : start + 1])
        end = _REST_OF_QUOTED.match(header, start + 1)
        if end is None:
            return "".join(pieces)
        at = end.end()
    return "".join((*pieces, header[at:]))


def _read(parameters: list[str]) -> dict[str, int | None] | None:
    """An offer's parameters, with their number of bits where they have one; None where it must be declined: an unknown
    name, one that occurs twice, a value that is none or is not allowed (section 7.1)."""
    found: dict[str, int | None] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if name in found or (equals and value not in _BITS):
            return None
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if equals:
                return None
        elif name == "server_max_window_bits":
            if not equals:
                return None
        elif name != "client_max_window_bits":
            return None
        found[name] = _BITS.get(value)
    return found


def _agree(deflate: Deflate, offer: dict[str, int | None], client_takeover: bool) -> Agreement:
    takeover = not (deflate.server_no_context_takeover or deflate.history == 0 or "server_no_context_takeover" in offer)
    client_takeover = (
        client_takeover and not deflate.client_no_context_takeover and "client_no_context_takeover" not in offer
    )
    window_bits = min(deflate.window_bits, offer.get("server_max_window_bits") or 15)
    client_window_bits = 15
    answer = "permessage-deflate"
    if not takeover:
        answer += "; server_no_context_takeover"
    if not client_takeover:
        answer += "; client_no_context_takeover"
    if window_bits < 15 or "server_max_window_bits" in offer:
        answer += f"; server_max_window_bits={window_bits}"
    if "client_max_window_bits" in offer:  # only then may it be in the answer (section 7.1.2.2)
        client_window_bits = min(deflate.client_window_bits, offer["client_max_window_bits"] or 15)
        if client_window_bits < 15 or offer["client_max_window_bits"] is not None:
            answer += f"; client_max_window_bits={client_window_bits}"
    return Agreement(answer, window_bits, takeover, client_window_bits, client_takeover)
