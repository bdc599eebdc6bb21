# The connection: joins the protocol half and the I/O half, and is what the user knows as `ws`.

cdef enum:
    LARGE = 65536               # bytes; a payload from this size on is not copied if the kernel takes it at once


cdef Socket make_websocket(Reactor reactor, object service):
    cdef WebSocket ws = WebSocket.__new__(WebSocket, reactor)
    ws.service = service
    ws.enter(PHASE_HANDSHAKE)
    return ws


@cython.final
@cython.freelist(64)
cdef class Asides:
    def __cinit__(self):
        self.waiting = []


@cython.final
cdef class WebSocket(Socket):
    """One connection. Made by the server; handed to every callback of its route.

    Methods are for the thread of the event loop; from another thread use `loop.call_soon_threadsafe`. After the
    connection has ended they do nothing, and `send` returns DROPPED.
    """

    def __dealloc__(self):
        inbox_clear(&self.inbox)

    def __repr__(self):
        return f"<fastws.WebSocket id={self.id} path={self.path!r} {ReadyState(self.ready_state).name}>"

    # receive

    cdef Py_ssize_t on_input(self, uint8_t *data, size_t n) except -1:
        cdef Py_ssize_t used = 0
        self.heard_at = self.reactor.now
        self.ping_sent = False
        if self.phase == PHASE_HANDSHAKE:
            used = opening_read(self, data, n)
        if (self.phase == PHASE_OPEN or self.phase == PHASE_CLOSING) and not self.pauses:
            used += self.read_frames(data + used, n - <size_t>used)
        return used

    cdef Py_ssize_t read_frames(self, uint8_t *data, size_t n) except -1:
        cdef Event event
        cdef EventKind kind
        cdef uint8_t *cursor = data
        cdef bint finished = False
        while not self.pauses:
            kind = inbox_next(&self.inbox, &self.route.limits, &cursor, data + n, &event)
            if kind == EVENT_NONE:
                break
            finished |= kind == EVENT_MESSAGE
            self.handle(kind, &event)
            if self.phase > PHASE_CLOSING:
                return <Py_ssize_t>n        # RFC 6455 section 7.1.7: nothing more is parsed
        self.received(finished, cursor < data + n)
        return cursor - data

    cdef uint8_t *on_window(self, size_t *room) except? NULL:
        return inbox_window(&self.inbox, self.reactor.input.size, room)

    cdef int on_windowed(self, size_t n) except -1:
        cdef Event event
        cdef EventKind kind = inbox_received(&self.inbox, n, &event)
        self.heard_at = self.reactor.now
        self.ping_sent = False
        if kind != EVENT_NONE:
            self.handle(kind, &event)
        return self.received(kind == EVENT_MESSAGE, False)

    cdef int received(self, bint finished, bint rest) except -1:
        """Keeps the time at which the message in progress began, its header included."""
        cdef bint in_message = not inbox_idle(&self.inbox) or rest and not self.pauses
        if in_message and (finished or not self.in_message):
            self.message_at = self.reactor.now
            self.reactor.sweep_within(self.route.message_timeout or NEVER)
        self.in_message = in_message
        return 0

    cdef int handle(self, EventKind kind, Event *event) except -1:
        if kind == EVENT_MESSAGE:
            if self.phase == PHASE_OPEN:
                return callback_message(self, event)
            Py_XDECREF(event.body)          # we have sent a Close: what still comes is not delivered
        elif kind == EVENT_FAULT:
            return self.fail(event.code, fault_text(event.fault))
        elif kind == EVENT_CLOSE:
            return self.closed_by_peer(event)
        elif self.phase == PHASE_OPEN:
            if kind == EVENT_PING:
                body = control_body(event)
                self.send_pong(body)        # RFC 6455 section 5.5.3
                if self.route.ping is not None:
                    callback_event(self, self.route.ping, (body,))
            elif self.route.pong is not None:
                callback_event(self, self.route.pong, (control_body(event),))
        return 0

    cdef int on_end(self) except -1:
        if self.phase == PHASE_CLOSING:
            self.finish(self.close_code, self.close_reason, False)
        elif self.phase == PHASE_OPEN:
            self.finish(CLOSE_ABNORMAL, "", False)
        elif self.phase == PHASE_DECIDING and self.asides.task is not None:
            self.asides.task.cancel()
        self.enter(PHASE_GONE)
        return self.drop()

    cdef int on_peer_shut(self) except -1:
        """What it has sent is still delivered, if the callbacks get that far within close_timeout each."""
        if self.phase == PHASE_DECIDING:
            return self.on_end()
        self.peer_left = True
        self.since = self.reactor.now
        return self.reactor.sweep_within(self.due_in(self.since))

    # send

    def send(self, data, *, compress=None):
        """Sends a message: str as text, any C-contiguous bytes-like object as binary.

        Returns SENT, QUEUED (the peer reads too slowly; wait for `drain`) or DROPPED (the connection is not open, or
        the slow-consumer policy dropped it). TypeError for anything else than str or bytes-like,
        UnicodeEncodeError for a str with lone surrogates; nothing is sent then. `compress` has an effect only on a
        connection that has negotiated compression.
        """
        cdef Py_buffer view
        cdef int status
        if isinstance(data, str):
            if not PyUnicode_IS_COMPACT_ASCII(data):
                return self.send_text(PyUnicode_AsUTF8String(data))
            status = self.send_frame(
                OPCODE_TEXT, <const uint8_t *>PyUnicode_1BYTE_DATA(<str>data), <size_t>PyUnicode_GET_LENGTH(data), data
            )
        elif isinstance(data, bytes):
            status = self.send_frame(
                OPCODE_BINARY, <const uint8_t *>PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data), data
            )
        else:
            buffer_get(data, &view)
            try:
                status = self.send_frame(OPCODE_BINARY, <const uint8_t *>view.buf, <size_t>view.len, None)
            finally:
                PyBuffer_Release(&view)
        return SEND_STATUS[status]

    def send_text(self, data):
        """Sends encoded text: a bytes-like object that must hold valid UTF-8 (not checked). Returns as `send`."""
        cdef Py_buffer view
        cdef int status
        buffer_get(data, &view)
        try:
            status = self.send_frame(
                OPCODE_TEXT, <const uint8_t *>view.buf, <size_t>view.len, data if isinstance(data, bytes) else None
            )
        finally:
            PyBuffer_Release(&view)
        return SEND_STATUS[status]

    def ping(self, data=b""):
        """Sends a Ping with at most 125 bytes (bytes-like, or str as UTF-8). The answer comes to `pong`."""
        body = data.encode() if isinstance(data, str) else bytes(memoryview(data))
        if len(body) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"a ping carries at most 125 bytes, got {len(body)}")
        if self.phase == PHASE_OPEN and not self.broken:
            self.check_thread()
            self.send_control(OPCODE_PING, body)

    @property
    def buffered_amount(self):
        """Bytes that were sent to this connection and that the kernel has not taken yet."""
        return self.unsent()

    def drained(self):
        """An awaitable that is done once `buffered_amount` is at or below `low_water`, or the connection has ended."""
        future = self.reactor.loop.create_future()
        if self.phase == PHASE_OPEN:
            self.check_thread()
            if self.reactor.corked_for is self and self.reactor.corked > self.route.low_water:
                self.uncork()
            if self.outbox.size > self.route.low_water and not self.blocked:
                self.flush()
        if self.phase == PHASE_OPEN and self.outbox.size > self.route.low_water:
            if self.aside().drain_waiters is None:
                self.asides.drain_waiters = []
            self.asides.drain_waiters.append(future)
        else:
            future.set_result(None)
        return future

    cdef int send_frame(self, uint8_t opcode, const uint8_t *data, size_t n, object owner) except -1:
        """Sends one unfragmented message; returns an index of SEND_STATUS."""
        cdef uint8_t head[MAX_FRAME_HEADER]
        cdef uint8_t *place
        cdef size_t size
        if self.phase != PHASE_OPEN or self.broken:
            return 2
        self.check_thread()
        if self.outbox.size > self.route.max_backpressure:
            if not self.blocked:
                self.flush()
            if self.outbox.size > self.route.max_backpressure:
                if not self.route.drop_when_slow:
                    self.fail(1008, "slow consumer: over max_backpressure")
                return 2
        if n < LARGE:
            size = 2 if n < 126 else 4
            place = self.reserve(size + n)
            header_write(place, 0x80 | opcode, n)
            memcpy(place + size, data, n)
        else:
            size = header_write(head, 0x80 | opcode, n)
            self.write_large(head, size, data, n, owner)
        if not self.blocked:
            return 2 if self.broken else 0
        self.drain_due = True
        if self.outbox.size > self.route.high_water:
            self.pause(PAUSE_OUTBOX)
        return 1

    cdef int send_control(self, uint8_t opcode, bytes body) except -1:
        cdef size_t n = <size_t>PyBytes_GET_SIZE(body)
        cdef uint8_t *place = self.reserve(2 + n)
        header_write(place, 0x80 | opcode, n)
        memcpy(place + 2, PyBytes_AS_STRING(body), n)
        return 0

    cdef int send_pong(self, bytes body) except -1:
        """To a peer that takes nothing only the latest is owed (RFC 6455 section 5.5.3)."""
        if not self.blocked:
            return self.send_control(OPCODE_PONG, body)
        self.aside().pong = body
        return 0

    cdef int on_blocked(self) except -1:
        if self.phase == PHASE_OPEN:
            self.drain_due = True
            self.reactor.sweep_within(self.route.send_timeout or NEVER)
            if self.outbox.size > self.route.high_water:
                self.pause(PAUSE_OUTBOX)
        return 0

    cdef int on_resumed(self) except -1:
        """What the peer could not do while nothing was read is not held against it."""
        self.reactor._time()
        self.message_at += self.reactor.now - self.paused_at
        self.heard_at = self.reactor.now
        self.ping_sent = False
        return self.reactor.sweep_within(self.due_in(self.reactor.now))

    cdef int on_taken(self) except -1:
        if self.phase != PHASE_OPEN:
            return 0
        if self.asides is not None and self.asides.pong is not None and not self.blocked:
            body, self.asides.pong = self.asides.pong, None
            self.send_control(OPCODE_PONG, body)
        if self.drain_due and self.outbox.size <= self.route.low_water:
            self.drain_due = False
            self.resume(PAUSE_OUTBOX)
            self.release_waiters()
            callback_event(self, self.route.drain, ())
        return 0

    cdef int release_waiters(self) except -1:
        if self.asides is not None and self.asides.drain_waiters is not None:
            for future in self.asides.drain_waiters:
                if not future.done():
                    future.set_result(None)
            self.asides.drain_waiters = None
        return 0

    # pause

    def pause_reading(self):
        """Delivers no more messages until `resume_reading`; the peer will be held back by TCP's flow control."""
        if self.phase == PHASE_OPEN:
            self.check_thread()
            self.pause(PAUSE_BY_APP)

    def resume_reading(self):
        """Undoes `pause_reading`."""
        if self.phase == PHASE_OPEN:
            self.check_thread()
            self.resume(PAUSE_BY_APP)

    # close

    def close(self, code=1000, reason=""):
        """Starts the close handshake (RFC 6455 section 7.1.2). 1005 sends an empty Close.

        ValueError for a code that may not be sent or a reason of more than 123 bytes. If the peer does not answer
        within `close_timeout`, the connection is terminated.
        """
        body = close_body(code, reason)
        if self.phase != PHASE_OPEN:
            return
        self.check_thread()
        self.send_control(OPCODE_CLOSE, body)
        self.close_code, self.close_reason = code, reason
        self.enter(PHASE_CLOSING)
        self.release_waiters()
        if self.asides is not None:
            self.asides.waiting.clear()     # nothing is delivered from now on
        self.resume(0xFF)                   # or the peer's answer would not be read

    def terminate(self):
        """Ends the connection at once, without a close handshake; unsent bytes are lost."""
        if self.phase == PHASE_GONE:
            return
        self.check_thread()
        if self.phase == PHASE_OPEN or self.phase == PHASE_CLOSING:
            self.finish(CLOSE_ABNORMAL, "", True)
            if self.asides is not None:
                self.asides.waiting.clear()
        self.enter(PHASE_GONE)
        self.drop()

    cdef int closed_by_peer(self, Event *event) except -1:
        if self.phase == PHASE_CLOSING:
            self.finish(self.close_code, self.close_reason, True)
        else:
            self.send_control(OPCODE_CLOSE, close_body(event.code, ""))     # RFC 6455 section 5.5.1: echo the code
            self.finish(event.code, close_reason(event), True)
        self.enter(PHASE_DOWN)
        return self.hang_up()

    cdef int fail(self, unsigned int code, str reason) except -1:
        """RFC 6455 section 7.1.7: says why, parses nothing more, lets the peer hang up."""
        if self.phase == PHASE_OPEN:
            self.send_control(OPCODE_CLOSE, close_body(code, reason))
            self.finish(code, reason, False)
        elif self.phase == PHASE_CLOSING:
            self.finish(self.close_code, self.close_reason, False)
        else:
            return 0
        self.enter(PHASE_DOWN)
        return self.hang_up()

    cdef int finish(self, unsigned int code, str reason, bint clean) except -1:
        """The WebSocket connection is over, whatever becomes of the socket. `close` follows when the turn ends; after
        a clean end only once the callbacks before it are through, after any other they are cancelled."""
        self.close_code, self.close_reason = <uint16_t>code, reason
        self.reactor.opened -= 1
        self.close_due = True
        inbox_clear(&self.inbox)
        self.release_waiters()
        if not clean and self.asides is not None:
            self.asides.waiting.clear()
            if self.asides.task is not None:
                self.asides.task.cancel()
        return self.mark()

    cdef int give_up(self) except -1:
        """The time of the async callbacks is up: that which runs is cancelled, and what waits behind it is not called,
        but for `close`."""
        if self.is_busy():
            self.asides.waiting = [call for call in self.asides.waiting if call[0] is self.route.close]
            if self.asides.task is not None:
                self.asides.task.cancel()
        return 0

    cdef bint is_over(self) noexcept:
        return not self.close_due and not self.is_busy()

    cdef bint is_busy(self) noexcept:
        """An async callback has begun and not ended."""
        return self.asides is not None and self.asides.busy

    cdef int on_turn(self) except -1:
        Socket.on_turn(self)
        if self.close_due:
            self.close_due = False
            try:
                callback_event(self, self.route.close, (self.close_code, self.close_reason))
            finally:
                if self.phase == PHASE_GONE and self.is_over():
                    self.reactor.unlink(self)
        return 0

    def _callback_ended(self, result, error):
        callback_ended(self, error)

    def _upgrade_ended(self, verdict, error):
        opening_decided(self, verdict, error)

    # time

    cdef int enter(self, Phase phase) except -1:
        self.phase = phase
        self.reactor._time()
        self.since = self.reactor.now
        return self.reactor.sweep_within(self.due_in(self.since))

    cdef uint32_t due_in(self, uint32_t now) noexcept:
        cdef Route route = self.route
        cdef uint32_t left = NEVER
        if self.phase <= PHASE_DECIDING:
            return time_left(now, self.since, self.service.handshake_timeout)
        if self.phase != PHASE_OPEN:
            return time_left(now, self.since, self.service.close_timeout if route is None else route.close_timeout)
        if self.blocked:
            left = time_left(now, self.stalled_at, route.send_timeout)
        if not self.pauses:
            if self.in_message:
                left = min(left, time_left(now, self.message_at, route.message_timeout))
            if self.ping_sent:
                left = min(left, time_left(now, self.pinged_at, route.ping_timeout))
            else:
                left = min(left, time_left(now, self.heard_at, route.ping_interval))
        elif self.peer_left and self.pauses & PAUSE_WAITING:
            left = min(left, time_left(now, self.since, route.close_timeout))
        return left

    cdef int on_due(self, uint32_t now) except -1:
        cdef Route route = self.route
        if self.phase != PHASE_OPEN:
            if self.phase == PHASE_GONE:
                self.give_up()
            return self.on_end()
        if self.blocked and not time_left(now, self.stalled_at, route.send_timeout):
            self.flush()                    # the poller tells of ample room only, and a slow peer may have made a little
            if self.broken or not time_left(now, self.stalled_at, route.send_timeout):
                return self.on_end()
            return self.on_taken()
        if self.pauses:
            return self.on_end()            # the peer has left, and the callback behind which it waits goes on
        if self.in_message and not time_left(now, self.message_at, route.message_timeout):
            return self.fail(1008, "message_timeout")
        if self.ping_sent:
            return self.fail(1011, "ping_timeout")
        self.ping_sent = True
        self.pinged_at = now
        return self.send_control(OPCODE_PING, b"")

    # what it is

    @property
    def ready_state(self):
        """CONNECTING, OPEN, CLOSING or CLOSED, as in the W3C WebSocket API."""
        if self.phase <= PHASE_DECIDING:
            return READY_STATE[0]
        if self.phase == PHASE_OPEN:
            return READY_STATE[1]
        return READY_STATE[2] if self.phase == PHASE_CLOSING else READY_STATE[3]

    @property
    def is_text(self):
        """Whether the message being delivered is text. Read it before the first await."""
        return self.is_text_message

    @property
    def remote_address(self):
        """(host, port) of the peer; None on a Unix socket."""
        return address_object(&self.address)

    @property
    def local_address(self):
        """(host, port) of our end; None on a Unix socket and once the socket is closed."""
        return address_local(self.fd)

    cdef Asides aside(self):
        if self.asides is None:
            self.asides = Asides.__new__(Asides)
        return self.asides

    cdef int check_thread(self) except -1:
        if PyThread_get_thread_ident() != self.reactor.thread:
            raise RuntimeError(
                "a WebSocket belongs to the thread of its event loop: use loop.call_soon_threadsafe(ws.send, data)"
            )
        return 0
