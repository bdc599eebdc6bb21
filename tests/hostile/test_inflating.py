"""Rows C1-C4, and F7 where compression was negotiated: what arrives compressed (RFC 7692 sections 6 and 7.2)."""

from __future__ import annotations

import asyncio
import os
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness import (
    ANY,
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    build,
    bystander,
    eventually,
    make_app,
)
from harness.deflating import RSV1, WRONG_PARAMETERS, DeflateClient, Params, compressed, deflate
from oracles.deflate import TAIL, outcomes

import fastws
from hostile.deflated import CASES, LIMIT, ROUTES, Stage
from hostile.streams import memory_of

OFFER = "permessage-deflate"
OPENED: tuple[Any, ...] = ("open",)
MIB = 1 << 20
SLACK = 4 if "asan" in os.environ.get("LD_PRELOAD", "") else 1  # it keeps what was freed for a while
HELLO = deflate(b"hello")


@contextmanager
def neighbour(server: ServerThread) -> Iterator[None]:
    """A connection whose messages go through the same inflater is none the worse for what others send."""
    client = DeflateClient.offer(server.port, OFFER, path="/bystander")

    def echoes() -> None:
        for message in ("as before", "as before, and more of it" * 9, b"\x00\xff" * 900):
            client.send_deflated(message)
            assert client.recv() == message

    echoes()
    yield
    echoes()
    client.close()


def bomb(mebibytes: int) -> bytes:
    """Zeros, at about a thousandth of their size. Each MiB stands for itself."""
    one = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = one.compress(bytes(MIB)) + one.flush(zlib.Z_FULL_FLUSH)
    return (block * mebibytes)[: -len(TAIL)]


def peak() -> int:
    """The most bytes that were resident since the last reset."""
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def reset_peak() -> int:
    """What is resident now."""
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    return memory_of()


# -- C1


