# Sending: messages and control frames into the outbox, and what happens when the peer does not take them.

cdef enum:                      # indexes of SEND_STATUS
    IS_SENT = 0
    IS_QUEUED = 1
    IS_DROPPED = 2

cdef tuple SEND_STATUS = (SendStatus.SENT, SendStatus.QUEUED, SendStatus.DROPPED)


cdef int sending_data(WebSocket ws, data, bint is_text, compress) except -1:
    """Sends what payload_open() takes, or a PreparedMessage; returns an index of SEND_STATUS."""
    cdef Payload payload
    cdef int wish = compressing_wish(compress)
    if isinstance(data, PreparedMessage):
        prepared_check(data)
        return sending_prepared(ws, <PreparedMessage>data, wish)
    payload_open(&payload, data, is_text)
    try:
        return _send(ws, &payload, wish)
    finally:
        payload_close(&payload)


cdef int _send(WebSocket ws, const Payload *payload, int wish) except -1:
    """Sends one unfragmented message."""
    cdef uint8_t head[MAX_FRAME_HEADER]
    cdef uint8_t *place
    cdef size_t size, n = payload.size
    if not _is_wanted(ws):
        return IS_DROPPED
    if ws.deflation is not None and compressing_wanted(ws, n, wish) and compressing_write(ws, payload):
        return _status(ws)
    if n < ZERO_COPY_FROM:
        size = 2 if n < 126 else 4      # as header_write() will say: ZERO_COPY_FROM is 65536
        place = ws.reserve(size + n)
        header_write(place, 0x80 | payload.opcode, n)
        payload_write(place + size, payload)
        return _status(ws)
    size = header_write(head, 0x80 | payload.opcode, n)
    if payload.text != NULL:
        encoded = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>n)
        payload_write(<uint8_t *>PyBytes_AS_STRING(encoded), payload)
        ws.write_large(head, size, <const uint8_t *>PyBytes_AS_STRING(encoded), n, encoded)
    else:
        ws.write_large(head, size, payload.data, n, None if payload.keeper == NULL else <object>payload.keeper)
    return _status(ws)


cdef int sending_prepared(WebSocket ws, PreparedMessage message, int wish) except -1:
    """Sends a frame that others send, too."""
    if not _is_wanted(ws):
        return IS_DROPPED
    if (
        ws.deflation is not None
        and compressing_wanted(ws, message.size - message.head_size, wish)
        and compressing_refer(ws, message)
    ):
        return _status(ws)
    ws.refer(message.frame, message.size, message.buffer)
    return _status(ws)


cdef bint sending_continues(WebSocket ws, PreparedMessage message) noexcept:
    """The usual message of a burst, in fewer steps: its frame follows on the one that this connection was sent last and
    that has not left yet. False where it is another case, and nothing has been done."""
    if ws.phase != PHASE_OPEN or ws.blocked or ws.broken or ws.deflation is not None:
        return False
    if ws.outbox.size >= CORK_SIZE or ws.outbox.size > ws.route.max_backpressure:
        return False
    return outbox_extend(&ws.outbox, message.frame, message.size, <PyObject *>message.buffer)


cdef bint _is_wanted(WebSocket ws) except -1:
    """Whether a message may be written; if not, what the slow-consumer policy says has been done."""
    if ws.phase != PHASE_OPEN or ws.broken:
        return False
    check_thread(ws)
    will_write(ws)
    if ws.phase != PHASE_OPEN:
        return False
    if ws.outbox.size > ws.route.max_backpressure:
        if not ws.blocked:
            ws.flush()
        if ws.outbox.size > ws.route.max_backpressure and _is_slow(ws):
            if not ws.route.drop_when_slow:
                ending_fail(ws, "max_backpressure", 1008, "slow consumer: over max_backpressure")
            return False
    return not ws.broken


cdef bint _is_slow(WebSocket ws) except -1:
    """Whether the peer, with more than max_backpressure unsent, has had its time, or this is more than a burst. Once
    slow it stays so until no more than max_backpressure is unsent."""
    cdef Backlog *backlog = &ws.aside().backlog
    if backlog.least == 0:
        ws.reactor.read_clock()
        backlog.least = backlog.last = ws.outbox.size
        backlog.taken, backlog.since = 0, ws.reactor.now
    if not backlog.slow and _is_too_much(ws):
        ws.flush()                          # the poller reports room once a third of the send buffer is free
        if not ws.blocked:
            ws.mark()                       # for `drain`
        if ws.outbox.size > ws.route.max_backpressure:
            backlog.slow = _is_too_much(ws)
        else:
            backlog.least = 0
    return backlog.slow


