"""Fixtures for everything that talks to a running server. Their teardown is half of every test."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
from collections.abc import Generator, Iterator

import pytest
from harness import RawClient, Serving, Traps, new_loop, open_fds

LOOP_KINDS = ["uvloop", "asyncio"]


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> None:
    """What was imported is no garbage: the collections around each test need not look at it."""
    gc.freeze()


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


def _no_skip_in_ci(report):  # type: ignore[no-untyped-def]
    """A test skipped in CI is a test that nobody runs: it fails there. (An expected failure is no skip.)"""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
