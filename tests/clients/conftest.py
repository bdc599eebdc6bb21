"""Connections of the client libraries to a server of the test's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Serving

from .client import Connect, Library


@pytest.fixture(scope="session")
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """For the session: what it holds open is no test's leak."""
    library: Library = request.param()
    yield library
    library.end()


@pytest.fixture
def connect(library: Library, serve: Serving) -> Iterator[Connect]:
    """Opens connections, and releases them before the server is asked what is left of them."""
    connect = Connect(library)
    yield connect
    connect.release()
