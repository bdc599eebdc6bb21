"""Compression with client libraries: all that each can offer, with servers that are set to all kinds of things."""

from __future__ import annotations

import itertools
import os

import pytest
from harness import ServerThread, Serving, eventually
from harness.deflating import ANSWERS, PLAIN, SETTINGS, Params, answering_app, deflate, judge, sample_messages

import fastws

from .client import Client, Connect, Library
from .libraries import COMPRESSING, each_library

pytestmark = pytest.mark.parametrize("loop_kind", ["uvloop"], indirect=True)

#: How many of the settings each offer is tried with, one after the other; less than one: with some of the offers.
SHARE = float(os.environ.get("EXAMPLES", "1"))
FEW = [message for message in sample_messages(large=False) if len(message) in (0, 64, 83, 376, 4096)]


def opened(
    connect: Connect, server: ServerThread, offers: list[Params], settings: str, answered: Params | None = None
) -> Client:
    """Where the server has taken the first of them, or the one that is said."""
    client = connect(server, f"/{settings}", compression=offers)
    judge(answered or offers[0], Params.read(client.extensions), fastws.Deflate(**SETTINGS[settings]))
    sockets = server.call(lambda: [ws.extensions for ws in server.server.connections])
    assert sockets == [client.extensions]
    return client


def converse(client: Client, server: ServerThread, messages: list[str | bytes], settings: str) -> None:
    """Each is answered in all the ways there are; whoever sees how it came, sees it come so."""
    answer, threshold = Params.read(client.extensions), fastws.Deflate(**SETTINGS[settings]).threshold
    before = server.stats()
    for number, message in enumerate(messages):
        client.send(message)
        for turn in range(ANSWERS):
            assert client.recv() == message, f"answer {turn} to message {number} under {client.extensions}"
    after = server.stats()
    assert after["inflations"] - before["inflations"] == len(messages), "they came compressed"
    encoded = [message.encode() if isinstance(message, str) else message for message in messages]
    shrinking = [
        len(deflate(data, max(answer.server_bits, 9), level=1, memory=1)) < 0.8 * len(data) for data in encoded
    ]
    over = [len(data) >= threshold for data in encoded]
    least = sum(2 * shrinks for shrinks, large in zip(shrinking, over, strict=True) if large)
    assert least <= after["deflations"] - before["deflations"] <= 3 * len(messages)
    if not client.compressed:
        return
    for number, (message, shrinks, large) in enumerate(zip(encoded, shrinking, over, strict=True)):
        came = client.compressed[ANSWERS * number : ANSWERS * (number + 1)]
        assert not came[PLAIN], message
        assert large or not came[0], message
        assert not shrinks or (came[0] == large and came[-1]), message
    client.compressed.clear()


@each_library(among=COMPRESSING)
@pytest.mark.parametrize("settings", [name for name in SETTINGS if name[:14] != "client-window-" or name[-1] == "9"])
def test_messages_of_all_sizes(serve: Serving, connect: Connect, library: Library, settings: str) -> None:
    server = serve(answering_app())
    client = opened(connect, server, [library.offers[-1]], settings)
    assert client.compressed == []
    converse(client, server, list(sample_messages()), settings)
    converse(client, server, list(sample_messages(large=False)), settings)


@pytest.mark.sampled
@each_library(among=COMPRESSING)
def test_every_offer(serve: Serving, connect: Connect, library: Library) -> None:
    """With one of the settings each, and EXAMPLES=15 with all of them."""
    server = serve(answering_app())
    offers, settings = list(library.offers), list(SETTINGS)
    rounds = max(1, round(SHARE)) if len(offers) > len(settings) else len(settings)
    tried = 0
    for turn, (number, offer) in itertools.product(range(rounds), enumerate(offers)):
        if number % max(1, round(1 / SHARE)):
            continue
        name = settings[(number + number // 9 + turn) % len(settings)]
        client = opened(connect, server, [offer], name)
        converse(client, server, FEW, name)
        connect.release()
        eventually(lambda: server.stats()["connections"] == 0)
        tried += 1
    assert tried >= min(rounds * len(offers) * SHARE, len(offers)) // 2
    assert server.stats()["compression_bytes"] < 16 << 20


@each_library(lambda library: library.fragments, among=COMPRESSING)
@pytest.mark.parametrize("settings", ["defaults", "client-takeover", "client-takeover-9"])
@pytest.mark.parametrize("pings", [False, True], ids=["alone", "pings between"])
def test_fragments(serve: Serving, connect: Connect, library: Library, settings: str, pings: bool) -> None:
    """Each compressed by itself up to its end, all of them one message."""
    server = serve(answering_app())
    client = opened(connect, server, [Params(client_max_window_bits=True)], settings)
    whole = ("aй漢🙂 and the same again " * 4000).encode()
    for text, borders in itertools.product(
        (True, False), ([0, len(whole)], [0, 2, 5, 5, 8, 1000, 65_700, len(whole)], [0, 0, len(whole), len(whole)])
    ):
        fragments = [whole[start:end] for start, end in itertools.pairwise(borders)]
        client.send_fragments(fragments, text=text, pings=pings)
        for _ in range(ANSWERS):
            assert client.recv() == (whole.decode() if text else whole)
        client.send("short")
        assert [client.recv() for _ in range(ANSWERS)] == ["short"] * ANSWERS
    assert server.stats()["inflations"] == 12


@each_library(lambda library: library.offers_several, among=COMPRESSING)
def test_several_offers(serve: Serving, connect: Connect) -> None:
    """The first is taken that can be; this server can take any."""
    server = serve(answering_app())
    for offers in itertools.permutations((Params(True, True, 10, 10), Params(False, False, 8, True), Params()), 2):
        client = opened(connect, server, list(offers), "defaults")
        converse(client, server, FEW, "defaults")
        connect.release()
        eventually(lambda: server.stats()["connections"] == 0)


@each_library(among=COMPRESSING)
@pytest.mark.parametrize("bits", range(8, 16))
def test_a_narrow_window(serve: Serving, connect: Connect, library: Library, bits: int) -> None:
    """What it inflates with holds no more than was agreed on; messages that repeat what is further back come out."""
    offers = [offer for offer in library.offers if offer.server_max_window_bits == bits]
    if bits == 15 or not offers:
        offers = list(library.offers[:1])
    server = serve(answering_app())
    client = opened(connect, server, [offers[-1]], "long-history")
    blocks = [f"{number:x}" * 40 + bytes(range(32, 127)).decode() + str(number * 12345) for number in range(300)]
    for distance in (1, 2, 3, 5, 9, 40, 150, 299):
        client.send("".join(blocks))
        for turn in range(ANSWERS):
            assert client.recv() == "".join(blocks), turn
        client.send(blocks[distance])
        for turn in range(ANSWERS):
            assert client.recv() == blocks[distance], turn
