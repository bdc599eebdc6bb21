"""Requests, responses and their headers, as objects."""

import http.client
import http.cookies
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.http import (
    Accept,
    Headers,
    Request,
    Response,
    error_response,
    split_target,
)

CONTROLS = [chr(code) for code in range(32) if code != 9] + ["\x7f"]


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/", "good.example"),
        (b"//evil.example/", "good.example"),
        (b"/http://evil.example/", "good.example"),
        (b"http://other.example", "other.example"),
        (b"WSS://Other.example:8765?x", "Other.example:8765"),
        (b"http://[::1]:80/x", "[::1]:80"),
    ],
)
def test_the_host_of_the_target_comes_first(target: bytes, host: str) -> None:
    """RFC 9112 section 3.2.2."""
    assert request((b"Host", b"good.example"), target=target).host == host


def request(*headers: tuple[bytes, bytes], target: bytes = b"/", **options: Any) -> Request:
    path, query, _ = split_target(target)
    return Request("GET", target, list(headers), path=path, query_string=query, **options)


def parse(encoded: bytes, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    """Read an answer with the standard library's client."""

    class Socket:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(encoded)

    response = http.client.HTTPResponse(Socket(), method=method)  # type: ignore[arg-type]
    response.begin()
    return response, response.read()


# Headers


def test_headers_by_name() -> None:
    headers = Headers([(b"Host", b"example.com"), (b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"caf\xe9")])
    assert headers["host"] == headers["HOST"] == "example.com"
    assert headers["X-a"] == "1, 2"
    assert headers.get_all("x-A") == ["1", "2"]
    assert headers.get_all("no") == []
    assert headers["x-b"] == "café"
    assert "x-B" in headers
    assert "no" not in headers
    assert 5 not in headers  # type: ignore[comparison-overlap]
    assert headers.get("no") is None
    assert list(headers) == ["host", "x-a", "x-b"]
    assert len(headers) == 3
    assert headers.raw[1:3] == [(b"X-A", b"1"), (b"x-a", b"2")]
    assert "X-A" in repr(headers)
    with pytest.raises(KeyError):
        headers["no"]


def test_a_list_that_get_all_gave_is_the_callers_own() -> None:
    headers = Headers([(b"A", b"1")])
    headers.get_all("a").append("2")
    assert headers["a"] == "1"


# Request


def test_request_attributes() -> None:
    r = request(
        (b"Host", b"example.com:8765"),
        (b"Origin", b"http://example.com"),
        target=b"/a%20b?x=1&y=%20&x=2&z",
        path_params={"k": "v"},
        remote_address=("127.0.0.1", 5),
        local_address="/run/socket",
    )
    assert (r.method, r.path, r.query_string, r.target) == ("GET", "/a b", "x=1&y=%20&x=2&z", "/a%20b?x=1&y=%20&x=2&z")
    assert r.query_params == {"x": "2", "y": " ", "z": ""}
    assert r.path_params == {"k": "v"}
    assert (r.remote_address, r.local_address) == (("127.0.0.1", 5), "/run/socket")
    assert (r.host, r.origin) == ("example.com:8765", "http://example.com")
    assert repr(r) == "<Request GET '/a b'>"


def test_request_without_anything() -> None:
    r = request()
    assert (r.host, r.origin, r.subprotocols, dict(r.cookies), r.query_params) == ("", None, [], {}, {})
    assert dict(r.path_params) == {}
    with pytest.raises(TypeError):
        r.path_params["x"] = "y"  # type: ignore[index]


def test_subprotocols_keep_the_clients_order() -> None:
    r = request((b"Sec-WebSocket-Protocol", b"b, a ,,"), (b"sec-websocket-protocol", b"c"))
    assert r.subprotocols == ["b", "a", "c"]


# Cookies


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        (b"a=1; b=2", {"a": "1", "b": "2"}),
        (b"a=1;b=2 ;  c=x=y", {"a": "1", "b": "2", "c": "x=y"}),
        (b'a="quoted \\"text\\" \\073 end"', {"a": 'quoted "text" ; end'}),
        (b'a="', {"a": '"'}),
        (b"a=", {"a": ""}),
        (b"junk; =x; b[]=1; c d=2; good=yes", {"good": "yes"}),
        (b'bad"name=1; \xff=2; ok={"json":1}', {"ok": '{"json":1}'}),
        (b"__class__=1; a=1; a=2", {"__class__": "1", "a": "2"}),
        (b";;;", {}),
        (b"", {}),
    ],
)
def test_cookies(header: bytes, cookies: dict[str, str]) -> None:
    assert request((b"Cookie", header)).cookies == cookies


