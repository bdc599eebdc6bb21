"""Compressed messages over real sockets: what the options do to them (RFC 7692 section 7.2)."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from harness import RawClient, Recorder, Serving, eventually, make_app
from harness.deflating import ANSWERS, PLAIN, SETTINGS, DeflateClient, Params, answering_app, sample_messages
from oracles.deflate import TAIL, BadDeflate, read

import fastws

pytestmark = pytest.mark.parametrize("loop_kind", ["uvloop"], indirect=True)

OFFER = "permessage-deflate"
TEXT = '{"symbol":"BTC-EUR","price":64123.5,"amount":0.0150,"side":"buy","time":1700000000}'
NOISE = random.Random(0).randbytes(100)


def test_a_conversation(serve: Serving) -> None:
    """Of all settings and all kinds of messages, fragments among them."""
    server = serve(answering_app())
    for name in SETTINGS:
        for offer in (Params(client_max_window_bits=True), Params(True, True, 9, 9), Params(False, False, 8, True)):
            with DeflateClient.offer(server.port, offer, path=f"/{name}") as client:
                for number, message in enumerate(sample_messages(large=name in ("defaults", "client-takeover"))):
                    if number % 3 == 2:
                        client.send(message)  # as it is: outside of the window
                    else:
                        client.send_deflated(message, sizes=(1, 0) if number % 3 and len(message) > 200 else ())
                    received = [client.receive() for _ in range(ANSWERS)]
                    assert [one.data for one in received] == [message] * ANSWERS, (name, offer, number)
                    assert received[PLAIN].wire is None
                    size = len(message.encode() if isinstance(message, str) else message)
                    for one in received:
                        assert one.wire is None or len(one.wire) < size, "it grew"


class Echoing:
    """`how` is given to each send."""

    def __init__(self, **how: Any) -> None:
        self.how = how

    def message(self, ws: Any, data: Any) -> None:
        ws.send(data, **self.how)


def echoes(serve: Serving, messages: list[Any], settings: Any = "deflate", **how: Any) -> list[int | None]:
    """The size of each on the wire, None where it came as it is."""
    server = serve(make_app(Echoing(**how), compression=settings))
    with DeflateClient.offer(server.port, OFFER) as client:
        found: list[int | None] = []
        for message in messages:
            client.send_deflated(message)
            received = client.receive()
            assert received.data == message
            found.append(None if received.wire is None else len(received.wire))
        return found


@pytest.mark.parametrize("threshold", [0, 1, 64, 65, 1000])
def test_threshold(serve: Serving, threshold: int) -> None:
    sizes = [0, 1, 40, 63, 64, 65, 66, 999, 1000, 1001]
    found = echoes(serve, ["a" * size for size in sizes], fastws.Deflate(threshold=threshold))
    assert [one is not None for one in found] == [size >= max(threshold, 40) for size in sizes]


@pytest.mark.parametrize(("how", "sizes"), [(True, [40, 63, 64, 5000]), (False, []), (None, [64, 5000])], ids=str)
def test_compress(serve: Serving, how: bool | None, sizes: list[int]) -> None:
    found = echoes(serve, ["a" * size for size in (40, 63, 64, 5000)], compress=how)
    assert [size for size, one in zip((40, 63, 64, 5000), found, strict=True) if one is not None] == sizes


def test_what_does_not_shrink(serve: Serving) -> None:
    """Is sent as it is, and is not in the window for what comes after it: the inflater would notice."""
    messages = [NOISE, NOISE, TEXT, NOISE, TEXT, "", b"x", TEXT + "?"]
    found = echoes(serve, messages, compress=True)
    assert [one is None for one in found] == [isinstance(one, bytes) or one == "" for one in messages]


def test_long_messages_are_judged_by_their_beginning(serve: Serving) -> None:
    """That of an image, say. What was begun and given up is in nobody's way."""
    text = TEXT.encode() * 300
    noises = [random.Random(number).randbytes(20_000) for number in range(4)]
    messages = [noises[0] + text, text + noises[1], noises[2], TEXT, text, noises[3] + text, TEXT, noises[0], TEXT * 2]
    found = echoes(serve, messages, compress=True)
    assert [one is not None for one in found] == [False, True, False, True, True, False, True, False, True]


def test_history_makes_messages_small(serve: Serving) -> None:
    with_it = echoes(serve, [TEXT] * 4, "deflate")
    without = echoes(serve, [TEXT] * 4, fastws.Deflate(history=0))
    refused = echoes(serve, [TEXT] * 4, fastws.Deflate(server_no_context_takeover=True))
    assert None not in (*with_it, *without, *refused)
    assert without == refused == without[:1] * 4
    assert with_it[0] == without[0]
    assert all(size is not None and size < 20 for size in with_it[1:])


