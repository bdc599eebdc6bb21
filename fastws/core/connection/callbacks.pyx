# Calling the user's code. Callbacks of one connection run one at a time and in order: while an async one runs, what
# comes after it waits, and once max_waiting things wait, nothing more is read.

cdef enum:                      # milliseconds
    WARN_OF_RUNNING_FROM = 5000     # of an async callback behind which others of its connection wait
    WARN_OF_HOLDING_FROM = 1000     # of a callback beside which the loop has served no connection

#: By Callback.
cdef tuple CALLBACK_NAMES = ("", "upgrade", "open", "message", "drain", "ping", "pong", "close")


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
        return _wait(ws, CALLBACK_MESSAGE, (ws, message), is_text, event.length)
    ws.is_text_message = is_text
    callback_timed(ws, CALLBACK_MESSAGE)
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
        _returned(ws, CALLBACK_MESSAGE, result)
    return _called(ws)


cdef int _message_view(WebSocket ws, Event *event) except -1:
    """Delivers binary as a view: of the shared buffer, or of bytes where the message was put together from pieces or
    has to wait. The view ends when the callback returns. The caller frees event.body."""
    cdef Window window = None
    if event.body != NULL or ws.is_busy():
        message = PyMemoryView_FromObject(message_bytes(event))
        if ws.is_busy():
            return _wait(ws, CALLBACK_MESSAGE, (ws, message), False, event.length)
    else:
        window = window_on(service_of(ws).inflated if event.deflated else ws.reactor.input, event.data, event.length)
        message = PyMemoryView_FromObject(window)
    ws.is_text_message = False
    try:
        result = _answer_of(ws, CALLBACK_MESSAGE, (ws, message))
    finally:
        _end_view(window, message)
    if result is not None:
        _returned(ws, CALLBACK_MESSAGE, result)
    return _called(ws)


cdef int _broke(WebSocket ws) except -1:
    """The callback has raised. Apart from callback_message(), because an `except` clause there slows every message."""
    try:
        _raise()
    except (Exception, CancelledError) as error:
        _raised(ws, CALLBACK_MESSAGE, error)
    return 0


cdef int _raise() except -1:
    """Has Cython raise the exception that PyObject_Vectorcall() has set."""
    return -1


cdef int callback_event(WebSocket ws, Callback callback, tuple arguments) except -1:
    """Calls any other callback, now or after those that wait. `arguments` begin with ws."""
    if ws.route.callbacks[callback] is None:
        return 0
    if ws.is_busy():
        return _wait(ws, callback, arguments, False, 0)
    try:
        result = _answer_of(ws, callback, arguments)
        if result is not None:
            _returned(ws, callback, result)
    finally:
        callback_timed(ws, 0)
    return _called(ws)


cdef object _answer_of(WebSocket ws, Callback callback, tuple arguments):
    """What the callback returns; None where it raises."""
    result = None
    callback_timed(ws, callback)
    ws.calling = True
    try:
        result = ws.route.callbacks[callback](*arguments)
    except (Exception, CancelledError) as error:
        _raised(ws, callback, error)
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


cdef int _returned(WebSocket ws, Callback callback, result) except -1:
    """An async callback: its first step runs here and now, and no task is made if that is also its last."""
    cdef Asides asides = ws.asides
    if type(result) is SendStatus:          # of `lambda ws, data: ws.send(data)`; the other questions take longer
        return 0
    if not is_coroutine(result):
        return _unused(ws, callback, result)
    try:
        asides = ws.aside()
        asides.busy, asides.stepping, asides.warned_of = callback, True, False
        task = service_of(ws).starter.start(result, ws._callback_ended)
        if task is not None:
            asides.task = task
            ws.reactor.read_clock()
            asides.began_at = ws.reactor.now
            if len(asides.waiting):
                ws.reactor.sweep_within(WARN_OF_RUNNING_FROM)       # see callback_runs_long()
            if asides.cancel_due:
                ws.mark()               # the loop has run in that step, and the connection has ended there
    except BaseException as error:
        if asides is not None:
            if not asides.busy:
                raise
            asides.busy = 0             # it has not begun, so no callback reports its end
        result.close()
        _raised(ws, callback, error)
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


