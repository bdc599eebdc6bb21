import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.http import split_target
from fastws.routing import Router


def make(*patterns: str) -> Router[str]:
    router: Router[str] = Router()
    for pattern in patterns:
        router.add(pattern, pattern)
    return router


def found(router: Router[str], path: str) -> tuple[str, Mapping[str, str]]:
    result = router.find(path)
    assert result is not None
    return result


def test_fixed() -> None:
    router = make("/", "/echo", "/echo/")
    assert router.find("/echo") == ("/echo", {})
    assert router.find("/echo/") == ("/echo/", {})
    assert router.find("/") == ("/", {})
    for path in "", "/Echo", "/echo//", "echo", "/echo/x":
        assert router.find(path) is None


def test_fixed_parameters_are_shared_and_immutable() -> None:
    router = make("/a", "/b")
    params = found(router, "/a")[1]
    assert params is found(router, "/b")[1]
    with pytest.raises(TypeError):
        params["x"] = "y"  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/chat/lobby", {"room": "lobby"}),
        ("/chat/a b.c\n", {"room": "a b.c\n"}),
        ("/chat/é", {"room": "é"}),
        ("/chat/", None),
        ("/chat", None),
        ("/chat/a/b", None),
        ("/chat/a/", None),
        ("/xchat/a", None),
        ("x/chat/a", None),
    ],
)
def test_parameter(path: str, params: dict[str, str] | None) -> None:
    assert make("/chat/{room}").find(path) == (params and ("/chat/{room}", params))


def test_several_parameters() -> None:
    router = make("/{a}/x/{b}/{rest:path}")
    assert router.find("/1/x/2/3/4") == ("/{a}/x/{b}/{rest:path}", {"a": "1", "b": "2", "rest": "3/4"})
    assert router.find("/1/y/2/3") is None


def test_rest() -> None:
    router = make("/files/{rest:path}")
    assert found(router, "/files/a/b//c\n")[1] == {"rest": "a/b//c\n"}
    assert found(router, "/files/")[1] == {"rest": ""}
    assert router.find("/files") is None


def test_order() -> None:
    router = make("/{any:path}", "/chat/{room}", "/chat/lobby")
    assert router.find("/chat/lobby") == ("/chat/lobby", {})
    assert found(router, "/chat/x")[0] == "/{any:path}"
    router = make("/chat/{room}", "/{any:path}")
    assert found(router, "/chat/x")[0] == "/chat/{room}"
    assert found(router, "/chat/x/y")[0] == "/{any:path}"


def test_patterns_are_no_regular_expressions() -> None:
    router = make("/a.b/{x}", "/(.+)/{x}", "/%5Cd%2A/{x}")
    assert found(router, "/a.b/1")[1] == {"x": "1"}
    assert router.find("/acb/1") is None
    assert found(router, "/(.+)/1")[1] == {"x": "1"}
    assert found(router, "/\\d*/1")[1] == {"x": "1"}
    assert router.find("/5/1") is None


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "slash"),
        ("echo", "slash"),
        ("{x}", "slash"),
        ("/{x", "braces"),
        ("/x}", "braces"),
        ("/{{x}}", "braces"),
        ("/{x}{y}", "braces"),
        ("/a{x}", "braces"),
        ("/{x/y}", "braces"),
        ("/{}", "identifier"),
        ("/{1}", "identifier"),
        ("/{a-b}", "identifier"),
        ("/{ a}", "identifier"),
        ("/{a}/{a}", "once"),
        ("/{a:int}", "path"),
        ("/{a:}", "path"),
        ("/{a:path}/b", "at the end"),
        ("/a\0b", "NUL"),
        ("/a%00b", "NUL"),
    ],
)
def test_malformed(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(pattern)


@pytest.mark.parametrize(
    ("pattern", "right"),
    [
        ("", "write '/'"),
        ("chat/{room}", "write '/chat/{room}'"),
        ("ws://example.com/chat", "write '/chat'"),
        ("^/chat", "write '/chat'"),
        ("/*", "'{rest:path}' at the end for all that remains, or '%2A' for the character"),
        ("/static/*.js", "write '{name}' for any one segment"),
        ("/room/(\\d+)", "is no wildcard or regular expression: write '{name}' for any one segment"),
        ("/chat/<room>", "write '/chat/{room}', or '%3Croom%3E' for these very characters"),
        ("/chat/<int:room>/x", "write '/chat/{room}/x'"),
        ("/files/<path:rest>", "write '/files/{rest:path}'"),
        ("/chat/:room", "write '/chat/{room}', or '%3Aroom' for these very characters"),
        ("/chat/:room?", "write '/chat/{room}'"),
        ("/chat/[room]", "write '/chat/{room}'"),
        ("/files/[...rest]", "write '/files/{rest:path}'"),
        ("/chat/{room:int}", "write '/chat/{room}', and convert its value"),
        ("/a b", "write '%20' for ' '"),
        ("/chat\n", "write '%0A' for '\\n'"),
        ("/x?y=1", "write '/x' and look at the query_string, or '%3F' for '?'"),
        ("/a#b", "write '/a', as clients do not send a fragment, or '%23' for '#'"),
        ("/100%", "write '%25' for '%'"),
        ("/%zz", "write '%25' for '%'"),
        ("/%ff", "is no UTF-8 in percent-encoding"),
        ("/\udcff", "is no UTF-8 in percent-encoding"),
    ],
)
def test_what_was_meant(pattern: str, right: str) -> None:
    with pytest.raises(ValueError, match="pattern") as caught:
        make(pattern)
    assert right in str(caught.value) and repr(pattern) in str(caught.value)


@pytest.mark.parametrize("wrong", [None, b"/x", 5, print, ["/x"]])
def test_a_path_is_a_string(wrong: Any) -> None:
    with pytest.raises(TypeError) as caught:
        make(wrong)
    assert str(caught.value) == f"a path is a string, got {wrong!r}: write '/chat', say"


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("/a%20b", "/a%20b"),
        ("/%61", "/a"),
        ("/\xfc", "/%C3%BC"),
        ("/%C3%BC", "/%c3%bc"),
        ("/a%2Fb", "/a%2fb"),
        ("/%7Bx%7D", "/{x}"),
        ("/%2A", "/*"),
        ("/%3Aroom", "/:room"),
        ("/x%3Fy%23", "/x%3Fy%23?z"),
        ("/%2525", "/%2525"),
        ("/{x}/%20", "/1/%20"),
        ("//", "//"),
        ("/a:b,c;d=e@!$&'()+~-._", "/a:b,c;d=e@!$&'()+~-._"),
    ],
)
def test_patterns_are_written_as_in_a_url(pattern: str, target: str) -> None:
    router = make(pattern)
    assert found(router, split_target(target.encode())[2])[0] == pattern
    with pytest.raises(ValueError, match="already"):
        router.add(pattern.replace("{x}", "{y}"), "again")


