# Frames for others: a parser of RFC 6455 section 5 for servers, clients, proxies and test tools that have a stream of
# their own.
#
# header_read() judges; it knows no extensions but compression. The reserved bits that a FrameParser lets pass are taken
# out of a copy of the header first.

cdef object MAKE = tuple.__new__        # a NamedTuple's own constructor is a Python function, and takes longer


cdef size_t _header_size(uint8_t second) noexcept nogil:
    """Of a frame header without its key, by its second byte."""
    cdef uint8_t short_length = second & 0x7F
    return 2 if short_length < 126 else 4 if short_length == 126 else 10


cdef class FrameParser:
    """FrameParser(*, masked, max_frame_size=1048576, allow_rsv=0)

    Bytes in, frames out (RFC 6455 section 5); it has no socket, and nothing to do with the opening handshake.

    masked: True for a client's frames, as a server reads them; False for a server's (section 5.1).
    max_frame_size: the largest payload of one frame, in bytes; a header that declares more is an error, with 1009.
    allow_rsv: the reserved bits that an extension was negotiated for (section 5.2): 4 for RSV1, 2 for RSV2, 1 for RSV3,
        or a sum of them. What the extension says of where a bit may stand is the caller's to check.

    All of section 5 is checked, the order of fragments and the body of a Close included, but whether a text is UTF-8:
    that is known of whole messages, and with an extension only after it has had its turn. Use fastws.speedups.decode
    on the joined payloads, and bound the size of a message where they are joined.
    """

    def __cinit__(self, *, bint masked, max_frame_size=1 << 20, allow_rsv=0):
        if not 0 <= max_frame_size < 1 << 63:
            raise ValueError(f"max_frame_size is {max_frame_size}: give bytes, from 0 to 2**63 - 1")
        if not 0 <= allow_rsv <= 7:
            raise ValueError(f"allow_rsv is {allow_rsv}: give 4 for RSV1, 2 for RSV2, 1 for RSV3, or a sum of them")
        self.inbox.from_server = not masked
        self.limits.max_message_size = max_frame_size       # the inbox has never more than one frame
        self.limits.max_fragments = 1
        self.allowed = allow_rsv << 4

    def __dealloc__(self):
        inbox_clear(&self.inbox)

    @property
    def buffered(self):
        """Bytes taken in of a frame that is not complete: 0 where the stream may end, or has failed."""
        return self.head_size + self.inbox.filled

    def feed(self, data):
        """Takes any C-contiguous bytes-like object; returns a list of the frames that are complete with it.

        Raises ProtocolError as soon as the bytes that are wrong are there, with the frames before them in its `frames`;
        every later call raises the same error, without frames. Behind a Close frame all is discarded (section 1.4).
        `data` is free again when this returns: the beginning of a frame is copied. Memory grows with what comes, not
        with what a header declares.
        """
        cdef Py_buffer view
        cdef list frames = []
        buffer_get(data, &view, "a C-contiguous bytes-like object")
        try:
            if self.error is None and not self.closed:
                self._parse(<const uint8_t *>view.buf, <size_t>view.len, frames)
        except MemoryError:
            self._fail("out of memory in an earlier feed()", 1011)      # where the stream stands is not known any more
            raise
        finally:
            PyBuffer_Release(&view)
        if self.error is not None:
            raise ProtocolError(self.error, self.error_code, frames)
        return frames

    cdef int _parse(self, const uint8_t *p, size_t n, list frames) except -1:
        cdef size_t used
        while n:
            if not self.inbox.in_frame:
                used = min(n, sizeof(self.head) - self.head_size)
                memcpy(self.head + self.head_size, p, used)
                if not self._header(self.head_size + used, &used):
                    return 0
                p += used
                n -= used
            used = min(n, self.inbox.remaining)
            if used:
                self.inbox.mask = simd.unmask(body_room(&self.inbox, used), p, used, self.inbox.mask)
                self.inbox.filled += used
                self.inbox.remaining -= used
                p += used
                n -= used
            if self.inbox.remaining:
                return 0
            self._finish(frames)
            if self.error is not None or self.closed:
                break
        return 0

    cdef bint _header(self, size_t n, size_t *used) except -1:
        """Reads the n bytes in `head`; tells how many of them that were not there before it used. False where they are
        no header: no more than the beginning of one, or a bad one."""
        cdef Header header
        cdef Fault fault
        cdef uint8_t seen[MAX_FRAME_HEADER]
        cdef size_t before = self.head_size
        self.head_size = n
        if n < 2:
            return False
        memcpy(seen, self.head, n)
        seen[0] &= ~self.allowed
        fault = header_read(&header, &self.inbox, &self.limits, seen, n)
        if fault != FAULT_NONE:
            self._fail_header(fault)
            return False
        if header.size == 0:
            return False
        self.head_size = header.size
        used[0] = self.head_size - before
        self.inbox.in_frame = True
        self.inbox.fin = True               # for body_room(), whose bytes object is never larger than the frame
        self.inbox.mask = header.mask
        self.inbox.remaining = header.length
        if not header.fin:
            if header.opcode != OPCODE_CONTINUATION:
                self.inbox.opcode = header.opcode
        elif header.opcode < OPCODE_CLOSE:
            self.inbox.opcode = 0
        return True

    cdef int _finish(self, list frames) except -1:
        """The frame in `head` and the inbox is complete. No state of it is left when Python may run other code."""
        cdef uint8_t first = self.head[0]
        cdef uint16_t code
        cdef Fault fault
        cdef bytes payload = b""
        if self.inbox.filled:
            payload = <bytes>self.inbox.body
            Py_CLEAR(self.inbox.body)
        self.inbox.filled = 0
        self.inbox.in_frame = False
        self.head_size = 0
        if first & 0x0F == OPCODE_CLOSE:
            fault = close_parse(<const uint8_t *>PyBytes_AS_STRING(payload), len(payload), &code)
            if fault != FAULT_NONE:
                return self._fail(
                    f"{fault_text(fault)}: {code if fault == FAULT_CLOSE_CODE else payload}", fault_code(fault))
            self.closed = True
        frames.append(MAKE(Frame, (<bint>(first >> 7), first & 0x0F, payload, first >> 4 & 7)))
        return 0

    cdef int _fail_header(self, Fault fault) except -1:
        """Says what was wrong with the header, as far as it is there."""
        cdef uint8_t opcode = self.head[0] & 0x0F
        cdef size_t size = _header_size(self.head[1])
        cdef str text = fault_text(fault)
        if fault == FAULT_RSV:
            bits = (self.head[0] & ~self.allowed) >> 4
            text += f": {', '.join([f'RSV{i}' for i in range(1, 4) if bits & 8 >> i])}"
        elif fault == FAULT_CONTROL_LENGTH:
            text += f": opcode {opcode:#x}, length field {self.head[1] & 0x7F}"
        elif fault == FAULT_INTERLEAVED:
            text += f": opcode {opcode:#x} while {self.inbox.opcode:#x} goes on"
        elif fault == FAULT_LENGTH_SIGN or fault == FAULT_LENGTH_FORM:
            text += f": {int.from_bytes(self.head[2:size], 'big')} in {8 * (size - 2)} bits"
        elif fault == FAULT_MESSAGE_SIZE:
            length = int.from_bytes(self.head[2:size], "big") if size > 2 else self.head[1] & 0x7F
            text = f"frame over max_frame_size: {length} bytes, the limit is {self.limits.max_message_size}"
        else:
            text += f": opcode {opcode:#x}"
        return self._fail(text, fault_code(fault))

    cdef int _fail(self, str error, uint16_t code) except -1:
        inbox_clear(&self.inbox)
        self.head_size = 0
        self.error = error
        self.error_code = code
        return 0