cdef bint _is_too_much(WebSocket ws) noexcept:
    """Whether max_burst has been added to the backlog, or the peer has not taken max_backpressure in send_timeout. What
    is added meanwhile does not count against the peer."""
    cdef Backlog *backlog = &ws.asides.backlog
    cdef size_t unsent = ws.outbox.size, step = max(ws.route.max_backpressure, <size_t>PROGRESS)
    ws.reactor.read_clock()
    backlog.taken += backlog.last - min(unsent, backlog.last)
    backlog.last = unsent
    if backlog.taken >= step:
        backlog.taken, backlog.since = 0, ws.reactor.now
    if unsent + step <= backlog.least:
        backlog.least = unsent
    return (
        ws.route.max_burst == 0
        or unsent >= backlog.least + ws.route.max_burst
        or ws.route.send_timeout and ws.reactor.now - backlog.since >= ws.route.send_timeout
    )


cdef int _status(WebSocket ws) except -1:
    if not ws.blocked:
        return IS_DROPPED if ws.broken else IS_SENT
    sending_blocked(ws)
    return IS_QUEUED


cdef int sending_control(WebSocket ws, uint8_t opcode, bytes body) except -1:
    cdef size_t n = <size_t>PyBytes_GET_SIZE(body)
    cdef uint8_t *place
    if opcode != OPCODE_CLOSE:
        will_write(ws)
        if ws.phase != PHASE_OPEN:
            return 0
    place = ws.reserve(2 + n)
    header_write(place, 0x80 | opcode, n)
    memcpy(place + 2, PyBytes_AS_STRING(body), n)
    return 0


cdef int sending_close(WebSocket ws, bytes body) except -1:
    """The last frame. Where there is no memory for it, the peer sees the connection break off."""
    try:
        sending_control(ws, OPCODE_CLOSE, body)
    except MemoryError:
        ws.break_off()
    return 0


cdef int sending_pong(WebSocket ws, bytes body) except -1:
    """To a peer that takes nothing only the latest is owed (RFC 6455 section 5.5.3)."""
    if not ws.blocked:
        return sending_control(ws, OPCODE_PONG, body)
    ws.aside().pong = body
    return 0


cdef int sending_blocked(WebSocket ws) except -1:
    """The peer reads too slowly: `drain` is due once it has caught up, and meanwhile it cannot make us queue more."""
    if ws.phase != PHASE_OPEN:
        return 0
    ws.drain_due = True
    if ws.asides is not None:
        ws.asides.backlog.last = ws.outbox.size
    if ws.outbox.size > ws.route.high_water:
        ws.pause(PAUSE_OUTBOX)
    return 0


cdef int sending_taken(WebSocket ws) except -1:
    """The peer has taken some of what was queued."""
    cdef size_t unsent = ws.outbox.size         # without the Pong: when that is taken, this is not called again
    if ws.phase != PHASE_OPEN:
        return ws.end_if_finished()
    if ws.asides is not None and unsent <= ws.route.max_backpressure:
        ws.asides.backlog.least, ws.asides.backlog.slow = 0, False
    if ws.asides is not None and ws.asides.pong is not None and not ws.blocked:
        body, ws.asides.pong = ws.asides.pong, None
        sending_control(ws, OPCODE_PONG, body)
    if ws.drain_due and unsent <= ws.route.low_water:
        ws.drain_due = False
        ws.resume(PAUSE_OUTBOX)
        if ws.asides is not None and ws.asides.drain_waiters is not None:
            ws.mark()                       # they are woken when the turn ends
        if not ws.broken:                   # else nothing was taken, and `close` is about to come
            callback_event(ws, CALLBACK_DRAIN, (ws,))
    return ws.end_if_finished()


cdef object sending_drained(WebSocket ws):
    """A future for WebSocket.drained()."""
    cdef list waiters
    future = ws.reactor.loop.create_future()
    if ws.phase == PHASE_OPEN:
        check_thread(ws)
        if ws.reactor.corked_for is ws and ws.reactor.corked > ws.route.low_water:
            ws.uncork()
        if ws.outbox.size > ws.route.low_water and not ws.blocked:
            ws.flush()
    if ws.phase == PHASE_OPEN and ws.outbox.size > ws.route.low_water:
        if ws.aside().drain_waiters is None:
            ws.asides.drain_waiters = []
        waiters = ws.asides.drain_waiters
        if len(waiters) & (len(waiters) - 1) == 0:      # at each power of two, those go who were cancelled
            waiters[:] = [one for one in waiters if not one.done()]
        waiters.append(future)
    else:
        future.set_result(None)
    return future


cdef int sending_release(WebSocket ws) except -1:
    """Wakes all that wait in drained()."""
    cdef list waiters = ws.asides.drain_waiters
    cdef Py_ssize_t done = 0
    try:
        for future in waiters:
            done += 1
            if not future.done():
                future.set_result(None)
    finally:
        del waiters[:done]
    ws.asides.drain_waiters = None
    return 0
