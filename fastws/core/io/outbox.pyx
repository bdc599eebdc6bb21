# The outbox: a socket's bytes that the kernel has not taken yet, as a list of chunks. Small writes share a chunk. What
# cannot change (a large bytes or ASCII str, a published frame) is held by reference instead of copied; that reference
# goes when the whole chunk is sent, or with the outbox.

cdef enum:
    FIRST_CHUNK = 512           # bytes; a chunk that follows a full one doubles up to LAST_CHUNK
    LAST_CHUNK = 65536
    MAX_PIECES = 64             # chunks handed to one sendmsg()


cdef Chunk *_chunk_add(Outbox *outbox, size_t capacity) except NULL:
    cdef Chunk *chunk = <Chunk *>PyMem_Malloc(sizeof(Chunk) + capacity)
    if chunk == NULL:
        raise MemoryError
    chunk.next = NULL
    chunk.owner = NULL
    chunk.data = <uint8_t *>(chunk + 1)
    chunk.start = chunk.end = 0
    chunk.capacity = capacity
    if outbox.last == NULL:
        outbox.first = chunk
    else:
        outbox.last.next = chunk
    outbox.last = chunk
    return chunk


cdef void _chunk_drop(Outbox *outbox) noexcept:
    cdef Chunk *chunk = outbox.first
    outbox.first = chunk.next
    if outbox.first == NULL:
        outbox.last = NULL
    outbox.size -= chunk.end - chunk.start
    Py_XDECREF(chunk.owner)
    PyMem_Free(chunk)


cdef uint8_t *outbox_reserve(Outbox *outbox, size_t n) except NULL:
    """Room for n bytes at the end; they count as written."""
    cdef Chunk *chunk = outbox.last
    cdef size_t capacity = <size_t>FIRST_CHUNK
    if chunk == NULL or chunk.capacity - chunk.end < n:
        if chunk != NULL and chunk.owner == NULL:
            capacity = min(<size_t>LAST_CHUNK, chunk.capacity * 2)
        chunk = _chunk_add(outbox, max(n, capacity))
    chunk.end += n
    outbox.size += n
    return chunk.data + chunk.end - n


cdef inline bint outbox_extend(Outbox *outbox, const uint8_t *data, size_t n, PyObject *owner) noexcept:
    """Appends bytes that follow on the last ones where they lie; False, and nothing done, if they do not."""
    cdef Chunk *chunk = outbox.last
    if chunk == NULL or chunk.owner != owner or chunk.data + chunk.end != data:
        return False
    chunk.end += n
    chunk.capacity += n
    outbox.size += n
    return True


cdef int outbox_refer(Outbox *outbox, const uint8_t *data, size_t n, object owner) except -1:
    """Appends n bytes that lie in `owner` and will never change."""
    cdef Chunk *chunk
    if outbox_extend(outbox, data, n, <PyObject *>owner):
        return 0
    chunk = _chunk_add(outbox, 0)
    Py_INCREF(owner)
    chunk.owner = <PyObject *>owner
    chunk.data = <uint8_t *>data
    chunk.end = n
    chunk.capacity = n
    outbox.size += n
    return 0


cdef int outbox_pieces(const Outbox *outbox, iovec *pieces) noexcept nogil:
    """Lists what is to be sent first; returns how many pieces."""
    cdef const Chunk *chunk = outbox.first
    cdef int count = 0
    while chunk != NULL and count < MAX_PIECES:
        pieces[count].iov_base = <void *>(chunk.data + chunk.start)
        pieces[count].iov_len = chunk.end - chunk.start
        count += 1
        chunk = chunk.next
    return count


cdef void outbox_sent(Outbox *outbox, size_t n) noexcept:
    """The first n bytes have been taken."""
    cdef size_t size
    while outbox.first != NULL:
        size = outbox.first.end - outbox.first.start
        if n < size:
            outbox.first.start += n
            outbox.size -= n
            return
        n -= size
        _chunk_drop(outbox)


cdef void outbox_clear(Outbox *outbox) noexcept:
    while outbox.first != NULL:
        _chunk_drop(outbox)
