"""Connections of the client libraries to a server of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness import ServerThread, Serving

from .client import Client, Connect, Library


@pytest.fixture(scope="session")
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """For the session: what it holds open is no test's leak."""
    library: Library = request.param()
    yield library
    library.end()


@pytest.fixture
def connect(library: Library, serve: Serving) -> Iterator[Connect]:
    """Opens connections, and releases them before the server is asked what is left of them."""
    opened: list[Client] = []

    def connect(server: ServerThread, path: str = "/", **options: Any) -> Client:
        client = library.connect(f"ws://127.0.0.1:{server.port}{path}", **options)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.release()
