"""Chromium's WebSocket, compressed: every setting of the server, messages of all sizes, both ways."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from harness import ServerThread, Serving, Traps
from harness.deflating import ANSWERS, SETTINGS, Params, answering_app, deflate, judge, sample_messages
from playwright.sync_api import Page

import fastws

from .conftest import TIMEOUT, Pages

PAGE = b'<!doctype html><title>compression</title><link rel="icon" href="data:,">'

# A message goes out when all the answers to the one before have come back, and are equal to it.
CONVERSE = """async ([url, messages, answers, timeout]) => {
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    const waiting = [], came = [];
    const next = () => new Promise((resolve, reject) => {
        came.length ? resolve(came.shift()) : waiting.push(resolve);
        setTimeout(() => reject(`nothing came for ${timeout} ms; ready state ${socket.readyState}`), timeout);
    });
    const tell = one => waiting.length ? waiting.shift()(one) : came.push(one);
    socket.onopen = () => tell("open");
    socket.onmessage = event => tell(event.data);
    socket.onclose = event => tell(`closed with ${event.code} ${event.reason}`);
    const opened = await next();
    if (opened !== "open") return { wrong: [opened] };
    const bytes = base64 => Uint8Array.from(atob(base64), one => one.charCodeAt(0));
    const same = (one, other) => typeof one === "string" || typeof other === "string" ? one === other
        : one.byteLength === other.byteLength && new Uint8Array(one).every((byte, at) => byte === other[at]);
    const wrong = [];
    for (const [number, { text, base64 }] of messages.entries()) {
        const message = text ?? bytes(base64);
        socket.send(message);
        for (let answer = 0; answer < answers; answer++) {
            const got = await next();
            if (!same(got, message))
                wrong.push(`answer ${answer} to message ${number}: ${String(got).slice(0, 200)}`);
        }
    }
    const { extensions } = socket;
    socket.close(1000);
    return { extensions, wrong, left: came.length, last: await next() };
}"""


@pytest.fixture
def serve(traps: Traps) -> Iterator[Serving]:
    serving = Serving("uvloop", traps)
    yield serving
    serving.finish()


def opened(serve: Serving, pages: Pages) -> tuple[Page, ServerThread]:
    """A server, and a page of its own, which may connect to it."""
    app = answering_app()

    @app.http("/")
    def page(request: fastws.Request) -> fastws.Response:
        return fastws.Response(200, PAGE, headers=[("Content-Type", "text/html")])

    server = serve(app)
    return pages.open(f"http://127.0.0.1:{server.port}/"), server


def converse(page: Page, server: ServerThread, settings: str, *, large: bool) -> None:
    messages = list(sample_messages(large=large))
    given: list[dict[str, str]] = [
        {"text": message} if isinstance(message, str) else {"base64": base64.b64encode(message).decode()}
        for message in messages
    ]
    before = server.stats()
    url = f"ws://127.0.0.1:{server.port}/{settings}"
    result: dict[str, Any] = page.evaluate(CONVERSE, [url, given, ANSWERS, TIMEOUT * 1000])
    assert result["wrong"] == []
    assert (result["left"], result["last"]) == (0, "closed with 1000 ")
    # It always offers this, and never anything else.
    judge(Params(client_max_window_bits=True), Params.read(result["extensions"]), fastws.Deflate(**SETTINGS[settings]))
    after = server.stats()
    assert after["inflations"] - before["inflations"] == len(messages), "they came compressed"
    encoded = [message.encode() if isinstance(message, str) else message for message in messages]
    shrinking = sum(len(data) > 100 and len(deflate(data, 9, level=1)) < 0.8 * len(data) for data in encoded)
    assert shrinking > 4
    assert 3 * shrinking <= after["deflations"] - before["deflations"] <= 3 * len(messages)


@pytest.mark.parametrize("settings", SETTINGS)
def test_chromium(serve: Serving, pages: Pages, settings: str) -> None:
    page, server = opened(serve, pages)
    converse(page, server, settings, large=True)


def test_several_connections_of_a_page(serve: Serving, pages: Pages) -> None:
    """One after the other, with and without an inflater of their own."""
    page, server = opened(serve, pages)
    for settings in ("defaults", "client-takeover", "defaults", "client-takeover-9"):
        converse(page, server, settings, large=False)