def test_cookies_of_two_headers() -> None:
    assert request((b"Cookie", b"a=1"), (b"cookie", b"b=2")).cookies == {"a": "1", "b": "2"}


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(st.characters(max_codepoint=255))))
def test_cookies_that_the_standard_library_wrote(values: dict[str, str]) -> None:
    values = {name: value for name, value in values.items() if name not in http.cookies.Morsel._reserved}  # type: ignore[attr-defined]
    written = []
    for name, value in values.items():
        try:
            jar = http.cookies.SimpleCookie()
            jar[name] = value
            written.append(jar[name].OutputString())
        except http.cookies.CookieError:  # newer versions refuse control characters
            written.append(f"{name}=refused")
            values[name] = "refused"
    assert request((b"Cookie", "; ".join(written).encode("latin-1"))).cookies == values


@given(st.binary())
def test_cookies_never_raise(header: bytes) -> None:
    assert all(name for name in request((b"Cookie", header)).cookies)


# accept and reject


def test_accept() -> None:
    r = request((b"Sec-WebSocket-Protocol", b"chat.v1, chat.v2"))
    data = object()
    accept = r.accept(subprotocol="chat.v2", data=data, headers={"Set-Cookie": "a=1"})
    assert accept == Accept("chat.v2", data, ((b"Set-Cookie", b"a=1"),))
    assert r.accept() == Accept(None, None, ())
    assert r.accept(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=\xe9\t2")]).headers == (
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=\xe9\t2"),
    )
    with pytest.raises(AttributeError):
        accept.data = 1  # type: ignore[misc]


def test_h19_a_subprotocol_that_was_not_offered() -> None:
    for offers in [], [(b"Sec-WebSocket-Protocol", b"chat.v1")]:
        with pytest.raises(ValueError, match=r"'chat\.v2' is not among the client's offers"):
            request(*offers).accept(subprotocol="chat.v2")


@pytest.mark.parametrize("control", CONTROLS)
def test_h18_control_characters(control: str) -> None:
    bad = f"a{control}b"
    offers = request((b"Sec-WebSocket-Protocol", bad.encode()))
    for call in (
        lambda: request().accept(headers=[("X-A", bad)]),
        lambda: request().accept(headers={bad: "x"}),
        lambda: offers.accept(subprotocol=bad),
        lambda: request().reject(403, headers={"X-A": bad}),
        lambda: request().reject(403, headers={bad: "x"}),
        lambda: request().reject(403, reason=bad),
        lambda: Response(200, headers={"X-A": bad}),
        lambda: Response(200, content_type=bad),
        lambda: error_response(400, "text", [("X-A", bad)]),
    ):
        with pytest.raises(ValueError, match=r"remove it|leave out") as caught:
            call()
        assert repr(bad) in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:", " a", "é", "a\n", "(a)", "名"])
def test_header_names_are_tokens(name: str) -> None:
    with pytest.raises(ValueError, match="not a token"):
        request().accept(headers={name: "x"})


def test_values_are_latin_1() -> None:
    with pytest.raises(ValueError, match="latin-1"):
        request().reject(headers={"X-A": "名"})
    with pytest.raises(ValueError, match="latin-1"):
        request().reject(reason="名")


