"""What the fuzzers start from, what they have found, and every input that once showed something wrong, in any build."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from core.protocol import _protocol as protocol
from oracles.protocol import Event

from fastws.frames import ProtocolError

from .deflated import deflation_of
from .source import Source, cut
from .targets import TARGETS, Target

CORE = SimpleNamespace(
    Reader=protocol.Reader,
    RequestHead=protocol.RequestHead,
    FrameParser=protocol.FrameParser,
    Exact=bytes,
    ProtocolError=ProtocolError,
    split_request_target=protocol.split_request_target,
    use_variant=lambda number: None,
    deflation=deflation_of(protocol.Deflation),
)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_input(target: Target) -> None:
    seen: set[str] = set()
    for name, data in target.seeds():
        try:
            seen.update(map(repr, target.check(CORE, data)))
        except BaseException as error:
            raise AssertionError(f"{target.name}: {name}: {data!r}") from error
    assert len(seen) > 10, "the inputs do not come far"


@pytest.mark.parametrize("name", ["inflate", "extensions"])
def test_random_inputs(name: str) -> None:
    """Some that are nearly right; libFuzzer looks further."""
    rng = random.Random(name)
    inputs = [data for _, data in TARGETS[name].seeds()]
    for _ in range(5000):
        data = bytearray(rng.choice(inputs))
        for _ in range(rng.randrange(1, 4)):
            at, size = rng.randrange(len(data) + 1), rng.randrange(3)
            data[at : at + size] = rng.choice([b"", rng.randbytes(size), rng.choice(inputs)[at : at + 5]])
        try:
            TARGETS[name].check(CORE, bytes(data))
        except BaseException as error:
            raise AssertionError(f"{name}: {bytes(data)!r}") from error


class Forgetful(protocol.Reader):
    """Takes the last byte of a piece for the next one's first: a reader that depends on the cuts."""

    def feed(self, data: bytes) -> Any:
        return super().feed(data if len(data) < 2 else data[:-1])


class Lenient(protocol.RequestHead):
    """Lets a bare LF pass where it ends a piece."""

    def feed(self, data: bytes) -> object:
        return super().feed(data.removesuffix(b"\n"))


class Careless(protocol.Reader):
    """Lets a message pass that is cut short within its last block."""

    def feed(self, data: bytes) -> list[Event]:
        return [("binary", b"hello") if event[0] == "fail" else event for event in super().feed(data)]


class Wrong(protocol.FrameParser):
    def feed(self, data: bytes) -> Any:
        return super().feed(data)[::-1]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("stream", {"Reader": Forgetful}),
        ("head", {"RequestHead": Lenient}),
        ("parser", {"FrameParser": Wrong}),
        ("inflate", {"Reader": Careless}),
    ],
)
def test_what_is_wrong_is_seen(name: str, wrong: dict[str, type]) -> None:
    core = SimpleNamespace(**{**vars(CORE), **wrong})
    failed = 0
    for _, data in TARGETS[name].seeds():
        try:
            TARGETS[name].check(core, data)
        except AssertionError:
            failed += 1
    assert failed


def test_cuts() -> None:
    assert list(cut(b"abcdefg", b"\1\2")) == [b"a", b"bc", b"d", b"ef", b"g"]
    assert list(cut(b"abcdefg", b"\3\0")) == [b"abc", b"defg"]
    assert list(cut(b"abc", b"")) == [b"abc"]
    assert list(cut(b"", b"\1")) == []


def test_an_input_that_has_ended_goes_on_with_zeros() -> None:
    source = Source(b"\5abc")
    assert (source.choose("xyz"), source.take(2), source.byte(), source.byte(), source.rest()) == (
        "z",
        b"ab",
        99,
        0,
        b"",
    )
