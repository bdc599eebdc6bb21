# The end of a connection. What happens is a table: ending.h, with the theory above it. Here it is carried out.

cdef inline bint phase_is_opening(uint8_t phase) noexcept nogil:
    """It is no connection yet."""
    return phase == PHASE_HANDSHAKE or phase == PHASE_DECIDING


cdef inline bint phase_is_connected(uint8_t phase) noexcept nogil:
    """It is a connection that is not over."""
    return phase == PHASE_OPEN or phase == PHASE_CLOSING


cdef inline bint phase_is_over(uint8_t phase) noexcept nogil:
    return phase == PHASE_DOWN or phase == PHASE_GONE


cdef inline const ending_step *_step(uint8_t phase, Ending what) noexcept nogil:
    return &ending_steps[<int>phase][<int>what]


cdef int ending_happens(WebSocket ws, Ending what, str cause, uint16_t code, str reason) except -1:
    """Does what the table says. `cause` is one of fastws.causes.CLOSED or REFUSED; it, `code` and `reason` count
    only where the table asks for them.

    What may raise comes first, so that afterwards the connection has either ended or not. No code of the application's
    runs here: the lines of the log, the cancellation of a task, the waiters of drained() and `close` come when the turn
    ends. Only marking the connection may run any; so it comes before the phase is looked at.
    """
    cdef const ending_step *step = _step(ws.phase, what)
    cdef Service service = service_of(ws)
    cdef bytes body = None
    if not step.happens:
        return 0
    if phase_is_connected(ws.phase) or ws.asides is not None:
        ws.mark()
        step = _step(ws.phase, what)
        if not step.happens:
            return 0
    if step.frame != NO_FRAME:
        body = close_body(code, "" if step.frame == ECHOES_CODE else reason)
    cause = _cause(ws, step, cause)
    if step.counts == REFUSED_AS:
        opening_failed(ws, cause)
    elif step.counts == CLOSED_AS:
        limits_leave(ws)
        service.closed[cause] += 1
        service.open_count -= 1
        ws.close_due = True
        inbox_clear(&ws.inbox)
        compressing_end(ws)
    elif step.next == PHASE_CLOSING:
        compressing_forget(ws)
    if step.code == CODE_GIVEN:
        ws.close_code, ws.close_reason = code, reason
    elif step.code == CODE_1006:
        ws.close_code, ws.close_reason = CLOSE_ABNORMAL, ""
    ws.enter(step.next)
    if step.callbacks != CALLBACKS_COME and ws.asides is not None:
        callback_forget(ws)
        if step.callbacks == CALLBACKS_CANCELLED and (step.counts == REFUSED_AS or ws.route.cancel_on_disconnect):
            ws.asides.cancel_due = True
    if step.frame != NO_FRAME:
        sending_close(ws, body)
    if step.socket == HANGS_UP:
        ws.hang_up()
    elif step.socket == DROPPED_AT_ONCE:
        ws.drop()
    else:
        ws.resume(0xFF)                     # or the peer's answer would not be read
    if step.logged and cause not in ("left", "lost", "error", "stopping"):     # an error has its traceback
        _log(ws, cause, cause if step.frame == NO_FRAME else f"{code}, {reason}")
    return 0


cdef str _cause(WebSocket ws, const ending_step *step, str given):
    if step.cause == CAUSE_LEFT:
        return "left"
    if step.cause == CAUSE_LOST:
        return "lost"
    if step.cause == CAUSE_OURS:
        return "stopping" if service_of(ws).stopping else "by_app"
    return given


cdef int _log(WebSocket ws, str cause, str why) except -1:
    """Where there is no stack or no memory to make a line for the log, the end is counted all the same."""
    try:
        ws.crowd.log_later("about_peer", (cause, "closed %s: %s", callback_peer(ws), why), None)
    except Exception:
        pass
    return 0


cdef int ending_fail(WebSocket ws, str cause, uint16_t code, str reason) except -1:
    """RFC 6455 section 7.1.7. Without the memory to say why, the connection just ends."""
    try:
        ending_happens(ws, END_FAIL, cause, code, reason)
    except Exception as error:
        ws.reactor.failed(ws, error)
    return 0


cdef int ending_fault(WebSocket ws, const Event *event) except -1:
    """The peer broke a rule of the protocol."""
    cdef str cause = "protocol_error"
    if event.fault == FAULT_MESSAGE_SIZE:
        cause = "max_message_size"
    elif event.fault == FAULT_FRAGMENTS:
        cause = "max_fragments"
    elif event.fault == FAULT_DEFLATE:
        cause = "invalid_compression"
    elif event.fault == FAULT_UTF8 or event.fault == FAULT_CLOSE_UTF8:
        cause = "invalid_text"
    return ending_fail(ws, cause, event.code, fault_text(event.fault))


cdef int ending_cut(WebSocket ws, str cause) except -1:
    return ending_happens(ws, END_CUT, cause, 0, "")


def ending_table():
    """The table, for its test: (phase, what ends it) -> what happens, in words."""
    cdef int phase, what
    cdef const ending_step *step
    phases = ["handshake", "deciding", "open", "closing", "down", "gone"]
    endings = ["close", "peer close", "fail", "loss", "cut", "terminate"]
    table = {}
    for phase in range(<int>PHASES):
        for what in range(<int>ENDINGS):
            step = &ending_steps[phase][what]
            table[phases[phase], endings[what]] = None if not step.happens else {
                "next": phases[step.next],
                "frame": ["none", "ours", "echo"][step.frame],
                "counts": ["no", "refused", "closed"][step.counts],
                "cause": ["given", "left", "lost", "ours"][step.cause],
                "code": ["kept", "given", "1006"][step.code],
                "callbacks": ["come", "forgotten", "cancelled"][step.callbacks],
                "socket": ["stays", "hangs up", "dropped"][step.socket],
                "logged": step.logged == 1,
            }
    return table
