# The service: what the connections of a server share, and what the server asks of its reactor, in WebSocket words.

@cython.final
cdef class Service:
    """What the connections of a server are for.

    options: the App's fastws.Options. find_websocket: path -> (Route, path parameters), or None. find_http: path ->
    ((title, callback), path parameters), or None. suggest: path -> how the line of the log about a path
    without a WebSocket route ends; None for no suggestion. max_connections: as many as there is room for. user_timeout:
    seconds; 0 where the kernel does not say what a peer has acknowledged.
    """

    def __cinit__(self, *args, **options):
        self.hub = Hub()
        self.codec = Codec()
        self.topics = {}
        self.placed_from = {}
        self.refused = dict.fromkeys(REFUSED, 0)
        self.closed = dict.fromkeys(CLOSED, 0)

    def __init__(
        self, options not None, *, Hub hub not None, find_websocket, find_http, Py_ssize_t max_connections,
        double user_timeout, suggest=None,
    ):
        self.hub = hub
        self.max_connections = max_connections
        self.max_connections_per_ip = options.max_connections_per_ip
        self.head_limits = HeadLimits(options.max_header_size, options.max_request_line, options.max_headers)
        self.find_websocket = find_websocket
        self.find_http = find_http
        self.suggest = suggest
        self.allowed_hosts = options.allowed_hosts
        self.handshake_timeout = milliseconds(options.handshake_timeout)
        self.http_timeout = milliseconds(options.http_timeout)
        self.quarter_user_timeout = milliseconds(user_timeout / 4)
        self.close_timeout = milliseconds(options.close_timeout)

    def _deliver(self, topic, PreparedMessage message not None, int wish):
        """For a publisher in another thread."""
        topics_publish(self, topic, message, wish, None)


def join(Service service not None, Reactor reactor not None, starter, log, double tick, Py_ssize_t max_transient):
    """Adds the server to the reactor. starter: a fastws.serving.tasks.Starter; log: a fastws.serving.logs.Log; tick: at
    least this many seconds lie between two sweeps; max_transient: sockets that are not yet, or no longer, an open
    connection."""
    reactor.add(service, log, tick, max_transient)
    service.starter = starter


def leave(Service service not None):
    """The server has ended: what is left of its connections is dropped, and its last lines are logged. With the last
    one of its loop the reactor ends."""
    _reactor_of(service).remove(service)


def attach(Service service not None):
    """From now on its connections get what is published."""
    service.hub.services.append(service)


def detach(Service service not None):
    """Its connections get nothing that is published from now on."""
    service.hub.services.remove(service)


def listen(Service service not None, sock):
    """Serves connections from a bound, listening, non-blocking socket, which is the service's from now on."""
    cdef Listener listener = Listener(service, sock)
    listener.make = make_websocket
    service.listen(listener)


def adopt(Service service not None, sock, bytes data not None, bytes host not None, uint16_t port):
    """Serves a connected, non-blocking socket.socket, which is detached once the service has its descriptor: where this
    raises before, it still has it. data: what has been read from it already; host: the peer's address, 4 or 16 bytes in
    the order of the wire, or none."""
    cdef WebSocket ws
    cdef int error
    if len(data) > INPUT_SIZE:
        raise ValueError(f"there are {len(data):,} bytes of data, more than {INPUT_SIZE:,}: leave the rest to be read")
    if service.stopping:
        raise RuntimeError("the server is stopping: adopt no more connections")
    _reactor_of(service).read_clock()
    ws = make_websocket(service)
    ws.hold(<uint8_t *>PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))
    address_set(&ws.address, host, port)
    error = service.admit(ws, <int>sock.fileno())
    if error:
        raise OSError(error, f"cannot poll a connection: {strerror(error).decode()}")
    sock.detach()
    if data:
        ws.come_back()


def push(Service service not None, transport, bytes host not None, uint16_t port):
    """Serves a connection whose bytes an asyncio.Transport carries: what is returned is to be that transport's
    protocol, or is called by it. host, port: as for adopt()."""
    cdef WebSocket ws
    cdef Pushed pushed
    if service.stopping:
        raise RuntimeError("the server is stopping: push no more connections")
    _reactor_of(service).read_clock()
    ws = make_websocket(service)
    address_set(&ws.address, host, port)
    pushed = Pushed(ws, transport)
    pushed.begin()
    return pushed


