"""fastws.speedups against CPython, with the variant that FASTWS_SIMD names: `python agree.py [SEED]` tells its counts.

The variant is chosen at import, so that each is a process of its own; test_speedups_variants.py starts them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator

from fastws import speedups

#: Characters of each kind of str, the wider ones among smaller.
ALPHABETS = {
    "ASCII": [chr(code) for code in range(0x80)],
    "Latin-1": [chr(code) for code in range(0x100)],
    "Cyrillic": [*map(chr, range(0x400, 0x460)), " ", "\xa0"],
    "CJK": [*map(chr, range(0x4E00, 0x4F00)), "。", ".", "\ud7ff", "\ue000", "\uffff"],
    "emoji": [*map(chr, range(0x1F600, 0x1F640)), "\u200d", "\ufe0f", " "],
    "all": ["a", "\x7f", "\x80", "ÿ", "Ā", "߿", "ࠀ", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"],
}
LENGTHS = [*range(140), 191, 192, 193, 255, 256, 257, 300, 1000, 1365, 4095, 4096, 4097, 9000]


def texts(rng: random.Random) -> Iterator[str]:
    for alphabet in ALPHABETS.values():
        for length in LENGTHS:
            yield "".join(rng.choices(alphabet, k=length))
            if length:  # ASCII but for one character
                at = rng.randrange(length)
                yield "x" * at + rng.choice(alphabet) + "y" * (length - at - 1)


def damaged(rng: random.Random) -> Iterator[bytes]:
    for text in texts(rng):
        data = bytearray(text.encode())
        if data:
            at = rng.randrange(len(data))
            yield bytes(data[:at])
            data[at] = rng.choice(b"\x80\xbf\xc0\xc1\xc2\xdf\xe0\xed\xef\xf0\xf4\xf5\xff")
            yield bytes(data)


def as_any(data: bytes, rng: random.Random) -> bytes | bytearray | memoryview:
    """The same bytes in another object, at any alignment."""
    at = rng.randrange(64)
    whole = b"\xff" * at + data + b"\xbf" * rng.randrange(3)
    copies: list[bytes | bytearray | memoryview] = [data, bytearray(data), memoryview(whole)[at : at + len(data)]]
    return rng.choice(copies)


def same_str(got: str, expected: str) -> None:
    """In all that CPython lets one see of a str."""
    assert type(got) is str
    assert got == expected and expected == got
    assert hash(got) == hash(expected)
    assert len(got) == len(expected)
    assert got.isascii() == expected.isascii()
    assert sys.getsizeof(got) == sys.getsizeof(expected)
    assert {expected: 1}[got] == 1
    assert got in expected + "!"
    assert got[1:-1] in got
    assert got.upper() == expected.upper()
    assert got.find(expected[-3:]) == expected.find(expected[-3:])
    assert repr(got) == repr(expected)
    assert (got < expected + "!") and not got > expected
    assert got + "x" == expected + "x"
    assert sorted(set(got)) == sorted(set(expected))


def same_error(call: Callable[..., object], reference: Callable[[], object]) -> bool:
    """Whether both raise; AssertionError where only one does, or another error."""
    errors = []
    for each in (call, reference):
        try:
            each()
        except UnicodeError as error:
            errors.append((type(error), error.args))
    assert len(errors) in (0, 2), errors
    assert errors[:1] == errors[1:], errors
    return bool(errors)


def try_decode(rng: random.Random) -> int:
    count = 0
    for text in texts(rng):
        count += 1
        data = text.encode()
        same_str(speedups.decode(as_any(data, rng)), data.decode())
        assert speedups.is_utf8(as_any(data, rng)) is True
    for code in range(0x100):
        assert speedups.decode(chr(code).encode()) is chr(code)  # CPython keeps one of each
    return count


def try_decode_errors(rng: random.Random) -> int:
    raised = 0
    for data in damaged(rng):
        # The object in the error is bytes, whatever was given.
        wrong = same_error(lambda data=data: speedups.decode(as_any(data, rng)), data.decode)
        assert speedups.is_utf8(as_any(data, rng)) is not wrong
        raised += wrong
    return raised


def fresh(text: str) -> str:
    """The same str with nothing cached in it."""
    return text.encode("utf-32", "surrogatepass").decode("utf-32", "surrogatepass")


def try_encode(rng: random.Random) -> int:
    count = 0
    for text in texts(rng):
        count += 1
        new = fresh(text)
        before = sys.getsizeof(new)
        assert speedups.encode(new) == text.encode()
        assert sys.getsizeof(new) == before  # no UTF-8 is kept in it
    return count


def try_encode_errors(rng: random.Random) -> int:
    raised = 0
    for text in texts(rng):
        if text:
            at = rng.randrange(len(text))
            wrong = text[:at] + chr(rng.randrange(0xD800, 0xE000)) + text[at + rng.randrange(2) :]
            assert same_error(lambda wrong=wrong: speedups.encode(wrong), wrong.encode)
            raised += 1
    return raised


def try_apply_mask(rng: random.Random) -> int:
    for length in LENGTHS:
        data, key = rng.randbytes(length), rng.randbytes(4)
        repeated = (key * (length // 4 + 1))[:length]
        expected = (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
        assert speedups.apply_mask(as_any(data, rng), as_any(key, rng)) == expected
        assert speedups.apply_mask(expected, key) == data
    return len(LENGTHS)


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 6455
    print(f"{speedups.SIMD}: seed {seed}")
    for trial in (try_decode, try_decode_errors, try_encode, try_encode_errors, try_apply_mask):
        tried = trial(random.Random(seed))
        assert tried > 20, f"{trial.__name__} tried {tried}"
        print(f"{trial.__name__}: {tried}")


if __name__ == "__main__":
    main()
