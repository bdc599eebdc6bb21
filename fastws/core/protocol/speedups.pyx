# The protocol half for others: what fastws.speedups exports.

cdef int buffer_get(data, Py_buffer *view, str wanted) except -1:
    """The bytes of a C-contiguous bytes-like object; TypeError where it is none."""
    try:
        return PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    except (BufferError, TypeError) as error:
        raise TypeError(f"expected {wanted}, got {type(data).__name__}: {error}") from None


cdef uint32_t mask_key(key) except? 0:
    """The four bytes in wire order; ValueError where it is not four."""
    cdef Py_buffer view
    cdef uint32_t word
    buffer_get(key, &view, "a bytes-like key")
    try:
        if view.len != 4:
            raise ValueError(f"a masking key has 4 bytes, got {view.len}")
        memcpy(&word, view.buf, 4)
    finally:
        PyBuffer_Release(&view)
    return word


def apply_mask(data, key):
    """`data` XORed with the masking key, which is repeated over it (RFC 6455 section 5.3); undoes itself.

    data: any C-contiguous bytes-like object; key: 4 bytes, in wire order. Returns bytes.
    TypeError for other types, ValueError for a key of another length.
    """
    cdef Py_buffer source
    cdef uint32_t word = mask_key(key)
    cdef bytes masked
    buffer_get(data, &source, "a C-contiguous bytes-like object")
    try:
        masked = PyBytes_FromStringAndSize(NULL, source.len)
        simd.unmask(<uint8_t *>PyBytes_AS_STRING(masked), <const uint8_t *>source.buf, <size_t>source.len, word)
        return masked
    finally:
        PyBuffer_Release(&source)


def is_utf8(data):
    """Whether the bytes of `data`, any C-contiguous bytes-like object, are UTF-8 (RFC 3629)."""
    cdef Py_buffer view
    cdef simd_text text
    buffer_get(data, &view, "a C-contiguous bytes-like object")
    cdef bint good = text_check(&text, <const uint8_t *>view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return good


def decode(data):
    """The str of UTF-8 in `data`, any C-contiguous bytes-like object: as `bytes(data).decode()`, its
    UnicodeDecodeError included."""
    cdef Py_buffer view
    cdef simd_text text
    buffer_get(data, &view, "a C-contiguous bytes-like object")
    try:
        if not text_check(&text, <const uint8_t *>view.buf, <size_t>view.len):
            return PyUnicode_DecodeUTF8(<const char *>view.buf, view.len, NULL)     # raises, and says where
        return text_new(<const uint8_t *>view.buf, <size_t>view.len, &text)
    finally:
        PyBuffer_Release(&view)


def encode(text):
    """The UTF-8 of a str as bytes: as `text.encode()`, its UnicodeEncodeError included. Nothing is kept in the str."""
    if not isinstance(text, str):
        raise TypeError(f"expected str, got {type(text).__name__}")
    cdef size_t size = text_size(text)
    cdef bytes encoded = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
    text_write(<uint8_t *>PyBytes_AS_STRING(encoded), size, text)
    return encoded
