# What a server asks of its reactor, in WebSocket words.

def attach(Service service not None, Reactor reactor not None):
    """The service is that of a server on this reactor, and its connections hear what is published."""
    service.reactor = reactor
    service.hub.services.append(service)


def detach(Service service not None):
    """The server has ended."""
    service.hub.services.remove(service)


def listen(Reactor reactor not None, sock, Service service not None):
    """Serves connections from a bound, listening, non-blocking socket, which is the reactor's from now on."""
    cdef Listener listener = Listener(reactor, sock, service)
    listener.make = make_websocket
    reactor.listen(listener)


def leave_to_parent(Reactor reactor not None):
    """For the child of a fork: the server is the parent's alone. Here its connections are over, without a callback."""
    cdef WebSocket ws
    for ws in _everybody(reactor):
        ws.phase = PHASE_GONE
        ws.close_due = False
        callback_forget(ws)
    reactor.leave_to_parent()


def count_connections(Reactor reactor not None):
    """How many connections are open: those whose `open` was called and whose end has not come."""
    return reactor.opened


def list_connections(Reactor reactor not None):
    """The open connections, newest first."""
    cdef WebSocket ws
    return [ws for ws in _members(reactor.settled) if ws.phase == PHASE_OPEN or ws.phase == PHASE_CLOSING]


def close_all(Reactor reactor not None, Service service not None, int code, str reason):
    """Starts the close handshake on every open connection; those that are still opening are dropped."""
    cdef WebSocket ws
    service.stopping = True
    reactor.forget_turn()
    for ws in _everybody(reactor):
        try:
            if ws.phase <= PHASE_DECIDING:
                ws.end("stopping")
            else:
                ws.close(code, reason)
        except Exception as error:
            reactor._failed(ws, error)


def abandon(Reactor reactor not None, Service service not None):
    """Ends a server whose loop was closed before it was stopped. No callback is called, and nothing asked of the loop:
    the user's code was to run there."""
    cdef WebSocket ws
    cdef list left = _everybody(reactor)
    service.stopping = True
    reactor.on_empty = None
    reactor.close()
    for ws in left:
        ws.asides = None                    # the callback that runs, and who waits in drained()
        ws.end("stopping")
    reactor.dirty.clear()                   # there is no turn in which `close` would be called


def terminate_all(Reactor reactor not None):
    """Ends every connection at once and cancels the callbacks that have not ended."""
    cdef WebSocket ws
    reactor.forget_turn()
    for ws in _everybody(reactor):
        try:
            ws.end("stopping")
            callback_cancel(ws)
        except Exception as error:
            reactor._failed(ws, error)


def stats(Reactor reactor not None, Service service not None):
    """What a server holds and has done; see fastws.stats.Stats."""
    cdef WebSocket ws
    cdef size_t buffered = 0, for_compression = service.codec.memory()
    cdef Py_ssize_t opening = 0
    for ws in _everybody(reactor):
        opening += ws.phase <= PHASE_DECIDING
        buffered += ws.outbox.size + ws.held_start + ws.held_size
        buffered += ws.asides.waiting_size if ws.asides is not None else 0
        if ws.deflation is not None:
            for_compression += deflation_memory(ws.deflation)
            buffered += deflation_buffered(ws.deflation)
        if ws.inbox.body != NULL:
            buffered += <size_t>PyBytes_GET_SIZE(<object>ws.inbox.body)
    return {
        "accepted": reactor.accepted,
        "answered": service.answered,
        "refused": service.refused.copy(),
        "closed": service.closed.copy(),
        "handshakes": opening,
        "connections": reactor.opened,
        "sockets": reactor.socket_count,
        "topics": len(service.topics),
        "buffered_bytes": buffered,
        "deflations": service.codec.deflations,
        "inflations": service.codec.inflations,
        "compression_bytes": for_compression + (INFLATED_SIZE if service.inflated is not None else 0),
    }


cdef list _everybody(Reactor reactor):
    return _members(reactor.settled) + _members(reactor.transient)


cdef list _members(Roster roster):
    cdef Socket socket = roster.newest
    cdef list found = []
    while socket is not None:
        found.append(socket)
        socket = socket.next
    return found


cdef str cause_of_close(Service service):
    """What the end of a connection is counted as where we sent the Close, or ended it without one."""
    return "stopping" if service.stopping else "by_app"


cdef str cause_of_fault(Fault fault):
    """What the end of a connection is counted as where the peer broke a rule."""
    if fault == FAULT_MESSAGE_SIZE:
        return "max_message_size"
    if fault == FAULT_FRAGMENTS:
        return "max_fragments"
    if fault == FAULT_DEFLATE:
        return "invalid_compression"
    return "invalid_text" if fault == FAULT_UTF8 or fault == FAULT_CLOSE_UTF8 else "protocol_error"
