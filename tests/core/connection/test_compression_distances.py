"""Nothing that is sent refers further back than the window that was agreed on (RFC 7692 section 7.1.2.1)."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from harness import Serving, make_app
from harness.deflating import DeflateClient
from oracles.deflate import TAIL, read

import fastws
from core.protocol import _protocol as protocol
from fastws.compression import negotiate

pytestmark = pytest.mark.sampled
on_uvloop = pytest.mark.parametrize("loop_kind", ["uvloop"], indirect=True)

OFFER = "permessage-deflate"
TEXT = '{"symbol":"BTC-EUR","price":64123.5,"amount":0.0150,"side":"buy","time":1700000000}'


class Subscribing:
    def open(self, ws: Any) -> None:
        ws.subscribe("all")

    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)


#: Messages for a window: for the larger ones fewer, for this reader of DEFLATE is slow. EXAMPLES is a factor.
RUN = {bits: int(float(os.environ.get("EXAMPLES", "1")) * min(200, (1 << 20) >> bits)) + 60 for bits in range(8, 16)}


def long_run(number: int, bits: int) -> str:
    """One of many messages, from a few bytes to a window, which repeat themselves and each other: what comes again
    does so after about three quarters of the window, or after more than the window, where it would be an error."""
    window = 1 << bits
    size = window if number % 8 == 1 else 1 + number * number * 37 % (60 if number % 4 == 3 else window // 2)
    block = random.Random(number % (3 if number // 50 % 2 else 6)).randbytes(window // 8).hex()
    return ((block + TEXT * 3)[number % 7 :] * 3)[:size]


def check_distances(serve: Serving, bits: int, settings: Any, publish: Callable[[int], bool] = lambda _: False) -> int:
    """Echoes or publishes a long run to a client with so small a window, another talking in between now and then. How
    many messages came compressed."""
    app = make_app(Subscribing, compression=settings)
    server = serve(app)
    farthest = count = 0
    window = b""
    with DeflateClient.offer(server.port, f"{OFFER}; server_max_window_bits={bits}") as client:
        other = DeflateClient.offer(server.port, OFFER, path="/bystander")
        assert client.agreed is not None
        assert client.agreed.server_bits <= bits
        for number in range(RUN[bits]):
            if number % 60 > 40:  # so that what is kept of the client is what its messages refer to
                other.send(TEXT)
                assert other.recv() == TEXT
            message = long_run(number, bits)
            if publish(number):
                message += TEXT + message  # which some windows do not reach
                server.call(app.publish, "all", message)
            else:
                client.send(message)
            received = client.receive()
            assert received.data == message
            if received.wire is not None:
                # Only what the client still has: a distance past its start would not be read.
                reading = read(received.wire + TAIL, window[-(1 << bits) :])
                assert reading.output == message.encode()
                farthest = max(farthest, reading.farthest)
                window += reading.output
                count += 1
    assert farthest <= 1 << bits, f"distance {farthest} in a window of {1 << bits}"
    assert farthest > 1 << bits - 2, f"no distance over {farthest}: this has shown nothing"
    return count


@on_uvloop
@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("bits", range(8, 16))
def test_no_distance_exceeds_the_window(serve: Serving, bits: int, level: int) -> None:
    settings = fastws.Deflate(level=level, threshold=0, history=32_768)
    assert check_distances(serve, bits, settings) > RUN[bits] // 2


@on_uvloop
@pytest.mark.parametrize(
    "settings", [{}, {"history": 0}, {"history": 300}, {"mem_level": 1}, {"mem_level": 9}], ids=str
)
def test_no_distance_exceeds_the_smallest_window(serve: Serving, settings: dict[str, Any]) -> None:
    assert check_distances(serve, 8, fastws.Deflate(**settings)) > RUN[8] // 4


@on_uvloop
@pytest.mark.parametrize("bits", [8, 9, 12, 15])
def test_no_distance_exceeds_the_window_with_what_is_published(serve: Serving, bits: int) -> None:
    check_distances(serve, bits, fastws.Deflate(threshold=0), lambda number: number % 4 == 1)


@pytest.mark.parametrize("history", [0, 300, 32_768])
@pytest.mark.parametrize("bits", range(8, 16))
def test_no_distance_exceeds_the_window_without_a_socket(bits: int, history: int) -> None:
    """The protocol half alone: several peers by turns, their histories given up now and then, messages that others are
    sent, too, where those are not longer than the window."""
    settings = fastws.Deflate(history=history, level=9 if history == 300 else 1)
    codec = protocol.Compression(settings)
    peers = []
    for own in (bits, bits, min(bits + 1, 15)):
        agreement = negotiate(settings, f"{OFFER}; server_max_window_bits={own}".encode(), True)
        assert agreement is not None
        peers.append((protocol.Deflation(agreement), own, bytearray()))
    random_peer = random.Random(bits)
    farthest = 0
    for number in range(RUN[bits]):
        message = long_run(number, bits).encode()
        deflation, own, window = random_peer.choice(peers)
        if number % 10 == 3 and len(message) <= 1 << own:
            payload = codec.compress(None, message)
            if payload is not None:
                codec.shared(deflation, message)
        else:
            payload = codec.compress(deflation, message)
        if number % 25 == 24:
            protocol.give_up_history(deflation)
        if payload is None:
            continue
        reading = read(payload + TAIL, bytes(window[-(1 << own) :]) if history else b"")
        assert reading.output == message
        assert reading.farthest <= 1 << own
        farthest = max(farthest, reading.farthest if own == bits else 0)
        window += message
    assert farthest > 1 << bits - 2
