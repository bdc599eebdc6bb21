"""permessage-deflate over real sockets: what is negotiated, and where it is on (RFC 7692 section 7.1)."""

from __future__ import annotations

import os
import re
import signal
from typing import Any

import pytest
from harness import RawClient, Recorder, Serving, make_app
from harness.deflating import (
    ANSWERS,
    SETTINGS,
    DeflateClient,
    Params,
    answering_app,
    every_offer,
    judge,
)
from harness.programs import reserve_port, running

import fastws
from fastws import compression
from fastws.compression import negotiate

on_uvloop = pytest.mark.parametrize("loop_kind", ["uvloop"], indirect=True)

SHARE = float(os.environ.get("EXAMPLES", "1"))
OFFER = "permessage-deflate"
TEXT = '{"symbol":"BTC-EUR","price":64123.5,"amount":0.0150,"side":"buy","time":1700000000}'
NOISE = bytes((number * number * 167 + 13 * number >> 3) * 193 & 255 for number in range(100))


def extension_header(port: int, *offers: str, path: str = "/") -> str:
    """What is answered to these headers."""
    with RawClient.connect(port) as client:
        response = client.handshake(path, headers=[("Sec-WebSocket-Extensions", offer) for offer in offers])
        return response.headers.get("sec-websocket-extensions", "")


# Negotiation


@pytest.mark.sampled
@on_uvloop
def test_every_offer_with_all_settings(serve: Serving) -> None:
    """The answer is what the RFC allows, and what follows is decoded by its rules. EXAMPLES is a factor."""
    server = serve(answering_app())
    for number, offer in enumerate(every_offer()[:: max(1, round(1 / SHARE))]):
        for turn, (name, settings) in enumerate(SETTINGS.items()):
            with DeflateClient.offer(server.port, offer, path=f"/{name}") as client:
                assert client.agreed, f"{offer} was not accepted by {settings}"
                judge(offer, client.agreed, fastws.Deflate(**settings))
                if (number + turn) % 7:
                    continue
                for message in (TEXT, TEXT[:60], TEXT + "!", TEXT * 20):
                    client.send_deflated(message)
                    assert [client.recv() for _ in range(ANSWERS)] == [message] * ANSWERS, (offer, name)


NEGOTIATED = {
    OFFER: Params(client_no_context_takeover=True),
    f"{OFFER}; client_max_window_bits": Params(client_no_context_takeover=True),
    f"{OFFER}; server_no_context_takeover": Params(True, True),
    f"{OFFER}; client_no_context_takeover": Params(False, True),
    f"{OFFER}; server_max_window_bits=8": Params(False, True, 8),
    f"{OFFER}; server_max_window_bits=12": Params(False, True, 12),
    f"{OFFER} ;server_max_window_bits=9 ;\tclient_max_window_bits": Params(False, True, 9),
    f"{OFFER};server_max_window_bits=15": Params(False, True, 15),
    "PERMESSAGE-DEFLATE": None,  # no token that RFC 7692 registers
    "permessage-deflate-2": None,
    "x-webkit-deflate-frame": None,
    "": None,
}


@on_uvloop
@pytest.mark.parametrize("offer", NEGOTIATED)
def test_an_offer(serve: Serving, offer: str) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    answer = extension_header(server.port, offer)
    expected = NEGOTIATED[offer]
    if expected is None:
        assert answer == ""
    else:
        found = Params.read(answer)
        assert found.server_bits == expected.server_bits
        assert (found.server_max_window_bits is None) <= (expected.server_max_window_bits is None)
        assert found.client_bits == 15
        assert found.server_no_context_takeover == expected.server_no_context_takeover
        assert found.client_no_context_takeover == expected.client_no_context_takeover
    assert recorder.sockets[0].extensions == answer


@on_uvloop
def test_the_first_that_can_be_accepted(serve: Serving) -> None:
    server = serve(make_app(Recorder().handler(), compression="deflate"))
    bits = [f"{OFFER}; server_max_window_bits={number}" for number in (12, 9, 15)]
    assert Params.read(extension_header(server.port, ", ".join(bits))).server_max_window_bits == 12
    assert Params.read(extension_header(server.port, *bits)).server_max_window_bits == 12
    others = ["foo", 'bar; baz="a, b; c"', "permessage-bzip2", f'x; y="{OFFER}"']
    answer = extension_header(server.port, ", ".join(others), *bits[1:])
    assert Params.read(answer).server_max_window_bits == 9
    answer = extension_header(server.port, f" ,, {others[0]} ,\t, {bits[0]}")
    assert Params.read(answer).server_max_window_bits == 12


GARBAGE = [
    ",",
    ";",
    "=",
    '"',
    ";;;;,,,,====",
    '"permessage-deflate"',
    'foo; bar="baz, permessage-deflate',
    'foo; bar="baz\\", permessage-deflate; client_max_window_bits',
    "permessage-deflate;;",
    "permessage-deflate; =",
    "\t",
    "permessage-deflate; server_max_window_bits=" + "9" * 5000,
    "\\" * 3000,
    'a; b="' + "\\c" * 3000,
    "permessage-deflate" * 300,
    "\xff\xfe\x80",
    "a" * 9000,
    "permessage-deflate; " + "server_no_context_takeover; " * 300,
    "permessage-deflate; \xe9=1",
    'permessage-deflate; "client_max_window_bits"',
    "permessage-deflate server_no_context_takeover",
    "{}[]()<>@:/?",
]


