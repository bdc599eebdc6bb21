"""What reached the user's callbacks, and the app that every hostile test is run against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .server import eventually

if TYPE_CHECKING:
    import fastws

Event = tuple[Any, ...]


class _Any:
    """Equal to whatever stands in its place."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANY"


ANY: Any = _Any()


class Recorder:
    """Notes every callback: ("open",), ("message", data), ("ping", data), ("pong", data), ("drain",),
    ("close", code, reason), and ("upgrade",) where the handler has that hook. `of` keeps them per query string, so that
    many connections can be told apart."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.of: dict[str, list[Event]] = {}
        self.requests: list[Any] = []
        self.sockets: list[Any] = []

    def note(self, who: Any, *event: Any) -> None:
        self.events.append(event)
        self.of.setdefault(str(who.query_string), []).append(event)

    def wait_for(self, *expected: Event, within: float = 3.0) -> None:
        """Until exactly these events are there."""
        eventually(lambda: self.events == list(expected), within, f"events {list(expected)}, but {self.events}")

    def handler(self, *, echo: bool = False, upgrade: bool = False) -> type:
        recorder = self

        class Recording:
            def open(self, ws: Any) -> None:
                recorder.sockets.append(ws)
                recorder.note(ws, "open")

            def message(self, ws: Any, data: Any) -> None:
                recorder.note(ws, "message", data)
                if echo:
                    ws.send(data)

            def drain(self, ws: Any) -> None:
                recorder.note(ws, "drain")

            def ping(self, ws: Any, data: Any) -> None:
                recorder.note(ws, "ping", bytes(data))

            def pong(self, ws: Any, data: Any) -> None:
                recorder.note(ws, "pong", bytes(data))

            def close(self, ws: Any, code: int, reason: str) -> None:
                recorder.note(ws, "close", code, reason)

        class RecordingUpgrade(Recording):
            def upgrade(self, request: Any) -> None:
                recorder.requests.append(request)
                recorder.note(request, "upgrade")

        return RecordingUpgrade if upgrade else Recording


def echo(ws: Any, data: Any) -> None:
    ws.send(data)


def make_app(handler: Any = None, **options: Any) -> fastws.App:
    """An app with `handler` on "/" and the route that the bystander needs. Pings are off unless asked for: they would
    mix with what a test reads."""
    import fastws

    app = fastws.App(**{"ping_interval": 0, **options})
    app.websocket("/bystander", max_message_size=1 << 20, text="str", binary="bytes")(echo)
    if handler is not None:
        app.websocket("/")(handler)
    return app
