# Frames that are made once for many connections: published ones, and those of fastws.prepare().
#
# A frame lies in a Buffer. Each outbox that has not sent it yet holds that Buffer, and so does the message; the last of
# them frees it. Published frames of fewer than OWN_BUFFER_FROM bytes lie in the Buffer of a Block, one after the other.
# Once the Hub alone holds that Buffer, it fills it again. It has two Blocks: one for plain frames, one for compressed
# ones.

cdef enum:
    BLOCK_SIZE = 16384          # bytes; small published frames lie in a block, one after the other


@cython.final
cdef class Block:
    pass


cdef Buffer block_room(Block block, size_t n, uint8_t **place):
    """The Buffer in which there are n bytes at place[0] for a frame: the block's if there is one and the frame is
    small, else one of its own. A block to which no outbox and no message refers any more is filled again."""
    cdef Buffer buffer
    if block is None or n >= OWN_BUFFER_FROM:
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
    """In the hub's block if there is a hub, else in its own Buffer. A stalled peer that refers to it then keeps one
    frame, not a block."""
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
