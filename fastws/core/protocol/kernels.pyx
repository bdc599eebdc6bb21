# The kernels of fastws/_simd: chosen once, at import; and str made of UTF-8, and UTF-8 of str, with them.

cdef str _choose(const char *name):
    """Fills `simd` with the kernels of that name, or with the best for this processor where there is no name."""
    cdef size_t i
    if not simd_choose(name):
        names = [simd_variants[i].name.decode() for i in range(SIMD_VARIANTS) if simd_supported(simd_variants[i])]
        wanted = name.decode("utf-8", "replace")
        raise ImportError(f"FASTWS_SIMD={wanted}: this processor has {', '.join(names)}; set one of them, or nothing")
    return simd.name.decode()


SIMD = _choose(getenv("FASTWS_SIMD"))


cdef bint text_check(simd_text *text, const uint8_t *data, size_t n) noexcept nogil:
    """Whether the n bytes are a whole text; `text` is then what is known of it."""
    memset(text, 0, sizeof(simd_text))
    return simd.check(text, data, n) == n and text.need == 0


cdef str text_new(const uint8_t *data, size_t n, const simd_text *text):
    """The str of n bytes, all of a text that has been checked. The only copy: made in the width that it needs."""
    cdef int width = simd_width(text)
    if text.chars <= 1:
        return PyUnicode_DecodeUTF8(<const char *>data, <Py_ssize_t>n, NULL)    # CPython shares those below U+0100
    if text.chars == n:
        new = PyUnicode_New(<Py_ssize_t>n, 0x7F)
        memcpy(PyUnicode_DATA(new), data, n)
    else:
        new = PyUnicode_New(<Py_ssize_t>text.chars, 0xFF if width == 1 else 0xFFFF if width == 2 else 0x10FFFF)
        simd.decode(PyUnicode_DATA(new), width, text.chars, data, n)
    return new


cdef size_t text_size(object text) except? 0:
    """How many bytes of UTF-8 a str makes; UnicodeEncodeError where it has lone surrogates."""
    text_ready(text)
    cdef size_t size = <size_t>PyUnicode_GET_LENGTH(text)
    if PyUnicode_IS_COMPACT_ASCII(text):
        return size
    size = simd.encoded_size(PyUnicode_DATA(text), PyUnicode_KIND(text), size)
    if size == SIMD_SURROGATE:
        PyUnicode_AsUTF8String(text)            # raises what str.encode() raises
        raise SystemError("surrogates found where there are none")
    return size


cdef void text_write(uint8_t *to, size_t size, object text) noexcept:
    """Writes it as UTF-8; `size` is what text_size() said."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        memcpy(to, PyUnicode_DATA(text), size)
    else:
        simd.encode(to, size, PyUnicode_DATA(text), PyUnicode_KIND(text), <size_t>PyUnicode_GET_LENGTH(text))
