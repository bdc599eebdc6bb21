"""Takes the picture of the demo that the README shows: `make screenshot`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":  # as pytest would have it
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Browser, sync_playwright

from browser.conftest import Demo, chromium
from browser.unwatched import UnwatchedPage

SAID = [("Ada", "Is anybody here?"), ("Grace", "Yes! One topic, three subscribers 👋"), ("Linus", "And no build step.")]


def enter(browser: Browser, url: str, name: str) -> UnwatchedPage:
    page = UnwatchedPage(browser, url)
    page.wait_for("!document.querySelector('#text').disabled")
    page.fill("#nickname", name)
    return page


def say(page: UnwatchedPage, text: str) -> None:
    page.fill("#text", text)
    page.click("#send")
    time.sleep(0.1)


def main(path: Path) -> None:
    demo = Demo()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            pages = {name: enter(browser, demo.url, name) for name, _ in SAID}
            for name, text in SAID:
                say(pages[name], text)
            pages["Ada"].click("#start")
            time.sleep(12)  # some of the plot
            pages["Ada"].screenshot(path)
            browser.close()
    finally:
        demo.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
