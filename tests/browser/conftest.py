"""A headless Chromium, and the demo served in a process of its own."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.programs import Program, reserve_port
from harness.server import PATIENCE
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

TIMEOUT = 10 * PATIENCE  # seconds, for everything that waits


def chromium() -> str:
    """The distribution's browser; Playwright's own build is never asked for."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("there is no chromium on PATH: on Debian, apt-get install chromium")


class Demo:
    """`fastws demo`, or a Python program that serves it otherwise, on a port that stays the same."""

    def __init__(self, source: str | None = None) -> None:
        self.reserved = reserve_port()
        self.port = self.reserved.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._arguments = [*(["-c", source] if source else ["-m", "fastws", "demo", "--port"]), str(self.port)]
        self.start()

    def start(self) -> None:
        self._program = Program(*self._arguments, port=self.port, seconds=30 * TIMEOUT)
        assert self._program.listens(), "the demo does not listen"

    def end(self) -> None:
        self._program.kill()


@pytest.fixture
def serve_demo() -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def serve_demo(source: str | None = None) -> Demo:
        started.append(Demo(source))
        return started[-1]

    yield serve_demo
    for one in started:
        one.end()
        one.reserved.close()


@pytest.fixture
def demo(serve_demo: Callable[..., Demo]) -> Demo:
    return serve_demo()


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The origin of a page that is not the demo's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title>")

        def log_message(self, *args: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # Root, as which CI runs, may not use Chromium's sandbox; what is shown here is our own page.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


class Pages:
    """Opens pages, each in a browser context of its own, and collects what they complain of."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def open(self, url: str) -> Page:
        context = self._browser.new_context()
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda one: self.complaints.append(one.text) if one.type in ("error", "warning") else None)
        page.goto(url)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    """Whatever a page complains of fails the test, unless that takes it out of `complaints`."""
    pages = Pages(browser)
    yield pages
    pages.close()
    assert pages.complaints == []
