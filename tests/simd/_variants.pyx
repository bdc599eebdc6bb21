# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""str from UTF-8 and back as the core makes them, with each of the variants in one process: for tests."""

include "_protocol.pyx"

from libc.string cimport memcmp


cdef extern from "Python.h":
    int PyUnicode_IS_ASCII(str)
    Py_UCS4 PyUnicode_MAX_CHAR_VALUE(str)

cdef extern from "texts.h":
    enum: MUTATED_BYTES
    size_t random_text(uint64_t *seed, uint32_t *characters, uint8_t *data) noexcept


def variants():
    """The names of those that this processor has, the best first."""
    cdef size_t i
    return [simd_variants[i].name.decode() for i in range(SIMD_VARIANTS) if simd_supported(simd_variants[i])]


cdef str _differs(str new, str expected, const uint8_t *data, size_t n):
    """What of the str, made of valid UTF-8, is not as in CPython's; None where nothing is."""
    cdef uint8_t again[MUTATED_BYTES]
    if new != expected or hash(new) != hash(expected):
        return f"decoded as {new!r}"
    if PyUnicode_KIND(new) != PyUnicode_KIND(expected) or PyUnicode_IS_ASCII(new) != PyUnicode_IS_ASCII(expected):
        return f"of kind {PyUnicode_KIND(new)}, ASCII {PyUnicode_IS_ASCII(new)}"
    if PyUnicode_MAX_CHAR_VALUE(new) != PyUnicode_MAX_CHAR_VALUE(expected):
        return f"as if it had characters up to {PyUnicode_MAX_CHAR_VALUE(new)}"
    if text_size(new) != n:
        return f"encoded in {text_size(new)} bytes"
    text_write(again, n, new)
    return f"encoded as {again[:n]!r}" if memcmp(again, data, n) else None


cdef str _misjudged(size_t index, const simd_text *text, size_t n, error):
    """What check() says of invalid UTF-8 that CPython does not; None where they agree.

    CPython names the character: it begins at `start`, and `end` is the first byte that cannot belong to it.
    """
    if error.reason == "unexpected end of data":
        return None if index == n and text.need else f"not found unfinished: {index}, {text.need} needed"
    wanted = error.start if error.reason == "invalid start byte" else error.end
    return None if index == <size_t>wanted else f"found wrong at {index}, not {wanted}"


def agree(uint64_t seed, size_t count):
    """Decodes `count` random texts, most of them damaged, as CPython and with every variant. Returns how many of them
    were valid; AssertionError for the first that is not judged, decoded or encoded alike."""
    cdef uint32_t characters[MUTATED_BYTES]
    cdef uint8_t data[MUTATED_BYTES]
    cdef size_t i, v, n, index, valid = 0
    cdef uint64_t before
    cdef simd_text text
    cdef str expected, what
    for i in range(count):
        before = seed
        n = random_text(&seed, characters, data)
        expected = error = None
        try:
            expected = PyUnicode_DecodeUTF8(<const char *>data, <Py_ssize_t>n, NULL)
            valid += 1
        except UnicodeDecodeError as reason:
            error = reason
        for v in range(SIMD_VARIANTS):
            if not simd_supported(simd_variants[v]):
                continue
            simd_choose(simd_variants[v].name)
            memset(&text, 0, sizeof(text))
            index = simd.check(&text, data, n)
            if error is not None:
                what = _misjudged(index, &text, n, error)
            elif index < n or text.need:
                what = f"found wrong at {index}, {text.need} needed"
            else:
                what = _differs(text_new(data, n, &text), expected, data, n)
            assert what is None, f"{simd.name.decode()}, seed {before}: {data[:n]!r} {what}"
    return valid
