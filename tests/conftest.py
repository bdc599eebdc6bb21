"""Fixtures for everything that runs on a loop or talks to a server. Their teardown is half of every test."""

from __future__ import annotations

import asyncio
import collections
import functools
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any, TypeVar

import hypothesis
import pytest
from harness import RawClient, Serving, Traps, new_loop, open_fds
from harness.tasks import Bench, returns

LOOP_KINDS = ["uvloop", "asyncio"]
EXTENSIONS = {"fastws._speedups", "core.protocol._protocol", "core.io._toy", "simd._variants"}

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def of_extensions() -> collections.Counter[str]:
    return collections.Counter(type(one).__name__ for one in gc.get_objects() if type(one).__module__ in EXTENSIONS)


@pytest.fixture(scope="session", autouse=True)
def no_object_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Objects that can be in a cycle are all known to Python, which is why no leak detector takes them for lost."""
    before = of_extensions()
    yield
    for one in gc.get_objects():
        if isinstance(one, logging.LogRecord):
            one.exc_info = one.args = None  # pytest keeps the last test's, and a traceback holds its connection
    gc.collect()
    left = of_extensions() - before
    assert request.session.testsfailed or not left, f"never freed: {left}"


@pytest.fixture(scope="session", autouse=True)
def quick_collections(no_object_left: None) -> Iterator[None]:
    """What was imported is no garbage: the collections around each test need not look at it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=LOOP_KINDS)
def loop_kind(request: pytest.FixtureRequest) -> str:
    if request.param == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    warm_up(request.param)
    return str(request.param)


@functools.cache
def warm_up(kind: str) -> None:
    """libuv keeps a pipe for the whole process from its first loop on: that is no leak of a test's."""
    loop = new_loop(kind)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture
def traps() -> Iterator[Traps]:
    """Fails the test for every traceback, ERROR or unraisable exception that it did not expect."""
    with Traps() as found:
        yield found
    found.check()


@pytest.fixture
def no_leaked_fds() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # nor need they look at what pytest and others keep of earlier tests
    before = open_fds()
    yield
    for client in list(RawClient.opened):
        client.close()
    gc.collect()
    left = {fd: what for fd, what in open_fds().items() if before.get(fd) != what}
    assert not left, f"leaked descriptors: {left}"


@pytest.fixture
def serve(loop_kind: str, no_leaked_fds: None, traps: Traps) -> Iterator[Serving]:
    serving = Serving(loop_kind, traps)
    yield serving
    serving.finish()


@pytest.fixture
def run(loop_kind: str, no_leaked_fds: None, traps: Traps) -> Any:
    """Runs a coroutine function on a fresh loop, and fails for what it leaves there."""

    def run(main: Callable[[], Awaitable[None]]) -> None:
        loop = new_loop(loop_kind)
        errors: list[Any] = []
        loop.set_exception_handler(lambda loop, context: errors.append(context))
        try:
            loop.run_until_complete(asyncio.wait_for(main(), 30))
            loop.run_until_complete(asyncio.sleep(0))
            assert not errors
            assert asyncio.all_tasks(loop) == set()
            if isinstance(loop, asyncio.BaseEventLoop):
                assert [handle for handle in loop._scheduled if not handle.cancelled()] == []  # type: ignore[attr-defined]
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    loop = new_loop(request.param)
    yield loop
    loop.close()


@pytest.fixture(params=["call_soon", "add_reader"])
def entry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["fresh spare", "parked spare"])
def bench(loop: asyncio.AbstractEventLoop, entry: str, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A parked spare has served a coroutine that did not suspend, and waits; a fresh one has not been stepped yet."""
    bench = Bench(loop, entry)
    if request.param == "parked spare":
        assert bench.call(lambda: bench.start(returns(0))) is None
        bench.settle()
        bench.outcomes.clear()
    yield bench
    bench.starter.close()
    bench.settle()
    assert asyncio.all_tasks(loop) == set()
    del bench.starter
    gc.collect()
    bench.settle()
    assert bench.errors == []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What a version of Python has not, or does otherwise, is no test there, rather than one that is skipped."""
    for name, belongs in (("since", sys.version_info.__ge__), ("before", sys.version_info.__lt__)):
        gone = [item for item in items if any(not belongs(mark.args) for mark in item.iter_markers(name))]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _no_skip_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _no_skip_in_ci((yield))


def _no_skip_in_ci(report: Report) -> Report:
    """A test skipped in CI is a test that nobody runs: it fails there. (An expected failure is no skip.)"""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
