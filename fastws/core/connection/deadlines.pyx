# Deadlines: what each phase of a connection waits for, and what happens when it does not come. Times are kept as
# "since when". What starts a deadline calls Reactor.sweep_within(); the reactor's one timer then has all sockets looked
# at when the next deadline is due.

cdef uint32_t _time_left(uint32_t now, uint32_t since, uint32_t timeout) noexcept nogil:
    """Milliseconds until `timeout` after `since`; a timeout of 0 is off. Clocks wrap, so only differences count."""
    if timeout == 0:
        return NEVER
    return 0 if now - since >= timeout else timeout - (now - since)


cdef uint32_t _ending_in(WebSocket ws, uint32_t now, uint32_t timeout) noexcept:
    """Milliseconds until the end of a connection is overdue: `timeout` after it began, or after the peer last took
    PROGRESS bytes of the outbox or its last byte, whichever is later."""
    return max(_time_left(now, ws.since, timeout), _time_left(now, ws.stalled_at, timeout))


cdef uint32_t _asking_in(WebSocket ws, uint32_t now) noexcept:
    """Milliseconds until our kernel is asked what it knows of the peer's: whenever no byte has come for a quarter of
    tcp_user_timeout."""
    cdef uint32_t quarter = service_of(ws).quarter_user_timeout
    return max(_time_left(now, ws.deadlines.heard_at, quarter), _time_left(now, ws.deadlines.asked_at, quarter))


cdef uint32_t _warning_in(WebSocket ws, uint32_t now) noexcept:
    """Milliseconds until callback_runs_long() is due."""
    cdef Asides asides = ws.asides
    if asides is None or asides.task is None or asides.warned_of or len(asides.waiting) == 0:
        return NEVER
    return _time_left(now, asides.began_at, WARN_OF_RUNNING_FROM)


cdef inline int deadline_heard(WebSocket ws) noexcept:
    """Bytes have come, or the peer could send none: no Ping is owed, nor is its Pong."""
    ws.deadlines.heard_at = ws.reactor.now
    ws.deadlines.ping_sent = False
    return 0


cdef int deadline_received(WebSocket ws, bint in_message, bint finished) noexcept:
    """Keeps the time at which the message in progress began, its header included."""
    if in_message and (finished or not ws.deadlines.in_message):
        ws.deadlines.message_at = ws.reactor.now
        ws.reactor.sweep_within(ws.route.message_timeout or NEVER)
    ws.deadlines.in_message = in_message
    return 0


cdef int deadline_ping_sent(WebSocket ws) noexcept:
    """A Pong is due, which costs the peer nothing."""
    ws.deadlines.pongs_due = min(ws.deadlines.pongs_due + 1, 0xFFFF)
    return 0


cdef int deadline_resumed(WebSocket ws) noexcept:
    """What the peer could not do while nothing was read is not held against it."""
    cdef uint32_t now = ws.reactor.now
    # A callback that paused may have gone on for long before the message began.
    ws.deadlines.message_at += min(now - ws.paused_at, now - ws.deadlines.message_at)
    return deadline_heard(ws)


cdef uint32_t deadline_in(WebSocket ws, uint32_t now) noexcept:
    """Milliseconds to the nearest deadline: 0 where it has come, NEVER where there is none."""
    cdef Route route = ws.route
    cdef uint32_t left
    if phase_is_opening(ws.phase):
        if ws.phase == PHASE_DECIDING and route is None:
            return _time_left(now, ws.since, service_of(ws).http_timeout)
        return _time_left(now, ws.since, service_of(ws).handshake_timeout)
    if ws.phase != PHASE_OPEN:
        return _ending_in(ws, now, service_of(ws).close_timeout if route is None else route.close_timeout)
    left = _warning_in(ws, now)
    if ws.blocked:
        left = min(left, _time_left(now, ws.stalled_at, route.send_timeout))
    if ws.deflation is not None and ws.deflation.history.size:
        left = min(left, _time_left(now, ws.deflation.used_at, route.deflate.history_timeout))
    if not ws.pauses and not ws.resumed:
        if ws.deadlines.in_message:
            left = min(left, _time_left(now, ws.deadlines.message_at, route.message_timeout))
        if ws.deadlines.ping_sent:
            # The Pong plans nothing itself, so it is looked for in time for the next Ping.
            left = min(left, min(_time_left(now, ws.deadlines.pinged_at, route.ping_timeout), route.ping_interval))
        else:
            left = min(left, _time_left(now, ws.deadlines.heard_at, route.ping_interval))
    elif ws.deadlines.peer_left and ws.pauses & (PAUSE_WAITING | PAUSE_AT_END) and ws.is_busy():
        left = min(left, _ending_in(ws, now, route.close_timeout))
    return min(left, _asking_in(ws, now))