cdef int callback_ended(WebSocket ws, result, error) except -1:
    """An async callback has ended: the next that waits is called at once, as it may be async, too."""
    cdef Asides asides = ws.asides
    cdef Callback callback = <Callback>asides.busy
    asides.busy = 0
    asides.cancel_due = False
    asides.task = None
    if isinstance(error, CancelledError):
        _cancelled(ws, callback)
    elif error is not None:
        _raised(ws, callback, error)
    elif result is not None:
        _unused(ws, callback, result)
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
            if callback == CALLBACK_CLOSE:      # what it has waited for does not shorten its close_timeout
                ws.reactor.read_clock()
                ws.since = ws.reactor.now
                ws.reactor.sweep_within(ws.route.close_timeout)
            result = _answer_of(ws, callback, arguments)
            _end_view(None, arguments[len(arguments) - 1])
            if result is not None:
                _returned(ws, callback, result)
        callback_timed(ws, 0)
    except BaseException:                   # a KeyboardInterrupt, say: it goes to the loop, and the rest comes after it
        ws.timed = 0
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
    cdef tuple arguments = (ws, ws.close_code, ws.close_reason)
    if not ws.is_busy():
        ws.close_due = False
    callback_event(ws, CALLBACK_CLOSE, arguments)
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
    kept = [one for one in asides.waiting if one[0] == CALLBACK_CLOSE]
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
                callback_log(ws, <Callback>asides.busy, "had ended", ws.close_code, error, "exception in cancelling")
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


cdef int _wait(WebSocket ws, Callback callback, tuple arguments, bint is_text, size_t size) except -1:
    cdef Asides asides = ws.aside()
    cdef bint is_first = len(asides.waiting) == 0
    if is_first:
        asides.waiting = deque()
    asides.waiting.append((callback, arguments, is_text, size))
    asides.waiting_size += size
    if is_first:
        ws.reactor.sweep_within(ws.due_in(ws.reactor.now))      # see callback_runs_long()
    if ws.phase == PHASE_OPEN and (
        len(asides.waiting) >= ws.route.max_waiting or asides.waiting_size > ws.route.high_water
    ):
        ws.pause(PAUSE_WAITING)
    return 0


cdef int _raised(WebSocket ws, Callback callback, error) except -1:
    """Logs the traceback and closes this connection with 1011, unless it is closed already."""
    cdef bint was_open = ws.phase == PHASE_OPEN
    ending_fail(ws, "error", 1011, "internal error")
    return callback_log(ws, callback, "is closed" if was_open else "was already closed", ws.close_code, error)


cdef int _cancelled(WebSocket ws, Callback callback) except -1:
    """An async callback has been cancelled: by us, because the connection had ended, or by somebody else."""
    cdef bint was_open = ws.phase == PHASE_OPEN
    ending_fail(ws, "error", 1011, "cancelled")
    if was_open:
        _warn(ws, callback, "was cancelled while the connection was open, which is now closed with 1011", ())
    return 0


# What the log says of callbacks. A line is made where it is logged, and costs nothing before.

def http_title(str path not None, callback):
    """What the log calls the callback of an http route."""
    return callback_title("http", path, callback)


cdef str callback_title(str name, str path, callback):
    """What the log calls a callback, as a part of a form: its name, its route, where it is defined, and the handler's
    class if that inherits it. Made with the route: what it asks of the callback may run any code."""
    cdef str where
    try:
        while isinstance(callback, partial):
            callback = callback.func
        owner = getattr(callback, "__self__", None)
        named = callback if hasattr(callback, "__qualname__") else type(callback)      # of a callable object
        where = f"{named.__module__}.{named.__qualname__}"
        if owner is not None and not (isinstance(owner, type) or isinstance(owner, ModuleType)):
            if type(owner).__qualname__ != named.__qualname__.rpartition(".")[0]:
                where = f"{where}, of {type(owner).__qualname__}"
    except Exception:                       # its attributes may be code, too
        where = type(callback).__qualname__
    return f'{name} callback of "{path}" ({where})'.replace("%", "%%")


cdef str callback_title_of(WebSocket ws, Callback callback):
    """An http request has no route; its callback's title, once that is found, is in ws.data."""
    if ws.route is not None:
        return ws.route.titles[callback]
    return "opening handshake" if ws.data is None else ws.data[0]


cdef object callback_peer(WebSocket ws):
    """What the log calls the peer: its address, which those on a Unix socket do not have."""
    return ws.remote_address or "a client"


