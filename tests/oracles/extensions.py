"""The slow reference of what is negotiated: RFC 6455 section 9.1 and RFC 7692 section 7.1, an offer at a time."""

from __future__ import annotations

import re

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED = r'"(?:[^"\\]|\\.)*"'
SPACE = r"[ \t]*"
OFFER = re.compile(f"{SPACE}({TOKEN}){SPACE}((?:;{SPACE}{TOKEN}(?:=(?:{TOKEN}|{QUOTED}))?{SPACE})*)")
PARAMETER = re.compile(f";{SPACE}({TOKEN})(?:=({TOKEN}|{QUOTED}))?")

#: Section 7.1: which values each parameter of an offer may have, None for no value.
BITS = {str(bits) for bits in range(8, 16)}
KNOWN: dict[str, set[str | None]] = {
    "server_no_context_takeover": {None},
    "client_no_context_takeover": {None},
    "server_max_window_bits": {*BITS},
    "client_max_window_bits": {*BITS, None},
}


def elements(header: str) -> list[str]:
    """What stands between commas; those in quotation marks separate nothing."""
    found, quoted, escaped = [""], False, False
    for one in header:
        if one == "," and not quoted:
            found.append("")
            continue
        found[-1] += one
        if escaped:
            escaped = False
        elif one == "\\" and quoted:
            escaped = True
        elif one == '"':
            quoted = not quoted
    return found


def accepted(header: str) -> str | None:
    """The first offer of permessage-deflate in the header that may be accepted, in its shortest form."""
    for element in elements(header):
        offer = OFFER.fullmatch(element)
        if offer is None or offer[1] != "permessage-deflate":
            continue
        parameters = [(found[1], found[2]) for found in PARAMETER.finditer(offer[2])]
        twice = len({name for name, _ in parameters}) < len(parameters)
        if not twice and all(value in KNOWN.get(name, ()) for name, value in parameters):
            said = [name if value is None else f"{name}={value}" for name, value in parameters]
            return "; ".join([offer[1], *said])
    return None