@pytest.mark.parametrize(
    "name",
    [
        "Upgrade",
        "CONNECTION",
        "Sec-WebSocket-Accept",
        "sec-websocket-protocol",
        "Sec-WebSocket-Extensions",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
def test_headers_of_the_server(name: str) -> None:
    for call in request().accept, request().reject:
        with pytest.raises(ValueError, match=f"{name}.* is set by the server itself"):
            call(headers=[(name, "x")])
    assert request().accept(headers={f"{name}-X": "x"}).headers


# Response


def test_encode() -> None:
    encoded = Response(200, "grüße", headers={"X-A": "1"}).encode()
    assert encoded == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 7\r\nConnection: close\r\n"
        b"X-A: 1\r\n\r\ngr\xc3\xbc\xc3\x9fe"
    )
    response, body = parse(encoded)
    assert (response.status, response.reason, body.decode()) == (200, "OK", "grüße")


def test_encode_for_head() -> None:
    response = Response(200, b"12345")
    assert response.encode() == response.encode(head_only=True) + b"12345"
    parsed, body = parse(response.encode(head_only=True), "HEAD")
    assert parsed.headers["Content-Length"] == "5"
    assert body == b""


def test_content_type() -> None:
    assert b"Content-Type" not in Response(200).encode()
    assert b"Content-Type" not in Response(200, b"x", content_type=None).encode()
    assert b"Content-Type: text/html\r\n" in Response(200, content_type="text/html").encode()
    encoded = Response(200, b"x", headers={"content-type": "image/png"}).encode()
    assert encoded.lower().count(b"content-type") == 1


@pytest.mark.parametrize("body", [b"x", bytearray(b"x"), memoryview(b"x"), "x"])
def test_body(body: Any) -> None:
    assert Response(200, body).body == b"x"


@pytest.mark.parametrize("status", [100, 101, 199, 0, -1, 600, 1000])
def test_status_that_ends_no_request(status: int) -> None:
    with pytest.raises(ValueError, match=str(status)):
        Response(status)
    with pytest.raises(ValueError, match=str(status)):
        request().reject(status)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ok",), "status is an int from 200 to 599, got 'ok': write Response(200, 'ok')"),
        (("200",), "status is an int from 200 to 599, got '200': write Response(200)"),
        (("\u0662\u0660\u0660",), "got '\u0662\u0660\u0660': write Response(200, '\u0662\u0660\u0660')"),
        ((b"ok",), "got b'ok': write Response(200, b'ok')"),
        (({"a": 1},), "got {'a': 1}: write Response.json({'a': 1})"),
        (("404", "no"), "got '404': write Response(404, body)"),
        ((404, {"a": 1}), "got {'a': 1}: write Response.json({'a': 1}, 404)"),
        ((None,), "got None: write Response(status, body)"),
        ((True,), "got True: write Response(status, body)"),
        ((200.0,), "got 200.0: write Response(status, body)"),
        (("ok", 200), "got 'ok': write Response(200, 'ok')"),
        ((200, {"a": 1}), "body is str or bytes-like, got {'a': 1}: write Response.json({'a': 1})"),
        ((200, [1]), "body is str or bytes-like, got [1]: write Response.json([1])"),
        ((404, 5), "body is str or bytes-like, got 5: write Response(404, str(...))"),
        ((200, None), "body is str or bytes-like, got None: write Response(200, str(...))"),
        ((200, "x" * 500, 5), "positional"),
    ],
)
def test_arguments_of_wrong_types(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        Response(*arguments)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("arguments", "write"),
    [
        ((404, {"a": 1}), r"{'a': 1}, 404"),
        (({"a": 1}, {"X": "1"}), "data, 404"),
        ((1, None), "data, 404"),
        ((1, True), "data, 404"),
    ],
)
def test_a_status_of_json_that_is_none(arguments: tuple[Any, ...], write: str) -> None:
    with pytest.raises(TypeError) as caught:
        Response.json(*arguments)
    assert f"got {arguments[1]!r}: write Response.json({write}), say" in str(caught.value)