cdef str _who(WebSocket ws):
    """The connection, or the request, and its peer."""
    address = ws.remote_address
    who = f"connection {ws.id}" if ws.id else f"a request for {ws.path!a:.200}"
    return who if address is None else f"{who} of {address}"


cdef int callback_log(
    WebSocket ws, Callback callback, str then, int code, error, str what="exception in"
) except -1:
    """Logs an exception that a callback has raised, with its traceback. then, code (0 for none): what becomes of the
    connection."""
    cdef tuple line
    try:
        line = (f"{what} the {callback_title_of(ws, callback)}; %s {then}", _who(ws))
        if code:
            line = (f"{line[0]} with %d", line[1], code)
    except Exception:                       # there is no stack or no memory to say more
        line = ("exception in a callback",)
    return ws.crowd.log_later("raised", line, error)


cdef int _warn(WebSocket ws, Callback callback, str what, tuple arguments) except -1:
    """what: a form for the arguments, which says what is wrong and what to do."""
    cdef tuple line
    try:
        line = (f"the {callback_title_of(ws, callback)}, called for %s, {what}", _who(ws), *arguments)
        ws.crowd.log_later("warning", line, None)
    except Exception:                       # as above
        pass
    return 0


cdef tuple ANSWERS = (str, bytes, dict, Response, Accept, Future)


cdef int _unused(WebSocket ws, Callback callback, result) except -1:
    """What a callback returns goes nowhere. Warns once of each callback that returns an answer, as those of a web
    framework do, or a future; not of a list, a tuple or a number, which a lambda may return by the way."""
    cdef uint8_t bit = <uint8_t>(1 << <int>callback)
    cdef type kind = type(result)           # rather than isinstance(), as a __class__ may be code
    if ws.route.warned_of_answers & bit:
        return 0
    if not issubclass(kind, ANSWERS):
        if result is not False or callback != CALLBACK_OPEN or ws.phase != PHASE_OPEN:
            return 0
    ws.route.warned_of_answers |= bit
    what = "False" if result is False else kind.__name__
    if issubclass(kind, Future):
        return _warn(
            ws, callback, "has returned a %s, which is not awaited: make it an async def that awaits it", (what,))
    return _warn(
        ws, callback,
        "has returned %s, which goes nowhere: send with ws.send(), end the connection with ws.close(), refuse it in "
        "`upgrade`",
        (what,),
    )


cdef int callback_runs_long(WebSocket ws, uint32_t now) except -1:
    """Warns of an async callback behind which others wait: for ever, if it waits for what they would bring."""
    cdef Asides asides = ws.asides
    asides.warned_of = True
    messages = sum([one[0] == CALLBACK_MESSAGE for one in asides.waiting])
    return _warn(
        ws, <Callback>asides.busy,
        "has run for %d s while %d messages and %d other callbacks wait behind it: callbacks of one connection run one "
        'at a time, so hand what takes long to a task; see "A coroutine per connection" in docs/callbacks.md of fastws',
        ((now - asides.began_at) // 1000, messages, len(asides.waiting) - messages),
    )


cdef int callback_overdue(WebSocket ws) except -1:
    """The connection has ended, and close_timeout later its async callback has not: it is about to be cancelled."""
    cdef Asides asides = ws.asides
    if asides is None or asides.task is None or ws.route is None:
        return 0
    return _warn(
        ws, <Callback>asides.busy,
        "has not ended within close_timeout (%g s) after its connection: it is cancelled, and messages that wait "
        "behind it are dropped (%d); hand what takes longer to a task, or raise close_timeout",
        (ws.route.close_timeout / 1000.0, sum([one[0] == CALLBACK_MESSAGE for one in asides.waiting])),
    )


cdef inline int callback_timed(WebSocket ws, uint8_t callback) except -1:
    """From now on this Callback holds the loop; 0 for none. The clock is read where that changes, so twice for a batch
    of messages."""
    return 0 if ws.timed == callback else _lap(ws, callback)


cdef int _lap(WebSocket ws, uint8_t callback) except -1:
    cdef uint32_t held = ws.reactor.lap()
    cdef uint8_t before = ws.timed
    ws.timed = callback
    if before == 0 or held < WARN_OF_HOLDING_FROM:
        return 0
    return _warn(
        ws, <Callback>before,
        "has held the event loop for %.1f s, in which nothing else was served: await what takes long, or give it to a "
        "thread (asyncio.to_thread)",
        (held / 1000.0,),
    )
