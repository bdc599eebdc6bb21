"""The log that peers cannot flood."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest
from harness.programs import python

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


# Where the lines go, in a process of its own: pytest has configured logging in this one

SERVE = """
import asyncio, logging, logging.config, os, signal, sys, threading, time
import fastws

app = fastws.App()

async def serve():
    async with await app.start("127.0.0.1", 0):
        pass

log = logging.getLogger("fastws")
"""
LISTENING = r"20\d\d-.* INFO fastws: listening on http://127\.0\.0\.1:\d+ \(asyncio\)\n"


def told(program: str) -> tuple[str, str]:
    """What it has written to stdout and to stderr."""
    done = python("-W", "error", "-c", SERVE + program)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_lines_in_another_program_that_configures_none() -> None:
    """Its lines reach stderr from INFO on, and logging is as it was."""
    out, err = told("""
before = logging.lastResort
asyncio.run(serve())
assert logging.getLogger().handlers == log.handlers == [] and log.level == 0 and logging.lastResort is before
log.info("not by us, so nobody sees it")
""")
    assert out == ""
    assert re.fullmatch(LISTENING, err), err


@pytest.mark.parametrize(
    "configuration",
    [
        'logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": {"uvicorn": {}}})',
        'logging.config.dictConfig({"version": 1, "loggers": {"uvicorn": {}}})',
        'logging.getLogger("mine").addHandler(logging.StreamHandler(sys.stdout))',
    ],
)
def test_beside_other_loggers_with_a_configuration(configuration: str) -> None:
    out, err = told(f"{configuration}\nasyncio.run(serve())")
    assert out == ""
    assert re.fullmatch(LISTENING, err), err


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("logging.basicConfig(stream=sys.stdout)", ""),
        ("logging.basicConfig(stream=sys.stdout, level=logging.INFO)", r"INFO:fastws:listening on .*\n"),
        ("logging.basicConfig(stream=sys.stdout); log.setLevel(logging.INFO)", r"INFO:fastws:listening on .*\n"),
        ('log.addHandler(logging.StreamHandler(sys.stdout)); log.setLevel("INFO")', r"listening on .*\n"),
        ("log.addHandler(logging.NullHandler())", ""),
        ("log.setLevel(logging.ERROR)", ""),
        ("logging.getLogger().setLevel(logging.ERROR)", ""),
        ("logging.disable(logging.INFO)", ""),
        ("log.addFilter(lambda record: False)", ""),
    ],
)
def test_a_configuration_is_the_programs(configuration: str, expected: str) -> None:
    """From when it is there, which may be later than the server."""
    out, err = told(f"{configuration}\nasyncio.run(serve())")
    assert err == ""
    assert re.fullmatch(expected, out), out
    out, err = told(f"asyncio.run(serve())\n{configuration}\nasyncio.run(serve())")
    assert re.fullmatch(LISTENING, err), err
    assert re.fullmatch(expected, out), out


RAISING = """
@app.websocket("/")
class Handler:
    def open(self, ws):
        raise ZeroDivisionError("mine")

async def connect():
    async with await app.start("127.0.0.1", 0) as server:
        CONFIGURATION
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
            b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n")
        await reader.readuntil(b"\\x03\\xf3")  # 1011
        writer.close()
        await writer.wait_closed()
"""
DISABLING = [
    'logging.config.dictConfig({"version": 1})',
    'logging.config.dictConfig({"version": 1, "handlers": {"out": {"class": "logging.StreamHandler"}}, "root": '
    '{"handlers": ["out"], "level": "INFO"}})',
]


@pytest.mark.parametrize("configuration", DISABLING)
@pytest.mark.parametrize("later", [False, True], ids=["before", "later"])
def test_no_configuration_silences_tracebacks_by_accident(configuration: str, later: bool) -> None:
    """dictConfig() disables the loggers that it does not name, by default."""
    program = RAISING.replace("CONFIGURATION", configuration if later else "")
    program += f"{'' if later else configuration}\nasyncio.run(connect())"
    out, err = told(program)
    assert out == ""
    assert err.count("Traceback") == 1 and "ZeroDivisionError: mine" in err
    assert "listening on" in err


RUN = """
mine = logging.getLogger("mine")

async def lifespan(app):
    LATER
    mine.debug("details")
    mine.info("entered")
    yield
    mine.warning("left")

app = fastws.App(lifespan=lifespan)

def end():
    while not app._servers:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end).start()
"""


@pytest.mark.parametrize(
    ("before", "later", "expected_out", "expected_err"),
    [
        (
            "",
            "",
            [],
            ["INFO mine: entered", "INFO fastws: listening on", "INFO fastws: stopping", "WARNING mine: left"],
        ),
        ("logging.basicConfig(stream=sys.stdout)", "", ["WARNING:mine:left"], []),
        (
            "",
            "logging.basicConfig(stream=sys.stdout)",
            ["INFO:mine:entered", "INFO:fastws:listening on", "INFO:fastws:stopping", "WARNING:mine:left"],
            [],
        ),
        (
            "mine.addHandler(logging.StreamHandler(sys.stdout))",
            "",
            ["entered", "left"],
            ["INFO fastws: listening on", "INFO fastws: stopping"],
        ),
        (
            "logging.getLogger().setLevel(logging.DEBUG); logging.getLogger('asyncio').setLevel(logging.INFO)",
            "",
            [],
            [
                "DEBUG mine: details",
                "INFO mine: entered",
                "INFO fastws: listening on",
                "INFO fastws: stopping",
                "WARNING mine: left",
            ],
        ),
    ],
    ids=["none", "before", "later", "own handler", "own level"],
)
def test_lines_under_app_run(before: str, later: str, expected_out: list[str], expected_err: list[str]) -> None:
    """The application's own lines appear beside those of fastws, each once, and logging is as it was afterwards."""
    out, err = told(f"""{RUN.replace("LATER", later or "pass")}
{before}
was = logging.lastResort, logging.getLogger().level
app.run(port=0)
assert logging.lastResort is was[0]
assert logging.getLogger().level == was[1] or logging.getLogger().handlers
""")
    for written, expected in ((out, expected_out), (err, expected_err)):
        lines = written.splitlines()
        assert len(lines) == len(expected), written
        for line, part in zip(lines, expected, strict=True):
            assert part in line
    if expected_err and not before:
        assert all(re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ \w+: ", line) for line in err.splitlines())