@pytest.mark.parametrize("mebibytes", [2, 64, 1024])
@pytest.mark.parametrize("route", ROUTES)
def test_c01_a_bomb(serve: Serving, route: str, mebibytes: int) -> None:
    """1009, and never more than the limit and a little in memory, whoever gets the messages."""
    recorder = Recorder()
    app = make_app(compression="deflate")
    ROUTES[route](app, "/", recorder, 1 * MIB)
    server = serve(app)
    payload = bomb(mebibytes)
    assert len(payload) < 1.1 * MIB
    assert outcomes(bomb(1), MIB) == {bytes(MIB)}
    with bystander(server, recorder, [OPENED, ("close", 1009, ANY)] * 4), neighbour(server):
        stream = compressed(BINARY, payload)
        before = reset_peak()
        for number in range(4):
            client = DeflateClient.offer(server.port, OFFER)
            client.send_raw(stream if number % 2 else compressed(BINARY, payload, sizes=[200, 0, len(payload) // 2]))
            client.expect_close(1009)
        assert peak() - before < 24 * SLACK * MIB, f"{(peak() - before) / MIB:.0f} MiB for messages of at most 1"


def test_c01_a_bomb_within_a_large_limit(serve: Serving) -> None:
    """With a limit of 32 MiB, 32 MiB and what it takes to grow to them: the half, where the C library moves a block."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate", max_message_size=32 * MIB))
    payload = bomb(1024)
    with bystander(server, recorder, [OPENED, ("close", 1009, ANY)]), neighbour(server):
        before = reset_peak()
        client = DeflateClient.offer(server.port, OFFER)
        client.send_raw(compressed(BINARY, payload))
        client.expect_close(1009)
        assert peak() - before < (32 + 16 + 12) * SLACK * MIB, f"{(peak() - before) / MIB:.0f} MiB"


@pytest.mark.parametrize("takeover", [False, True])
def test_c01_many_bombs(serve: Serving, takeover: bool) -> None:
    """Those that wait for their last byte hold what they have sent, not what it inflates to."""
    recorder = Recorder()
    settings = fastws.Deflate(client_no_context_takeover=not takeover)
    server = serve(make_app(recorder.handler(), compression=settings))
    stream = compressed(BINARY, bomb(100))
    count = 30
    expected = [*[OPENED] * count, *[("close", 1009, ANY)] * count]
    with bystander(server, recorder, expected), neighbour(server):
        clients = [DeflateClient.offer(server.port, OFFER) for _ in range(count)]
        before = reset_peak()
        for client in clients:
            client.send_raw(stream[:-1])
        eventually(lambda: server.stats()["buffered_bytes"] >= count * (len(stream) - 100))
        assert server.stats()["buffered_bytes"] < 4 * count * len(stream)
        for client in clients:
            client.send_raw(stream[-1:])
            client.expect_close(1009)
        assert peak() - before < 48 * SLACK * MIB


def test_a_burst_of_bombs(serve: Serving) -> None:
    """Each within the limit, and all of them in one read: after 256 KiB of them the loop goes on to others first."""
    many = 150
    runs = [0]  # how many were delivered before each turn of the loop

    def message(ws: fastws.WebSocket, data: bytes) -> None:
        if not runs[-1]:
            asyncio.get_running_loop().call_soon(runs.append, 0)
        runs[-1] += 1

    server = serve(make_app(message, compression="deflate"))
    client = DeflateClient.offer(server.port, OFFER)
    client.send_raw(compressed(BINARY, bomb(1)) * many)
    eventually(lambda: sum(runs) == many)
    assert max(runs) <= 4, runs  # one in a batch of events, one when its turn ends, and both once more
    client.close()


@pytest.mark.parametrize("first", ["whole", "whole in fragments"])
@pytest.mark.parametrize(
    ("rest", "code"),
    [(b"", None), (b"x", 1009), (bytes(3 * LIMIT), 1009)],
    ids=["nothing more", "one byte more", "far more"],
)
@pytest.mark.parametrize("route", ROUTES)
def test_c01_a_first_fragment_of_exactly_the_limit(
    serve: Serving, route: str, rest: bytes, code: int | None, first: str
) -> None:
    recorder = Recorder()
    app = make_app(compression="deflate")
    ROUTES[route](app, "/", recorder, LIMIT)
    server = serve(app)
    whole = random.Random(2).randbytes(LIMIT // 2).hex().encode()[:LIMIT]
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    start = deflater.compress(whole) + deflater.flush(zlib.Z_SYNC_FLUSH)
    payload = start + (deflater.compress(rest) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]
    outcome = ("message", whole) if code is None else ("close", code, ANY)
    expected = [OPENED, ("ping", b"1"), outcome, ("close", 1006, ANY)]
    with bystander(server, recorder, expected if code is None else expected[:3]):
        with neighbour(server):
            client = DeflateClient.offer(server.port, OFFER)
            sizes = [len(start)] if first == "whole" else [len(start) - 7, 7]
            client.send_raw(compressed(BINARY, payload, sizes=sizes, between=[build(PING, b"1")]))
            assert client.recv_frame().opcode == PONG
            if code is None:
                eventually(lambda: recorder.events[2:] == [outcome])
            else:
                client.expect_close(code)
            client.close()
            eventually(lambda: recorder.events[-1][0] == "close")


# -- C2, C4, M1


@pytest.mark.parametrize("route", ROUTES)
def test_c02_c04_streams(serve: Serving, route: str) -> None:
    """Whole, byte by byte, and in fragments of all sizes with control frames in between."""
    stage = Stage(serve, route)
    with bystander(stage.server), neighbour(stage.server):
        for way in ("whole", "bytes", "fragments", "fragments of one byte"):
            stage.play(CASES, way)


def test_c02_wire_longer_than_the_limit(serve: Serving) -> None:
    """Blocks without anything in them are no way around the limit; what a compressor adds to noise is not over it."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    noise = random.Random(1).randbytes(MIB)
    delivered = [deflate(noise, memory=memory, level=level) for memory, level in ((8, 6), (1, 1), (9, 9), (5, 0))]
    assert all(len(payload) > MIB for payload in delivered)
    empty = b"\x00" + TAIL
    refused = [empty * (3 * MIB // len(empty)), b"\x02\x08\x20\x80" * MIB + b"\x00"]
    expected = [OPENED, *[("message", noise)] * len(delivered), ("close", 1006, ANY)]
    expected += [OPENED, ("close", 1009, ANY)] * len(refused)
    with bystander(server, recorder, expected), neighbour(server):
        client = DeflateClient.offer(server.port, OFFER)
        for payload in delivered:
            client.send_raw(compressed(BINARY, payload))
        eventually(lambda: len(recorder.events) == 1 + len(delivered))
        client.close()
        eventually(lambda: len(recorder.events) == 2 + len(delivered))
        for payload in refused:
            client = DeflateClient.offer(server.port, OFFER)
            try:
                client.send_raw(compressed(BINARY, payload))
            except ConnectionError:
                pass  # it need not take it all
            client.expect_close(1009)


@pytest.mark.parametrize("size", [100, 100_000])
@pytest.mark.parametrize("kept", [False, True])
def test_c02_views_of_compressed_messages(serve: Serving, size: int, kept: bool) -> None:
    """What is exported from a view stays what it was, whatever is inflated later; the view itself ends (row A3)."""
    views: list[memoryview] = []
    exported: list[memoryview] = []
    seen: list[bytes] = []

    def message(ws: Any, data: memoryview) -> None:
        views.append(data)
        seen.append(bytes(data))
        if kept:
            exported.append(data[1:])

    server = serve(make_app(message, compression="deflate", binary="view"))
    sent = [bytes([number]) * size for number in range(1, 30)]
    with bystander(server), neighbour(server):
        client = DeflateClient.offer(server.port, OFFER)
        for data in sent:
            client.send_deflated(data)
        eventually(lambda: len(seen) == len(sent))
        assert seen == sent
        assert [bytes(view) for view in exported] == ([data[1:] for data in sent] if kept else [])
        for view in views:
            with pytest.raises(ValueError, match="released"):
                bytes(view)
        for view in exported:
            view.release()
        exported.clear()


def test_c02_fragments_without_end(serve: Serving) -> None:
    """Row M2 for a compressed message."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    with bystander(server, recorder, [OPENED, ("close", 1008, ANY)]), neighbour(server):
        client = DeflateClient.offer(server.port, OFFER)
        client.send_raw(build(TEXT, b"", fin=False, rsv=RSV1) + build(CONT, b"", fin=False) * 20_000)
        client.expect_close(1008)


def test_c02_many_in_one_connection(serve: Serving) -> None:
    """What one message leaves in the inflater is not the next one's: each is by itself, as it was agreed."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate", max_message_size=LIMIT))
    good = [case for case in CASES if isinstance(case.outcome, bytes)]
    assert len(good) > 12
    chosen = random.Random(3).choices(good, k=2000)
    expected = [("message", case.outcome.decode() if case.opcode == TEXT else case.outcome) for case in chosen]  # type: ignore[union-attr]
    with bystander(server, recorder, [OPENED, *expected, ("close", 1006, ANY)]), neighbour(server):
        client = DeflateClient.offer(server.port, OFFER)
        client.send_raw(b"".join(compressed(case.opcode, case.payload) for case in chosen))
        eventually(lambda: len(recorder.events) == 2001)
        client.close()
        eventually(lambda: len(recorder.events) == 2002)


# -- C3


def test_c03_offers_that_are_declined(serve: Serving) -> None:
    """The next one is tried, in that header or the next; alone, it means no compression."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    good = f"{OFFER}; server_max_window_bits=11"
    with bystander(server), neighbour(server):
        for wrong in WRONG_PARAMETERS:
            bad = f"{OFFER}; {wrong}"
            offers = [[bad], [bad, good], [f"{bad}, {good}"], [f"{bad}, {bad},, {good}, {OFFER}"]]
            if wrong.count('"') % 2:
                del offers[1:]  # it goes on into the next, and nobody can say where it ends
            for headers in offers:
                with DeflateClient.connect(server.port) as client:
                    client.handshake(headers=[("Sec-WebSocket-Extensions", one) for one in headers])
                    client.send("hello")
                    agreed = client.agreed
                    assert (agreed is None) == (headers == [bad]), headers
                    assert agreed is None or agreed.server_max_window_bits == 11
        assert {event[0] for event in recorder.events} <= {"open", "message", "close"}


def test_c03_the_smallest_window(serve: Serving) -> None:
    server = serve(make_app(compression="deflate"))
    with bystander(server), neighbour(server):
        client = DeflateClient.offer(server.port, f"{OFFER}; server_max_window_bits=8", path="/bystander")
        assert client.agreed == Params(False, True, 8)
        for number in range(200):
            message = f"message {number % 9} of some length that comes again and again, {number * number}" * (
                number % 4
            )
            client.send_deflated(message)
            assert client.recv() == message


# -- C4


@pytest.mark.parametrize("takeover", [False, True])
def test_c04_damaged_data(serve: Serving, takeover: bool) -> None:
    """Of a thousand damaged messages each is delivered as zlib reads it, or ends its own connection with 1007."""
    recorder = Recorder()
    settings = fastws.Deflate(client_no_context_takeover=not takeover)
    server = serve(make_app(recorder.handler(), compression=settings, max_message_size=1 << 16))
    chosen = random.Random(4)
    text = "".join(f'{{"number":{chosen.random()},"name":"{chosen.choice("abcdef") * 9}"}}' for _ in range(40)).encode()
    payloads = [
        deflate(text, level=level, flush=flush) for level in (1, 9) for flush in (zlib.Z_SYNC_FLUSH, zlib.Z_FINISH)
    ]
    found: list[bytes | int] = []
    with bystander(server), neighbour(server):
        for number in range(1000):
            damaged = bytearray(chosen.choice(payloads))
            if number % 5 == 0:
                del damaged[chosen.randrange(len(damaged)) :]
            elif number % 5 == 1:
                damaged += chosen.randbytes(chosen.randrange(1, 9))
            else:
                for _ in range(number % 5 - 1):
                    damaged[chosen.randrange(len(damaged))] ^= 1 << chosen.randrange(8)
            client = DeflateClient.offer(server.port, OFFER, path=f"/?{number}")
            client.send_raw(compressed(BINARY, bytes(damaged)) + build(TEXT, b"after"))
            (outcome,) = outcomes(bytes(damaged), 1 << 16)
            found.append(outcome)
            if outcome == 1007:
                client.expect_close(1007)
            client.close()
        expected: list[tuple[Any, ...]]
        for number, outcome in enumerate(found):
            if outcome == 1007:
                expected = [OPENED, ("close", 1007, ANY)]
            else:
                expected = [OPENED, ("message", outcome), ("message", "after"), ("close", 1006, ANY)]
            eventually(
                lambda number=number, expected=expected: recorder.of.get(str(number)) == expected, what=str(number)
            )
    assert 10 < found.count(1007) < 990
    assert server.stats()["closed"]["invalid_compression"] == found.count(1007)


# -- F7


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("continuation", build(TEXT, b"a", fin=False) + build(CONT, b"\0", rsv=RSV1)),
        ("continuation of one", build(TEXT, b"\0", fin=False, rsv=RSV1) + build(CONT, b"\0", rsv=RSV1)),
        (
            "continuation amid",
            build(TEXT, HELLO[:2], fin=False, rsv=RSV1) + build(CONT, HELLO[2:4], fin=False, rsv=RSV1),
        ),
        ("ping", build(PING, b"\0", rsv=RSV1)),
        ("pong", build(PONG, b"\0", rsv=RSV1)),
        ("close", build(CLOSE, b"\x03\xe8", rsv=RSV1)),
        ("empty close", build(CLOSE, rsv=RSV1)),
        ("ping amid", build(BINARY, b"\0", fin=False, rsv=RSV1) + build(PING, b"", rsv=RSV1)),
        *((f"rsv {rsv}", build(TEXT, HELLO, rsv=rsv)) for rsv in (1, 2, 3, 5, 6, 7)),
        *((f"opcode {opcode}", build(opcode, HELLO, rsv=RSV1)) for opcode in (3, 7, 11, 15)),
        ("nothing to continue", build(CONT, b"\0", rsv=RSV1)),
        ("unmasked", build(TEXT, HELLO, rsv=RSV1, mask=None)),
        ("a message amid", build(TEXT, b"\0", fin=False, rsv=RSV1) + build(TEXT, b"\0", rsv=RSV1)),
        ("a plain message amid", build(TEXT, b"\0", fin=False, rsv=RSV1) + build(TEXT, b"hi")),
    ],
)
def test_f07_rsv_bits(serve: Serving, name: str, stream: bytes) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    with bystander(server, recorder, [OPENED, ("close", 1002, ANY)] * 2), neighbour(server):
        for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
            client = DeflateClient.offer(server.port, OFFER)
            for piece in pieces:
                client.send_raw(piece)
                server.settle()
            client.expect_close(1002)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_f07_rsv1_without_negotiation(serve: Serving, compression: str | None) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression=compression))
    with bystander(server, recorder, [OPENED, ("close", 1002, ANY)]):
        client = RawClient.connect(server.port)
        client.handshake(headers=[] if compression else [("Sec-WebSocket-Extensions", OFFER)])
        client.send_raw(compressed(TEXT, HELLO))
        client.expect_close(1002)


def test_f07_rsv1_where_it_may_be(serve: Serving) -> None:
    """On the first frame of each compressed message, between others that are not, on either kind of message."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), compression="deflate"))
    stream, expected = b"", [OPENED]
    for number in range(40):
        data = f"message {number}".encode() * (number % 5)
        opcode = BINARY if number % 3 else TEXT
        if number % 2:
            stream += compressed(opcode, deflate(data), sizes=[1] * (1 + number % 3), between=[build(PING, b"p")])
        else:
            stream += build(opcode, data[:3], fin=False) + build(PING, b"p") + build(CONT, data[3:])
        expected.append(("ping", b"p"))
        expected.append(("message", data if number % 3 else data.decode()))
    with bystander(server, recorder, [*expected, ("close", 1006, ANY)]), neighbour(server):
        client = DeflateClient.offer(server.port, OFFER)
        client.send_raw(stream)
        eventually(lambda: len(recorder.events) == len(expected))
        client.close()
        eventually(lambda: len(recorder.events) == len(expected) + 1)