cdef int deadline_came(WebSocket ws, uint32_t now) except -1:
    cdef Route route = ws.route
    cdef bint silent
    if phase_is_opening(ws.phase):
        return opening_overdue(ws)
    if ws.phase != PHASE_OPEN:
        if ws.blocked:
            ws.flush()                      # the poller reports room once a third of the send buffer is free
        if deadline_in(ws, now) or _is_arriving(ws, now):
            return ws.on_taken()
        callback_overdue(ws)
        callback_cancel(ws)
        return ending_cut(ws, "close_timeout")
    if not _warning_in(ws, now):
        callback_runs_long(ws, now)
        if deadline_in(ws, now):
            return 0
    if (
        ws.deflation is not None
        and ws.deflation.history.size
        and not _time_left(now, ws.deflation.used_at, route.deflate.history_timeout)
    ):
        history_drop(&ws.deflation.history)
        if deadline_in(ws, now):
            return 0
    if not _asking_in(ws, now):
        silent = wire_is_unanswered(ws, service_of(ws).quarter_user_timeout)
        ws.deadlines.asked_at = now
        ws.deadlines.unanswered = ws.deadlines.unanswered + 1 if silent else 0
        if ws.deadlines.unanswered > 4:     # as much as four quarters have passed since the first time
            return ending_cut(ws, "lost")
        if deadline_in(ws, now):
            return 0
    if ws.blocked and (ws.pauses or not _time_left(now, ws.stalled_at, route.send_timeout)):
        ws.flush()                          # as above
        if ws.broken:
            return ws.on_end()
        if not _time_left(now, ws.stalled_at, route.send_timeout):
            return ending_cut(ws, "send_timeout")
        if not ws.pauses or deadline_in(ws, now):
            return ws.on_taken()
    if ws.pauses:
        return ws.on_end()                  # the peer has left, and the callback behind which it waits goes on
    if ws.deadlines.in_message and not _time_left(now, ws.deadlines.message_at, route.message_timeout):
        return ending_fail(ws, "message_timeout", 1008, "message_timeout")
    if ws.deadlines.ping_sent:
        return ending_fail(ws, "ping_timeout", 1011, "ping_timeout")
    ws.deadlines.ping_sent = True
    ws.deadlines.pinged_at = now
    deadline_ping_sent(ws)
    return sending_control(ws, OPCODE_PING, b"")


cdef bint _is_arriving(WebSocket ws, uint32_t now) noexcept:
    """Whether all is handed to the kernel, and on its way to a peer whose kernel has acknowledged some of it since the
    last deadline: then the time begins anew. A socket that is closed meanwhile would answer the peer's next byte, its
    Close even, with a reset, which destroys what is on its way. The first look has nothing to compare with:
    it gives the time once more where anything is on its way."""
    cdef uint16_t before = ws.deadlines.in_flight
    if ws.fd < 0 or ws.outbox.size:
        return False
    ws.deadlines.in_flight = <uint16_t>min(wire_on_its_way(ws) // PROGRESS, <size_t>0xFFFF)
    if ws.deadlines.in_flight == 0 and before == 0 or before and ws.deadlines.in_flight >= before:
        return False
    ws.since = now
    return True
