"""The log that peers cannot flood."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fastws.serving import logs
from fastws.serving.logs import LINES, Log


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_each_kind_has_its_own_share(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        log = Log(logging.getLogger("fastws"), asyncio.get_running_loop())
        for number in range(LINES + 5):
            log.about_peer("flood", "closed %s", number)
        log.about_peer("other", "closed %s", "for another reason")
        for error in (ValueError("a"), KeyError("b")):
            for _ in range(LINES + 1):
                log.error("raised", exc_info=error)
        log.error("once %d", 1)
        assert len(lines(caplog)) == 3 * LINES + 2
        assert lines(caplog)[: LINES + 1] == [
            *(f"closed {number}" for number in range(LINES)),
            "closed for another reason",
        ]
        assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {ValueError, KeyError}
        caplog.clear()
        log.flush()
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("INFO", f"closed {LINES + 4} (and 5 more like it)"),
            ("ERROR", "raised (and 1 more like it)"),
            ("ERROR", "raised (and 1 more like it)"),
        ]
        caplog.clear()
        log.flush()  # there is nothing to tell
        log.about_peer("flood", "closed %s", "again")
        log.flush()
        assert lines(caplog) == ["closed again"]

    with caplog.at_level(logging.INFO, "fastws"):
        asyncio.run(main())


def test_the_period_ends_by_itself(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PERIOD", 0.05)

    async def main() -> None:
        log = Log(logging.getLogger("fastws"), asyncio.get_running_loop())
        for _ in range(LINES + 3):
            log.about_peer("flood", "flood")
        while "flood (and 3 more like it)" not in lines(caplog):
            await asyncio.sleep(0.01)
        log.about_peer("flood", "flood")
        assert lines(caplog).count("flood") == LINES + 1
        log.flush()

    with caplog.at_level(logging.INFO, "fastws"):
        asyncio.run(asyncio.wait_for(main(), 10))


def test_what_nobody_wants_to_read_costs_no_timer(caplog: pytest.LogCaptureFixture) -> None:
    class NoTimers:
        def call_later(self, *args: Any) -> None:
            raise AssertionError("a timer for a line that is not written")

    loop: Any = NoTimers()
    with caplog.at_level(logging.ERROR, "fastws"):
        Log(logging.getLogger("fastws"), loop).about_peer("nothing", "nothing")
    assert lines(caplog) == []


def test_after_the_loop_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    Log(logging.getLogger("fastws"), loop).error("late")
    assert lines(caplog) == ["late"]