def serialize(frame, *, mask=None):
    """The bytes of a frame on the wire (RFC 6455 section 5.2).

    frame: a Frame, or a tuple of its fields (fin, opcode, payload, rsv), whose payload is any C-contiguous bytes-like
        object. What the frame says is written as it is: the rules of section 5 are the caller's to keep.
    mask: a masking key of 4 bytes for a client's frame, which must be unpredictable (section 5.3: take os.urandom(4));
        None for a server's.
    Returns bytes. ValueError for an opcode, reserved bits or a key out of range, TypeError for other types.
    """
    cdef uint8_t head[MAX_FRAME_HEADER]
    cdef Py_buffer view
    cdef uint32_t key = 0
    cdef size_t size
    cdef bytes made
    cdef uint8_t *to
    if not isinstance(frame, tuple):
        raise TypeError(f"a frame is (fin, opcode, payload, rsv), got {type(frame).__name__}")
    if len(frame) != 4:
        raise TypeError(f"a frame is (fin, opcode, payload, rsv), got a tuple of {len(frame)}")
    fin, opcode, payload, rsv = frame
    if not isinstance(opcode, int):
        raise TypeError(f"an opcode is an int, got {type(opcode).__name__}")
    if not isinstance(rsv, int):
        raise TypeError(f"the reserved bits are an int, got {type(rsv).__name__}")
    if not 0 <= opcode <= 15:
        raise ValueError(f"an opcode is 0 to 15, got {opcode}")
    if not 0 <= rsv <= 7:
        raise ValueError(f"the reserved bits are 0 to 7, got {rsv}")
    first = <uint8_t>((0x80 if fin else 0) | rsv << 4 | opcode)
    if mask is not None:
        key = mask_key(mask)
    buffer_get(payload, &view, "a C-contiguous bytes-like payload")
    try:
        if mask is None:
            size = header_write(head, first, <uint64_t>view.len)
        else:
            size = header_write_masked(head, first, <uint64_t>view.len, key)
        made = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size + view.len)
        to = <uint8_t *>PyBytes_AS_STRING(made)
        memcpy(to, head, size)
        if view.len:
            simd.unmask(to + size, <const uint8_t *>view.buf, <size_t>view.len, key)
        return made
    finally:
        PyBuffer_Release(&view)
