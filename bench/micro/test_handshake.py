"""The opening handshake without a socket: from the bytes of a request to the bytes of the 101.

python -m pytest bench/micro/test_handshake.py --benchmark-only

Each makes what it makes for a connection, reads the request, checks it and builds the answer. fastws' half of this is
compiled alone for its own tests (tests/core/protocol); in a server it is called from C. picows and aiohttp have no
handshake without a transport. How long a whole connection takes is measured by the workload `connect-64`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import wsproto
from pytest_benchmark.fixture import BenchmarkFixture
from websockets.http11 import Request
from websockets.server import ServerProtocol
from wsproto.events import AcceptConnection

pytestmark = pytest.mark.benchmark(max_time=0.2)  # seconds; of each, the best round counts

LEAST = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
REQUESTS = {
    "least": LEAST + b"\r\n",
    "browser": LEAST + b"Origin: http://server.example.com\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nDNT: 1\r\nSec-GPC: 1\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nSec-Fetch-Dest: websocket\r\n"
    b"Sec-Fetch-Mode: websocket\r\nSec-Fetch-Site: same-origin\r\n\r\n",
}


def by_fastws(request: bytes) -> bytes:
    head = protocol.RequestHead()
    assert head.feed(request) == "done"
    handshake = head.handshake
    assert (handshake.refuse_request(None) or handshake.refuse_upgrade(None)) is None
    response: bytes = handshake.response(None)
    return response


def by_websockets(request: bytes) -> bytes:
    server = ServerProtocol()
    server.receive_data(request)
    (event,) = server.events_received()
    assert isinstance(event, Request)
    server.send_response(server.accept(event))
    return b"".join(server.data_to_send())


def by_wsproto(request: bytes) -> bytes:
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    server.receive_data(request)
    (event,) = server.events()
    assert isinstance(event, wsproto.events.Request)
    return server.send(AcceptConnection())


BY: dict[str, Callable[[bytes], bytes]] = {"fastws": by_fastws, "websockets": by_websockets, "wsproto": by_wsproto}
protocol: Any = pytest.importorskip("tests.core.protocol._protocol", reason="make alone")


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("request_of", REQUESTS)
def test_handshake(benchmark: BenchmarkFixture, request_of: str, by: str) -> None:
    request = REQUESTS[request_of]
    status, *lines = BY[by](request).split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines if line)
    assert status.startswith(b"HTTP/1.1 101 ")
    assert lines[-2:] == [b"", b""]
    assert headers[b"sec-websocket-accept"] == b"s3pplmbitxaq9kygzzhzrbk+xoo="  # RFC 6455 section 1.3, in lower case
    assert (headers[b"upgrade"].lower(), headers[b"connection"]) == (b"websocket", b"upgrade")
    benchmark.group = f"handshake, {request_of}"
    benchmark.extra_info = {"size": len(request)}
    benchmark(BY[by], request)
