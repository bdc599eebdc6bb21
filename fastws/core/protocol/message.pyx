# Messages: frames put together (RFC 6455 section 5.4), unmasked, and text validated as it comes (section 8.1).
#
# inbox_next() is pulled by the connection, so that it can stop between any two events. A message whose only frame
# lies whole in the input is unmasked where it lies and costs no object here; anything else is gathered in a bytes
# object that grows from what has arrived, and that becomes the message.

cdef enum:
    FIRST_BODY = 64             # bytes; the smallest body that is allocated
    DIRECT_FROM = 65536         # bytes; receiving less than this straight into the body does not pay
    AT_ONCE = 2097152           # bytes; a message up to this size gets all its room early


cdef void inbox_clear(Inbox *inbox) noexcept:
    """Gives back what the inbox keeps. It is as new after this."""
    Py_CLEAR(inbox.body)
    _reset(inbox)


cdef void _reset(Inbox *inbox) noexcept nogil:
    cdef size_t kept = &inbox.deflated - <uint8_t *>inbox       # what was negotiated stays
    memset(&inbox.deflated, 0, sizeof(Inbox) - kept)


cdef bint inbox_idle(const Inbox *inbox) noexcept nogil:
    """No part of a message has been taken in."""
    return inbox.opcode == 0


cdef uint8_t *body_room(Inbox *inbox, size_t need) except NULL:
    """Where the next `need` bytes of the message go. Growth is geometric, and exact once the end is in sight:
    for up to AT_ONCE that is when an eighth has come, as moving it costs more than room that stays unused."""
    cdef size_t capacity = PyBytes_GET_SIZE(<object>inbox.body) if inbox.body != NULL else 0
    cdef size_t wanted = inbox.filled + need
    cdef size_t sight
    if wanted > capacity:
        sight = min(inbox.filled * 8, <size_t>AT_ONCE) if inbox.filled >= <size_t>DIRECT_FROM else 0
        wanted = max(wanted, capacity * 2, <size_t>FIRST_BODY)
        if inbox.fin and max(wanted, sight) - inbox.filled >= inbox.remaining:
            wanted = inbox.filled + <size_t>inbox.remaining
        if inbox.body == NULL:
            inbox.body = PyBytes_New(NULL, <Py_ssize_t>wanted)
        else:
            _PyBytes_Resize(&inbox.body, <Py_ssize_t>wanted)       # on failure it has freed the body and set NULL
    return <uint8_t *>PyBytes_AS_STRING(<object>inbox.body) + inbox.filled


cdef EventKind event_fault(Event *event, Fault fault) noexcept nogil:
    event.kind = EVENT_FAULT
    event.fault = fault
    event.code = fault_code(fault)
    return EVENT_FAULT


cdef EventKind _payload_came(
    Inbox *inbox, uint8_t *place, const uint8_t *source, size_t n, Event *event
) except *:
    """n masked bytes of the frame in progress, at `source`, go to `place`. Ends the frame where they end it."""
    cdef bint is_text = inbox.opcode == OPCODE_TEXT and not inbox.deflated
    if n == 0:
        pass                            # AVX-512 takes microseconds for no bytes at a place that is NULL
    elif is_text:
        if simd.unmask_check(&inbox.text, place, source, n, &inbox.mask) < n:
            return event_fault(event, FAULT_UTF8)
    else:
        inbox.mask = simd.unmask(place, source, n, inbox.mask)
    inbox.filled += n
    inbox.remaining -= n
    if inbox.remaining:
        return EVENT_NONE
    inbox.in_frame = False
    if not inbox.fin:
        return EVENT_NONE
    if is_text and inbox.text.need:
        return event_fault(event, FAULT_UTF8)
    if inbox.body != NULL and <size_t>PyBytes_GET_SIZE(<object>inbox.body) != inbox.filled:
        _PyBytes_Resize(&inbox.body, <Py_ssize_t>inbox.filled)
    event.kind = EVENT_MESSAGE
    event.opcode = inbox.opcode
    event.deflated = inbox.deflated
    event.body = inbox.body
    event.text = inbox.text
    event.data = <uint8_t *>PyBytes_AS_STRING(<object>inbox.body) if inbox.body != NULL else NULL
    event.length = inbox.filled
    inbox.body = NULL
    _reset(inbox)
    return EVENT_MESSAGE


