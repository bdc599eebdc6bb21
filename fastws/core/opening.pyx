# Opening a connection: from the bytes of the request to the 101 and the `open` callback, or to a refusal.

cdef Py_ssize_t opening_read(WebSocket ws, const uint8_t *data, size_t n) except -1:
    """Looks for the request in the input; returns how much of that was used up."""
    cdef Handshake handshake = ws.handshake
    cdef HeadState state
    if handshake is None:
        handshake = ws.handshake = Handshake(ws.service.head_limits)
    state = handshake.scan(data, n)
    if state == HEAD_MORE:
        return 0
    if state == HEAD_LONG_TARGET:
        opening_refuse(ws, (414, "the request line is longer than max_request_line", ()))
    elif state == HEAD_TOO_LARGE:
        opening_refuse(ws, (431, "the request is over max_header_size or max_headers", ()))
    elif state == HEAD_BAD or not handshake.parse((<const char *>data)[:handshake.scanned]):
        opening_refuse(ws, (400, "the request is malformed", ()))
    else:
        _decide(ws, handshake)
    return <Py_ssize_t>handshake.scanned


cdef int _decide(WebSocket ws, Handshake handshake) except -1:
    refusal = handshake.refuse_request(ws.service.allowed_hosts)
    if refusal is not None:
        return opening_refuse(ws, refusal)
    try:
        ws.path, ws.query_string = request_target(handshake.target)
    except ValueError:
        return opening_refuse(ws, (400, "the request target is malformed", ()))
    found = ws.service.find_websocket(ws.path)
    if found is None or not handshake.wants_websocket:
        answer = ws.service.find_http(ws.path)
        if answer is not None:
            return _answer_http(ws, handshake, answer)
        if found is None:
            return opening_refuse(ws, (404, "nothing is served at this path", ()))
    ws.route, ws.path_params = found
    refusal = handshake.refuse_upgrade(ws.route.origins)
    if refusal is not None:
        return opening_refuse(ws, refusal)
    if ws.route.upgrade is None and not ws.route.keep_request:
        return opening_accept(ws, None)
    request = _request(ws, handshake)
    if ws.route.keep_request:
        ws.request = request
    if ws.route.upgrade is None:
        return opening_accept(ws, None)
    return _ask(ws, ws.route.upgrade, request)


cdef int _answer_http(WebSocket ws, Handshake handshake, found) except -1:
    if handshake.method != b"GET" and handshake.method != b"HEAD":
        return opening_refuse(ws, (405, "only GET and HEAD are answered here", (("Allow", "GET, HEAD"),)))
    callback, ws.path_params = found
    return _ask(ws, callback, _request(ws, handshake))


cdef object _request(WebSocket ws, Handshake handshake):
    return Request(
        handshake.method.decode("ascii"), handshake.target, handshake.headers,
        path=ws.path, query_string=ws.query_string, path_params=ws.path_params,
        remote_address=ws.remote_address, local_address=ws.local_address,
    )


cdef int _ask(WebSocket ws, callback, request) except -1:
    """Has the application decide; an async callback may take its time, while the peer's further bytes wait."""
    try:
        verdict = callback(request)
    except (Exception, CancelledError) as error:
        return _decided(ws, None, error)
    if not is_coroutine(verdict):
        return _decided(ws, verdict, None)
    ws.phase = PHASE_DECIDING               # not enter(): handshake_timeout counts from accept
    ws.aside().busy = True
    task = ws.reactor.starter.start(verdict, ws._upgrade_ended)
    if task is not None:
        ws.asides.task = task
        ws.pause(PAUSE_DECIDING)
    return 0


cdef int opening_decided(WebSocket ws, verdict, error) except -1:
    """An async upgrade or http callback has ended."""
    ws.asides = None
    if ws.phase != PHASE_DECIDING:          # the peer left meanwhile, or the time was up
        ws.reactor.unlink(ws)
        return 0
    ws.phase = PHASE_HANDSHAKE
    ws.resume(PAUSE_DECIDING)
    return _decided(ws, verdict, error)


cdef int _decided(WebSocket ws, verdict, error) except -1:
    if error is not None:
        ws.reactor.log.error("exception in the %s callback", "http" if ws.route is None else "upgrade", exc_info=error)
        return opening_refuse(ws, (500, "internal error", ()))
    if isinstance(verdict, Response):
        return _respond(ws, verdict)
    if ws.route is not None and (verdict is None or isinstance(verdict, Accept)):
        return opening_accept(ws, verdict)
    ws.reactor.log.error(
        "the %s, not %.200r",
        "http callback must return a fastws.Response" if ws.route is None
        else "upgrade callback must return request.accept(), request.reject() or None",
        verdict,
    )
    return opening_refuse(ws, (500, "internal error", ()))


cdef int opening_accept(WebSocket ws, accept) except -1:
    cdef Handshake handshake = ws.handshake
    cdef bytes answer = handshake.response(accept)
    ws.handshake = None
    if accept is not None:
        ws.subprotocol = accept.subprotocol
        ws.data = accept.data
    ws.write(<const uint8_t *>PyBytes_AS_STRING(answer), <size_t>PyBytes_GET_SIZE(answer))
    ws.reactor.next_id += 1
    ws.id = ws.reactor.next_id
    ws.reactor.opened += 1
    ws.reactor._time()
    ws.heard_at = ws.reactor.now
    ws.enter(PHASE_OPEN)
    return callback_event(ws, ws.route.open, ())


cdef int opening_refuse(WebSocket ws, tuple refusal) except -1:
    """Refuses with (status, text, headers)."""
    return _respond(ws, error_response(*refusal))


cdef int _respond(WebSocket ws, response) except -1:
    """Answers in plain HTTP and hangs up; whatever else the peer has sent or will send is thrown away."""
    cdef Handshake handshake = ws.handshake
    cdef bytes answer = response.encode(handshake.method == b"HEAD")
    ws.handshake = None
    ws.enter(PHASE_DOWN)
    ws.write_large(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(answer), <size_t>PyBytes_GET_SIZE(answer), answer)
    return ws.hang_up()
