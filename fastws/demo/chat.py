"""The chat room: JSON in text messages over one topic. It holds the last messages, and nothing on disk.

The page sends {"type": "name", "name"}, which enters the room or changes the name, and {"type": "say", "text"}; all
else is dropped without a word. It gets `welcome`, then `said`, `joined`, `left` and `renamed` as they happen.
"""

import json
import time
import uuid
from collections import deque
from typing import Any

import fastws

TOPIC = "demo/chat"
MAX_NAME, MAX_TEXT, HISTORY = 24, 500, 20


class Chat:
    def __init__(self, app: fastws.App) -> None:
        self.app = app
        #: Tells a page that comes back whether this is still the server that it knew.
        self.room = uuid.uuid4().hex
        self.said = 0
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    def message(self, ws: fastws.WebSocket, data: str | bytes) -> None:
        match parse(data):
            case {"type": "name", "name": str(name)} if name := clean(name, MAX_NAME):
                self.enter(ws, name)
            case {"type": "say", "text": str(text)} if ws.data and (text := clean(text, MAX_TEXT)):
                self.said += 1
                said = {"n": self.said, "id": ws.id, "name": ws.data, "text": text, "time": int(time.time())}
                self.history.append(said)
                self.app.publish(TOPIC, json.dumps({"type": "said", **said}))

    def enter(self, ws: fastws.WebSocket, name: str) -> None:
        before, ws.data = ws.data, name
        if ws.subscribe(TOPIC):
            welcome = {"type": "welcome", "room": self.room, "id": ws.id, "history": [*self.history]}
            ws.send(json.dumps(welcome | {"here": self.here()}))
            ws.publish(TOPIC, json.dumps({"type": "joined", "name": name, "here": self.here()}))
        elif before != name:
            self.app.publish(TOPIC, json.dumps({"type": "renamed", "before": before, "name": name}))

    def close(self, ws: fastws.WebSocket, code: int, reason: str) -> None:
        if ws.data:  # it has left the topic already
            self.app.publish(TOPIC, json.dumps({"type": "left", "name": ws.data, "here": self.here()}))

    def here(self) -> int:
        return self.app.num_subscribers(TOPIC)


def parse(data: str | bytes) -> object:
    """The JSON in a text message; None for what is none."""
    try:
        return json.loads(data) if isinstance(data, str) else None
    except (ValueError, RecursionError):
        return None


def clean(text: str, longest: int) -> str:
    """One line of at most `longest` characters, without what would break a page: lone surrogates, controls, overrides
    of the direction. The joiners of emoji and of Persian stay."""
    joiners = "\u200c\u200d"
    line = " ".join(text.split())
    return "".join(each for each in line if each.isprintable() or each in joiners)[:longest].strip(" " + joiners)
