# Compression (RFC 7692): messages into DEFLATE and out of it, by zlib. What a connection may do is in its Deflation.
#
# A connection has no compressor of its own, which would take up to 256 KiB. Of what was compressed for it the end is
# kept as it was, its History; the one Deflater for all is primed with that, and so refers to it, as the peer expects of
# context takeover (section 7.1.1). What was not compressed is not in the peer's window (7.2), nor in the History.

cdef enum:
    FIRST_HISTORY = 256         # bytes; the smallest that is allocated
    SMALL_TABLES_TO = 8192      # bytes of history and message, up to which tables of SMALL_MEM_LEVEL are as good
    SMALL_MEM_LEVEL = 7
    PROBE_FROM = 16384          # bytes; a message that is judged by its first PROBE bytes
    PROBE = 4096
    ZLIB_AT_ONCE = 1 << 30      # bytes that zlib is given at once; it counts with 32 bits
    PACKED_KEPT = 65536 + DEFLATE_MARGIN
    INFLATE_STATE = 7400        # bytes of zlib's own, without the window
    FIRST_INFLATED = 1024       # bytes; the least that is allocated for an unfinished message

cdef const uint8_t *FLUSH_MARK = b"\x00\x00\xff\xff"       # ends each compressed message, and is not sent (7.2.1)


cdef void history_drop(History *history) noexcept:
    PyMem_Free(history.data)
    memset(history, 0, sizeof(History))


cdef void _history_add(History *history, size_t limit, const uint8_t *data, size_t n) noexcept:
    """Keeps the last `limit` bytes. Without memory for them it keeps nothing, which is right at any time."""
    cdef size_t kept, capacity
    cdef uint8_t *moved
    if n >= limit:
        data += n - limit
        n = limit
    kept = min(<size_t>history.size, limit - n)
    if kept + n > history.capacity:
        capacity = min(limit, max(<size_t>FIRST_HISTORY, max(kept + n, <size_t>history.capacity * 2)))
        moved = <uint8_t *>PyMem_Realloc(history.data, capacity)
        if moved == NULL:
            history_drop(history)
            return
        history.data = moved
        history.capacity = <uint32_t>capacity
    memmove(history.data, history.data + history.size - kept, kept)
    memcpy(history.data + kept, data, n)
    history.size = <uint32_t>(kept + n)


cdef int _made(int status) except -1:
    """What zlib says to the settings of a stream."""
    if status == Z_MEM_ERROR:
        raise MemoryError
    if status != Z_OK:
        raise ValueError(f"zlib takes no such settings: error {status}")
    return 0


@cython.final
cdef class Deflater:
    """level, window_bits, mem_level: as zlib's deflateInit2 has them. No distance is more than the window less 262."""

    def __cinit__(self, int level, int window_bits, int mem_level):
        self.level, self.window_bits, self.mem_level = level, window_bits, mem_level
        _made(deflateInit2(&self.stream, level, Z_DEFLATED, -window_bits, mem_level, Z_DEFAULT_STRATEGY))

    def __dealloc__(self):
        deflateEnd(&self.stream)

    cdef int prime(self, const History *history) except -1:
        """As new, or as if it had made what is in the history."""
        deflateReset(&self.stream)
        if history != NULL and history.size:
            deflateSetDictionary(&self.stream, history.data, history.size)
        return 0

    cdef size_t deflate(self, const uint8_t *data, size_t n, uint8_t *to, size_t room) noexcept:
        """Compresses at most ZLIB_AT_ONCE bytes and returns the size; 0 where that would be more than `room`, or
        where a long message does not begin to shrink: an image, say, costs ten times what text does. At `to` there must
        be DEFLATE_MARGIN bytes more."""
        cdef size_t size
        self.stream.next_in = data
        self.stream.avail_in = <unsigned int>n
        self.stream.next_out = to
        self.stream.avail_out = <unsigned int>(room + DEFLATE_MARGIN)
        if n >= <size_t>PROBE_FROM:
            self.stream.avail_in = PROBE
            deflate(&self.stream, Z_BLOCK)
            if self.stream.next_out - to > PROBE - PROBE // 32:
                return 0
            self.stream.avail_in = <unsigned int>(n - PROBE)
        deflate(&self.stream, Z_SYNC_FLUSH)
        if self.stream.avail_out == 0:
            return 0
        size = room + DEFLATE_MARGIN - self.stream.avail_out - 4
        return size if size <= room else 0


