"""The slow reference of the opening handshake: RFC 9112 for the head, RFC 6455 section 4.2 for the verdict.

Where RFC 9112 leaves it to a server, this says what fastws has decided; where a parser may refuse more than the rules
that stand here, 400 is among the answers that are right.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")  # RFC 9110 5.6.2
METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"}
DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
#: What any parser of URLs passes as origin-form (RFC 9112 3.2.1).
PLAIN_TARGET = re.compile(rb"/[A-Za-z0-9/._~%!$&'()*+,;=:@?-]*")


def scan(data: bytes, max_header_size: int, max_request_line: int, max_headers: int) -> tuple[int, int | str]:
    """The size of the head, 0 where there is none; and "done", "more" or the status of a refusal."""
    line = bytearray()
    lines = 0
    for size, byte in enumerate(data, 1):
        if size > max_header_size:
            return 0, 431
        line.append(byte)
        if line.endswith(b"\r\n"):
            if len(line) == 2:
                # RFC 9112 2.2 would let a server pass over empty lines in front; this one does not.
                return (size, "done") if lines else (0, 400)
            lines += 1
            if lines > max_headers + 1:
                return 0, 431
            line.clear()
            continue
        first = lines == 0
        if byte == 10 or line[-2:-1] == b"\r":
            return 0, 400  # 2.2: a bare LF, a bare CR
        if (byte < 32 and byte != 13 and (byte != 9 or first)) or byte == 127:
            return 0, 400  # RFC 9110 5.5
        if line[0] in b" \t":
            return 0, 400  # 5.2: a folded line
        if first and line.endswith((b"  ", b" \r")):
            return 0, 400  # 3: single spaces
        if first and byte != 13 and len(line) > max_request_line:
            return 0, 414
    return 0, "more"


@dataclass
class Head:
    method: bytes = b""
    target: bytes = b""
    version: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]

    def one(self, name: bytes) -> bytes | None:
        found = self.all(name)
        return found[0] if len(found) == 1 else None

    def tokens(self, name: bytes) -> list[bytes]:
        """Of all the headers of that name (RFC 9110 5.6.1)."""
        return [part.strip(b" \t").lower() for value in self.all(name) for part in value.split(b",")]


def parse(data: bytes) -> Head | None:
    """What stands in a head that the scan has let through; None where it is malformed."""
    first, *lines = data[:-4].split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or not is_token(parts[0]) or not parts[1] or not re.fullmatch(rb"HTTP/\d\.\d", parts[2]):
        return None
    head = Head(parts[0], parts[1], parts[2][5:])
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not is_token(name):  # RFC 9112 5.1: no white space before the colon
            return None
        head.headers.append((name, value.strip(b" \t")))
    return head


def is_token(value: bytes) -> bool:
    return len(value) > 0 and TOKEN.issuperset(value)


def may_be_refused(head: Head) -> bool:
    """Whether a parser that knows only some methods, targets and versions, and minds bodies, may refuse this."""
    lengths = head.all(b"content-length")
    return (
        head.method not in METHODS
        or head.version not in {b"1.1", b"1.0"}
        or not PLAIN_TARGET.fullmatch(head.target)
        or len(lengths) > 1
        or any(not re.fullmatch(rb"[0-9]{1,18}", value) for value in lengths)
        or bool(head.all(b"transfer-encoding"))
    )


def verdict(head: Head, hosts: Collection[str] | None, origins: Collection[str] | None) -> int | None:
    """The status of the refusal, or None; the first thing that is wrong counts."""
    if head.version not in (b"1.1", b"1.0"):
        return 505
    host = split_authority((head.one(b"host") or b"").decode("latin-1"))
    if head.version == b"1.0" and not head.all(b"host"):
        host = ("", "")
    if host is None:
        return 400  # RFC 9112 3.2
    if head.target[:1] != b"/" and (head.method, head.target) != (b"OPTIONS", b"*"):  # 3.2.2
        host = split_authority((target_authority(head.target) or b"").decode("latin-1"))
        if host is None:
            return 400
    if not all(re.fullmatch(rb"[0-9]+", value) for value in head.all(b"content-length")):
        return 400
    if hosts is not None and not host_served(host, hosts):
        return 403
    if head.version != b"1.1":
        return 505  # no upgrade in 1.0: RFC 9110 7.8
    if head.method != b"GET":
        return 405
    if head.all(b"transfer-encoding") or any(value != b"0" for value in head.all(b"content-length")):
        return 400
    if b"websocket" not in head.tokens(b"upgrade"):
        return 426
    if b"upgrade" not in head.tokens(b"connection") or len(head.all(b"sec-websocket-version")) > 1:
        return 400
    if head.one(b"sec-websocket-version") != b"13":
        return 426
    if not is_key(head.one(b"sec-websocket-key") or b""):
        return 400
    sent = head.all(b"origin")
    if sent and (len(sent) > 1 or not origin_trusted(sent[0].decode("latin-1"), host, origins)):
        return 403
    if not all(is_token(offer) for offer in head.tokens(b"sec-websocket-protocol") if offer):
        return 400
    return None


def is_key(key: bytes) -> bool:
    """Section 4.1, item 7: 16 bytes in base64 (RFC 4648 section 4)."""
    return re.fullmatch(rb"[A-Za-z0-9+/]{22}==", key) is not None


def split_authority(text: str) -> tuple[str, str] | None:
    """(host, port) in lower case, the port empty where there is none; None where it is malformed."""
    name, port = text.lower(), ""
    bracket = name.rfind("]")
    colon = name.rfind(":")
    if colon > bracket:
        name, port = name[:colon], name[colon + 1 :]
        if not 1 <= len(port) <= 5 or not all(one in "0123456789" for one in port):
            return None
    if name.startswith("["):
        inside = name[1:-1]
        good = name.endswith("]") and bool(inside) and all(one in "0123456789abcdef:." for one in inside)
    else:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789_"
        good = name[:1] in letters and all(one in letters + ".-" for one in name) and bool(name)
    return (name, port) if good else None


def split_origin(text: str) -> tuple[str, str, str] | None:
    """RFC 6454 section 4."""
    scheme, separator, rest = text.lower().partition("://")
    authority = split_authority(rest)
    if not separator or authority is None or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        return None
    return scheme, authority[0], authority[1] or DEFAULT_PORTS.get(scheme, "")


def origin_trusted(text: str, host: tuple[str, str], origins: Collection[str] | None) -> bool:
    origin = split_origin(text)
    if origins is not None:
        listed = "*" in origins or text in origins
        return listed or (origin is not None and origin in map(split_origin, origins))
    return origin is not None and origin in [
        (scheme, host[0], host[1] or DEFAULT_PORTS[scheme]) for scheme in ("http", "https")
    ]


def host_served(host: tuple[str, str], hosts: Collection[str]) -> bool:
    name, full = host[0], ":".join(filter(None, host))
    return any(
        one in ("*", name, full) or (one[:2] == "*." and (name.endswith(one[1:]) or full.endswith(one[1:])))
        for one in hosts
    )


def target_authority(target: bytes) -> bytes | None:
    """Of absolute-form (RFC 9112 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https", b"ws", b"wss"):
        return None
    return rest.partition(b"/")[0].partition(b"?")[0]


def split_target(target: bytes) -> tuple[str, str, str] | None:
    """(decoded path, query, the same path with a NUL for each slash that was escaped) of origin-form and absolute-form
    (RFC 9112 3.2.1 and 3.2.2)."""
    if any(byte <= 32 or byte in b"\x7f#" for byte in target):
        return None
    rest = target
    if target[:1] != b"/":
        authority = target_authority(target)
        if authority is None or split_authority(authority.decode("latin-1")) is None:
            return None
        rest = target.partition(b"://")[2][len(authority) :]
    if re.search(rb"%(?![0-9A-Fa-f]{2})", target):
        return None  # RFC 3986 2.1
    path, _, query = rest.partition(b"?")
    segments = [
        re.sub(rb"%(..)", lambda found: bytes([int(found[1], 16)]), segment) for segment in (path or b"/").split(b"/")
    ]
    decoded = b"/".join(segments)
    routed = b"/".join(segment.replace(b"/", b"\0") for segment in segments)
    try:
        return None if b"\0" in decoded else (decoded.decode(), query.decode(), routed.decode())
    except UnicodeDecodeError:
        return None


def switching(key: bytes, subprotocol: bytes | None, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The 101 of section 4.2.2, item 5."""
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest),
    ]
    if subprotocol is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + subprotocol)
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", b""])
