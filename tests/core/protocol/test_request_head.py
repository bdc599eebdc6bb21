"""A request head without a socket: the rules of its scan, its limits, and what is parsed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

import pytest
from harness.heads import GOOD, LIMITS, head
from hypothesis import example, given
from hypothesis import strategies as st

from core.protocol._protocol import RequestHead, split_request_target
from fastws.http import split_target

from .test_protocol_property import examples


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


@examples(1500)
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
        began = time.thread_time()
        request = RequestHead(1 << 20, 8192, 100)
        request.scan(b"GET / HTTP/1.1\r\nA: ")
        for _ in range(size):
            request.scan(b"b")
        assert request.scanned == size + 19
        return time.thread_time() - began

    small = min(took(20_000) for _ in range(5))
    large = min(took(160_000) for _ in range(5))
    assert large < 8 * 4 * small, f"{small:.4f} s for 20,000 bytes, {large:.4f} s for 160,000"


# What is parsed


def test_parsed() -> None:
    state, handshake = head(b"GET /a?b HTTP/1.1\r\nHost:  x \t\r\nX-Empty:\r\nx-a: \xe4\x85 b\r\nX-A:c\r\n\r\n")
    assert state == "done"
    assert (handshake.method, handshake.target, handshake.version) == (b"GET", b"/a?b", b"1.1")
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


@examples(1000)
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


@examples(1000)
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
