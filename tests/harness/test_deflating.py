"""The client's side of compression: what it sends is right, and what a server may not send it notices."""

from __future__ import annotations

import random
import zlib
from typing import Any

import pytest
from fuzz.states import Speech
from oracles.deflate import TAIL, outcomes

from harness.deflating import AnySender, Params, Receiver, agree, deflate, random_offer


def agreed(answer: str, offer: str) -> Params:
    return agree(Params.read(offer, is_offer=True), Params.read(answer))


@pytest.mark.parametrize("seed", range(20))
def test_what_clients_send_is_right(seed: int) -> None:
    rng = random.Random(seed)
    speech = Speech(rng)
    how = Params(client_no_context_takeover=rng.random() < 0.5, client_max_window_bits=rng.randrange(9, 16))
    sender, known = AnySender(how, rng), b""
    for _ in range(50):
        message: Any = speech.say()
        data = message.encode() if isinstance(message, str) else message
        assert outcomes(sender.message(data), len(data), how.client_bits, known) == {data}
        if not how.client_no_context_takeover:
            known += data


def test_a_client_inflates_what_is_right() -> None:
    data = random.Random(1).randbytes(400) * 2
    for takeover in (True, False):
        receiver = Receiver(Params(server_no_context_takeover=not takeover, server_max_window_bits=9))
        for _ in range(3):
            assert receiver.message(deflate(data, 9, level=9)) == data


def test_a_client_keeps_no_more_than_its_window() -> None:
    data = random.Random(1).randbytes(1000) * 2
    wire = deflate(data)
    assert Receiver(Params(server_max_window_bits=10)).message(wire) == data
    with pytest.raises(zlib.error):
        Receiver(Params(server_max_window_bits=9)).message(wire)


@pytest.mark.parametrize(
    "wire",
    [
        deflate(b"hello hello hello") + TAIL,  # whose tail is not left out: then the one that is added is more
        deflate(b"hello hello hello")[:-2],
        zlib.compress(b"hello")[2:-4] + b"\0",
        b"\xff",
    ],
    ids=["with its tail", "cut short", "BFINAL", "corrupt"],
)
def test_a_client_does_not_inflate_what_is_wrong(wire: bytes) -> None:
    with pytest.raises((AssertionError, zlib.error)):
        Receiver(Params(server_no_context_takeover=True)).message(wire)


@pytest.mark.parametrize(
    ("answer", "offer"),
    [
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits"),
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=11", "permessage-deflate; server_max_window_bits=10"),
        ("permessage-deflate", "permessage-deflate; server_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=7", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", "permessage-deflate"),
        ("permessage-deflate; unknown", "permessage-deflate"),
        ("x-webkit-deflate-frame", "permessage-deflate"),
    ],
)
def test_answers_that_are_wrong(answer: str, offer: str) -> None:
    with pytest.raises(AssertionError):
        agreed(answer, offer)


def test_answers_that_are_right() -> None:
    offer = "permessage-deflate; client_max_window_bits; server_max_window_bits=12"
    answer = "permessage-deflate; server_no_context_takeover; client_max_window_bits=10; server_max_window_bits=9"
    assert agreed(answer, offer) == Params(True, False, 9, 10)
    assert agreed("permessage-deflate", "permessage-deflate; client_no_context_takeover") == Params(False, True, 15, 15)
    assert len({random_offer(random.Random(seed)) for seed in range(100)}) > 30
