"""Which client libraries there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from . import via_node
from .client import Library
from .via_aiohttp import Aiohttp
from .via_node import NodeWs
from .via_picows import Picows, PicowsCompat
from .via_websocket_client import WebsocketClient
from .via_websockets import Websockets

LIBRARIES: list[type[Library]] = [Websockets, Aiohttp, WebsocketClient, Picows]
if via_node.is_installed():  # the Makefile installs it for `make test`, and says so where it cannot
    LIBRARIES.append(NodeWs)


#: Those that compress.
COMPRESSING: list[type[Library]] = [*(library for library in LIBRARIES if library.offers), PicowsCompat]


def each_library(
    where: Callable[[type[Library]], bool] = lambda library: True, among: Sequence[type[Library]] = LIBRARIES
) -> pytest.MarkDecorator:
    """Runs a test with the libraries of which `where` is true."""
    chosen = [library for library in among if where(library)]
    return pytest.mark.parametrize("library", chosen, ids=[library.name for library in chosen], indirect=True)