@on_uvloop
@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_no_offer(serve: Serving, garbage: str) -> None:
    server = serve(make_app(Recorder().handler(echo=True), compression="deflate"))
    with RawClient.connect(server.port) as client:
        response = client.handshake(headers=[("Sec-WebSocket-Extensions", garbage.encode("latin-1"))])
        assert "sec-websocket-extensions" not in response.headers
        client.send(TEXT)
        assert client.recv() == TEXT


@pytest.mark.parametrize(
    "one",
    [
        "a,",
        f"{OFFER}; x,",
        f"{OFFER}; server_max_window_bits=16, ",
        ";",
        ",",
        '"',
        '\\"',
        'a="',
        " ",
        "a;b=c;d=e;f,",
        "=\t",
    ],
)
def test_no_character_is_looked_at_twice(one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the pattern for quoted strings, whose search could take the square of the header's length."""
    looked_at = 0
    pattern = compression._REST_OF_QUOTED

    class Counting:
        def match(self, text: str, at: int) -> re.Match[str] | None:
            nonlocal looked_at
            found = pattern.match(text, at)
            looked_at += (len(text) if found is None else found.end()) - at
            return found

    monkeypatch.setattr(compression, "_REST_OF_QUOTED", Counting())
    header = (one * (16_000 // len(one))).encode()
    assert negotiate(fastws.Deflate(), header, True) is None
    assert looked_at <= len(header)


@on_uvloop
def test_thousands_of_offers(serve: Serving) -> None:
    """As many as a head may hold, the good one at the end."""
    server = serve(make_app(Recorder().handler(echo=True), compression="deflate"))
    good = f"{OFFER}; server_max_window_bits=10"
    header = "a," * 7500 + good
    assert Params.read(extension_header(server.port, header)).server_max_window_bits == 10
    headers = ["a, b; c, d; e=f"] * 80
    assert Params.read(extension_header(server.port, *headers, good)).server_max_window_bits == 10
    with RawClient.connect(server.port) as client:
        client.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Extensions: " + b"a," * 10_000)
        client.expect_reject(431)


# Where it is on


@on_uvloop
def test_off_by_default(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    assert extension_header(server.port, OFFER) == ""
    assert recorder.sockets[0].extensions == ""


def test_nothing_is_answered_that_was_not_offered(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True), compression="deflate"))
    with RawClient.connect(server.port) as client:
        assert "sec-websocket-extensions" not in client.handshake().headers
        client.send(TEXT * 10)
        assert client.recv() == TEXT * 10  # a RawClient takes no RSV1
    assert recorder.sockets[0].extensions == ""


def routed_app(compression: Any) -> Any:
    app = make_app(Recorder().handler(), compression=compression)
    own: Any
    for path, own in (("/none", None), ("/deflate", "deflate"), ("/ten", fastws.Deflate(window_bits=10))):
        app.websocket(path, compression=own)(Recorder().handler())
    return app


def answers_of(port: int) -> list[int]:
    """The window's bits on the app's own route and its others, 0 without compression."""
    answers = [extension_header(port, OFFER, path=path) for path in ("/", "/none", "/deflate", "/ten")]
    return [Params.read(answer).server_bits if answer else 0 for answer in answers]


@on_uvloop
@pytest.mark.parametrize(
    ("compression", "own"), [(None, 0), ("deflate", 15), (fastws.Deflate(window_bits=12), 12)], ids=str
)
def test_a_route_of_its_own(serve: Serving, compression: Any, own: int) -> None:
    server = serve(routed_app(compression))
    assert answers_of(server.port) == [own, 0, 15, 10]


@on_uvloop
@pytest.mark.parametrize(
    ("compression", "own"), [(None, 0), ("deflate", 15), (fastws.Deflate(window_bits=9), 9)], ids=str
)
def test_configure(serve: Serving, compression: Any, own: int) -> None:
    app = routed_app(fastws.Deflate(window_bits=11))
    app.configure(compression=compression)
    assert answers_of(serve(app).port) == [own, 0, 15, 10]


APP = """
import fastws
app = fastws.App(compression={own!r})
@app.websocket("/")
def echo(ws, data): ws.send(data)
"""


@pytest.mark.parametrize(
    ("own", "arguments", "on"),
    [
        (None, [], False),
        (None, ["--compression", "deflate"], True),
        ("deflate", [], True),
        ("deflate", ["--compression", "none"], False),
    ],
)
def test_the_command_line(tmp_path: Any, own: str | None, arguments: list[str], on: bool) -> None:
    (tmp_path / "compressing.py").write_text(APP.format(own=own))
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        command = ["-m", "fastws", "serve", "compressing:app", "--app-dir", str(tmp_path), "--port", str(port)]
        with running(*command, *arguments, port=port) as program:
            assert program.listens()
            assert bool(extension_header(port, OFFER)) == on
            program.end(signal.SIGTERM)
