"""What a request is checked for: its target, its origin, its host."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastws
from fastws.http import (
    host_allowed,
    host_mistake,
    is_host,
    normalize_origin,
    origin_allowed,
    origin_mistake,
    split_target,
)

# The request target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/chat/room?x=%20y?z", "/chat/room", "x=%20y?z"),
        (b"/caf%C3%A9/a%2Fb%20c", "/café/a/b c", ""),
        (b"/caf\xc3\xa9", "/café", ""),
        (b"//x/y", "//x/y", ""),
        (b"/?", "/", ""),
        (b"http://example.com/a?b", "/a", "b"),
        (b"HTTPS://example.com:443", "/", ""),
        (b"ws://example.com?x", "/", "x"),
        (b"/http://x", "/http://x", ""),
    ],
)
def test_split_target(target: bytes, path: str, query: str) -> None:
    assert split_target(target)[:2] == (path, query)


@pytest.mark.parametrize(
    ("target", "path", "routed"),
    [
        (b"/a/b%20c", "/a/b c", "/a/b c"),
        (b"/a%2Fb%2fc/d", "/a/b/c/d", "/a\0b\0c/d"),
        (b"/%2F", "//", "/\0"),
        (b"/a%252Fb%25", "/a%2Fb%", "/a%2Fb%"),
        (b"/%C3%A9%2F\xc3\xa9", "/\xe9/\xe9", "/\xe9\0\xe9"),
        (b"/?%2F", "/", "/"),
        (b"http://a%2Fb", None, None),
        (b"http://a?%2F", "/", "/"),
        (b"http://a/%2F", "//", "/\0"),
    ],
)
def test_escaped_slashes_separate_nothing(target: bytes, path: str | None, routed: str | None) -> None:
    if path is None:
        with pytest.raises(ValueError):
            split_target(target)
    else:
        assert split_target(target)[::2] == (path, routed)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"example.com:443",
        b"ftp://example.com/",
        b"http:///path",
        b"http:/path",
        b"http://",
        b"http://?x",
        b"http://a@b/",
        b"http://a:b@c/",
        b"http://a:/",
        b"http://a:x/",
        b"http://a:123456/",
        b"http://[::1/",
        b"http://a,b/",
        b"http://%61/",
        b"http://a\xe9/",
        b"http://a\\b/",
        b"chat",
        b"?x",
        b"/%00",
        b"/%2F%00",
        b"/%C3%2F%A9",
        b"/%ff",
        b"/\xff",
        b"/?\xff",
        b"/%",
        b"/%2",
        b"/%zz",
        b"/a b",
        b"/a\x00",
        b"/a\tb",
        b"/a\x7f",
        b"/a#b",
    ],
)
def test_split_target_refuses(target: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        split_target(target)
    assert not isinstance(caught.value, UnicodeError)  # which would hold the bytes of the request


@given(st.binary(max_size=40).map(lambda tail: b"/" + tail))
def test_split_target_decodes_or_refuses(target: bytes) -> None:
    try:
        path, query, routed = split_target(target)
    except ValueError:
        return
    assert path.startswith("/")
    assert "\x00" not in path + query
    assert path == routed.replace("\x00", "/")


# Origins and hosts


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("http://example.com", "example.com:80"),
        ("http://example.com:80", "example.com"),
        ("https://example.com", "example.com"),
        ("https://example.com", "example.com:443"),
        ("HTTP://Example.COM", "eXample.com"),
        ("http://localhost:8765", "localhost:8765"),
        ("http://[::1]:8765", "[::1]:8765"),
        ("http://127.0.0.1", "127.0.0.1"),
    ],
)
def test_same_host(origin: str, host: str) -> None:
    assert origin_allowed(origin, host, None)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.com", "example.com"),
        ("http://example.com.evil.com", "example.com"),
        ("http://evilexample.com", "example.com"),
        ("http://sub.example.com", "example.com"),
        ("http://example.com:8080", "example.com"),
        ("http://example.com", "example.com:8080"),
        ("https://example.com", "example.com:80"),
        ("http://example.com", "example.com:443"),
        ("ftp://example.com", "example.com"),
        ("null", "example.com"),
        ("null", "null"),
        ("", ""),
        ("http://", ""),
        ("http://example.com/", "example.com"),
        ("http://user@example.com", "example.com"),
        ("http://user@example.com", "user@example.com"),
        ("http://example.com, http://example.com", "example.com"),
        ("http://example.com http://evil.com", "example.com"),
        ("http://example.com:", "example.com"),
        ("http://example.com:x", "example.com"),
        ("example.com", "example.com"),
        ("http://example.com\n", "example.com"),
        ("http://a, b", "a, b"),
    ],
)
def test_other_host(origin: str, host: str) -> None:
    assert not origin_allowed(origin, host, None)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://good.example", True),
        ("https://GOOD.example:443", True),
        ("http://other.example:8080", True),
        ("https://good.example.evil.com", False),
        ("https://evilgood.example", False),
        ("https://good.example:444", False),
        ("http://good.example", False),
        ("null", False),
        ("", False),
        ("https://good.example, https://good.example", False),
        ("https://good.example/", False),
        ("https://host.example", False),
    ],
)
def test_h14_listed_origins(origin: str, allowed: bool) -> None:
    assert origin_allowed(origin, "host.example", ["https://good.example", "HTTP://other.example:8080"]) is allowed


LISTED = [
    "*",
    "null",
    "https://good.example",
    "HTTPS://Good.Example",
    "http://localhost:3000",
    "http://[::1]:3000",
    "http://127.0.0.1",
    "https://xn--bcher-kva.example",
    "https://a.example.",
    "http://a_b.example",
    "http://a!b.example",
    "file://",
    "app://.",
    "qrc://",
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "http://tauri.localhost",
    "chrome-extension://gpblpnkmfgbnbgflgjpffdbhilcmbagb",
    "moz-extension://5b1f0e2a-1f4c-4a60-8a36-0d9a1c7b3c55",
    "safari-web-extension://5B1F0E2A-1F4C-4A60-8A36-0D9A1C7B3C55",
    "vscode-webview://1a2b3c",
]


@pytest.mark.parametrize("origin", LISTED)
def test_what_a_browser_sends_can_be_listed(origin: str) -> None:
    assert origin_mistake(origin) is None
    assert fastws.Options(origins=[origin]).origins == [origin]
    assert origin_allowed(origin, "host.example", [origin])


FORM = "an origin is scheme://host or scheme://host:port, "


@pytest.mark.parametrize(
    ("origin", "right"),
    [
        ("localhost:3000", 'write "http://localhost:3000"'),
        ("localhost", 'write "http://localhost"'),
        ("127.0.0.1:80", 'write "http://127.0.0.1:80"'),
        ("example.com", 'write "https://example.com"'),
        ("//example.com", 'write "https://example.com"'),
        ("http://localhost:3000/", 'write "http://localhost:3000"'),
        ("https://a.example/chat?x#y", 'write "https://a.example"'),
        ("https://a.example#y", 'write "https://a.example"'),
        (" https://a.example ", 'write "https://a.example"'),
        ("https://user:pass@a.example", 'write "https://a.example"'),
        ("ws://localhost:3000", 'write "http://localhost:3000"'),
        ("wss://a.example/", 'write "https://a.example"'),
        ("file:///", 'write "file://"'),
        ("Null", 'write "null"'),
        ("", "leave it out"),
        (" ", "leave it out"),
        ("http://localhost:*", 'have `upgrade` look at request.origin, with origins=["*"]'),
        ("https://*.example.com", '"*" stands for all origins, and only by itself: list each one'),
        ("*.example.com", '"*" stands for all origins, and only by itself'),
        ("https://b\xfccher.example", "in ASCII (xn--...)"),
        ("http://a.example:65536", FORM),
        ("http://a.example:", FORM),
        ("http://", FORM),
        ("http:localhost", FORM),
        ("http://::1:3000", FORM),
        ("https://a.example,https://b.example", FORM),
        ("https://a.example\n", 'write "https://a.example"'),
    ],
)
def test_what_was_meant_by_an_origin(origin: str, right: str) -> None:
    for give in (lambda: fastws.Options(origins=["*", origin]), lambda: fastws.App().websocket("/", origins={origin})):
        with pytest.raises(ValueError, match=r"^origins cannot have ") as caught:
            give()
        assert str(caught.value).startswith(f"origins cannot have {origin!r}: ") and right in str(caught.value)


@pytest.mark.parametrize(
    "host", ["*", "localhost", "Example.COM:8765", "*.example.com", "*.example.com:81", "127.0.0.1", "[::1]:80", "a_b."]
)
def test_what_a_host_can_be(host: str) -> None:
    assert fastws.Options(allowed_hosts=[host]).allowed_hosts == [host]
    named = host.replace("*.", "a.") if host != "*" else "a"
    assert is_host(named.encode()) and host_allowed(named, [host])


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("http://example.com", 'write "example.com"'),
        ("https://user@example.com:81/x?y", 'write "example.com:81"'),
        ("example.com/", 'write "example.com"'),
        ("example.com:*", 'write "example.com"'),
        (".example.com", 'write "*.example.com"'),
        ("*example.com", 'write "*.example.com"'),
        ("::1", 'write "[::1]"'),
        (" a.example", 'write "a.example"'),
        ("*.*.com", "a host is a name or an address"),
        ("a.example:65536", "a host is a name or an address"),
        ("a.example,b.example", "a host is a name or an address"),
        ("*.[::1]", "a host is a name or an address"),
        ("b\xfccher.example", "in ASCII (xn--...)"),
        ("", "leave it out"),
    ],
)
def test_what_was_meant_by_a_host(host: str, right: str) -> None:
    with pytest.raises(ValueError, match=r"^allowed_hosts cannot have ") as caught:
        fastws.App(allowed_hosts=[host])
    assert str(caught.value).startswith(f"allowed_hosts cannot have {host!r}: ") and right in str(caught.value)


@given(st.text(st.sampled_from("htps:/.*@?#[]a1 \xfc\n")))
def test_whatever_is_meant_is_right(text: str) -> None:
    for mistake in (origin_mistake, host_mistake):
        if (said := mistake(text)) is not None and (meant := re.search('write "(.+)"$', said)):
            assert mistake(meant[1]) is None


def test_special_origins() -> None:
    assert origin_allowed("null", "h", ["null"])
    assert origin_allowed("https://any.example", "h", ["*"])
    assert origin_allowed("moz-extension://ab-cd", "h", ["moz-extension://ab-cd"])
    assert not origin_allowed("https://any.example", "any.example", [])
    assert normalize_origin("https://A.example") == "https://a.example:443"
    assert normalize_origin("https://a.example/") is None


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.com", True),
        ("EXAMPLE.com:8080", True),
        ("example.com.evil.com", False),
        ("evilexample.com", False),
        ("a.sub.example", True),
        ("a.b.sub.example:1", True),
        ("sub.example", False),
        (".sub.example", False),
        ("evilsub.example", False),
        ("port.example:81", True),
        ("port.example", False),
        ("port.example:82", False),
        ("[::1]:8765", True),
        ("127.0.0.1", False),
        ("", False),
        ("example.com,evil.com", False),
        ("example.com/x", False),
        ("user@example.com", False),
    ],
)
def test_h14_hosts(host: str, allowed: bool) -> None:
    assert host_allowed(host, ["Example.com", "*.sub.example", "port.example:81", "[::1]"]) is allowed


def test_any_host() -> None:
    assert host_allowed("whatever", ["*"])
    assert not host_allowed("whatever", [])
