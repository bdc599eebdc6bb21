"""Row S9: whoever makes errors by the thousand fills no disk, and is counted all the same."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness import TEXT, Recorder, Serving, build, bystander, eventually, make_app, request_bytes
from harness.crowd import REQUEST, Crowd

FLOOD = 10_000
AT_A_TIME = 250
LINES = 20  # of one kind in a period
PERIOD = 10.0  # seconds
MORE = re.compile(r"\band (\d+) more like it\b")

BAD_FRAME = b"\x83\x80\x00\x00\x00\x00"  # there is no opcode 3
BAD_TEXT = build(TEXT, b"\xff")
BAD_REQUEST = b"what is this\r\n\r\n"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.records: list[logging.LogRecord] = []
        self._began = time.monotonic()

    @property
    def most(self) -> int:
        """How many lines of one kind may have been written so far."""
        periods = int((time.monotonic() - self._began) / PERIOD) + 2  # begun at the first line, not when we began
        return periods * (LINES + 1)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    @property
    def left_out(self) -> int:
        """How many lines were not written, by what those that were say."""
        return sum(int(found[1]) for found in map(MORE.search, self.texts) if found)

    @property
    def told(self) -> int:
        """How many events all lines together tell of."""
        return sum(not MORE.search(text) for text in self.texts) + self.left_out


@contextmanager
def logged() -> Iterator[Lines]:
    logger = logging.getLogger("fastws")
    lines, level = Lines(), logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(lines)


def attack(server: Any, wire: bytes, count: int) -> None:
    """So many connections that each send it and are ended for it."""
    with Crowd(server.port) as crowd:
        for _ in range(count // AT_A_TIME):
            crowd.join(AT_A_TIME, wire)
            crowd.until(lambda member: member.ended)
            crowd.leave()


@pytest.mark.parametrize(
    ("wire", "kind", "reason", "code"),
    [(REQUEST + BAD_FRAME, "closed", "protocol_error", "1002"), (BAD_REQUEST, "refused", "malformed", "400")],
)
def test_s09_ten_thousand_violations(serve: Serving, wire: bytes, kind: str, reason: str, code: str) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with logged() as lines:
        with bystander(server):
            attack(server, wire, FLOOD)
            eventually(lambda: server.stats()["sockets"] == 1)
            stats = server.stats()
            assert stats[kind][reason] == FLOOD
            assert stats["accepted"] == FLOOD + 1
            assert 0 < len(lines.records) <= lines.most
        server.stop_server()
        assert all(record.levelno == logging.INFO for record in lines.records)
        about = [text for text in lines.texts if f" {code}, " in text or MORE.search(text)]
        assert about == lines.texts, "one kind of line"
        assert lines.told == FLOOD  # the last of them with the server's end
        assert lines.left_out >= FLOOD - lines.most
    if kind == "closed":
        assert recorder.events.count(("open",)) == FLOOD
        assert sum(event[:2] == ("close", 1002) for event in recorder.events) == FLOOD
    else:
        assert recorder.events == []


def test_s09_one_kind_does_not_silence_another(serve: Serving) -> None:
    server = serve(make_app(Recorder().handler()))
    with logged() as lines:
        with bystander(server):
            attack(server, REQUEST + BAD_FRAME, 1_000)
            for wire in (REQUEST + BAD_TEXT, BAD_REQUEST, request_bytes("/nothing")):
                attack(server, wire, AT_A_TIME)
        server.stop_server()
        for code in (1002, 1007, 400, 404):
            assert any(f" {code}, " in text for text in lines.texts), code
        assert lines.told == 1_000 + 3 * AT_A_TIME
        assert len(lines.records) <= 4 * lines.most


def test_s09_tracebacks(serve: Serving) -> None:
    """A peer that has found what a callback stumbles over does not fill the disk with it."""

    class Stumbling:
        def message(self, ws: Any, data: Any) -> None:
            raise LookupError(data)

    server = serve(make_app(Stumbling))
    with logged() as lines:
        with bystander(server):
            attack(server, REQUEST + build(TEXT, b"x"), 2_000)
            assert server.stats()["closed"]["error"] == 2_000
        server.stop_server()
        tracebacks = [record for record in lines.records if record.exc_info]
        assert 0 < len(tracebacks) <= lines.most
        errors = [record for record in lines.records if record.levelno >= logging.ERROR]
        left_out = sum(int(found[1]) for found in (MORE.search(record.getMessage()) for record in errors) if found)
        assert len(tracebacks) + left_out == 2_000
    serve.traps.records[:] = [record for record in serve.traps.records if record not in errors]


def test_s09_nothing_of_the_peer_s_is_written_raw(serve: Serving) -> None:
    """A log is read by people and by programs: no line breaks, no terminal's escapes (CWE-117)."""
    server = serve(make_app(Recorder().handler(), allowed_hosts=["localhost"]))
    nasty = "\x1b[2J\x85evil\xff"
    wires = [
        request_bytes(headers=[("Origin", f"https://{nasty}")]),
        request_bytes("/%0d%0aERROR:%20forged"),
        request_bytes(headers=[("X\r\nERROR: forged", "x")]),
        request_bytes(host=f"{nasty}.example"),
        request_bytes(headers=[("Sec-WebSocket-Version", nasty)], without=("sec-websocket-version",)),
        REQUEST + build(8, (1000).to_bytes(2, "big") + b"\r\nERROR: forged \x1b[2J"),
        REQUEST + build(8, (4999).to_bytes(2, "big") + b"\r\nERROR: forged \x1b[2J") + BAD_FRAME,
    ]
    with logged() as lines:
        with bystander(server), Crowd(server.port) as crowd:
            for wire in wires:
                crowd.join(1, wire)
            crowd.until(lambda member: member.ended)
        for text in lines.texts:
            assert text.isprintable(), repr(text)
            assert text.isascii(), repr(text)