def test_what_only_looks_like_a_parameter_is_no_duplicate() -> None:
    router = make("/{a}/{b}", "/%7B%7D/{b}", "/None/{b}", "/{a}", "/%7B%7D", "/None")
    assert found(router, "/None")[0] == "/None"
    assert make("/a/b", "/a%2Fb").find("/a/b") == ("/a/b", {})


@pytest.mark.parametrize(
    "patterns",
    [
        ("/a", "/a"),
        ("/a%20", "/%61%20"),
        ("/\xfc", "/%C3%BC"),
        ("/{a}", "/{b}"),
        ("/x/{a}/{b:path}", "/x/{c}/{d:path}"),
        ("/x/{a}", "/y", "/x/{a}"),
    ],
)
def test_duplicates(patterns: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="already") as caught:
        make(*patterns)
    assert str(caught.value).endswith(f"the same paths as {patterns[-1]!r}: {patterns[0]!r}; change one of them")


def test_what_is_not_a_duplicate() -> None:
    assert found(make("/{a}", "/{a:path}", "/a", "/a/", "/a/{b}"), "/a/b")[0] == "/{a:path}"


def test_time_is_linear_in_the_path() -> None:
    router = make("/{a}/{b}/{c}/{d}/x/{rest:path}")
    start = time.thread_time()
    assert router.find("/" + "a/" * 100_000) is None
    assert router.find("/" + "/" * 100_000) is None
    assert time.thread_time() - start < 1


NO_NUL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(NO_NUL.filter(lambda text: text and "/" not in text), NO_NUL)
def test_any_path_text(segment: str, rest: str) -> None:
    router = make("/a/{x}", "/b/{x}/{rest:path}")
    assert router.find(f"/a/{segment}") == ("/a/{x}", {"x": segment})
    assert router.find(f"/b/{segment}/{rest}") == ("/b/{x}/{rest:path}", {"x": segment, "rest": rest})


@given(NO_NUL.filter(bool), NO_NUL)
def test_any_value_can_be_quoted(segment: str, rest: str) -> None:
    """What a client escapes is the parameter's value, slashes included."""
    router = make("/a/{x}", "/b/{x}/{rest:path}")
    for target, expected in (
        (f"/a/{quote(segment, safe='')}", ("/a/{x}", {"x": segment})),
        (f"/b/{quote(segment, safe='')}/{quote(rest)}", ("/b/{x}/{rest:path}", {"x": segment, "rest": rest})),
        (f"/b/{quote(segment, safe='')}/{quote(rest, safe='')}", ("/b/{x}/{rest:path}", {"x": segment, "rest": rest})),
    ):
        path, _, routed = split_target(target.encode())
        assert router.find(routed) == expected
        assert path == unquote(target)
