"""An input of the fuzzer, read from its front: first the choices, then the bytes that a peer sends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Choice = TypeVar("Choice")


class Source:
    """Every input means something: where it has ended, zeros follow."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def __bool__(self) -> bool:
        return self.place < len(self.data)

    def byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1] if self.place <= len(self.data) else 0

    def take(self, size: int) -> bytes:
        self.place += size
        return self.data[self.place - size : self.place]

    def rest(self) -> bytes:
        return self.take(len(self.data))

    def choose(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.byte() % len(choices)]


def cut(stream: bytes, sizes: bytes) -> Iterator[bytes]:
    """The stream in pieces of these sizes, over and over; 0 is all that is left. Long streams have larger pieces."""
    unit = 1 + len(stream) // 4096
    place = 0
    while place < len(stream):
        for size in sizes or bytes(1):
            if place < len(stream):
                end = place + size * unit if size else len(stream)
                yield stream[place:end]
                place = end


def same(found: object, expected: object, problem: str) -> None:
    assert found == expected, f"{problem}:\n  {found!r}\n  {expected!r}"
