"""Plain `pytest bench` checks that what is compared does the same; only `--benchmark-only` measures it."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("benchmark_only"):
        config.option.benchmark_disable = True
