# Opening a connection: from the bytes of the request to the 101 and the `open` callback, or to a refusal.

cdef str RETRY_AFTER = "10"     # seconds
cdef str ALLOWED = "GET, HEAD, OPTIONS"     # by an http route
cdef bytes OPTIONS_ANSWER = Response(200, headers={"Allow": ALLOWED}).encode()


cdef Py_ssize_t opening_read(WebSocket ws, const uint8_t *data, size_t n) except -1:
    """Looks for the request in the input; returns how much of that was used up."""
    cdef Handshake handshake = ws.handshake
    cdef HeadState state
    if handshake is None:
        handshake = ws.handshake = Handshake(service_of(ws).head_limits)
    state = handshake.scan(data, n)
    if state == HEAD_MORE:
        return 0
    if state == HEAD_LONG_TARGET:
        _refuse(ws, (414, "the request line is longer than max_request_line", ()))
    elif state == HEAD_TOO_LARGE:
        _refuse(ws, (431, "the request is over max_header_size or max_headers", ()))
    elif state == HEAD_BAD or not handshake.parse((<const char *>data)[:handshake.scanned]):
        _refuse(ws, (400, "the request is malformed", ()))
    else:
        try:
            _decide(ws, handshake)
        except (Exception, CancelledError) as error:
            _broke_opening(ws, error)
    return <Py_ssize_t>handshake.scanned


cdef int _decide(WebSocket ws, Handshake handshake) except -1:
    """What the application has given (allowed_hosts, origins, a callback) may run the loop itself, in which
    handshake_timeout may end the connection. So _turn_away(), _ask() and _accept() look at the phase."""
    try:
        ws.path, ws.query_string, routed = request_target(handshake.target)
    except ValueError:
        ws.path = None
    refusal = handshake.refuse_request(service_of(ws).allowed_hosts)
    if refusal is not None:
        if refusal[0] == 403:
            return _refuse(
                ws, refusal, "allowed_hosts", "; Host %.200a: if it is yours, add it to allowed_hosts",
                (handshake.host_text(),))
        return _refuse(ws, refusal)
    if handshake.asks_for_options():
        return _answer(ws, OPTIONS_ANSWER)
    if ws.path is None:
        return _refuse(ws, (400, "the request target is malformed", ()))
    found = service_of(ws).find_websocket(routed)
    if found is None or not handshake.wants_websocket:
        answer = service_of(ws).find_http(routed)
        if answer is not None:
            return _answer_http(ws, handshake, answer)
        if found is None:
            refusal = 404, "nothing is served at this path", ()
            if service_of(ws).suggest is None or not handshake.wants_websocket:
                return _refuse(ws, refusal)
            return _refuse(ws, refusal, None, "%s", (service_of(ws).suggest(ws.path),))
    ws.route, ws.path_params = found
    refusal = handshake.refuse_upgrade(ws.route.origins)
    if refusal is not None:
        return _refuse_upgrade(ws, handshake, refusal)
    if ws.phase != PHASE_HANDSHAKE:
        return 0
    limit = limits_place(ws)
    if limit is not None:
        text = "the server is full" if limit == "max_connections" else "too many connections from this address"
        return _refuse(ws, (503, text, (("Retry-After", RETRY_AFTER),)), limit)
    if ws.route.upgrade is None and not ws.route.keep_request:
        return _accept(ws, None)
    ws.kept_request = _request(ws, handshake)
    if ws.route.upgrade is None:
        ws.kept_request._decide()
        return _accept(ws, None)
    return _ask(ws, ws.route.upgrade)


cdef int _answer_http(WebSocket ws, Handshake handshake, found) except -1:
    if handshake.method == b"OPTIONS":
        return _answer(ws, OPTIONS_ANSWER)
    if handshake.method != b"GET" and handshake.method != b"HEAD":
        return _refuse(ws, (405, "only GET, HEAD and OPTIONS are answered here", (("Allow", ALLOWED),)))
    ws.data, ws.path_params = found         # the callback's title, for the log, and the callback
    ws.kept_request = _request(ws, handshake)
    return _ask(ws, ws.data[1])


cdef object _request(WebSocket ws, Handshake handshake):
    return Request(
        handshake.method.decode("ascii"), handshake.target, handshake.headers,
        path=ws.path, query_string=ws.query_string, path_params=ws.path_params,
        remote_address=ws.remote_address, local_address=ws.local_address,
    )