@pytest.mark.parametrize("history", [1, 50, 300, 2048, 32_768])
def test_nothing_older_than_the_history_is_referred_to(serve: Serving, history: int) -> None:
    """But where nobody else was sent anything since, when the deflater still has what it has sent."""
    server = serve(make_app(Echoing(), compression=fastws.Deflate(history=history, level=9)))
    clients = [DeflateClient.offer(server.port, OFFER) for _ in range(2)]
    referred = 0
    for number in range(60):
        client = clients[number % 2]
        message = f"{TEXT}{number % 7}{TEXT[::-1]}"[: 70 + number]
        client.send(message)
        received = client.receive()
        assert received.data == message
        if received.wire is None:
            continue
        reading = read(received.wire + TAIL, received.before[-history:])
        assert reading.output.decode() == message
        try:
            read(received.wire + TAIL)
        except BadDeflate:
            referred += 1
    assert (referred > 40) == (history > 1), referred


def test_history_is_given_up_when_idle(serve: Serving) -> None:
    server = serve(make_app(Echoing(), compression=fastws.Deflate(history_timeout=30))).hold_clock()
    client, other = (DeflateClient.offer(server.port, OFFER) for _ in range(2))

    def size(client: DeflateClient, *, before: bool) -> int:
        """Of a message on the wire, which can or cannot be read without what came before it."""
        client.send(TEXT)
        received = client.receive()
        assert received.data == TEXT
        assert received.wire is not None
        if before:
            with pytest.raises(BadDeflate):
                read(received.wire + TAIL)
        else:
            assert read(received.wire + TAIL).output.decode() == TEXT
        return len(received.wire)

    whole = size(other, before=False)
    kept = server.stats()["compression_bytes"]
    server.advance(29.999)
    assert server.stats()["compression_bytes"] == kept
    server.advance(0.001)
    assert server.stats()["compression_bytes"] < kept
    rest = server.stats()["compression_bytes"]
    for _ in range(3):
        assert size(client, before=False) == whole
        assert server.stats()["compression_bytes"] > rest
        assert size(client, before=True) < whole / 2
        server.advance(30)
        assert server.stats()["compression_bytes"] == rest
        size(other, before=False)  # so that the deflater is not as it was left
        server.advance(30)
        assert server.stats()["compression_bytes"] == rest


def test_figures(serve: Serving) -> None:
    app = make_app(Echoing(), compression="deflate")
    server = serve(app)
    with DeflateClient.offer(server.port, OFFER) as client:
        for message, how in ((TEXT, client.send_deflated), (TEXT, client.send), ("short", client.send_deflated)):
            how(message)
            assert client.recv() == message
        stats = server.stats()
        assert (stats["deflations"], stats["inflations"]) == (2, 2)
        assert stats["compression_bytes"] > 0
    with DeflateClient.offer(server.port, OFFER) as client, RawClient.open(server.port) as other:
        other.send(TEXT)
        assert other.recv() == TEXT
        assert server.stats()["deflations"] == 2
        client.send_deflated(TEXT)
        assert client.recv() == TEXT
        assert server.stats()["deflations"] == 3


# Publishing


class Subscribing:
    def open(self, ws: Any) -> None:
        ws.subscribe("all")

    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)


def test_a_published_message_is_compressed_once(serve: Serving) -> None:
    """It refers to nothing, whoever gets it; and who keeps history keeps it, too."""
    app = make_app(Subscribing, compression="deflate")
    server = serve(app)
    takers = [DeflateClient.offer(server.port, OFFER) for _ in range(5)]
    takers += [DeflateClient.offer(server.port, f"{OFFER}; server_no_context_takeover") for _ in range(5)]
    plain = RawClient.open(server.port)
    for number in range(20):
        client = takers[number % 10]
        client.send_deflated(f"{TEXT} {number}")
        assert client.recv() == f"{TEXT} {number}"
    for number in range(5):
        message = f"{TEXT} and {number} for all"
        before = server.stats()["deflations"]
        assert server.call(app.publish, "all", message) == 11
        received = [client.receive() for client in takers]
        assert [one.data for one in received] == [message] * 10
        assert plain.recv() == message
        assert server.stats()["deflations"] == before + 1
        wires = {one.wire for one in received}
        assert len(wires) == 1
        (wire,) = wires
        assert wire is not None
        assert read(wire + TAIL).output.decode() == message
    for client in takers:  # they are in step: an inflater would notice where they are not
        for message in (f"{TEXT} and 4 for all", TEXT, f"{TEXT} and 2 for all"):
            client.send_deflated(message)
            assert client.recv() == message


def test_a_window_too_small_for_what_is_published(serve: Serving) -> None:
    """It gets the plain frame, or one whose distances its window allows."""
    app = make_app(Subscribing, compression="deflate")
    server = serve(app)
    message = "".join(f"{number * 7919 % 1009}:{TEXT}" for number in range(100))
    with DeflateClient.offer(server.port, OFFER) as wide:
        narrow = [DeflateClient.offer(server.port, f"{OFFER}; server_max_window_bits={bits}") for bits in range(8, 15)]
        for _ in range(3):
            server.call(app.publish, "all", message)
            received = wide.receive()
            assert received.data == message
            assert received.wire is not None
            for bits, client in enumerate(narrow, 8):
                received = client.receive()
                assert received.data == message
                if received.wire is not None:
                    assert read(received.wire + TAIL, received.before).farthest <= 1 << bits
                client.send_deflated(TEXT)
                assert client.recv() == TEXT


