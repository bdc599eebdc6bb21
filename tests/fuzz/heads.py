"""Opening handshakes: the head of a request, as it comes, or put together from words.

An input is: which options (two bytes), the sizes of the pieces (four), raw or words (one), and the head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import KEY, request_bytes
from oracles import request_head as oracle_head
from oracles.corpus import one_by_one

from fastws.http import Request, error_response

from .source import Source, cut, same

LIMITS = [(16384, 8192, 100), (200, 100, 8), (60, 16, 2), (300, 60, 5)]
ORIGINS = [None, ["http://localhost", "https://good.example"], ["null"], ["*"], []]
HOSTS = [None, ["localhost", "*.example.com", "good.example:81"], ["*"]]
RAW, WORDS = 0, 1
SHORT = 150
#: What each word stands for, from byte 0x80 on.
WORD_LIST = [
    b"\r\n", b"\r\n\r\n", b": ", b", ", b"GET / HTTP/1.1\r\n", b" HTTP/1.1\r\n", b"HTTP/1.0", b"HTTP/2.0", b"POST ",
    b"OPTIONS * ", b"HEAD ", b"Host: localhost\r\n", b"Host: ", b"localhost", b"good.example", b".example.com", b":81",
    b"[::1]", b"Upgrade: ", b"websocket", b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n", b"Connection: ",
    b"keep-alive", b"upgrade", b"close", b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Version: ",
    b"Sec-WebSocket-Key: " + KEY + b"\r\n", b"Sec-WebSocket-Key: ", KEY, b"==", b"Sec-WebSocket-Protocol: ", b"chat",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", b"Origin: ", b"http://", b"https://",
    b"http://localhost", b"null", b"Content-Length: ", b"0", b"18446744073709551616", b"Transfer-Encoding: ",
    b"chunked", b"identity", b"Cookie: ", b'a="\\101\\"b"; c=d', b"%00", b"%c3%bc", b"%", b"?a=b&c", b"ws://a", b"#",
    b"X: y\r\n", b"Upgrade-Insecure-Requests: 1\r\n", b"RTSP/1.0", b"SOURCE ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"Expect: 100-continue\r\n", b"Proxy-Connection: ", b"\xff", b"\x85", b"x" * 60, b"%2f",
]  # fmt: skip
#: A refusal consists of what stands there, so nothing of the request can be in it.
REFUSALS = (Path(__file__).resolve().parents[2] / "fastws" / "core" / "protocol" / "handshake.pyx").read_text()


def head_of(source: Source) -> bytes:
    if source.byte() & 1 == RAW:
        return source.rest()
    return b"".join(
        WORD_LIST[(byte & 0x7F) % len(WORD_LIST)] if byte & 0x80 else bytes([byte]) for byte in source.rest()
    )


def encode(head: bytes, options: bytes = bytes(2), sizes: bytes = bytes(4)) -> bytes:
    """The input that sends this head."""
    return options + sizes + bytes([RAW]) + head


def seeds() -> list[bytes]:
    browser = [("Origin", "http://localhost"), ("Sec-WebSocket-Protocol", "chat, b"), ("Cookie", 'a=b; c="d"')]
    good = request_bytes("/%C3%BC?x=1", headers=browser)
    heads = [
        good,
        request_bytes("ws://a/b", method="POST", host="[::1]:81"),
        request_bytes("http://localhost:81/b", headers=[("Origin", "http://localhost:81")]),
        request_bytes("http://a@b/"),
        request_bytes("/a%2Fb/%252f"),
        request_bytes("/%zz", headers=[("Origin", "null")]),
        request_bytes("/", headers=[("Content-Length", "5")]),
        request_bytes("*", version="HTTP/1.0"),
        request_bytes("/\x7f"),
        request_bytes("/", headers=[("Content-Length", "0"), ("Connection", "keep-alive")], without=("upgrade",)),
        request_bytes("/", host="a b", key=b"x"),
        request_bytes("/", key=b"x"),
        request_bytes("/", headers=[("Sec-WebSocket-Version", "8")], without=("sec-websocket-version",)),
        request_bytes("/", headers=[("Connection", "close")], without=("connection",)),
        good[:-2],
        good.replace(b"\r\n", b"\n"),
    ]
    limited = [encode(good, bytes([limits, rules]), b"\3\0\0\0") for limits in range(4) for rules in (0, 1, 7)]
    words = bytes([0x84, 0x80 | 11, 0x80 | 20, 0x80 | 21, 0x80 | 26, 0x80 | 28, 0x80])
    return [*map(encode, heads), *limited, bytes(6) + bytes([WORDS]) + words]


def check_head(core: Any, data: bytes) -> list[Any]:
    """Fails where the outcome depends on the cuts, is not that of the reference, or answers with bytes of the request.
    Returns what was seen."""
    source = Source(data)
    limits = source.choose(LIMITS)
    rules = source.byte()
    origins, hosts = ORIGINS[rules % len(ORIGINS)], HOSTS[rules // len(ORIGINS) % len(HOSTS)]
    sizes = source.take(4)
    stream = head_of(source)
    pieces = list(cut(stream, sizes))

    whole = outcome(core, limits, [stream])
    same(outcome(core, limits, pieces), whole, "not what it is in one piece")
    if len(stream) <= SHORT:
        same(outcome(core, limits, one_by_one(stream)), whole, "not the same byte by byte")

    state, size, parsed = whole
    end, answer = oracle_head.scan(stream, *limits)
    if not end:
        same(state, answer, "not what the reference says")
        return [state]
    head = oracle_head.parse(stream[:end])
    if state == 400:
        assert head is None or oracle_head.may_be_refused(head), "refused, and the reference finds nothing wrong"
        return [(state, head is None)]
    same((state, size), ("done", end), "not what the reference says")
    assert head is not None, "the reference finds it malformed"
    same(parsed, (head.method, head.target, head.version, head.headers), "read otherwise by the reference")
    return [*target_seen(core, head.target), *judged(core, stream, head, hosts, origins)]


def outcome(core: Any, limits: tuple[int, int, int], pieces: list[bytes]) -> tuple[Any, ...]:
    """(state, size of the head, what was read); nothing is fed once there is an outcome."""
    request = core.RequestHead(*limits)
    state = "more"
    for piece in pieces:
        state = request.feed(piece)
        if state != "more":
            break
    if state != "done":
        return state, 0, ()
    h = request.handshake
    return state, request.scanned, (h.method, h.target, h.version, h.headers)


def target_seen(core: Any, target: bytes) -> list[Any]:
    expected = oracle_head.split_target(target)
    try:
        found = core.split_request_target(target)
    except ValueError as error:
        assert expected is None, f"refused, but the reference says {expected}"
        return [str(error)]
    same(found, expected, "split otherwise by the reference")
    return [("target", "%" in str(target), bool(found[1]))]


def judged(core: Any, stream: bytes, head: Any, hosts: Any, origins: Any) -> list[Any]:
    request = core.RequestHead()
    request.feed(stream)
    handshake = request.handshake
    expected = oracle_head.verdict(head, hosts, origins)
    refusal = handshake.refuse_request(hosts) or handshake.refuse_upgrade(origins)
    if refusal is not None:
        status, text, headers = refusal
        assert status == expected, f"the reference says {expected}, not {refusal}"
        assert f'"{text}"' in REFUSALS
        assert all(f'("{name}", "{value}")' in REFUSALS for name, value in headers)
        assert error_response(*refusal).encode().startswith(b"HTTP/1.1 %d " % status)
        return [text]
    assert expected is None, f"accepted, but the reference says {expected}"
    return ["accepted", *answered(handshake, head)]


def answered(handshake: Any, head: Any) -> list[Any]:
    """The 101 and the request that the application gets."""
    key = head.one(b"sec-websocket-key")
    same(handshake.response(None), oracle_head.switching(key, None), "not the 101")
    request = Request("GET", handshake.target, handshake.headers, path="/")
    same(request.host, handshake.host.decode("latin-1"), "not the host that was checked")
    same(request.headers.raw, head.headers, "read otherwise by the reference")
    seen = len(request.cookies), len(request.query_params), request.origin is None, len(dict(request.headers))
    for offer in request.subprotocols[:2]:
        accept = request.accept(subprotocol=offer, headers={"X-A": "b"})
        same(handshake.response(accept), oracle_head.switching(key, offer.encode(), [(b"X-A", b"b")]), "not the 101")
    return [tuple(min(number, 3) for number in seen), ("offers", min(len(request.subprotocols), 3))]
