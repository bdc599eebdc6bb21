# Close frames: the body, and which codes may stand in it (RFC 6455 sections 5.5.1, 7.4).

cdef enum:
    CLOSE_NO_STATUS = 1005      # stands for an empty close; never on the wire
    CLOSE_ABNORMAL = 1006       # the connection just ended; never on the wire


cdef bint close_code_legal(unsigned int code) noexcept nogil:
    """What an endpoint may send: 7.4.1 and IANA's registry up to 1014, and 7.4.2's ranges for libraries and apps."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef Fault close_parse(const uint8_t *data, size_t n, uint16_t *code) noexcept nogil:
    """Reads the code of a close body; the reason, if any, is the n - 2 bytes behind it."""
    cdef simd_text text
    if n == 0:
        code[0] = CLOSE_NO_STATUS
        return FAULT_NONE
    if n == 1:
        return FAULT_CLOSE_LENGTH
    code[0] = <uint16_t>(data[0] << 8 | data[1])
    if not close_code_legal(code[0]):
        return FAULT_CLOSE_CODE
    if not text_check(&text, data + 2, n - 2):
        return FAULT_CLOSE_UTF8
    return FAULT_NONE


cdef str close_reason(Event *event):
    """The reason of a close event; validated."""
    if event.length <= 2:
        return ""
    return PyUnicode_DecodeUTF8(<const char *>event.data + 2, <Py_ssize_t>(event.length - 2), NULL)


cdef bytes close_body(unsigned int code, str reason):
    """The body of a close frame of ours; 1005 makes an empty one. ValueError where it may not or cannot be sent.
    It calls no function of Python's: a connection may end at the recursion limit, where each such call raises."""
    cdef bytes encoded, body
    cdef uint8_t *to
    cdef Py_ssize_t n
    if code == CLOSE_NO_STATUS:
        if reason:
            raise ValueError(f"a close without a code cannot carry a reason, got {reason!r}: give a code, say 1000")
        return b""
    if not close_code_legal(code):
        raise ValueError(f"close code {code} may not be sent: use 1000-1003, 1007-1014 or 3000-4999")
    encoded = PyUnicode_AsUTF8String(reason)
    n = PyBytes_GET_SIZE(encoded)
    if n > MAX_CONTROL_PAYLOAD - 2:
        raise ValueError(f"close reason is {n} bytes of UTF-8: shorten it to 123 or less")
    body = PyBytes_FromStringAndSize(NULL, n + 2)
    to = <uint8_t *>PyBytes_AS_STRING(body)
    to[0], to[1] = <uint8_t>(code >> 8), <uint8_t>(code & 0xFF)
    memcpy(to + 2, PyBytes_AS_STRING(encoded), <size_t>n)
    return body
