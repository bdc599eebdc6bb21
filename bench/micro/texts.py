"""The texts that the kernels are measured with: the same in every run, made of words of random letters."""

from __future__ import annotations

from functools import cache
from random import Random

TEXTS = ("ascii", "latin-1", "cyrillic", "cjk", "mixed")
LARGEST = 1 << 20

Letters = tuple[int, int]  # the first and the last
ENGLISH, GERMAN, RUSSIAN, CHINESE, EMOJI = (
    (0x61, 0x7A),
    (0xC0, 0xFF),
    (0x430, 0x44F),
    (0x4E00, 0x9FA5),
    (0x1F600, 0x1F64F),
)


def _letters(random: Random, letters: Letters, shortest: int, longest: int) -> str:
    return "".join(chr(random.randint(*letters)) for _ in range(random.randint(shortest, longest)))


def _word(random: Random, name: str) -> str:
    """One word with what separates it from the next."""
    if name == "mixed":  # what the load generator calls so, by words instead of sentences
        name = random.choices(["cyrillic", "cjk", "ascii", "emoji"], [12, 6, 6, 1])[0]
    if name == "ascii":
        return _letters(random, ENGLISH, 2, 8) + " "
    if name == "latin-1":  # one letter in about six has an accent
        return _letters(random, ENGLISH, 1, 5) + _letters(random, GERMAN, 0, 1) + _letters(random, ENGLISH, 0, 3) + " "
    if name == "cyrillic":
        return _letters(random, RUSSIAN, 2, 9) + " "
    if name == "cjk":  # has a punctuation of its own, and no spaces
        return _letters(random, CHINESE, 2, 6) + "\uff0c"
    return _letters(random, EMOJI, 1, 1) + " "


@cache
def _beginning(name: str, size: int) -> bytes:
    """The words of a text up to `size` bytes, and the rest of the last."""
    random, beginning = Random(1), bytearray()
    while len(beginning) < size:
        beginning += _word(random, name).encode()
    return bytes(beginning)


def cut(name: str, size: int) -> bytes:
    """At most `size` bytes of a text, 3 less at most: up to where a character ends."""
    return _beginning(name, size)[:size].decode(errors="ignore").encode()
