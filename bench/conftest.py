"""Plain `pytest bench` checks that what is compared does the same; only `--benchmark-only` measures it."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("benchmark_only"):
        config.option.benchmark_disable = True
