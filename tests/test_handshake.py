"""The opening handshake without a socket (RFC 6455 section 4.2): the rules of a request head, and the verdicts."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable
from typing import Any

import pytest
from harness import KEY, request_bytes
from hypothesis import example, given, settings
from hypothesis import strategies as st
from protocol._protocol import RequestHead, split_request_target

from fastws.http import Accept, Request, split_target

GOOD = request_bytes("/chat?x=1", headers=[("Origin", "http://localhost"), ("X-Empty", ""), ("Cookie", "a=b")])
LINE = b"GET / HTTP/1.1\r\n"
LIMITS = (16384, 8192, 100)


def head(data: bytes, limits: tuple[int, int, int] = LIMITS) -> Any:
    """The outcome of a head that comes in one piece, and the handshake."""
    request = RequestHead(*limits)
    return request.feed(data), request.handshake


def outcome(data: bytes, cuts: Iterable[int] = (), limits: tuple[int, int, int] = LIMITS) -> Any:
    """The outcome where the head is cut in these places; nothing is fed once there is one."""
    request = RequestHead(*limits)
    before, state = 0, "more"
    for cut in [*sorted(cuts), len(data)]:
        scanned = request.scanned
        state = request.feed(data[before:cut])
        assert scanned <= request.scanned <= cut
        if state != "more":
            break
        assert request.scanned == cut, "what has been scanned need not be looked at again"
        before = cut
    return state


# The scan, against a slow and plain statement of its rules

CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def fault(line: bytes, first: bool) -> bool:
    """Whether what has come of a line, without its CRLF, can never become right."""
    if b"\n" in line or b"\r" in line[:-1] or CONTROL.search(line) or line.startswith((b" ", b"\t")):
        return True
    return first and (b"\t" in line or b"  " in line or line.endswith(b" \r"))


def reference(data: bytes, limits: tuple[int, int, int]) -> Any:
    """The rules, looked up anew 400, 414, 431 or the length of the head."""
    max_header_size, max_request_line, max_headers = limits
    for size in range(1, len(data) + 1):
        if size > max_header_size:
            return 431
        *lines, rest = data[:size].split(b"\r\n")
        ended = not rest
        line = lines[-1] if ended else rest
        first = len(lines) == ended
        if ended and not line:
            return 400 if first else size
        if fault(line, first):
            return 400
        if first and not ended and len(line.removesuffix(b"\r")) > max_request_line:
            return 414
        if len(lines) > max_headers + 1:
            return 431
    return "more"


def scanned_as(data: bytes, cuts: Iterable[int], limits: tuple[int, int, int]) -> Any:
    """What the scan says, whatever httptools makes of a head that it lets through."""
    request = RequestHead(*limits)
    before = 0
    for cut in [*sorted(cuts), len(data)]:
        state = request.scan(data[before:cut])
        if state != "more":
            return request.scanned if state == "done" else state
        before = cut
    return "more"


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"\t",
        b" ",
        b"GET / HTTP/1.1",
        b"A: b",
        b":",
        b"\x00",
        b"\x7f",
        b"\x80",
        b"xyz",
    ]
)
HEADS = st.one_of(
    st.lists(PIECES, max_size=12).map(b"".join),
    st.lists(st.one_of(PIECES, st.binary(max_size=3)), max_size=8).map(
        lambda parts: b"GET / HTTP/1.1\r\n" + b"".join(parts)
    ),
    st.tuples(st.integers(0, len(GOOD) - 1), PIECES).map(lambda at: GOOD[: at[0]] + at[1] + GOOD[at[0] :]),
    st.binary(max_size=80),
)
SMALL = st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 4))


@settings(max_examples=1500, deadline=None)
@given(data=HEADS, limits=st.one_of(st.just(LIMITS), SMALL), cuts=st.lists(st.integers(0, 200), max_size=4))
@example(data=b"\r\n", limits=LIMITS, cuts=[])
@example(data=b"GET / HTTP/1.1\r\n\r\nnext", limits=(18, 14, 0), cuts=[17])
def test_scan_like_the_reference(data: bytes, limits: tuple[int, int, int], cuts: list[int]) -> None:
    cuts = [cut for cut in cuts if cut <= len(data)]
    expected = reference(data, limits)
    assert scanned_as(data, cuts, limits) == expected
    assert scanned_as(data, range(len(data)), limits) == expected


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_every_kind_of_place(byte: int) -> None:
    one = bytes([byte])
    for data in (
        one + GOOD,
        GOOD.replace(b"/chat", b"/ch" + one + b"at"),
        GOOD.replace(b" HTTP", one + b" HTTP"),
        GOOD.replace(b"1.1\r", b"1.1" + one + b"\r"),
        GOOD.replace(b"Cookie", one + b"Cookie"),
        GOOD.replace(b"Cookie", b"Coo" + one + b"kie"),
        GOOD.replace(b"Cookie:", b"Cookie" + one + b":"),
        GOOD.replace(b"a=b", b"a" + one + b"b"),
        GOOD.replace(b"a=b", b"a=b" + one),
    ):
        assert scanned_as(data, (), LIMITS) == reference(data, LIMITS)
        outcomes = {outcome(data), outcome(data, range(len(data)))}
        assert len(outcomes) == 1 and outcomes <= {"done", 400}


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n: a\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"x" * 8192,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101,
        b"GET / HTTP/1.1\r\nA: " + b"b" * 16384,
    ],
)
def test_cut_at_every_byte(data: bytes) -> None:
    whole = outcome(data)
    assert outcome(data, range(len(data))) == whole
    for cut in range(0, len(data), 1 + len(data) // 500):
        assert outcome(data, [cut]) == whole


def test_what_follows_the_head_is_left_alone() -> None:
    request = RequestHead()
    assert request.feed(GOOD + b"\x00\n\r\x7f") == "done"
    assert request.scanned == len(GOOD)


# Limits, to the byte


def test_max_request_line() -> None:
    line = b"GET /" + b"x" * 30 + b" HTTP/1.1"
    data = line + b"\r\nHost: a\r\n\r\n"
    assert outcome(data, limits=(16384, len(line), 100)) == "done"
    assert outcome(data, limits=(16384, len(line) - 1, 100)) == 414
    assert outcome(line, limits=(16384, len(line), 100)) == "more"
    assert outcome(line, limits=(16384, len(line) - 1, 100)) == 414
    long_header = b"GET / HTTP/1.1\r\nA: " + b"x" * 50 + b"\r\n\r\n"
    assert outcome(long_header, limits=(16384, 14, 100)) == "done"


def test_max_header_size() -> None:
    size = len(GOOD)
    assert outcome(GOOD, limits=(size, 8192, 100)) == "done"
    assert outcome(GOOD + b"more", limits=(size, 8192, 100)) == "done"
    for missing in range(1, size):
        assert outcome(GOOD, limits=(size - missing, 8192, 100)) == 431
    assert outcome(GOOD[:-4], limits=(size - 4, 8192, 100)) == "more"


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100])
def test_max_headers(count: int) -> None:
    data = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * count + b"\r\n"
    assert outcome(data, limits=(16384, 8192, count)) == "done"
    if count:
        assert outcome(data, limits=(16384, 8192, count - 1)) == 431
    # Said as soon as the line that is too many has come.
    assert outcome(data[:-2] + b"A: b\r\n", limits=(16384, 8192, count)) == 431


def test_the_first_limit_that_is_met_counts() -> None:
    assert outcome(b"G" * 100, limits=(50, 40, 1)) == 414
    assert outcome(b"G" * 100, limits=(50, 50, 1)) == 431
    assert outcome(b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 3, limits=(24, 14, 1)) == 431


def test_the_work_is_linear() -> None:
    """One byte at a time costs a call each, not a look at what came before: twice the bytes, about twice the time."""

    def took(size: int) -> float:
        began = time.perf_counter()
        request = RequestHead(1 << 20, 8192, 100)
        request.scan(b"GET / HTTP/1.1\r\nA: ")
        for _ in range(size):
            request.scan(b"b")
        assert request.scanned == size + 19
        return time.perf_counter() - began

    small = min(took(20_000) for _ in range(5))
    large = min(took(160_000) for _ in range(5))
    assert large < 8 * 4 * small, f"{small:.4f} s for 20,000 bytes, {large:.4f} s for 160,000"


# What is parsed


def test_parsed() -> None:
    state, handshake = head(b"GET /a?b HTTP/1.1\r\nHost:  x \t\r\nX-Empty:\r\nx-a: \xe4\x85 b\r\nX-A:c\r\n\r\n")
    assert state == "done"
    assert (handshake.method, handshake.target, handshake.version) == (b"GET", b"/a?b", "1.1")
    assert handshake.headers == [(b"Host", b"x"), (b"X-Empty", b""), (b"x-a", b"\xe4\x85 b"), (b"X-A", b"c")]
    assert handshake.host == b"x"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / HTTP/1.1\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nH\xc3\xb6st: a\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / \r\n\r\n",
        b"GET / HTTP/1.1 x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/x.y\r\n\r\n",
        b"GET / HTTPS/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GOT / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
    ],
)
def test_malformed(data: bytes) -> None:
    assert outcome(data) == 400


@settings(max_examples=1000, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=100),
        HEADS,
        st.lists(st.tuples(st.sampled_from([b"Host", b"Upgrade", b"Connection", b"Content-Length", b"Origin",
                                            b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Transfer-Encoding"]),
                           st.binary(max_size=12)), max_size=8)
        .map(lambda lines: b"GET /%C3 HTTP/1.1\r\n" + b"".join(n + b": " + v + b"\r\n" for n, v in lines) + b"\r\n"),
    )
)  # fmt: skip
def test_never_an_exception(data: bytes) -> None:
    """Whatever comes is judged."""
    state, handshake = head(data)
    assert state in ("more", "done", 400, 414, 431)
    if state != "done":
        return
    for refusal in (
        handshake.refuse_request(None),
        handshake.refuse_request(["example.com"]),
        handshake.refuse_request(None) or handshake.refuse_upgrade(None),
        handshake.refuse_request(None) or handshake.refuse_upgrade(["http://example.com"]),
    ):
        assert refusal is None or (refusal[0] in (400, 403, 405, 426, 505) and refusal[1].isascii())
    if not handshake.refuse_request(None) and not handshake.refuse_upgrade(None):
        handshake.response(None)


TARGETS = st.one_of(
    st.binary(max_size=30),
    st.text(alphabet="/?#%:ab0*[]@ü", max_size=20).map(str.encode),
    st.text(alphabet="/?#%:ab0*[]@", max_size=20).map(lambda text: b"/" + text.encode()),
)


@settings(max_examples=1000, deadline=None)
@given(TARGETS)
def test_the_short_cut_for_targets(target: bytes) -> None:
    """What the scan lets through is split as http.split_target splits it."""
    if re.search(rb"[\x00-\x20\x7f]", target):
        return
    try:
        expected = split_target(target)
    except ValueError:
        with pytest.raises(ValueError):
            split_request_target(target)
    else:
        assert split_request_target(target) == expected


# The verdicts


def verdict(data: bytes, *, origins: Any = None, allowed_hosts: Any = None) -> Any:
    state, handshake = head(data)
    if state != "done":
        return state
    refusal = handshake.refuse_request(allowed_hosts) or handshake.refuse_upgrade(origins)
    return refusal and refusal[0]


def asked(*headers: tuple[str, str | bytes], without: tuple[str, ...] = (), **options: Any) -> Any:
    return verdict(request_bytes(headers=headers, without=without, **options))


def test_a_handshake() -> None:
    assert verdict(GOOD) is None
    assert asked() is None


def test_the_rfcs_own_example() -> None:
    """Section 1.3."""
    state, handshake = head(
        b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n"
        b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert state == "done"
    assert handshake.refuse_request(None) is None
    assert handshake.refuse_upgrade(None)[0] == 403  # it is cross-origin
    assert handshake.refuse_upgrade(["http://example.com"]) is None
    assert handshake.protocols == b"chat, superchat"
    assert handshake.response(Accept(subprotocol="chat")) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )


def test_the_response() -> None:
    _, handshake = head(GOOD)
    request = Request("GET", handshake.target, handshake.headers, path="/")
    plain = handshake.response(None)
    assert plain == handshake.response(Accept()) == handshake.response(request.accept())
    assert plain.endswith(b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
    accept = request.accept(headers={"X-A": "ä", "Set-Cookie": "a=b"})
    assert handshake.response(accept) == plain[:-2] + b"X-A: \xe4\r\nSet-Cookie: a=b\r\n\r\n"


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0"])
def test_other_http_versions(version: str) -> None:
    assert asked(version=version) == 505


@pytest.mark.parametrize(
    "version", ["HTTP/1.2", "HTTP/1", "HTTP/11", "http/1.1", "HTTP/1.1.1", "ICE/1.1", "RTSP/1.0", "RTSP/1.1"]
)
def test_no_http_version(version: str) -> None:
    assert asked(version=version) == 400


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "TRACE", "PATCH", "DELETE"])
def test_methods(method: str) -> None:
    assert asked(method=method) == 405


def test_the_allow_header_of_a_405() -> None:
    _, handshake = head(request_bytes(method="POST"))
    assert handshake.refuse_upgrade(None)[2] == (("Allow", "GET"),)


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("a", True), ("a.b-c.example", True), ("a_b", True), ("_dmarc.example", True), ("127.0.0.1", True),
        ("127.0.0.1:80", True), ("a:65535", True), ("[::1]", True), ("[::1]:8765", True), ("A.EXAMPLE:1", True),
        ("", False), (":80", False), ("a:", False), ("a:b", False), ("a:123456", False), ("a b", False),
        ("a,b", False), ("a/b", False), ("-a", False), (".a", False), ("[::1", False), ("::1", False),
        ("user@a", False), ("a:80:80", False), ("ä", False), ("a%20b", False),
    ],
)  # fmt: skip
def test_host(host: str, good: bool) -> None:
    assert asked(host=host) == (None if good else 400)


def test_hosts() -> None:
    assert asked(host=None) == 400
    assert asked(("host", "localhost")) == 400
    data = request_bytes(host="good.example")
    assert verdict(data, allowed_hosts=["good.example"]) is None
    assert verdict(data, allowed_hosts=["other.example"]) == 403
    assert verdict(data, allowed_hosts=[]) == 403


@pytest.mark.parametrize(
    "value",
    [
        "Upgrade",
        "upgrade",
        "UPGRADE",
        "keep-alive, Upgrade",
        "Upgrade,keep-alive",
        " \tUpgrade \t",
        ",,upgrade,",
        "a ,upgrade\t, b",
    ],
)
def test_connection(value: str) -> None:
    assert asked(("Connection", value), without=("connection",)) is None


@pytest.mark.parametrize(
    "value", ["", "close", "upgraded", "Upgrade-Insecure", '"Upgrade"', "keep-alive Upgrade", "up grade"]
)
def test_connection_without_upgrade(value: str) -> None:
    assert asked(("Connection", value), without=("connection",)) == 400


def test_no_connection() -> None:
    assert asked(without=("connection",)) == 400
    assert asked(("Connection", "keep-alive")) is None  # beside the one that says Upgrade
    assert asked(("Connection", "x"), ("Connection", "y, upgrade"), without=("connection",)) is None


@pytest.mark.parametrize(
    "value", ["websocket", "WebSocket", "WEBSOCKET", "h2c, websocket", "websocket,h2c", " websocket\t"]
)
def test_upgrade(value: str) -> None:
    assert asked(("Upgrade", value), without=("upgrade",)) is None


@pytest.mark.parametrize("value", ["", "h2c", "websockets", "web socket", "websocket/13", "websocket;q=1"])
def test_upgrade_to_something_else(value: str) -> None:
    _, handshake = head(request_bytes(headers=[("Upgrade", value)], without=("upgrade",)))
    assert handshake.refuse_upgrade(None)[::2] == (426, (("Upgrade", "websocket"),))
    assert asked(without=("upgrade",)) == 426


@pytest.mark.parametrize("value", ["13", " 13 ", "\t13"])
def test_version(value: str) -> None:
    assert asked(("Sec-WebSocket-Version", value), without=("sec-websocket-version",)) is None


@pytest.mark.parametrize("value", ["8", "0", "", "013", "13.0", "13, 8", "14", "+13", "\xb9\xb3"])
def test_other_versions(value: str) -> None:
    """Section 4.2.2: a 426 says which version would do."""
    _, handshake = head(request_bytes(headers=[("Sec-WebSocket-Version", value)], without=("sec-websocket-version",)))
    status, _, headers = handshake.refuse_upgrade(None)
    assert (status, dict(headers)["Sec-WebSocket-Version"]) == (426, "13")


def test_versions() -> None:
    assert asked(without=("sec-websocket-version",)) == 426
    assert asked(("Sec-WebSocket-Version", "13")) == 400


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_any_key_of_16_bytes(nonce: bytes) -> None:
    assert asked(key=base64.b64encode(nonce)) is None


@settings(deadline=None)
@given(st.binary(max_size=40).filter(lambda nonce: len(nonce) != 16))
def test_any_key_of_another_length(nonce: bytes) -> None:
    assert asked(key=base64.b64encode(nonce)) == 400


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 23), st.integers(0x21, 0xFF).filter(lambda byte: byte != 0x7F))
def test_a_key_with_one_character_changed(place: int, byte: int) -> None:
    key = KEY[:place] + bytes([byte]) + KEY[place + 1 :]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    good = byte in (alphabet if place < 22 else b"=")
    assert asked(key=key) == (None if good else 400)


def test_keys() -> None:
    assert asked(key=None) == 400
    assert asked(("Sec-WebSocket-Key", KEY)) == 400
    for key in (
        KEY[:-2],
        KEY + b"=",
        KEY[:-2] + b"\t=",
        KEY[:11] + b" " + KEY[12:],
        b"=" * 24,
        b"A" * 24,
        b"A" * 23 + b"=",
    ):
        assert asked(key=key) == 400


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("0", None),
        ("5", 400),
        ("00", 400),
        ("", 400),
        ("+0", 400),
        ("0x0", 400),
        ("0, 0", 400),
        ("0 0", 400),
        ("-0", 400),
    ],
)
def test_content_length(value: str, status: int | None) -> None:
    assert asked(("Content-Length", value)) == status


def test_bodies() -> None:
    assert asked(("Transfer-Encoding", "chunked")) == 400
    assert asked(("Transfer-Encoding", "identity")) == 400
    assert asked(("Content-Length", "0"), ("Content-Length", "0")) == 400


def test_origins() -> None:
    good, other, null = (
        request_bytes(headers=[("Origin", one)]) for one in ("http://localhost", "http://other", "null")
    )
    assert [verdict(one) for one in (good, other, null)] == [None, 403, 403]
    assert [verdict(one, origins=["http://other"]) for one in (good, other, null)] == [403, None, 403]
    assert [verdict(one, origins=["*"]) for one in (good, other, null)] == [None, None, None]
    assert verdict(good, origins=[]) == 403
    assert asked(("Origin", "http://localhost"), ("Origin", "http://localhost")) == 403
    assert verdict(request_bytes(), origins=[]) is None  # no browser


def test_subprotocols_of_several_headers() -> None:
    _, handshake = head(request_bytes(headers=[("Sec-WebSocket-Protocol", "a, b"), ("sec-websocket-protocol", "c")]))
    assert handshake.protocols == b"a, b,c"


def test_the_order_of_the_verdicts() -> None:
    """What is wrong with any request comes before what is wrong with a handshake; the first thing is told."""
    assert verdict(request_bytes(version="HTTP/1.0", host=None, key=None)) == 505
    assert verdict(request_bytes(host=None, method="POST")) == 400
    assert verdict(request_bytes(method="POST", key=None)) == 405
    assert verdict(request_bytes(key=None, without=("upgrade", "connection"))) == 426


@settings(deadline=None)
@given(st.sampled_from(["X-Forwarded-For", "Cookie", "Accept"]), st.text(alphabet="abc;=, \t\xe9", max_size=30))
def test_other_headers_do_not_matter(name: str, value: str) -> None:
    assert asked((name, value.encode("latin-1"))) is None