@cython.final
cdef class Inflater:
    def __cinit__(self, int window_bits):
        self.window_bits = window_bits
        _made(inflateInit2(&self.stream, -window_bits))

    def __dealloc__(self):
        inflateEnd(&self.stream)


@cython.final
@cython.no_gc
cdef class Unfinished:
    def __dealloc__(self):
        Py_XDECREF(self.inflation.payload)
        Py_XDECREF(self.inflation.body)


cdef int _inflation_fit(Inflation *self, size_t capacity, uint64_t limit) except -1:
    """Gives the message a body of its own with room for `capacity` bytes. One byte over the limit shows that the
    message is too large, so there is never room for more than that."""
    capacity = <size_t>min(<uint64_t>capacity, limit + 1)
    if self.body == NULL:
        self.body = PyBytes_New(NULL, <Py_ssize_t>capacity)
        memcpy(PyBytes_AS_STRING(<object>self.body), self.out, self.filled)
    else:
        _PyBytes_Resize(&self.body, <Py_ssize_t>capacity)      # on failure it has freed the body and set NULL
    self.out = <uint8_t *>PyBytes_AS_STRING(<object>self.body)
    self.capacity = capacity
    return 0


cdef Fault _inflate(z_stream *stream, Inflation *self, uint64_t limit, Work *work, bint *finished) except *:
    """Inflates a message, unless it comes to more than `limit`, until it is finished or the work is done. Blocks may
    follow one that says that it is the last (7.2.3.4). The outcome does not depend on where work ends, but for a
    distance beyond the window, which zlib may let pass where it lies in what is inflated at once."""
    cdef unsigned int read, made
    cdef int status
    finished[0] = False
    while True:
        if self.left == 0 and not self.marked:
            self.data, self.left, self.marked = FLUSH_MARK, 4, True
        if self.filled == self.capacity:
            _inflation_fit(self, self.capacity * 2, limit)
        read = <unsigned int>min(
            self.left, <size_t>ZLIB_AT_ONCE if self.marked else min(work.input, <size_t>ZLIB_AT_ONCE))
        made = <unsigned int>min(
            min(self.capacity - self.filled, work.output), <size_t>min(limit + 1 - self.filled, <uint64_t>ZLIB_AT_ONCE))
        stream.next_in, stream.avail_in = self.data, read
        stream.next_out, stream.avail_out = self.out + self.filled, made
        status = inflate(stream, Z_SYNC_FLUSH)
        read -= stream.avail_in
        made -= stream.avail_out
        self.data += read
        self.left -= read
        self.filled += made
        work.input -= 0 if self.marked else read
        work.output -= made
        if self.filled > limit:
            return FAULT_MESSAGE_SIZE
        if status == Z_STREAM_END:
            self.complete = True
            inflateResetKeep(stream)
        elif status == Z_OK or status == Z_BUF_ERROR:
            if read:        # else data_type says nothing: asked again between blocks, zlib does not say so again
                # zlib.h: 128 stands for between blocks, what is below 64 for unused bits of the last byte
                self.complete = stream.data_type == 128
        elif status == Z_MEM_ERROR:
            raise MemoryError
        else:
            return FAULT_DEFLATE
        if self.marked and self.left == 0 and stream.avail_out:
            finished[0] = True
            return FAULT_NONE
        if work.output == 0 or work.input == 0 and self.left and not self.marked:
            return FAULT_NONE


cdef EventKind _unpack(
    z_stream *stream, Inflation *self, const Limits *limits, Work *work, Event *event
) except *:
    """Goes on with a message; once it is finished, it is in the event, or a fault is."""
    cdef bint finished = False
    cdef Fault fault = _inflate(stream, self, limits.max_message_size, work, &finished)
    if fault == FAULT_NONE and not finished:
        return EVENT_NONE
    if fault == FAULT_NONE and not self.complete:
        fault = FAULT_DEFLATE
    if fault == FAULT_NONE and self.opcode == OPCODE_TEXT and not text_check(&event.text, self.out, self.filled):
        fault = FAULT_UTF8
    if fault != FAULT_NONE:
        return event_fault(event, fault)
    if self.body != NULL and <size_t>PyBytes_GET_SIZE(<object>self.body) != self.filled:
        _inflation_fit(self, self.filled, limits.max_message_size)
    event.kind = EVENT_MESSAGE
    event.opcode = self.opcode
    event.deflated = True
    event.data = self.out
    event.length = self.filled
    event.body = self.body
    self.body = NULL
    return EVENT_MESSAGE


