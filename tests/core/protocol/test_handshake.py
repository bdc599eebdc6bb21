"""The opening handshake without a socket (RFC 6455 section 4.2): the verdicts."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from harness import KEY, request_bytes
from harness.heads import GOOD, head
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws.http import Accept, Request


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


@pytest.mark.parametrize(
    "value", ["chat v2", "chat\tv2", "a, b c", '"chat"', "a;b", "a,b/c,d", "ch\xe4t", "\xa0a", "a\x85"]
)
def test_subprotocols_that_are_no_tokens(value: str) -> None:
    """RFC 6455 sections 4.2.1 and 11.3.4; an application may answer with any that it is shown."""
    assert asked(("Sec-WebSocket-Protocol", value)) == 400
    assert asked(("Sec-WebSocket-Protocol", "chat"), ("Sec-WebSocket-Protocol", value)) == 400


@pytest.mark.parametrize(
    "value", ["a", "a,b", " a \t,\tb ", "", ",", "a,,b,", "!#$%&'*+-.^_`|~09AZaz", "v1.chat.example"]
)
def test_subprotocols_that_are_tokens(value: str) -> None:
    assert asked(("Sec-WebSocket-Protocol", value)) is None


def plain(line: bytes, *headers: bytes, allowed_hosts: Any = None) -> Any:
    """The verdict on a request that is no upgrade."""
    state, handshake = head(b"\r\n".join([line, *headers, b"", b""]))
    refusal = handshake.refuse_request(allowed_hosts) if state == "done" else (state,)
    return refusal and refusal[0]


def test_plain_requests_of_http_1_0() -> None:
    """RFC 9112 section 3.2 asks for a Host since 1.1; one that is there is judged all the same."""
    assert plain(b"GET / HTTP/1.0") is None
    assert plain(b"GET / HTTP/1.1") == 400
    assert plain(b"GET / HTTP/1.0", b"Host: a") is None
    assert plain(b"GET / HTTP/1.0", b"Host: a", b"Host: a") == 400
    assert plain(b"GET / HTTP/1.0", b"Host: a b") == 400
    assert plain(b"GET / HTTP/1.0", b"Host:") == 400
    assert plain(b"GET http://a/ HTTP/1.0") is None
    assert plain(b"GET a HTTP/1.0") == 400
    assert plain(b"GET / HTTP/0.9") == plain(b"GET / HTTP/2.0", b"Host: a") == 505


def test_allowed_hosts_need_a_host() -> None:
    assert plain(b"GET / HTTP/1.0", allowed_hosts=["a"]) == 403
    assert plain(b"GET / HTTP/1.0", b"Host: b", allowed_hosts=["a"]) == 403
    assert plain(b"GET / HTTP/1.0", b"Host: a", allowed_hosts=["a"]) is None
    assert plain(b"GET http://a/ HTTP/1.0", allowed_hosts=["a"]) is None
    assert plain(b"OPTIONS * HTTP/1.0", allowed_hosts=["a"]) == 403
    assert plain(b"GET / HTTP/1.0", allowed_hosts=["*"]) is None


def test_the_asterisk_is_for_options() -> None:
    """RFC 9112 section 3.2.4."""
    assert plain(b"OPTIONS * HTTP/1.1", b"Host: a") is None
    assert plain(b"OPTIONS * HTTP/1.0") is None
    assert plain(b"GET * HTTP/1.1", b"Host: a") == 400
    assert plain(b"OPTIONS ** HTTP/1.1", b"Host: a") == 400


def test_the_order_of_the_verdicts() -> None:
    """What is wrong with any request comes before what is wrong with a handshake; the first thing is told."""
    assert verdict(request_bytes(version="HTTP/2.0", host=None, key=None)) == 505
    assert verdict(request_bytes(version="HTTP/1.0", host=None, key=None)) == 505
    assert verdict(request_bytes(version="HTTP/1.0", host="a b")) == 400
    assert verdict(request_bytes(host=None, method="POST")) == 400
    assert verdict(request_bytes(method="POST", key=None)) == 405
    assert verdict(request_bytes(key=None, without=("upgrade", "connection"))) == 426


@settings(deadline=None)
@given(st.sampled_from(["X-Forwarded-For", "Cookie", "Accept"]), st.text(alphabet="abc;=, \t\xe9", max_size=30))
def test_other_headers_do_not_matter(name: str, value: str) -> None:
    assert asked((name, value.encode("latin-1"))) is None
