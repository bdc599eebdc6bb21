"""The demo's page as such: it fits the screen, and its clock is fine enough for a meter."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from .conftest import Demo
from .unwatched import UnwatchedPage

NARROW, WIDE = 390, 1280
OUTSIDE = """[...document.querySelectorAll('body *')]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5 || one.getBoundingClientRect().left < -0.5)
    .map(one => one.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("width", [320, NARROW, WIDE])
def test_it_fits(browser: Browser, demo: Demo, width: int) -> None:
    page = UnwatchedPage(browser, demo.url, width=width)
    page.wait_for("document.querySelector('#here').innerText")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    top = "document.querySelector('.{}').getBoundingClientRect().top"
    beside = page.evaluate(f"{top.format('chat')} === {top.format('meter')}")
    assert beside == (width == WIDE)  # else one below the other
    page.close()


def test_both_color_schemes(browser: Browser, demo: Demo) -> None:
    colors = set()
    for scheme in ("light", "dark"):
        page = UnwatchedPage(browser, demo.url, scheme=scheme)
        colors.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert len(colors) == 2


def test_the_page_is_isolated(browser: Browser, demo: Demo) -> None:
    """Only so are its times finer than 100 microseconds."""
    page = UnwatchedPage(browser, demo.url)
    assert page.evaluate("crossOriginIsolated") is True
    page.close()