def test_what_reject_says_of_its_arguments() -> None:
    with pytest.raises(TypeError, match=r"got 'no': write request\.reject\(403, 'no'\)"):
        request().reject("no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"body is str or bytes-like, got \{\}: write Response\.json\(\{\}, 403\)"):
        request().reject(403, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers",
    ["X-A: 1", b"X-A: 1", 5, None, ["X-A: 1"], ["ab"], [("X-A",)], [("X-A", "1", "2")], [5], [None]],
)
def test_headers_of_wrong_types(headers: Any) -> None:
    for call in (Response, request().accept, request().reject, lambda headers: Response.json(1, headers=headers)):
        with pytest.raises(TypeError) as caught:
            call(headers=headers)
        assert f"headers are a mapping, or (name, value) pairs, got {headers!r}" in str(caught.value)


@pytest.mark.parametrize("value", [5, None, b"1", ["a", "b"]])
def test_a_header_of_a_wrong_type(value: Any) -> None:
    for headers in ({"X-A": value}, [("X-A", value)]):
        with pytest.raises(TypeError) as caught:
            request().accept(headers=headers)
        assert str(caught.value) == f"value of header 'X-A' is a str, got {value!r}: give a str"
    with pytest.raises(TypeError, match="the name of a header is a str, got "):
        request().accept(headers=[(value, "x")])
    for name in ("content_type", "reason") if value is not None else ():
        with pytest.raises(TypeError, match="is a str, got "):
            Response(200, **{name: value})


def test_headers_of_any_kind_of_pairs() -> None:
    pairs = ((name, "1") for name in ("A", "B"))
    assert Response(headers=pairs).headers == ((b"A", b"1"), (b"B", b"1"))
    assert Response(headers=[["A", "1"]]).headers == ((b"A", b"1"),)  # type: ignore[list-item]


@pytest.mark.parametrize("subprotocol", [b"chat", 5, ["chat"]])
def test_a_subprotocol_of_a_wrong_type(subprotocol: Any) -> None:
    with pytest.raises(TypeError, match=r"subprotocol is a str, got .*: choose one of request\.subprotocols"):
        request((b"Sec-WebSocket-Protocol", b"chat")).accept(subprotocol=subprotocol)


# Response.json


def test_json() -> None:
    response = Response.json({"a": [1, None, "gr\u00fc\u00dfe"]}, 201, headers={"X-A": "1"})
    parsed, body = parse(response.encode())
    assert (parsed.status, parsed.headers["Content-Type"], parsed.headers["X-A"]) == (201, "application/json", "1")
    assert body == b'{"a":[1,null,"gr\xc3\xbc\xc3\x9fe"]}'
    assert Response.json(None).body == b"null"
    assert Response.json("").status == 200

    class Mine(Response):
        pass

    assert type(Mine.json(1)) is Mine


def circle() -> list[Any]:
    one: list[Any] = []
    one.append(one)
    return one


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        ({1, 2}, TypeError, "set is not JSON serializable"),
        (object(), TypeError, "object is not JSON serializable"),
        ({(1,): 2}, TypeError, "keys must be str"),
        (float("nan"), ValueError, "not JSON compliant"),
        (float("inf"), ValueError, "not JSON compliant"),
        ("\ud800", ValueError, "surrogates not allowed"),
        (circle(), ValueError, "Circular reference"),
    ],
)
def test_what_is_no_json(data: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        Response.json(data)
    assert type(caught.value) is kind
    assert str(caught.value).startswith("Response.json(data): data is no JSON: ")


def test_json_with_its_arguments_the_other_way_round() -> None:
    with pytest.raises(TypeError, match=r"Response\.json\(data, status\): status is an int .*, got {'a': 1}"):
        Response.json(200, {"a": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="100"):
        Response.json(1, 100)


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body(status: int) -> None:
    encoded = Response(status).encode()
    assert b"Content-Length" not in encoded
    assert encoded.endswith(b"\r\n\r\n")
    with pytest.raises(ValueError, match="no body"):
        Response(status, b"x")


def test_reason() -> None:
    assert Response(404).encode().startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert Response(404, reason="Gone fishing").encode().startswith(b"HTTP/1.1 404 Gone fishing\r\n")
    assert Response(599).encode().startswith(b"HTTP/1.1 599 \r\n")  # the space stays: RFC 9112 4
    assert repr(Response(404, b"x")) == "<Response 404 Not Found, 1 bytes>"


def test_no_server_and_no_date() -> None:
    assert not {"server", "date"} & {name.lower() for name in parse(Response().encode())[0].headers}


def test_reject() -> None:
    response = request().reject(401, "who?", headers=[("WWW-Authenticate", "Basic")])
    parsed, body = parse(response.encode())
    assert (parsed.status, parsed.headers["WWW-Authenticate"], body) == (401, "Basic", b"who?")
    assert request().reject().status == 403


def test_error_response() -> None:
    assert error_response(400, "malformed header").encode() == (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\n"
        b"Connection: close\r\n\r\nmalformed header\n"
    )


def test_error_response_may_name_the_upgrade() -> None:
    """RFC 9110 15.5.22: a 426 must send Upgrade, and 7.8: so Connection must name it."""
    encoded = error_response(426, "x", [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]).encode()
    response, _ = parse(encoded)
    assert response.headers["Connection"] == "close, Upgrade"
    assert response.headers["Upgrade"] == "websocket"
    assert response.headers["Sec-WebSocket-Version"] == "13"