cdef int _ask(WebSocket ws, callback) except -1:
    """Has the application decide; an async callback may take its time, while the peer's further bytes wait."""
    cdef Asides asides = None
    cdef bint awaits = False
    failure = None
    callback_timed(ws, CALLBACK_UPGRADE)
    try:
        verdict = callback(ws.kept_request)
        awaits = is_coroutine(verdict)
        # One class at a time: of several, Cython does not see that a __class__ of the application's has raised.
        known = verdict is None or isinstance(verdict, Accept) or isinstance(verdict, Response)
        if not awaits and not known and isawaitable(verdict):
            verdict = awaited(verdict)
            awaits = True
        if awaits:
            asides = ws.aside()
    except (Exception, CancelledError) as error:
        failure = error
    if failure is not None:
        if awaits:
            verdict.close()
        return _broke_opening(ws, failure)
    if not awaits:
        return _carry_out(ws, verdict)
    if ws.phase != PHASE_HANDSHAKE:
        verdict.close()
        return 0
    asides.busy, asides.stepping = CALLBACK_UPGRADE, True
    if ws.route is None:
        ws.enter(PHASE_DECIDING)            # http_timeout counts from here
    else:
        ws.phase = PHASE_DECIDING           # not enter(): handshake_timeout counts from accept
    if ws.has_place:
        ws.crowd.settle(ws, True)         # it has done its part; now it is the application that takes its time
    try:
        task = service_of(ws).starter.start(verdict, ws._upgrade_ended)
    except Exception as error:
        if ws.phase != PHASE_DECIDING:
            raise
        failure = error
    finally:
        asides.stepping = False
    if failure is not None:
        ws.asides = None                    # it has not begun, so no callback reports its end
        ws.phase = PHASE_HANDSHAKE
        verdict.close()
        return _broke_opening(ws, failure)
    if task is not None:
        asides.task = task
        if asides.cancel_due:
            return ws.mark()                # the loop has run in that step, and the connection has ended there
        ws.pause(PAUSE_DECIDING)
    return 0


cdef int opening_decided(WebSocket ws, verdict, error) except -1:
    """An async upgrade or http callback has ended."""
    if ws.phase != PHASE_DECIDING:          # the peer left meanwhile, or the time was up
        ws.asides.busy = 0
        ws.asides.task = None
        return ws.crowd.unlink(ws) if ws.phase == PHASE_GONE else 0
    ws.asides = None
    ws.phase = PHASE_HANDSHAKE
    try:
        if error is None:
            try:
                _carry_out(ws, verdict)
            except (Exception, CancelledError) as failure:
                error = failure
        if error is not None:
            _broke_opening(ws, error)
    finally:
        ws.resume(PAUSE_DECIDING)
    return 0


cdef int opening_overdue(WebSocket ws) except -1:
    """The peer has taken too long for its request, and is cut off; or the application for its verdict, which is
    answered by a 503."""
    cdef str cause = "http_timeout" if ws.phase == PHASE_DECIDING and ws.route is None else "handshake_timeout"
    if ws.phase != PHASE_DECIDING:
        return ending_cut(ws, cause)
    ws.mark()
    if ws.phase != PHASE_DECIDING or not _turn_away(ws, (503, "the application did not answer in time", ()), cause):
        return 0
    ws.asides.cancel_due = True
    form = f"refused %s: 503, the {callback_title_of(ws, CALLBACK_UPGRADE)} has not ended within {cause}; path %.200a"
    return ws.crowd.log_later("about_peer", ("overdue", form, callback_peer(ws), ws.path), None)


cdef int _broke_opening(WebSocket ws, error) except -1:
    """An exception, or an answer that cannot be encoded: 500."""
    cdef bint was_asked = ws.kept_request is not None and (ws.route is None or ws.route.upgrade is not None)
    if ws.phase != PHASE_HANDSHAKE:
        raise error
    _turn_away(ws, (500, "internal error", ()), "error")
    if not was_asked:
        return ws.crowd.log_later("raised", ("exception in judging a request; path %.200a", ws.path), error)
    return callback_log(ws, CALLBACK_UPGRADE, "is answered", 500, error)


cdef int _carry_out(WebSocket ws, verdict) except -1:
    cdef bytes answer
    made = ws.kept_request._decide()
    if isinstance(verdict, Response):
        answer = verdict.encode(ws.handshake.method == b"HEAD")
        if answer is None:                  # for Cython that is bytes, too
            raise TypeError("encode() of a fastws.Response must return bytes, not None")
        if ws.route is None:
            return _answer(ws, answer)
        will_write(ws)
        if ws.phase != PHASE_HANDSHAKE:
            return 0
        opening_failed(ws, "by_app")
        _respond(ws, answer)
        form = f"refused %s: %s by the {callback_title_of(ws, CALLBACK_UPGRADE)}; path %.200a"
        return ws.crowd.log_later("about_peer", ("by_app", form, callback_peer(ws), verdict.status, ws.path), None)
    if ws.route is not None and (isinstance(verdict, Accept) or verdict is None and made is None):
        return _accept(ws, verdict)
    _turn_away(ws, (500, "internal error", ()), "error")
    form = f"the {callback_title_of(ws, CALLBACK_UPGRADE)} "
    if ws.route is not None and verdict is None:
        verb = "accept" if isinstance(made, Accept) else "reject"
        form += f"called request.{verb}() and did not return it: write `return request.{verb}(...)`"
        return ws.crowd.log_later("error", (form,), None)
    if ws.route is not None:
        form += "must return request.accept(), request.reject() or None, not %.200r"
    elif isinstance(verdict, (dict, list)):
        form += "must return a fastws.Response, not %.200r: write `return fastws.Response.json(...)`"
    else:
        form += "must return a fastws.Response, not %.200r: write `return fastws.Response(200, ...)`"
    return ws.crowd.log_later("error", (form, verdict), None)


