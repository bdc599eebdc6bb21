"""A page that Playwright does not watch. It looks at every frame of a page's WebSockets, which makes a run of 100,000
messages a measurement of Playwright; so such a page is driven with the DevTools protocol alone."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser


class UnwatchedPage:
    """A page in a context of its own. `width` and `height` in CSS pixels; `scheme` is light or dark."""

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, height: int = 860, scheme: str = "light"):
        self._browser = browser.new_browser_cdp_session()
        self._browser.on("Target.receivedMessageFromTarget", self._received)
        self._answers: dict[int, dict[str, Any]] = {}
        self._sent = 0
        self._context = self._browser.send("Target.createBrowserContext")["browserContextId"]
        target = {"url": "about:blank", "browserContextId": self._context}
        attach = {"targetId": self._browser.send("Target.createTarget", target)["targetId"], "flatten": False}
        self._session = self._browser.send("Target.attachToTarget", attach)["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=url)
        self.wait_for(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def _received(self, event: dict[str, Any]) -> None:
        message = json.loads(event["message"])
        if "id" in message and event["sessionId"] == self._session:
            self._answers[message["id"]] = message

    def send(self, method: str, **params: Any) -> Any:
        """The result of a command of the DevTools protocol."""
        self._sent += 1
        message = json.dumps({"id": self._sent, "method": method, "params": params})
        self._browser.send("Target.sendMessageToTarget", {"sessionId": self._session, "message": message})
        deadline = time.monotonic() + 20
        while self._sent not in self._answers:
            assert time.monotonic() < deadline, f"no answer to {method}"
            time.sleep(0.01)
            self._browser.send("Browser.getVersion")  # lets Playwright take in what came
        answer = self._answers.pop(self._sent)
        assert "error" not in answer, answer
        return answer["result"]

    def evaluate(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, within: float = 20) -> Any:
        deadline = time.monotonic() + within
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"not within {within} s: {expression}"
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, text: str) -> None:
        """Writes into a field, and leaves it."""
        value = json.dumps(text)
        find = f"const field = document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{{{find}; field.value = {value}; field.dispatchEvent(new Event('change', {{bubbles: true}}))}}")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._browser.send("Target.disposeBrowserContext", {"browserContextId": self._context})
        self._browser.detach()
