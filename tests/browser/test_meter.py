"""The demo's echo meter, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from .conftest import TIMEOUT, Demo
from .unwatched import UnwatchedPage


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[UnwatchedPage]:
    page = UnwatchedPage(browser, demo.url)
    page.wait_for("!document.querySelector('#start').disabled", TIMEOUT)
    yield page
    page.close()


def run(page: UnwatchedPage, **settings: str | int) -> tuple[str, str, str]:
    """What the page says at the end, and how many messages it says came back, and came back changed."""
    for name, value in settings.items():
        page.click(f"input[name='{name}'][value='{value}']")
    page.click("#start")
    page.wait_for("document.querySelector('#start').innerText === 'Start'", 6 * TIMEOUT)
    return page.text("#verdict"), page.text("#echoed"), page.text("#mismatches")


def test_a_hundred_thousand_messages(page: UnwatchedPage) -> None:
    said = run(page, kind="text", size=16, window=64, count=100_000)
    assert said == ("Done: 100,000 messages came back as sent.", "100,000", "0")
    assert int(page.text("#rate").replace(",", "")) > 0
    assert page.text("#p50").endswith(("µs", "us", "ms"))
    # Something is drawn.
    assert page.evaluate("document.querySelector('#plot').toDataURL().length") > 2000


@pytest.mark.parametrize("kind", ["text", "emoji", "binary"])
def test_a_mebibyte(page: UnwatchedPage, kind: str) -> None:
    said = run(page, kind=kind, size=1024 * 1024, window=1, count=1)
    assert said == ("Done: 1 message came back as sent.", "1", "0")


CHANGE_ONE = """{
    const send = WebSocket.prototype.send;
    let sent = 0;
    WebSocket.prototype.send = function (data) {
        if (++sent === 500) data = typeof data === "string" ? "x" + data.slice(1) : data.map(one => ~one);
        send.call(this, data);
    };
}"""


@pytest.mark.parametrize("kind", ["text", "emoji", "binary"])
def test_a_change_is_seen(page: UnwatchedPage, kind: str) -> None:
    page.evaluate(CHANGE_ONE)
    said = run(page, kind=kind, size=1024, window=8, count=1000)
    assert said == ("1 of 1,000 messages came back changed.", "1,000", "1")