cdef EventKind _control(uint8_t opcode, uint8_t *data, size_t n, Event *event) noexcept nogil:
    cdef Fault fault
    event.data = data
    event.length = n
    if opcode == OPCODE_CLOSE:
        fault = close_parse(data, n, &event.code)
        if fault != FAULT_NONE:
            return event_fault(event, fault)
        event.kind = EVENT_CLOSE
    else:
        event.kind = EVENT_PING if opcode == OPCODE_PING else EVENT_PONG
    return event.kind


cdef EventKind _whole(Header *header, uint8_t *data, Event *event) noexcept nogil:
    """A message in one frame, all of it in the input: no state is touched."""
    cdef size_t n = <size_t>header.length
    if header.opcode == OPCODE_TEXT and not header.deflated:
        memset(&event.text, 0, sizeof(event.text))
        if simd.unmask_check(&event.text, data, data, n, &header.mask) < n or event.text.need:
            return event_fault(event, FAULT_UTF8)
    else:
        simd.unmask(data, data, n, header.mask)
    event.kind = EVENT_MESSAGE
    event.opcode = header.opcode
    event.deflated = header.deflated
    event.data = data
    event.length = n
    event.body = NULL
    return EVENT_MESSAGE


cdef EventKind inbox_next(
    Inbox *inbox, const Limits *limits, uint8_t **cursor, uint8_t *end, Event *event
) except *:
    """Takes the next event from the input between cursor[0] and end, and moves cursor[0] past what it used up.

    EVENT_NONE leaves at most a header or a control frame unused; the caller keeps that and comes back with more
    behind it. After EVENT_FAULT and EVENT_CLOSE the caller must not come back (RFC 6455 sections 7.1.7 and 1.4).
    """
    cdef Header header
    cdef Fault fault
    cdef uint8_t *data
    cdef uint8_t *place
    cdef const uint8_t *source
    cdef size_t n, available
    while True:
        available = end - cursor[0]
        if inbox.in_frame:
            n = available if available < inbox.remaining else <size_t>inbox.remaining
            if n == 0 and inbox.remaining:
                return EVENT_NONE
            place = body_room(inbox, n) if n else NULL
            source = cursor[0]
            cursor[0] += n
            if _payload_came(inbox, place, source, n, event) != EVENT_NONE:
                return event.kind
            continue

        if available < 2:
            return EVENT_NONE
        fault = header_read(&header, inbox, limits, cursor[0], available)
        if fault != FAULT_NONE:
            return event_fault(event, fault)
        if header.size == 0:
            return EVENT_NONE
        data = cursor[0] + header.size
        available -= header.size
        if header.opcode >= OPCODE_CLOSE:
            if available < header.length:
                return EVENT_NONE
            cursor[0] = data + header.length
            simd.unmask(data, data, <size_t>header.length, header.mask)
            return _control(header.opcode, data, <size_t>header.length, event)
        if header.fin and available >= header.length and inbox.opcode == 0:
            cursor[0] = data + header.length
            return _whole(&header, data, event)
        cursor[0] = data
        if header.opcode != OPCODE_CONTINUATION:
            inbox.opcode = header.opcode
            inbox.deflated = header.deflated
        inbox.fragments += 1
        inbox.in_frame = True
        inbox.fin = header.fin
        inbox.mask = header.mask
        inbox.remaining = header.length


cdef uint8_t *inbox_room(Inbox *inbox, size_t wish, size_t *room) except? NULL:
    """Where the payload of a large frame in progress can be received without a copy; NULL where it is not worth it.

    `wish` is how much one read may bring. What was put there is reported by inbox_received(). The body grows by what
    has arrived: a length that is declared but does not arrive costs nothing."""
    cdef size_t n = min(wish, inbox.filled)
    if not inbox.in_frame or n < <size_t>DIRECT_FROM or inbox.remaining < n:
        return NULL
    room[0] = n
    return body_room(inbox, n)


cdef EventKind inbox_received(Inbox *inbox, size_t n, Event *event) except *:
    """n masked bytes have been put there."""
    cdef uint8_t *place = <uint8_t *>PyBytes_AS_STRING(<object>inbox.body) + inbox.filled
    return _payload_came(inbox, place, place, n, event)


cdef str message_text(Event *event):
    """A text message as str."""
    return text_new(event.data, event.length, &event.text)


cdef bytes message_bytes(Event *event):
    """A message as bytes: its body where it was put together, a copy out of the input otherwise."""
    if event.body != NULL:
        return <bytes>event.body
    return PyBytes_FromStringAndSize(<const char *>event.data, <Py_ssize_t>event.length)


cdef bytes control_body(Event *event):
    """The body of a Ping or Pong."""
    return PyBytes_FromStringAndSize(<const char *>event.data, <Py_ssize_t>event.length)
