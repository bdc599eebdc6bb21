"""The demo's chat room, in two tabs of a real browser."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from .conftest import TIMEOUT, Demo, Pages

expect.set_options(timeout=TIMEOUT * 1000)


def enter(page: Page, name: str) -> None:
    expect(page.locator("#chat-status")).to_have_attribute("data-state", "open")
    page.locator("#nickname").fill(name)
    page.locator("#nickname").press("Enter")
    expect(page.locator("#text")).to_be_focused()


def say(page: Page, text: str) -> None:
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")
    expect(page.locator("#text")).to_have_value("")


def test_two_tabs_chat(demo: Demo, pages: Pages) -> None:
    ada, grace = pages.open(demo.url), pages.open(demo.url)
    enter(ada, "Ada")
    enter(grace, "Grace")
    expect(ada.locator("#here")).to_have_text("2 people here")
    say(ada, "Hello, 世界 👋")
    say(grace, "<b>not bold</b>")
    for page, other in ((ada, "<b>not bold</b>"), (grace, "Hello, 世界 👋")):
        expect(page.locator(".line")).to_have_count(2)
        expect(page.locator(".line.mine")).to_have_count(1)
        expect(page.locator(".line:not(.mine) .bubble")).to_have_text(other)
    expect(grace.locator(".line:not(.mine) strong")).to_have_text("Ada")
    assert ada.locator(".log b").count() == 0  # what others write is never markup

    late = pages.open(demo.url)
    expect(late.locator(".bubble")).to_have_text(["Hello, 世界 👋", "<b>not bold</b>"])
    late.context.close()
    expect(ada.locator("#here")).to_have_text("2 people here")
    grace.context.close()
    expect(ada.locator(".notice").last).to_have_text("Grace left")
    expect(ada.locator("#here")).to_have_text("1 person here")


def test_the_server_restarts_and_the_page_comes_back(demo: Demo, pages: Pages) -> None:
    ada, grace = pages.open(demo.url), pages.open(demo.url)
    enter(ada, "Ada")
    enter(grace, "Grace")
    say(ada, "before")
    expect(grace.locator(".bubble")).to_have_text(["before"])
    demo.end()
    for page in (ada, grace):
        expect(page.locator("#chat-status .label")).to_have_text("Reconnecting …")
        expect(page.locator("#text")).to_be_disabled()
        expect(page.locator("#meter-status")).to_have_attribute("data-state", "lost")
    demo.start()
    for page in (ada, grace):
        expect(page.locator("#chat-status .label")).to_have_text("Connected")
        expect(page.locator("#here")).to_have_text("2 people here")
        expect(page.locator("#start")).to_be_enabled()
    say(ada, "after")
    expect(grace.locator(".bubble")).to_have_text(["before", "after"])
    expect(grace.locator(".line").last.locator("strong")).to_have_text("Ada")
    # Of a try to connect while nobody listened, if there was one.
    assert all("WebSocket connection to" in one and "failed" in one for one in pages.complaints), pages.complaints
    pages.complaints.clear()


CONNECT = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onopen = () => { socket.send("hello"); };
    socket.onmessage = event => resolve(event.data);
    socket.onclose = event => resolve(event.code);
})"""
ALLOWED = """
import sys
from fastws.demo import make_app
make_app(origins=[ORIGIN]).run(port=int(sys.argv[1]))
"""


def test_a_foreign_page_is_refused(demo: Demo, serve_demo: Callable[..., Demo], pages: Pages, elsewhere: str) -> None:
    page = pages.open(elsewhere)
    assert page.evaluate(CONNECT, demo.url.replace("http", "ws") + "echo") == 1006
    assert "Unexpected response code: 403" in pages.complaints.pop()

    friendly = serve_demo(ALLOWED.replace("ORIGIN", repr(elsewhere)))
    assert page.evaluate(CONNECT, friendly.url.replace("http", "ws") + "echo") == "hello"
