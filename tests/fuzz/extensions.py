"""Offers of extensions, as they come or put together from words, and what is agreed on.

An input is: the settings of the server (three bytes), raw or words (one), and the header.
"""

from __future__ import annotations

import itertools
from typing import Any

from harness.deflating import Params, agree
from oracles import extensions as oracle_extensions

from fastws import Deflate
from fastws.compression import negotiate

from .source import Source, same

NAMES = list(oracle_extensions.KNOWN)
VALUES = ["", "=", "=8", "=9", "=10", "=15", "=0", "=7", "=16", "=08", '="10"', "=1 0", "=+9", "=8=8", "=\xb2"]
#: What each word stands for, from byte 0x80 on.
WORDS = [
    "permessage-deflate", "permessage-deflate; ", ", permessage-deflate", ", ", "; ", "=", ",", ";", '"', "\\", " ",
    *(f"; {name}" for name in NAMES), *(f"; {name}={bits}" for name in NAMES[2:] for bits in (8, 9, 12, 15)),
    *VALUES, "x-webkit-deflate-frame", "permessage-bzip2", '; a="b, c; d"', '"\\""', "Permessage-Deflate", "; unknown",
    "\t", "\xa0", "\0", "mux; max-channels=4; flow-control, ", "; server_max_window_bits=", "; Client_Max_Window_Bits",
]  # fmt: skip
RAW = 0


def header_of(source: Source) -> bytes:
    if source.byte() & 1 == RAW:
        return source.rest()
    words = (WORDS[(byte & 0x7F) % len(WORDS)] if byte & 0x80 else chr(byte) for byte in source.rest())
    return "".join(words).encode("latin-1", "replace")


def encode(header: str, settings: bytes = bytes(3)) -> bytes:
    return settings + bytes([RAW]) + header.encode("latin-1", "replace")


def seeds() -> list[bytes]:
    offers = ["permessage-deflate" + "".join(f"; {name}{value}" for name in NAMES) for value in VALUES]
    offers += [f"permessage-deflate; {name}{value}" for name, value in itertools.product(NAMES, VALUES)]
    offers += [f"permessage-deflate; {name}; {name}" for name in NAMES]
    good = "permessage-deflate; client_max_window_bits"
    others = ['x; a="', 'x; a="\\"', 'x; a=",permessage-deflate,"', "x y", ""]
    lists = [f"{offer}, {good}" for offer in [*offers, *others]]
    parts = [
        "",
        ",",
        ";",
        f"{good},",
        f",{good}",
        f"{good};",
        f"{good} x",
        f"x{good}",
        f"{good} ; ",
        "permessage-deflate",
    ]
    settings = [bytes([a, b, c]) for a in (0, 1, 255) for b in (0, 3, 6) for c in (0, 1, 0xFF)]
    found = [encode(header) for header in [*offers, *lists, *parts]]
    found += [encode(f"{good}; server_max_window_bits=10", setting) for setting in settings]
    return [*found, bytes(3) + bytes([1, 0x80, *range(0x80, 0x80 + len(WORDS))])]


def check_extensions(core: Any, data: bytes) -> list[Any]:
    """Fails where another offer is accepted than the reference accepts, or otherwise. Returns what was seen."""
    source = Source(data)
    first, second, third = source.byte(), source.byte(), source.byte()
    deflate = Deflate(
        window_bits=15 - (first & 7) % 7,
        client_window_bits=15 - (first >> 3 & 7) % 7,
        history=[2048, 0, 1][second % 3],
        server_no_context_takeover=bool(third & 1),
        client_no_context_takeover=not third & 2,
    )
    room = bool(third & 4)
    header = header_of(source)
    found = negotiate(deflate, header, room)
    offer = oracle_extensions.accepted(header.decode("latin-1"))
    if found is None:
        assert offer is None, f"declined, but the reference accepts {offer!r}"
        return ["declined", b"permessage-deflate" in header]
    assert offer is not None, f"accepted with {found}, but the reference accepts nothing"
    meant = Params(not found.takeover, not found.client_takeover, found.window_bits, found.client_window_bits)
    same(agree(Params.read(offer, is_offer=True), Params.read(found.answer)), meant, "not what is meant")
    wanted = {name: value for name, _, value in (part.partition("=") for part in offer.split("; "))}
    asked = wanted.get("client_max_window_bits")
    forbidden = deflate.server_no_context_takeover or "server_no_context_takeover" in wanted
    forbidden_to_client = deflate.client_no_context_takeover or "client_no_context_takeover" in wanted
    most = Params(
        forbidden or not deflate.history,
        forbidden_to_client or not room,
        min(deflate.window_bits, int(wanted.get("server_max_window_bits", 15))),
        15 if asked is None else min(deflate.client_window_bits, int(asked or 15)),
    )
    same(meant, most, "not all that both sides want")
    return [found.answer]
