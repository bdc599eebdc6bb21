"""Messages, their fragments, and pings."""

from __future__ import annotations

import itertools
import os

import pytest
from harness import ANY, Recorder, Serving, make_app

from .client import Connect
from .libraries import each_library

pytestmark = pytest.mark.parametrize("loop_kind", ["uvloop"], indirect=True)

LIMIT = 1 << 20  # max_message_size, unless told
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 65537, LIMIT]  # around what each form of a length holds (section 5.2)

# A script for each number of bytes that UTF-8 takes for a character.
SCRIPTS = {
    "latin": "The quick brown fox. ",
    "greek and cyrillic": "Αλφάβητοъешьжеещё",
    "chinese and japanese": "天地玄黃いろはにほへと",
    "emoji": "🙂🚀🧪🎈🐍",
}


def text_of(size: int, characters: str) -> str:
    """`size` bytes of UTF-8: of these characters as many as go in, then dots."""
    encoded = (characters * (size // len(characters.encode()) + 1)).encode()[:size]
    text = encoded.decode(errors="ignore")  # without the character that the end cuts
    return text + "." * (size - len(text.encode()))


@each_library()
def test_binary(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    client = connect(serve(make_app(recorder.handler(echo=True))))
    for size in SIZES:
        data = os.urandom(size)
        client.send(data)
        assert client.recv() == data, size
        assert recorder.events.pop() == ("message", data), size
    assert recorder.events == [("open",)]


@each_library()
@pytest.mark.parametrize("script", SCRIPTS)
def test_text(serve: Serving, connect: Connect, script: str) -> None:
    recorder = Recorder()
    client = connect(serve(make_app(recorder.handler(echo=True))))
    for size in SIZES:
        text = text_of(size, SCRIPTS[script])
        client.send(text)
        assert client.recv() == text, size
        assert recorder.events.pop() == ("message", text), size
    assert recorder.events == [("open",)]


@each_library()
@pytest.mark.parametrize("data", [bytes(LIMIT + 1), "é" * (LIMIT // 2) + "!"], ids=["binary", "text"])
def test_one_byte_too_large(serve: Serving, connect: Connect, data: str | bytes) -> None:
    recorder = Recorder()
    client = connect(serve(make_app(recorder.handler(echo=True))))
    client.send(data)
    assert client.closed() == (1009, ANY)
    recorder.wait_for(("open",), ("close", 1009, ANY))


@each_library(lambda library: library.fragments)
@pytest.mark.parametrize("pings", [False, True], ids=["alone", "pings between"])
@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_fragments(serve: Serving, connect: Connect, text: bool, pings: bool) -> None:
    """Every character of more than one byte is cut once, by one of the first borders."""
    recorder = Recorder()
    client = connect(serve(make_app(recorder.handler(echo=True))))
    whole = ("aй漢🙂" * 20_000).encode() if text else os.urandom(200_000)
    borders = [0, 2, 5, 5, 8, 1_000, 65_700, len(whole)]  # й, 漢, an empty fragment, 🙂, and the lengths' other forms
    fragments = [whole[start:end] for start, end in itertools.pairwise(borders)]
    client.send_fragments(fragments, text=text, pings=pings)
    message = whole.decode() if text else whole
    assert client.recv() == message
    between = [("ping", b"%d" % number) for number in range(len(fragments) - 1)] if pings else []
    recorder.wait_for(("open",), *between, ("message", message))


PAYLOADS = [b"", b"\x00\xff not text", bytes(range(125))]  # a control frame holds 125 bytes (section 5.5)


@each_library()
def test_the_client_pings(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    client = connect(serve(make_app(recorder.handler())), show_pongs=True)
    for payload in PAYLOADS:
        assert client.ping(payload) == payload
    recorder.wait_for(("open",), *(("ping", payload) for payload in PAYLOADS))


@each_library()
def test_the_server_pings(serve: Serving, connect: Connect) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    client = connect(server)
    (ws,) = recorder.sockets
    for payload in PAYLOADS:
        server.call(ws.ping, payload)
        server.call(ws.send, "after it")
        assert client.recv() == "after it"  # it has answered by then
    recorder.wait_for(("open",), *(("pong", payload) for payload in PAYLOADS))