@cython.final
@cython.no_gc
cdef class Deflation:
    """agreement: a fastws.compression.Agreement."""

    def __cinit__(self, agreement):
        self.agreement = agreement
        self.window_bits = agreement.window_bits
        self.client_window_bits = agreement.client_window_bits
        self.takeover = agreement.takeover
        self.client_takeover = agreement.client_takeover

    def __dealloc__(self):
        history_drop(&self.history)


cdef int deflation_end(Deflation self) noexcept:
    """Nothing more is compressed or inflated."""
    history_drop(&self.history)
    self.inflater = None
    self.unfinished = None
    return 0


cdef size_t inflater_memory(int window_bits) noexcept nogil:
    """What an Inflater takes, in bytes."""
    return INFLATE_STATE + (<size_t>1 << window_bits)


@cython.final
cdef class Codec:
    """The compressors and decompressors of a server, each made when it is needed first."""

    def __cinit__(self):
        self.deflaters = []

    def __dealloc__(self):
        self._free_packed()

    cdef Deflater _deflater(self, const DeflateSettings *settings, int window_bits, size_t need):
        """One for `need` bytes of history and message. To clear the larger tables takes 1.5 us, a tenth of what a small
        message costs. For a window of 8 bits, which zlib does not offer, 9 will do: no distance is more than 250."""
        cdef Deflater found
        cdef int mem_level = settings.mem_level
        window_bits = max(9, window_bits)
        if need <= SMALL_TABLES_TO:
            mem_level = min(mem_level, SMALL_MEM_LEVEL)
        for found in self.deflaters:
            if found.level == settings.level and found.window_bits == window_bits and found.mem_level == mem_level:
                return found
        found = Deflater(settings.level, window_bits, mem_level)
        self.deflaters.append(found)
        return found

    cdef size_t pack(
        self, const DeflateSettings *settings, Deflation target, const uint8_t *data, size_t n
    ) except? 0:
        """Compresses a message into `packed`; returns the size, 0 where that is not less than n.

        It is for `target`; None makes it self-contained, and for every peer with a window that is large enough. sent()
        must be called where it has been sent to `target`."""
        cdef Deflater deflater
        cdef History *history = NULL
        cdef size_t size
        cdef int window_bits = settings.window_bits
        if n == 0 or n > ZLIB_AT_ONCE:
            return 0
        if self.packed_room < n + DEFLATE_MARGIN:
            self._free_packed()
            self.packed = <uint8_t *>PyMem_Malloc(max(<size_t>PACKED_KEPT, n + DEFLATE_MARGIN))
            if self.packed == NULL:
                raise MemoryError
            self.packed_room = max(<size_t>PACKED_KEPT, n + DEFLATE_MARGIN)
        if target is not None:
            window_bits = target.window_bits
            history = &target.history if target.takeover else NULL
        deflater = self._deflater(settings, window_bits, n + (history.size if history != NULL else 0))
        # Where the last one was for the same peer, the deflater still has all that it needs, and more than the history.
        if history == NULL or target is not self.last_target or deflater is not self.last:
            deflater.prime(history)
        self.last = deflater
        self.last_target = None
        self.deflations += 1
        return deflater.deflate(data, n, self.packed, n - 1)

    cdef int sent(self, const DeflateSettings *settings, Deflation target, const uint8_t *data, size_t n) except -1:
        """These n bytes have been sent to `target` as pack() has just made them for it."""
        if target.takeover:
            _history_add(&target.history, min(settings.history, <size_t>1 << target.window_bits), data, n)
            self.last_target = target
        return 0

    cdef int sent_shared(
        self, const DeflateSettings *settings, Deflation target, const uint8_t *data, size_t n
    ) except -1:
        """These n bytes have been sent to `target`, self-contained. They go on with a history, but begin none."""
        if target.history.size:
            _history_add(&target.history, min(settings.history, <size_t>1 << target.window_bits), data, n)
        if self.last_target is target:
            self.last_target = None
        return 0

    cdef void trim(self) noexcept:
        """Gives back what a large message took."""
        if self.packed_room > PACKED_KEPT:
            self._free_packed()

    cdef void _free_packed(self) noexcept:
        PyMem_Free(self.packed)
        self.packed = NULL
        self.packed_room = 0

    cdef EventKind unpack(
        self, Deflation source, const Limits *limits, uint8_t *lent, size_t room, Work *work, Event *event
    ) except *:
        """Replaces a compressed message in the event by what it inflates to, or by a fault. `lent`: memory that a short
        message may lie in until the next one. An empty payload, as some send it, is an empty message.

        EVENT_NONE where the work ends before the message: that is now `source.unfinished`, for unpack_on(). Until that
        has finished it or it has been dropped, no other message of this source may be unpacked."""
        cdef Inflation inflation
        cdef Inflater inflater
        cdef EventKind kind
        memset(&inflation, 0, sizeof(inflation))
        inflation.opcode = event.opcode
        inflation.marked = inflation.complete = event.length == 0
        inflation.payload, event.body = event.body, NULL
        inflation.data, inflation.left = event.data, event.length
        inflation.out, inflation.capacity = lent, room
        self.inflations += 1
        try:
            inflater = self._inflater(source)
            kind = _unpack(&inflater.stream, &inflation, limits, work, event)
            if kind == EVENT_NONE:
                self._put_aside(source, &inflation, inflater, limits)
            return kind
        finally:
            Py_XDECREF(inflation.payload)
            Py_XDECREF(inflation.body)

    cdef int _put_aside(
        self, Deflation source, Inflation *inflation, Inflater inflater, const Limits *limits
    ) except -1:
        """The message, and the inflater, are the connection's for as long as it takes."""
        cdef Unfinished unfinished = Unfinished.__new__(Unfinished)
        if inflation.payload == NULL:
            inflation.payload = PyBytes_New(<const char *>inflation.data, <Py_ssize_t>inflation.left)
            inflation.data = <const uint8_t *>PyBytes_AS_STRING(<object>inflation.payload)
        if inflation.body == NULL:
            _inflation_fit(inflation, max(inflation.filled * 2, <size_t>FIRST_INFLATED), limits.max_message_size)
        unfinished.inflation = inflation[0]
        inflation.payload = inflation.body = NULL
        unfinished.inflater = inflater
        source.unfinished = unfinished
        if self.inflater is inflater:
            self.inflater = None
        return 0

    cdef EventKind unpack_on(self, Deflation source, const Limits *limits, Work *work, Event *event) except *:
        """Goes on with the message of `source` that is unfinished, as unpack() does."""
        cdef Unfinished unfinished = source.unfinished
        cdef EventKind kind = _unpack(&unfinished.inflater.stream, &unfinished.inflation, limits, work, event)
        if kind != EVENT_NONE:
            source.unfinished = None
            if self.inflater is None and not source.client_takeover:
                self.inflater = unfinished.inflater
        return kind

    cdef Inflater _inflater(self, Deflation source):
        if source.client_takeover:
            if source.inflater is None:
                source.inflater = Inflater(source.client_window_bits)
            return source.inflater
        if self.inflater is None:
            self.inflater = Inflater(15)
        inflateReset(&self.inflater.stream)
        return self.inflater

    cdef size_t memory(self) noexcept:
        """Bytes that are held for everybody; zlib.h says what its tables take."""
        cdef Deflater one
        cdef size_t total = self.packed_room
        if self.inflater is not None:
            total += inflater_memory(self.inflater.window_bits)
        for one in self.deflaters:
            total += (<size_t>4 << one.window_bits) + (<size_t>512 << one.mem_level)
        return total


cdef size_t deflation_memory(Deflation self) noexcept:
    """Bytes that are held for one connection, but for its messages."""
    cdef size_t total = self.history.capacity
    if self.inflater is not None:
        total += inflater_memory(self.inflater.window_bits)
    elif self.unfinished is not None:
        total += inflater_memory(self.unfinished.inflater.window_bits)
    return total


cdef size_t deflation_buffered(Deflation self) noexcept:
    """Bytes that are held for the message that is unfinished, compressed and inflated."""
    if self.unfinished is None:
        return 0
    return <size_t>PyBytes_GET_SIZE(<object>self.unfinished.inflation.payload) + self.unfinished.inflation.capacity
