# What the user gives to be sent: str, something bytes-like, or a frame that was made once for many.

cdef enum:
    BLOCK_SIZE = 16384          # bytes; small published frames lie in a block, one after the other


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
    buffer_get(data, &payload.view, "str or a C-contiguous bytes-like object")
    payload.is_view = True
    payload.data = <const uint8_t *>payload.view.buf
    payload.size = <size_t>payload.view.len
    return 0


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
    cdef long long number = PyLong_AsLongLongAndOverflow(PyNumber_Index(code), &overflow)
    if overflow or not 0 <= number <= 0xFFFF:
        told = "of more than 64 bits" if overflow else number
        raise ValueError(f"close code {told} may not be sent: use 1000-1003, 1007-1014 or 3000-4999")
    return <uint16_t>number


cdef str close_text(reason):
    """A close reason as the application gives it: a str, or what is one, such as an enum's member."""
    if not isinstance(reason, str):
        raise TypeError(f"a close reason is a str, got {type(reason).__name__}: leave it out for none")
    return PyUnicode_FromObject(reason)


@cython.final
cdef class Block:
    pass


cdef Buffer block_room(Block block, size_t n, uint8_t **place):
    """The Buffer in which there are n bytes at place[0] for a frame: the block's if there is one and the frame is
    small, else one of its own. A block that nobody refers to any more is used again from its beginning."""
    cdef Buffer buffer
    if block is None or n >= SHARE_FROM:
        buffer = Buffer(n)
        place[0] = buffer.data
        return buffer
    if block.buffer is None or n > block.buffer.size - block.filled:
        if block.buffer is None or refcount(<PyObject *>block.buffer) > 1:
            block.buffer = Buffer(BLOCK_SIZE)
        block.filled = 0
    place[0] = block.buffer.data + block.filled
    block.filled += n
    return block.buffer


@cython.final
cdef class PreparedMessage:
    """A message that was framed once for many sends; made by `fastws.prepare`. `len()` is the frame's, in bytes."""

    def __len__(self):
        return <Py_ssize_t>self.size


cdef int prepared_check(PreparedMessage message) except -1:
    if message.buffer is None:
        raise TypeError("a PreparedMessage without a message: make it with fastws.prepare()")
    return 0


def prepare(data, *, bint is_text=False):
    """Frames a message once, for `ws.send`, `ws.publish` and `app.publish` to send it many times.

    data: str for text, any C-contiguous bytes-like object for binary, or for text where `is_text` says that it holds
    valid UTF-8 (not checked). TypeError for anything else, UnicodeEncodeError for a str with lone surrogates.
    """
    return prepared_in(None, data, is_text)


cdef PreparedMessage prepared_in(Hub hub, data, bint is_text):
    """The frame, in the hub's block if there is a hub, else in memory of its own: what a peer that takes nothing keeps
    by reference is never more than its frame."""
    cdef PreparedMessage message = PreparedMessage.__new__(PreparedMessage)
    cdef Payload payload
    cdef uint8_t head[MAX_FRAME_HEADER]
    message.hub = hub
    payload_open(&payload, data, is_text)
    try:
        message.head_size = header_write(head, 0x80 | payload.opcode, payload.size)
        message.size = message.head_size + payload.size
        message.buffer = block_room(None if hub is None else hub.plain, message.size, &message.frame)
        memcpy(message.frame, head, message.head_size)
        payload_write(message.frame + message.head_size, &payload)
    finally:
        payload_close(&payload)
    return message
