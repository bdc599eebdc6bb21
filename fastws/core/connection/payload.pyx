# What the application gives to be sent, or to close with, as bytes.

cdef int payload_open(Payload *payload, data, bint is_text) except -1:
    """The bytes of data, until payload_close(). TypeError where it is neither str nor bytes-like, UnicodeEncodeError
    for a str with lone surrogates."""
    payload.opcode = OPCODE_TEXT if is_text else OPCODE_BINARY
    payload.text = NULL
    payload.keeper = NULL
    payload.is_view = False
    if isinstance(data, str):
        if is_text:
            raise TypeError("expected encoded text in a bytes-like object, got str: send or prepare that as it is")
        payload.opcode = OPCODE_TEXT
        if PyUnicode_IS_COMPACT_ASCII(data):
            payload.keeper = <PyObject *>data
            payload.data = <const uint8_t *>PyUnicode_DATA(data)
            payload.size = <size_t>PyUnicode_GET_LENGTH(data)
        else:
            payload.text = <PyObject *>data
            payload.size = text_size(data)
        return 0
    if PyBytes_CheckExact(data):        # a subclass may have a destructor, which must not run where a chunk is dropped
        payload.keeper = <PyObject *>data
        payload.data = <const uint8_t *>PyBytes_AS_STRING(data)
        payload.size = <size_t>PyBytes_GET_SIZE(data)
        return 0
    if not PyObject_CheckBuffer(data):
        raise TypeError(f"a message is str or bytes-like, got {type(data).__name__}: {_advice(data)}")
    buffer_get(data, &payload.view, "str or a C-contiguous bytes-like object")
    payload.is_view = True
    payload.data = <const uint8_t *>payload.view.buf
    payload.size = <size_t>payload.view.len
    return 0


cdef str _advice(data):
    """What to do with an object that is no message."""
    if PyCoro_CheckExact(data):
        return "await it first"
    if data is None or isinstance(data, (dict, list, tuple, int, float)):
        return "json.dumps() makes a str of it"
    return "make a str or bytes of it first"


cdef bytes ping_body(data):
    """What a Ping carries, as the application gives it."""
    cdef bytes body
    if isinstance(data, str):
        body = PyUnicode_AsUTF8String(data)
    elif PyObject_CheckBuffer(data):
        body = bytes(memoryview(data))
    else:
        raise TypeError(f"a ping carries str or bytes-like, got {type(data).__name__}: leave it out for none")
    if len(body) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"a ping carries at most 125 bytes, got {len(body)}: shorten it, or send a message")
    return body


cdef void payload_write(uint8_t *to, const Payload *payload) noexcept:
    """Its `size` bytes."""
    if payload.text != NULL:
        text_write(to, payload.size, <object>payload.text)
    else:
        memcpy(to, payload.data, payload.size)


cdef int payload_close(Payload *payload) except -1:
    if payload.is_view:
        PyBuffer_Release(&payload.view)
    return 0


cdef uint16_t close_number(code) except? 0:
    """A close code as the application gives it: any object with an `__index__`, so it is converted once, here."""
    cdef int overflow = 0
    cdef long long number
    if isinstance(code, bool) or not PyIndex_Check(code):
        raise TypeError(f"a close code is an int, got {code!r:.40}: give 1000, or 3000-4999 for one of your own")
    number = PyLong_AsLongLongAndOverflow(PyNumber_Index(code), &overflow)
    if overflow or not 0 <= number <= 0xFFFF:
        shown = "of more than 64 bits" if overflow else number
        raise ValueError(f"close code {shown} may not be sent: use 1000-1003, 1007-1014 or 3000-4999")
    return <uint16_t>number


cdef str close_text(reason):
    """A close reason as the application gives it: a str, or what is one, such as an enum's member."""
    if not isinstance(reason, str):
        raise TypeError(f"a close reason is a str, got {type(reason).__name__}: leave it out for none")
    return PyUnicode_FromObject(reason)
