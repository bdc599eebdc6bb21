# Calling the user's code. Callbacks of one connection run one at a time and in order: while an async one runs, what
# comes after it waits, and once max_waiting things wait, nothing more is read.

cdef enum:
    CLOSE_ARGUMENTS = 3         # ws, code and reason: no other callback has as many


cdef int callback_message(WebSocket ws, Event *event) except -1:
    """Delivers a message. It takes over event.body."""
    cdef Route route = ws.route
    cdef bint is_text = event.opcode == OPCODE_TEXT
    cdef PyObject *arguments[3]         # the first is the callee's, for `self`
    cdef PyObject *answer
    try:
        if route.message is None:
            return 0
        if is_text:
            message = message_bytes(event) if route.text_as_utf8 else message_text(event)
        elif route.binary_as_view:
            return _message_view(ws, event)
        else:
            message = message_bytes(event)
    finally:
        Py_XDECREF(event.body)
    if ws.is_busy():
        return _wait(ws, route.message, (ws, message), is_text, event.length)
    ws.is_text_message = is_text
    # As _answer_of(), but without a tuple and an `except` clause, which slow every message.
    arguments[1], arguments[2] = <PyObject *>ws, <PyObject *>message
    ws.calling = True
    answer = PyObject_Vectorcall(route.message, &arguments[1], 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
    ws.calling = False
    if answer == NULL:
        _broke(ws)
        return _called(ws)
    result = <object>answer
    Py_XDECREF(answer)
    if result is not None:
        _returned(ws, result)
    return _called(ws)


cdef int _message_view(WebSocket ws, Event *event) except -1:
    """Delivers binary as a view: of the shared buffer, or of bytes where the message was put together from pieces or
    has to wait. The view ends when the callback returns. The caller frees event.body."""
    cdef Window window = None
    if event.body != NULL or ws.is_busy():
        message = PyMemoryView_FromObject(message_bytes(event))
        if ws.is_busy():
            return _wait(ws, ws.route.message, (ws, message), False, event.length)
    else:
        window = window_on(service_of(ws).inflated if event.deflated else ws.reactor.input, event.data, event.length)
        message = PyMemoryView_FromObject(window)
    ws.is_text_message = False
    try:
        result = _answer_of(ws, ws.route.message, (ws, message))
    finally:
        _end_view(window, message)
    if result is not None:
        _returned(ws, result)
    return _called(ws)


cdef int _broke(WebSocket ws) except -1:
    """The callback has raised. Apart from callback_message(), because an `except` clause there slows every message."""
    try:
        _raise()
    except (Exception, CancelledError) as error:
        _raised(ws, error)
    return 0


cdef int _raise() except -1:
    """Has Cython raise the exception that PyObject_Vectorcall() has set."""
    return -1


cdef int callback_event(WebSocket ws, callback, tuple arguments) except -1:
    """Calls any other callback, now or after those that wait. `arguments` begin with ws."""
    if callback is None:
        return 0
    if ws.is_busy():
        return _wait(ws, callback, arguments, False, 0)
    result = _answer_of(ws, callback, arguments)
    if result is not None:
        _returned(ws, result)
    return _called(ws)


cdef object _answer_of(WebSocket ws, callback, tuple arguments):
    """What the callback returns; None where it raises."""
    result = None
    ws.calling = True
    try:
        result = callback(*arguments)
    except (Exception, CancelledError) as error:
        _raised(ws, error)
    finally:
        ws.calling = False
    return result


cdef inline int _called(WebSocket ws) except -1:
    """The callback may have run the loop itself: what came meanwhile has waited for it, and the end too."""
    if ws.phase == PHASE_GONE or ws.asides is not None and not ws.asides.busy and ws.asides.waiting:
        return ws.mark()
    return 0


cdef int _end_view(Window window, message) except -1:
    """A view ends with its callback. What was made from a view of bytes keeps them, and they never change."""
    if window is not None:
        return window_end(window, message)
    if type(message) is memoryview:
        try:
            message.release()
        except BufferError:
            pass
    return 0


cdef int _returned(WebSocket ws, result) except -1:
    """An async callback: its first step runs here and now, and no task is made if that is also its last."""
    cdef Asides asides = ws.asides
    if not is_coroutine(result):
        return 0
    try:
        asides = ws.aside()
        asides.busy = asides.stepping = True
        task = service_of(ws).starter.start(result, ws._callback_ended)
        if task is not None:
            asides.task = task
            if asides.cancel_due:
                ws.mark()               # the loop has run in that step, and the connection has ended there
    except BaseException as error:
        if asides is not None:
            if not asides.busy:
                raise
            asides.busy = False         # it has not begun, so no callback reports its end
        result.close()
        _raised(ws, error)
        if not isinstance(error, Exception):
            raise
    finally:
        if asides is not None:
            asides.stepping = False
    return 0


def report_task(done, task):
    """Calls done(result, exception) of a task that has ended. Written in C: where a Python function begins, a
    signal's handler may raise, and `done` would never be called."""
    result = error = None
    try:
        result = task.result()
    except BaseException as raised:
        error = raised
    done(result, error)


cdef int callback_ended(WebSocket ws, error) except -1:
    """An async callback has ended: the next that waits is called at once, as it may be async, too."""
    cdef Asides asides = ws.asides
    asides.busy = asides.cancel_due = False
    asides.task = None
    if isinstance(error, CancelledError):
        ending_fail(ws, "error", 1011, "cancelled")     # does nothing where it was us, because the connection had ended
    elif error is not None:
        _raised(ws, error)
    return 0 if asides.stepping else _go_on(ws, 1)


cdef int _go_on(WebSocket ws, int most) except -1:
    """What waits has its turn: up to the next async callback that does not end at once, or `most` callbacks. The rest
    comes in the turn."""
    cdef Asides asides = ws.asides
    cdef int count = 0
    try:
        while asides.waiting and not asides.busy:
            if count == most:
                ws.mark()
                break
            count += 1
            callback, arguments, is_text, size = asides.waiting.popleft()
            asides.waiting_size -= <size_t>size
            ws.is_text_message = is_text
            result = _answer_of(ws, callback, arguments)
            _end_view(None, arguments[len(arguments) - 1])
            if result is not None:
                _returned(ws, result)
    except BaseException:                   # a KeyboardInterrupt, say: it goes to the loop, and the rest comes after it
        ending_fail(ws, "error", 1011, "interrupted")
        ws.mark()
        raise
    if ws.deadlines.peer_left:
        ws.reactor.read_clock()
        ws.since = ws.reactor.now           # there is progress; see deadline_in()
    if len(asides.waiting) <= ws.route.max_waiting // 2 and asides.waiting_size <= ws.route.low_water:
        ws.resume(PAUSE_WAITING)
    if not asides.waiting:
        asides.waiting = ()                 # an empty deque takes 760 bytes
    if ws.phase == PHASE_GONE and ws.is_over():
        ws.crowd.unlink(ws)
    return ws.end_if_finished()


cdef int callback_close(WebSocket ws) except -1:
    """`close`, exactly once: it stays due where there is no memory to call it, or to have it wait."""
    cdef tuple arguments = (ws, ws.close_code, ws.close_reason)     # CLOSE_ARGUMENTS of them
    if not ws.is_busy():
        ws.close_due = False
    callback_event(ws, ws.route.close, arguments)
    ws.close_due = False
    return 0


cdef int callback_forget(WebSocket ws) noexcept:
    """What waits is not delivered."""
    if ws.asides is not None:
        ws.asides.waiting = ()
        ws.asides.waiting_size = 0
    return 0


cdef int callback_cancel(WebSocket ws) except -1:
    """Nothing that has begun or waits goes on, except that `close` comes."""
    cdef Asides asides = ws.asides
    if asides is None:
        return 0
    ws.mark()
    asides.cancel_due = True
    kept = [one for one in asides.waiting if len(one[1]) == CLOSE_ARGUMENTS]     # one function may be all callbacks
    asides.waiting = deque(kept) if kept else ()
    asides.waiting_size = 0
    return 0


cdef int callback_turn(WebSocket ws, bint late) except -1:
    """Does what may run foreign code, and so had to wait for the end of the turn. late: see Socket.on_turn()."""
    cdef Asides asides = ws.asides
    if asides.cancel_due and not asides.stepping:
        asides.cancel_due = False
        if asides.task is not None:
            try:
                asides.task.cancel()    # calls cancel() of what it awaits
            except (Exception, CancelledError) as error:
                asides.cancel_due = isinstance(error, MemoryError)
                ws.crowd.log_later(None, "exception in cancelling a callback", (), error)
            if asides.cancel_due:
                ws.mark()
    if asides.drain_waiters is not None and (ws.phase != PHASE_OPEN or ws.outbox.size <= ws.route.low_water):
        sending_release(ws)
    if not late and callback_goes_on(ws):
        _go_on(ws, EVENTS_AT_ONCE)
    return 0


cdef bint callback_goes_on(WebSocket ws) noexcept:
    """Something waits, and no longer for a callback to end."""
    cdef Asides asides = ws.asides
    return len(asides.waiting) > 0 and not asides.busy and not ws.calling and ws.phase != PHASE_DECIDING


cdef bint is_coroutine(result) except -1:
    return PyCoro_CheckExact(result) or isinstance(result, Coroutine)


cdef int _wait(WebSocket ws, callback, tuple arguments, bint is_text, size_t size) except -1:
    cdef Asides asides = ws.aside()
    if not asides.waiting:
        asides.waiting = deque()
    asides.waiting.append((callback, arguments, is_text, size))
    asides.waiting_size += size
    if ws.phase == PHASE_OPEN and (
        len(asides.waiting) >= ws.route.max_waiting or asides.waiting_size > ws.route.high_water
    ):
        ws.pause(PAUSE_WAITING)
    return 0


cdef int _raised(WebSocket ws, error) except -1:
    """Logs the traceback and closes this connection with 1011."""
    ending_fail(ws, "error", 1011, "internal error")
    return ws.crowd.log_later(
        None, "exception in a callback; the connection is closed with 1011", (), error)
