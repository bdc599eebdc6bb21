"""The demo's server: what it serves, and the chat's protocol against good and bad peers. The page: tests/browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness import RawClient, ServerThread, Serving, request_bytes

import fastws.demo
from fastws.demo import make_app
from fastws.demo.chat import MAX_NAME, MAX_TEXT, clean

FILES = sorted(path for path in Path(fastws.demo.__file__).parent.iterdir() if path.suffix not in ("", ".py"))


def get(server: ServerThread, path: str) -> Any:
    client = RawClient.connect(server.port)
    client.send_raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client.recv_http()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files(serve: Serving, path: Path) -> None:
    server = serve(make_app())
    answer = get(server, "/" if path.name == "index.html" else f"/{path.name}")
    assert (answer.status, answer.body) == (200, path.read_bytes())
    kind = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}[path.suffix]
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert answer.headers["cache-control"] == "no-cache"


def test_the_page_needs_nothing_from_elsewhere() -> None:
    for path in FILES:
        addresses = path.read_text().replace("http://www.w3.org/2000/svg", "").replace("ws://127.0.0.1:8765/echo", "")
        assert "://" not in addresses.replace("https://", "://"), path.name


def test_the_package_has_all_files() -> None:
    assert {path.name for path in FILES} >= {"index.html", "style.css", "chat.js", "meter.js", "icon.svg"}


@pytest.mark.parametrize("path", ["/nothing", "/chat.py", "/__init__.py", "/../cli.py", "/index.html"])
def test_nothing_else_is_served(serve: Serving, path: str) -> None:
    assert get(serve(make_app()), path).status == 404


@pytest.mark.parametrize("message", ["text ✓", b"binary", "x" * 1024 * 1024])
def test_echo(serve: Serving, message: str | bytes) -> None:
    client = RawClient.open(serve(make_app()).port, "/echo")
    client.send(message)
    assert client.recv() == message


def test_a_foreign_page_is_refused(serve: Serving) -> None:
    server = serve(make_app())
    client = RawClient.connect(server.port)
    client.send_raw(request_bytes("/chat", headers=[("Origin", "http://elsewhere.example")]))
    client.expect_reject(403)


# The chat


class Guest:
    def __init__(self, server: ServerThread) -> None:
        self.client = RawClient.open(server.port, "/chat")

    def tell(self, **message: Any) -> None:
        self.client.send(json.dumps(message))

    def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self.client.recv())
        return heard

    def hear_of(self, kind: str) -> dict[str, Any]:
        """The next of its kind; what comes before it is passed over."""
        while (heard := self.hear())["type"] != kind:
            pass
        return heard


def test_a_conversation(serve: Serving) -> None:
    server = serve(make_app())
    ada, grace = Guest(server), Guest(server)
    ada.tell(type="name", name="Ada")
    assert ada.hear()["here"] == 1
    grace.tell(type="name", name="Grace")
    assert ada.hear() == {"type": "joined", "name": "Grace", "here": 2}
    welcome = grace.hear()
    assert (welcome["type"], welcome["history"], welcome["here"]) == ("welcome", [], 2)
    ada.tell(type="say", text="hello")
    for one in (ada, grace):
        said = one.hear()
        assert (said["type"], said["n"], said["name"], said["text"]) == ("said", 1, "Ada", "hello")
    ada.tell(type="name", name="Ada Lovelace")
    assert grace.hear() == ada.hear() == {"type": "renamed", "before": "Ada", "name": "Ada Lovelace"}
    late = Guest(server)
    late.tell(type="name", name="Linus")
    assert [said["text"] for said in late.hear()["history"]] == ["hello"]
    for guest in (ada, grace):
        assert guest.hear()["type"] == "joined"
    ada.client.close()
    assert grace.hear() == {"type": "left", "name": "Ada Lovelace", "here": 2}


def test_history_is_bounded(serve: Serving) -> None:
    server = serve(make_app())
    ada, late, *others = [Guest(server) for _ in range(6)]
    for guest in (ada, *others):
        guest.tell(type="name", name="Ada")
        guest.hear()
    for number in range(50):  # one guest alone may not say so much at once
        others[number % 4].tell(type="say", text=str(number))
        others[number % 4].hear_of("said")
    assert [ada.hear_of("said")["n"] for _ in range(50)] == list(range(1, 51))
    late.tell(type="name", name="Linus")
    assert [said["n"] for said in late.hear()["history"]] == list(range(31, 51))


def test_nobody_fills_the_room(serve: Serving) -> None:
    server = serve(make_app())
    ada, linus = Guest(server), Guest(server)
    for guest in (ada, linus):
        guest.tell(type="name", name="x")
    for _ in range(200):
        ada.tell(type="say", text="spam")
    assert linus.hear_of("left")["here"] == 1
    assert server.stats()["closed"]["max_message_rate"] == 1


MALFORMED = [
    "",
    "{",
    "[" * 4000,
    "null",
    "[]",
    '"name"',
    "{}",
    '{"type": "name"}',
    '{"type": "name", "name": 5}',
    '{"type": "name", "name": ""}',
    '{"type": "name", "name": " \\u202e\\n "}',
    '{"type": "say", "text": "before a name"}',
    '{"type": ["name"], "name": "x"}',
    '{"type": "nonsense"}',
    "NaN",
    "9" * 4000,
    b'{"type": "name", "name": "binary"}',
]


@pytest.mark.parametrize("message", MALFORMED, ids=lambda message: repr(message[:20]))
def test_malformed_messages_are_dropped(serve: Serving, message: str | bytes) -> None:
    guest = Guest(serve(make_app()))
    guest.client.send(message)
    guest.tell(type="name", name="Ada")
    assert guest.hear()["type"] == "welcome"


def test_long_messages_are_refused(serve: Serving) -> None:
    guest = Guest(serve(make_app()))
    guest.tell(type="say", text="x" * 5000)
    guest.client.expect_close(1009)


def test_clean() -> None:
    assert clean("  a \n\t b\x00\u202e\ud800 ", 10) == "a b"
    assert clean("x" * 1000, MAX_TEXT) == "x" * MAX_TEXT
    assert clean("👩\u200d💻", MAX_NAME) == "👩\u200d💻"
    assert clean("\u200d \u200c", MAX_NAME) == ""