def leave_to_parent(Service service not None):
    """For the child of a fork: the server is the parent's alone. Here its connections are over, without a callback."""
    cdef WebSocket ws
    for ws in _members(service):
        ws.phase = PHASE_GONE
        ws.close_due = False
        callback_forget(ws)
    service.open_count = 0
    service.stopping = True
    service.reactor.leave_to_parent()


def count_connections(Service service not None):
    """How many connections are open: those whose `open` was called and whose end has not come."""
    return service.open_count


def list_connections(Service service not None):
    """The open connections, newest first."""
    cdef WebSocket ws
    return [ws for ws in _members(service) if phase_is_connected(ws.phase)]


def busy_callbacks(Service service not None):
    """What the log calls the async callbacks that have not ended."""
    cdef WebSocket ws
    return [
        callback_title_of(ws, <Callback>ws.asides.busy).replace("%%", "%")
        for ws in _members(service) if ws.asides is not None and ws.asides.busy
    ]


def is_connection(Service service not None, ws):
    """Whether it is one of those that list_connections() lists."""
    return isinstance(ws, WebSocket) and (<WebSocket>ws).crowd is service and phase_is_connected((<WebSocket>ws).phase)


def close_all(Service service not None, int code, str reason):
    """Starts the close handshake on every open connection; those that are still opening are dropped."""
    cdef WebSocket ws
    service.stopping = True
    _reactor_of(service).forget_turn()
    for ws in _members(service):
        try:
            if phase_is_opening(ws.phase):
                ending_cut(ws, "stopping")
            else:
                ws.close(code, reason)
        except Exception as error:
            service.reactor.failed(ws, error)


def abandon(Service service not None):
    """Ends a server whose loop was closed before it was stopped. No callback is called, and nothing asked of the loop:
    the user's code was to run there."""
    cdef WebSocket ws
    cdef list left = _members(service)
    cdef Reactor reactor = service.reactor
    service.stopping = True
    service.on_empty = None
    reactor.remove(service)
    for ws in left:
        ws.asides = None                    # the callback that runs, and who waits in drained()
        ending_cut(ws, "stopping")
    reactor.marked.clear()                  # there is no turn in which `close` would be called


def terminate_all(Service service not None):
    """Ends every connection at once and cancels the callbacks that have not ended."""
    cdef WebSocket ws
    _reactor_of(service).forget_turn()
    for ws in _members(service):
        try:
            ending_cut(ws, "stopping")
            callback_cancel(ws)
        except Exception as error:
            service.reactor.failed(ws, error)


def stats(Service service not None):
    """What a server holds and has done; see fastws.serving.stats.Stats."""
    cdef WebSocket ws
    cdef size_t buffered = 0, for_compression = service.codec.memory()
    cdef Py_ssize_t opening = 0
    cdef list members = _members(service)
    for ws in members:
        opening += phase_is_opening(ws.phase)
        buffered += ws.outbox.size + ws.held_start + ws.held_size + wire_unread(ws)
        buffered += ws.asides.waiting_size if ws.asides is not None else 0
        if ws.deflation is not None:
            for_compression += deflation_memory(ws.deflation)
            buffered += deflation_buffered(ws.deflation)
        if ws.inbox.body != NULL:
            buffered += <size_t>PyBytes_GET_SIZE(<object>ws.inbox.body)
    return {
        "accepted": service.accepted,
        "answered": service.answered,
        "refused": service.refused.copy(),
        "closed": service.closed.copy(),
        "handshakes": opening,
        "connections": service.open_count,
        "sockets": len(members),
        "topics": len(service.topics),
        "buffered_bytes": buffered,
        "deflations": service.codec.deflations,
        "inflations": service.codec.inflations,
        "compression_bytes": for_compression + (INFLATED_SIZE if service.inflated is not None else 0),
    }


cdef Reactor _reactor_of(Service service):
    if service.reactor is None:
        raise RuntimeError("the service belongs to no server yet")
    return service.reactor


cdef list _members(Service service):
    """The service's sockets, those with a claim to stay first, newest first."""
    cdef Roster roster
    cdef Socket socket
    cdef list found = []
    for roster in (service.settled, service.transient):
        socket = roster.newest
        while socket is not None:
            found.append(socket)
            socket = socket.next
    return found
