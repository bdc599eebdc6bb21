"""The demo: one page with a chat room over a topic and an echo meter. `fastws demo` serves it."""

from pathlib import Path
from typing import Any

import fastws
from fastws.demo.chat import Chat

HTML, CSS, JS, SVG = "text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript", "image/svg+xml"
TYPES = {".html": HTML, ".css": CSS, ".js": JS, ".svg": SVG}

HEADERS = {
    "Cache-Control": "no-cache",
    # Nothing inline, nothing from elsewhere; 'self' covers this host's WebSockets too (CSP 3, 6.7.2.8).
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # An isolated page has a clock of 5 microseconds instead of 100: a round trip takes fewer than that.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


def make_app(**options: Any) -> fastws.App:
    """The demo as an App of its own; `options` are the App's."""
    app = fastws.App(**options)
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in TYPES:
            _serve_file(app, path)
    app.websocket("/chat", max_message_size=4096, max_message_rate=10)(Chat(app))

    @app.websocket("/echo")
    def echo(ws: fastws.WebSocket, data: str | bytes) -> None:
        ws.send(data)

    return app


def _serve_file(app: fastws.App, path: Path) -> None:
    response = fastws.Response(body=path.read_bytes(), content_type=TYPES[path.suffix], headers=HEADERS)

    @app.http("/" if path.name == "index.html" else f"/{path.name}")
    def serve(request: fastws.Request) -> fastws.Response:
        return response


app = make_app()
