# Frame headers: RFC 6455 section 5.2, read and written in either role.

cdef Fault header_legal(uint8_t first, uint8_t second, const Inbox *inbox) noexcept nogil:
    """Every rule that the first two bytes alone can break, after what is in the inbox."""
    cdef uint8_t opcode = first & 0x0F
    cdef bint fin = first & 0x80
    if first & 0x70:                            # 5.2: MUST be 0 unless an extension is negotiated
        # RFC 7692 section 6: of a compressed message the first frame has RSV1, and no other
        if first & 0x70 != RSV1 or not inbox.takes_deflate or opcode == OPCODE_CONTINUATION or opcode >= OPCODE_CLOSE:
            return FAULT_RSV
    if opcode >= OPCODE_CLOSE:
        if opcode > OPCODE_PONG:
            return FAULT_OPCODE
        if not fin:
            return FAULT_CONTROL_FRAGMENTED     # 5.5: MUST NOT be fragmented
        if second & 0x7F > MAX_CONTROL_PAYLOAD:
            return FAULT_CONTROL_LENGTH
    elif opcode > OPCODE_BINARY:
        return FAULT_OPCODE
    elif opcode == OPCODE_CONTINUATION:
        if not inbox.opcode:
            return FAULT_NOTHING_TO_CONTINUE    # 5.4
    elif inbox.opcode:
        return FAULT_INTERLEAVED                # 5.4: fragments of two messages MUST NOT be interleaved
    if second & MASKED == 0 and not inbox.from_server:
        return FAULT_UNMASKED                   # 5.1: a server MUST close on an unmasked frame
    if second & MASKED and inbox.from_server:
        return FAULT_MASKED                     # 5.1: a client MUST close on a masked frame
    return FAULT_NONE


cdef Fault header_read(
    Header *header, const Inbox *inbox, const Limits *limits, const uint8_t *p, size_t n
) noexcept nogil:
    """Reads one frame header from the n >= 2 bytes at p. `header.size` is 0 where more bytes are needed.

    Each rule is applied as soon as the bytes that it speaks of are there, so that the outcome does not depend on how
    the stream is cut. Lengths are compared, never added, before they are known to be within the limit.
    """
    cdef uint8_t short_length = p[1] & 0x7F
    cdef uint64_t length = 0
    cdef uint64_t limit = limits.max_message_size
    cdef size_t size = 2, i
    cdef Fault fault = header_legal(p[0], p[1], inbox)
    header.size = 0
    if fault != FAULT_NONE:
        return fault
    if short_length < 126:
        length = short_length
    else:
        size = 4 if short_length == 126 else 10
        if n < size:
            return FAULT_NONE
        for i in range(2, size):
            length = length << 8 | p[i]
        if length >> 63:
            return FAULT_LENGTH_SIGN            # 5.2: the most significant bit MUST be 0
        if length < (126 if size == 4 else 65536):
            return FAULT_LENGTH_FORM            # 5.2: the minimal number of bytes MUST be used
    header.opcode = p[0] & 0x0F
    header.fin = p[0] >> 7
    header.deflated = inbox.deflated or p[0] & RSV1
    if header.opcode < OPCODE_CLOSE:
        if header.deflated:
            limit += (limit >> 3) + DEFLATE_MARGIN      # what will not shrink, may grow
        if length > limit - inbox.filled:
            return FAULT_MESSAGE_SIZE
        if inbox.fragments >= limits.max_fragments:
            return FAULT_FRAGMENTS
    header.mask = 0
    if p[1] & MASKED:
        if n < size + 4:
            return FAULT_NONE
        memcpy(&header.mask, p + size, 4)
        size += 4
    header.length = length
    header.size = size
    return FAULT_NONE


cdef size_t header_write_masked(uint8_t *out, uint8_t first, uint64_t length, uint32_t key) noexcept nogil:
    """Writes a client's frame header of at most 14 bytes; returns its size. The payload is then masked with the key."""
    cdef size_t size = header_write(out, first, length)
    out[1] |= MASKED
    memcpy(out + size, &key, 4)
    return size + 4


cdef size_t header_write(uint8_t *out, uint8_t first, uint64_t length) noexcept nogil:
    """Writes a server's frame header of at most 10 bytes; returns its size."""
    cdef size_t size, i
    out[0] = first
    if length < 126:
        out[1] = <uint8_t>length
        return 2
    size = 4 if length < 65536 else 10
    out[1] = 126 if size == 4 else 127
    for i in range(size - 1, 1, -1):
        out[i] = <uint8_t>(length & 0xFF)
        length >>= 8
    return size


cdef uint16_t fault_code(Fault fault) noexcept nogil:
    """The close code that goes with a fault (RFC 6455 section 7.4.1)."""
    if fault == FAULT_MESSAGE_SIZE:
        return 1009
    if fault == FAULT_FRAGMENTS:
        return 1008
    if fault == FAULT_UTF8 or fault == FAULT_CLOSE_UTF8 or fault == FAULT_DEFLATE:
        return 1007
    return 1002


cdef str fault_text(Fault fault):
    """What a fault is called in the close reason that the peer and the `close` callback see."""
    return {
        FAULT_RSV: "reserved bit set",
        FAULT_OPCODE: "reserved opcode",
        FAULT_CONTROL_FRAGMENTED: "fragmented control frame",
        FAULT_CONTROL_LENGTH: "control frame over 125 bytes",
        FAULT_UNMASKED: "frame is not masked",
        FAULT_MASKED: "frame is masked",
        FAULT_NOTHING_TO_CONTINUE: "nothing to continue",
        FAULT_INTERLEAVED: "new message inside a fragmented one",
        FAULT_LENGTH_SIGN: "length with its top bit set",
        FAULT_LENGTH_FORM: "length not in its shortest form",
        FAULT_MESSAGE_SIZE: "message over max_message_size",
        FAULT_FRAGMENTS: "message over max_fragments",
        FAULT_UTF8: "text is not UTF-8",
        FAULT_DEFLATE: "compressed data is corrupt",
        FAULT_CLOSE_LENGTH: "close body of one byte",
        FAULT_CLOSE_CODE: "close code not allowed",
        FAULT_CLOSE_UTF8: "close reason is not UTF-8",
    }[fault]