cdef int _answer(WebSocket ws, bytes answer) except -1:
    """The answer to a plain request."""
    will_write(ws)
    if ws.phase != PHASE_HANDSHAKE:
        return 0
    (<Service>ws.crowd).answered += 1
    return _respond(ws, answer)


cdef int _accept(WebSocket ws, accept) except -1:
    """All that can fail comes first: where it does, the peer gets a 500, and nothing has been counted."""
    cdef Handshake handshake = ws.handshake
    cdef Deflation deflation = compressing_agree(ws, handshake.extensions)
    cdef bytes answer = handshake.response(accept, compressing_answer(deflation))
    cdef str subprotocol = None
    cdef object data = None
    if accept is not None:
        data = accept.data
        if accept.subprotocol is not None:
            subprotocol = PyUnicode_FromObject(accept.subprotocol)      # an enum's member, say
    will_write(ws)
    if ws.phase != PHASE_HANDSHAKE:
        return 0
    ws.write(<const uint8_t *>PyBytes_AS_STRING(answer), <size_t>PyBytes_GET_SIZE(answer))
    ws.handshake = None
    if not ws.route.keep_request:
        ws.kept_request = None
    ws.subprotocol, ws.data = subprotocol, data
    compressing_begin(ws, deflation)
    (<Service>ws.crowd).next_id += 1
    ws.id = service_of(ws).next_id
    (<Service>ws.crowd).open_count += 1
    ws.reactor.read_clock()
    deadline_heard(ws)
    bucket_fill(&ws.messages, ws.route.max_message_rate, ws.reactor.now)
    bucket_fill(&ws.controls, ws.route.max_control_rate, ws.reactor.now)
    ws.enter(PHASE_OPEN)
    return callback_event(ws, CALLBACK_OPEN, (ws,))


cdef int opening_failed(WebSocket ws, str cause) except -1:
    """It will never be an open connection. `cause` is one of fastws.causes.REFUSED."""
    limits_leave(ws)
    service_of(ws).refused[cause] += 1
    return 0


cdef int _refuse_upgrade(WebSocket ws, Handshake handshake, tuple refusal) except -1:
    """Refuses with (status, text, headers). The log advises on what is mostly the operator's mistake."""
    if refusal[0] == 505:
        return _refuse(ws, refusal, None, "; a proxy in front of it may have to be set to HTTP/1.1")
    if refusal[0] == 426 and not handshake.wants_websocket:
        return _refuse(ws, refusal, None, "; this has no Upgrade header, which a proxy in front of it must pass on")
    if refusal[0] != 403 or handshake.origins != 1:
        return _refuse(ws, refusal, "origins")
    origin = handshake.origin.decode("latin-1")
    advice = "; Origin %.200a, Host %.200a: if that page is yours, allow it with origins=[%.200a]"
    if origin == "null":
        advice = (
            "; Origin %.200a, Host %.200a: a page out of a file has that Origin; open it over HTTP, or allow [%.200a]"
        )
    return _refuse(ws, refusal, "origins", advice, (origin, handshake.host_text(), origin))


cdef int _refuse(WebSocket ws, tuple refusal, str cause_of_403_503=None, str advice="", tuple values=()) except -1:
    """Refuses with (status, text, headers), and a line in the log. advice, values: a form and its values, which end the
    line. A form shows what a peer has sent in ASCII, escaped and cut short: %.200a."""
    status, text, _ = refusal
    cause = {
        400: "malformed", 404: "not_found", 405: "method", 414: "max_request_line", 426: "version",
        431: "max_header_size", 505: "http_version",
    }.get(status, cause_of_403_503)
    if not _turn_away(ws, refusal, cause):
        return 0
    if ws.path is not None:
        advice = "; path %.200a" + advice
        values = (ws.path, *values)
    return ws.crowd.log_later(
        "about_peer", (cause, "refused %s: %d, %s" + advice, callback_peer(ws), status, text, *values), None)


cdef bint _turn_away(WebSocket ws, tuple refusal, str cause) except -1:
    """Answers with (status, text, headers). False where the connection has ended first."""
    cdef uint8_t phase = ws.phase
    cdef bytes answer = error_response(*refusal).encode(ws.handshake.method == b"HEAD")
    will_write(ws)
    if ws.phase != phase or not phase_is_opening(phase):
        return False
    opening_failed(ws, cause)
    _respond(ws, answer)
    return True


cdef int _respond(WebSocket ws, bytes answer) except -1:
    """Answers in plain HTTP and hangs up; whatever else the peer has sent or will send is thrown away."""
    ws.handshake = ws.kept_request = None
    ws.enter(PHASE_DOWN)
    ws.write_large(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(answer), <size_t>PyBytes_GET_SIZE(answer), answer)
    return ws.hang_up()
