# Compression of a connection: what it negotiates, and its messages through the server's Codec (deflate.pyx).

cdef enum:
    INFLATED_SIZE = 65536       # bytes; an inflated message up to this size costs no memory of its own
    # How much of a message is inflated before other peers have their turn. A byte of what is sent takes up to 90 ns, if
    # all of it is Huffman tables that no data follows.
    INFLATE_FROM = 16384        # bytes of what is sent
    INFLATE_TO = 262144         # bytes of what it inflates to

cdef enum:                      # what an application says in `compress`
    COMPRESS_NEVER = 0
    COMPRESS_BY_SIZE = 1
    COMPRESS_ALWAYS = 2


cdef int compressing_wish(compress) except -1:
    if compress is None:
        return COMPRESS_BY_SIZE
    if compress is True:
        return COMPRESS_ALWAYS
    if compress is False:
        return COMPRESS_NEVER
    raise TypeError(f"compress is True, False or None, got {type(compress).__name__}: give False for what is secret")


cdef Deflation compressing_agree(WebSocket ws, bytes offers):
    """Negotiates; None where nothing is compressed. Nothing has changed yet: see compressing_begin()."""
    cdef Route route = ws.route
    if route.agree is None or offers is None:
        return None
    has_room = service_of(ws).codec.reserved + inflater_memory(15) <= route.deflate.max_inflater_memory
    agreement = route.agree(offers, has_room)
    return None if agreement is None else Deflation(agreement)


cdef bytes compressing_answer(Deflation deflation):
    """Our Sec-WebSocket-Extensions, or None."""
    return None if deflation is None else deflation.agreement.answer.encode("ascii")


cdef int compressing_begin(WebSocket ws, Deflation deflation) noexcept:
    """The connection is open, and compressed as agreed, if it is."""
    if deflation is not None:
        ws.deflation = deflation
        ws.inbox.takes_deflate = True
        if deflation.client_takeover:
            (<Service>ws.crowd).codec.reserved += inflater_memory(deflation.client_window_bits)
    return 0


cdef int compressing_end(WebSocket ws) noexcept:
    """The connection is over."""
    if ws.deflation is not None:
        if ws.deflation.client_takeover:
            (<Service>ws.crowd).codec.reserved -= inflater_memory(ws.deflation.client_window_bits)
        deflation_end(ws.deflation)
    return 0


cdef bint compressing_unpack(WebSocket ws, Event *event) except -1:
    """Inflates a message. False where it is not to be delivered now: it takes longer, and others have their turn first;
    or it cannot be inflated, and the connection has been failed."""
    cdef Service service = service_of(ws)
    cdef Work work = Work(INFLATE_FROM, INFLATE_TO)
    if service.inflated is None or service.inflated.exports:
        try:
            service.inflated = Buffer(INFLATED_SIZE)
        except MemoryError:
            Py_CLEAR(event.body)
            raise
    return _unpacked(ws, event, service.codec.unpack(
        ws.deflation, &ws.route.limits, service.inflated.data, service.inflated.size, &work, event))


cdef bint compressing_is_unfinished(WebSocket ws) noexcept:
    """A message is partly inflated. Nothing behind it may be parsed."""
    return ws.deflation is not None and ws.deflation.unfinished is not None


cdef bint compressing_unpack_on(WebSocket ws, Event *event) except -1:
    """Goes on with the message that is unfinished, as compressing_unpack() begins it."""
    cdef Work work = Work(INFLATE_FROM, INFLATE_TO)
    return _unpacked(ws, event, service_of(ws).codec.unpack_on(ws.deflation, &ws.route.limits, &work, event))


cdef bint _unpacked(WebSocket ws, Event *event, EventKind kind) except -1:
    if kind == EVENT_NONE:
        ws.come_back()
        return False
    if kind == EVENT_FAULT:
        ending_fault(ws, event)
        return False
    if event.length >= LARGE_BLOCK_FROM:
        ws.reactor.took_large_block()
    return True


cdef int compressing_forget(WebSocket ws) noexcept:
    """Nothing more is inflated, and a message that is unfinished is not delivered."""
    if ws.deflation is not None:
        ws.deflation.inflater = None
        ws.deflation.unfinished = None
    return 0


cdef bint compressing_wanted(WebSocket ws, size_t n, int wish) noexcept:
    """Whether a message of n bytes is to be compressed, where that makes it smaller."""
    return n >= ws.route.deflate.threshold if wish == COMPRESS_BY_SIZE else wish == COMPRESS_ALWAYS


cdef bint compressing_write(WebSocket ws, const Payload *payload) except -1:
    """Sends a message compressed; False where that is no use."""
    cdef Codec codec = service_of(ws).codec
    cdef DeflateSettings *settings = &ws.route.deflate
    cdef const uint8_t *data = payload.data
    cdef size_t n = payload.size, size, head_size
    cdef uint8_t head[MAX_FRAME_HEADER]
    cdef uint8_t *place
    if payload.text != NULL:
        encoded = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>n)
        data = <const uint8_t *>PyBytes_AS_STRING(encoded)
        payload_write(<uint8_t *>data, payload)
    size = codec.pack(settings, ws.deflation, data, n)
    if size == 0:
        codec.trim()
        return False
    head_size = header_write(head, 0x80 | RSV1 | payload.opcode, size)
    if size < ZERO_COPY_FROM:
        place = ws.reserve(head_size + size)
        memcpy(place, head, head_size)
        memcpy(place + head_size, codec.packed, size)
    else:
        packed = PyBytes_FromStringAndSize(<const char *>codec.packed, <Py_ssize_t>size)
        ws.write_large(head, head_size, <const uint8_t *>PyBytes_AS_STRING(packed), size, packed)
    codec.sent(settings, ws.deflation, data, n)
    codec.trim()
    if ws.deflation.history.size:
        ws.reactor.read_clock()              # a task may run long after the last batch of events
        ws.deflation.used_at = ws.reactor.now
        ws.reactor.sweep_within(settings.history_timeout or NEVER)
    return True


cdef bint compressing_refer(WebSocket ws, PreparedMessage message) except -1:
    """Sends the compressed variant of a message that others send, too; False where there is none, or none for the
    window of this peer. The first that it is asked of decides how it is made."""
    cdef DeflateSettings *settings = &ws.route.deflate
    if not message.is_tried:
        message.is_tried = True
        _prepare_packed(message, service_of(ws), settings)
    if message.packed_size == 0 or message.reach > <size_t>1 << ws.deflation.window_bits:
        return False
    ws.refer(message.packed, message.packed_size, message.packed_buffer)
    service_of(ws).codec.sent_shared(
        settings, ws.deflation, message.frame + message.head_size, message.size - message.head_size)
    return True


cdef int _prepare_packed(PreparedMessage message, Service service, const DeflateSettings *settings) except -1:
    cdef Codec codec = service.codec
    cdef uint8_t head[MAX_FRAME_HEADER]
    cdef uint8_t *place
    cdef Block block
    cdef size_t head_size, n = message.size - message.head_size
    cdef size_t size = codec.pack(settings, None, message.frame + message.head_size, n)
    if size:
        head_size = header_write(head, message.frame[0] | RSV1, size)
        block = None if message.hub is None else message.hub.packed
        message.packed_buffer = block_room(block, head_size + size, &place)
        memcpy(place, head, head_size)
        memcpy(place + head_size, codec.packed, size)
        message.packed = place
        message.packed_size = head_size + size
        message.reach = min(n, <size_t>1 << settings.window_bits)
    codec.trim()
    return 0