@pytest.mark.parametrize("compress", [False, True, None])
def test_publishing_says_whether(serve: Serving, compress: bool | None) -> None:
    app = make_app(Subscribing, compression="deflate")
    server = serve(app)
    with DeflateClient.offer(server.port, OFFER) as client:
        for message in ("a" * 60, "a" * 64, TEXT * 10):
            server.call(lambda message=message: app.publish("all", message, compress=compress))
            received = client.receive()
            assert received.data == message
            assert (received.wire is not None) == (len(message) >= 64 if compress is None else compress)


@pytest.mark.parametrize("compress", ["false", "no", 0, 1, []])
def test_what_says_not_whether(serve: Serving, compress: Any) -> None:
    """A secret would be compressed for a text that says "false"."""
    app = make_app(Subscribing, compression="deflate")
    server = serve(app)
    with DeflateClient.offer(server.port, OFFER) as client:
        (ws,) = server.call(lambda: list(server.server.connections))
        for send in (ws.send, partial(ws.publish, "all"), partial(app.publish, "all")):
            for data in ("a" * 100, fastws.prepare("a" * 100)):
                with pytest.raises(TypeError, match="compress is True, False or None, got"):
                    server.call(partial(send, data, compress=compress))
        with pytest.raises(TypeError, match="compress is True, False or None, got"):
            server.call(partial(ws.send_text, b"a" * 100, compress=compress))
        server.call(app.publish, "all", "the first that comes")
        assert client.receive().data == "the first that comes"


def test_a_prepared_message(serve: Serving) -> None:
    """Compressed once, for all times that it is sent; what a connection is sent between refers to it or to nothing."""
    app = make_app(Subscribing, compression="deflate")
    server = serve(app)
    text = f"prepared {TEXT[::-1]} " * 2
    prepared = fastws.prepare(text)
    with DeflateClient.offer(server.port, OFFER) as client, RawClient.open(server.port) as plain:
        for number in range(3):
            server.call(app.publish, "all", prepared)
            for connection in server.server.connections:
                server.call(connection.send, prepared)
            assert [client.recv(), client.recv(), plain.recv(), plain.recv()] == [text] * 4
            for message in (TEXT, text[:100], f"{TEXT}{number}"):
                client.send_deflated(message)
                assert client.recv() == message, number
        assert server.stats()["deflations"] == 1 + 9


# What is kept of a client that uses takeover


def test_the_inflaters_have_a_budget(serve: Serving) -> None:
    """Where it is used up, further connections are told not to take over; where one is given back, the next may."""
    budget = 200_000
    settings = fastws.Deflate(client_no_context_takeover=False, max_inflater_memory=budget)
    server = serve(make_app(Recorder().handler(echo=True), compression=settings))

    def takes_over(client: DeflateClient) -> bool:
        assert client.agreed
        for message in (TEXT, TEXT, TEXT * 100, TEXT):
            client.send_deflated(message)
            assert client.recv() == message
        return not client.agreed.client_no_context_takeover

    assert not takes_over(DeflateClient.offer(server.port, f"{OFFER}; client_no_context_takeover"))
    shared = server.stats()["compression_bytes"]
    clients = [DeflateClient.offer(server.port, OFFER) for _ in range(12)]
    taking = [takes_over(client) for client in clients]
    many = taking.index(False)
    assert 2 <= many <= 6, f"{many} inflaters of 32 KiB and more in {budget} bytes"
    assert not any(taking[many:])
    assert many * 32_768 <= server.stats()["compression_bytes"] - shared <= budget + 12 * 2048
    clients[0].close()
    eventually(lambda: server.stats()["connections"] == 12)
    assert takes_over(DeflateClient.offer(server.port, OFFER))
    assert not takes_over(DeflateClient.offer(server.port, OFFER))


@pytest.mark.parametrize("offer", ["; client_max_window_bits", "; client_max_window_bits=9"])
def test_a_small_window_of_the_clients_is_a_small_inflater(serve: Serving, offer: str) -> None:
    settings = fastws.Deflate(client_no_context_takeover=False, client_window_bits=9)
    server = serve(make_app(Recorder().handler(), compression=settings))
    held = []
    for number in range(1, 11):
        client = DeflateClient.offer(server.port, OFFER + offer)
        assert client.agreed is not None
        assert client.agreed.client_bits == 9
        client.send_deflated(TEXT)
        eventually(lambda number=number: server.stats()["inflations"] == number)
        held.append(server.stats()["compression_bytes"])
    assert 9 * 512 <= held[-1] - held[0] <= 9 * 10_000


def test_a_client_that_declines_takeover_needs_no_inflater(serve: Serving) -> None:
    settings = fastws.Deflate(client_no_context_takeover=False, max_inflater_memory=200_000)
    server = serve(make_app(Recorder().handler(echo=True), compression=settings))
    for _ in range(20):
        client = DeflateClient.offer(server.port, f"{OFFER}; client_no_context_takeover")
        assert client.agreed
        assert client.agreed.client_no_context_takeover
    assert DeflateClient.offer(server.port, OFFER).agreed == Params()
