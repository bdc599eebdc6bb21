# The connection: joins the protocol half and the I/O half, and is what the user knows as `ws`.

cdef enum:
    LARGE_BLOCK_FROM = 16384    # bytes; a message of fewer leaves no hole worth a look
    EVENTS_AT_ONCE = 128        # messages, Pings and Pongs of one peer that are handled before others have their turn

cdef tuple READY_STATE = (ReadyState.CONNECTING, ReadyState.OPEN, ReadyState.CLOSING, ReadyState.CLOSED)


cdef Socket make_websocket(Crowd crowd):
    cdef WebSocket ws = WebSocket.__new__(WebSocket, crowd)
    ws.enter(PHASE_HANDSHAKE)
    return ws


@cython.final
@cython.freelist(64)
cdef class Asides:
    def __cinit__(self):
        self.waiting = ()


@cython.final
cdef class WebSocket(Socket):
    """One connection. Made by the server; handed to every callback of its route.

    Methods are for the thread of the event loop; from another thread use `loop.call_soon_threadsafe`. After the
    connection has ended they do nothing, and `send` returns DROPPED.
    """

    def __cinit__(self, Service service not None):
        pass

    def __dealloc__(self):
        inbox_clear(&self.inbox)
        topics_leave(self)
        PyMem_Free(self.subscriptions_at)   # where it got into no topic for lack of memory

    def __repr__(self):
        return f"<fastws.WebSocket id={self.id} path={self.path!r} {ReadyState(self.ready_state).name}>"

    # receive

    cdef Py_ssize_t on_input(self, uint8_t *data, size_t n) except -1:
        cdef Py_ssize_t used = 0
        deadline_heard(self)
        try:
            if self.phase == PHASE_HANDSHAKE:
                used = opening_read(self, data, n)
            if phase_is_connected(self.phase) and not self.pauses:
                used += self.read_frames(data + used, n - <size_t>used)
        finally:
            callback_timed(self, 0)
        return used

    cdef Py_ssize_t read_frames(self, uint8_t *data, size_t n) except -1:
        cdef Event event
        cdef EventKind kind
        cdef uint8_t *cursor = data
        cdef bint finished = False
        cdef int events = 0
        cdef size_t inflated_from = 0, inflated_to = 0
        if compressing_is_unfinished(self):
            self.come_back()                # after the others, whom more than this would hold up
            if compressing_unpack_on(self, &event):
                callback_message(self, &event)
            return <Py_ssize_t>n if phase_is_over(self.phase) else 0
        while not self.pauses and not self.resumed:
            kind = inbox_next(&self.inbox, &self.route.limits, &cursor, data + n, &event)
            if kind == EVENT_NONE:
                break
            finished |= kind == EVENT_MESSAGE
            if kind == EVENT_MESSAGE and event.deflated:
                inflated_from += event.length
                self.handle(kind, &event)
                inflated_to += event.length
                if inflated_from >= INFLATE_FROM or inflated_to >= INFLATE_TO:
                    self.come_back()
            else:
                self.handle(kind, &event)
            if phase_is_over(self.phase):
                return <Py_ssize_t>n        # RFC 6455 section 7.1.7: nothing more is parsed
            events += 1
            if events == EVENTS_AT_ONCE:
                self.come_back()
        self.received(finished, cursor < data + n)
        return cursor - data

    cdef uint8_t *on_room(self, size_t *room) except? NULL:
        return inbox_room(&self.inbox, self.reactor.input.size, room)

    cdef int on_received(self, size_t n) except -1:
        cdef Event event
        cdef EventKind kind = inbox_received(&self.inbox, n, &event)
        deadline_heard(self)
        if kind != EVENT_NONE:
            try:
                self.handle(kind, &event)
            finally:
                callback_timed(self, 0)
        return self.received(kind == EVENT_MESSAGE, False)

    cdef int received(self, bint finished, bint rest) except -1:
        """The input is used up, or what is left of it is the beginning of something."""
        if self.inbox.filled >= LARGE_BLOCK_FROM:
            self.reactor.took_large_block()
        return deadline_received(
            self, not inbox_idle(&self.inbox) or rest and not self.pauses and not self.resumed, finished
        )

    cdef int handle(self, EventKind kind, Event *event) except -1:
        if kind == EVENT_MESSAGE:
            self.deadlines.in_message = False   # the callback may run the loop itself, and so a sweep
            if event.length >= LARGE_BLOCK_FROM:
                self.reactor.took_large_block()
            if self.phase == PHASE_OPEN and limits_allow(self, kind):
                return 0 if event.deflated and not compressing_unpack(self, event) else callback_message(self, event)
            Py_XDECREF(event.body)          # after our Close, what still comes is not delivered
        elif kind == EVENT_FAULT:
            return ending_fault(self, event)
        elif kind == EVENT_CLOSE:
            return ending_happens(self, END_PEER_CLOSE, "by_peer", event.code, close_reason(event))
        elif self.phase == PHASE_OPEN and limits_allow(self, kind):
            if kind == EVENT_PING:
                body = control_body(event)
                sending_pong(self, body)        # RFC 6455 section 5.5.3
                if self.route.ping is not None:
                    callback_event(self, CALLBACK_PING, (self, body))
            elif self.route.pong is not None:
                callback_event(self, CALLBACK_PONG, (self, control_body(event)))
        return 0

    cdef int on_end(self) except -1:
        return ending_happens(self, END_LOSS, None, 0, None)

    cdef int on_input_end(self) except -1:
        """A half-close is no hang-up (RFC 9112 section 9.6): what came before it is still answered."""
        if self.phase == PHASE_OPEN:
            self.deadlines.peer_left = True
            self.since = self.reactor.now
        self.end_if_finished()
        return 0 if self.fd < 0 else self.reactor.sweep_within(self.due_in(self.reactor.now))

    cdef int end_if_finished(self) except -1:
        """Once the peer's last byte has been read, the connection ends when nothing is left that may still be answered,
        and nothing of the answers is unsent. Called wherever a callback has ended or the outbox may be empty."""
        if not self.pauses & PAUSE_AT_END or self.fd < 0 or self.unsent():
            return 0
        if not phase_is_over(self.phase) and self.is_busy():
            return 0
        return self.on_end()

    cdef int on_evicted(self) except -1:
        return ending_cut(self, "max_pending_handshakes")

    cdef int on_peer_shut(self) except -1:
        """What it has sent is still delivered, if the callbacks get that far within close_timeout each. A plain HTTP
        request is answered; a client that wants a connection has given it up."""
        if self.phase == PHASE_DECIDING:
            return 0 if self.route is None else self.on_end()
        self.deadlines.peer_left = True
        self.since = self.reactor.now
        return self.reactor.sweep_within(self.due_in(self.since))

    # send

    def send(self, data, *, compress=None):
        """Sends a message: str as text, any C-contiguous bytes-like object as binary, or a PreparedMessage.

        Returns SENT, QUEUED (the peer reads too slowly; wait for `drain`) or DROPPED (the connection is not open, or
        the slow-consumer policy dropped it). TypeError for anything else than str or bytes-like,
        UnicodeEncodeError for a str with lone surrogates; nothing is sent then. Where compression was negotiated,
        `compress=False` leaves the message as it is, and True compresses also what is below the threshold; TypeError
        for what is none of these and not None.
        """
        return SEND_STATUS[sending_data(self, data, False, compress)]

    def send_text(self, data, *, compress=None):
        """Sends encoded text: a bytes-like object that must hold valid UTF-8 (not checked). Otherwise as `send`."""
        return SEND_STATUS[sending_data(self, data, True, compress)]

    def ping(self, data=b""):
        """Sends a Ping with at most 125 bytes (bytes-like, or str as UTF-8). The answer comes to `pong`.

        ValueError for more bytes, TypeError for what is neither str nor bytes-like.
        """
        body = ping_body(data)
        if self.phase == PHASE_OPEN and not self.broken:
            check_thread(self)
            sending_control(self, OPCODE_PING, body)
            deadline_ping_sent(self)

    @property
    def buffered_amount(self):
        """Bytes that were sent to this connection and that the kernel has not taken yet."""
        return self.unsent()

    def drained(self):
        """An awaitable that is done once `buffered_amount` is at or below `low_water`, or the connection has ended."""
        return sending_drained(self)

    cdef int on_blocked(self) except -1:
        self.reactor.sweep_within(self.due_in(self.reactor.now))
        return sending_blocked(self)

    cdef int on_taken(self) except -1:
        return sending_taken(self)

    # topics

    def subscribe(self, topic):
        """Receive what is published to a topic. True if newly subscribed. False if already subscribed, or no longer
        open.

        ValueError for a name that is not 1 to 255 bytes of UTF-8, RuntimeError for more than `max_topics`. A connection
        leaves all its topics as soon as it is not open any more.
        """
        return topics_join(self, topic)

    def unsubscribe(self, topic):
        """Leave a topic. Returns whether it was subscribed."""
        return topics_quit(self, topic)

    def is_subscribed(self, topic):
        """Whether it is subscribed to the topic."""
        return topics_has(self, topic)

    @property
    def subscriptions(self):
        """The names of its topics, in no order."""
        return topics_of(self)

    def publish(self, topic, data, *, compress=None):
        """Sends a message, as `send` takes it, to every subscriber of the topic but this connection, which need be
        neither subscribed nor open. Returns how many connections took it: those where `send` would not be DROPPED."""
        check_thread(self)
        return service_of(self).hub.publish(topic, data, compress, self)

    # pause

    def pause_reading(self):
        """Delivers no more messages until `resume_reading`; the peer will be held back by TCP's flow control."""
        if self.phase == PHASE_OPEN:
            check_thread(self)
            self.pause(PAUSE_BY_APP)

    def resume_reading(self):
        """Undoes `pause_reading`."""
        if self.phase == PHASE_OPEN:
            check_thread(self)
            self.resume(PAUSE_BY_APP)

    # close

    def close(self, code=1000, reason=""):
        """Starts the close handshake (RFC 6455 section 7.1.2). 1005 sends an empty Close.

        ValueError for a code that may not be sent or a reason of more than 123 bytes, TypeError for a code that is no
        int, or a bool, or a reason that is no str. If the peer does not answer within `close_timeout`, which begins
        anew while it takes what was sent before, the connection is terminated.
        """
        cdef uint16_t number = close_number(code)
        cdef str text = close_text(reason)
        close_body(number, text)            # raises for a wrong argument even when closed already
        if self.phase == PHASE_OPEN:
            check_thread(self)
            ending_happens(self, END_CLOSE, None, number, text)

    def terminate(self):
        """Ends the connection at once, without a close handshake; unsent bytes are lost."""
        if self.phase != PHASE_GONE:
            check_thread(self)
            ending_happens(self, END_TERMINATE, None, 0, None)

    cdef bint is_over(self) noexcept:
        return not self.close_due and not self.is_busy()

    cdef bint is_busy(self) noexcept:
        """A callback has begun and not ended, or something waits that comes first."""
        return self.calling or self.asides is not None and (self.asides.busy or len(self.asides.waiting) > 0)

    cdef bint goes_on(self) noexcept:
        return Socket.goes_on(self) or self.asides is not None and callback_goes_on(self)

    cdef int on_turn(self, bint late) except -1:
        Socket.on_turn(self, late)
        if self.asides is not None and self.phase != PHASE_DECIDING:
            callback_turn(self, late)
        if self.drain_due and not self.blocked and not self.broken:
            sending_taken(self)             # a send has found that the peer took more than the poller had reported
        self.end_if_finished()
        try:
            if self.close_due:
                callback_close(self)
        finally:
            if self.phase == PHASE_GONE and self.is_over():
                self.crowd.unlink(self)
        return 0

    # Python can call these two at any time, so they check the state.

    def _callback_ended(self, result, error):
        try:
            if self.asides is not None and self.asides.busy and self.id:
                callback_ended(self, result, error)
        except BaseException as failure:
            self.reactor.failed(self, failure)

    def _upgrade_ended(self, verdict, error):
        try:
            if self.asides is not None and self.asides.busy and not self.id:    # it never was open
                opening_decided(self, verdict, error)
        except BaseException as failure:
            self.reactor.failed(self, failure)

    # time

    cdef int enter(self, uint8_t phase) noexcept:
        self.phase = phase
        if phase == PHASE_CLOSING or phase_is_over(phase):
            topics_leave(self)
        # A GONE connection has no descriptor, so evicting it frees nothing: count it as settled.
        self.crowd.settle(self, phase_is_connected(phase) or phase == PHASE_GONE)
        self.reactor.read_clock()
        self.since = self.reactor.now
        return self.reactor.sweep_within(self.due_in(self.since))

    cdef uint32_t due_in(self, uint32_t now) noexcept:
        return deadline_in(self, now)

    cdef int on_due(self, uint32_t now) except -1:
        return deadline_came(self, now)

    cdef int on_resumed(self) except -1:
        self.reactor.read_clock()
        deadline_resumed(self)
        return self.reactor.sweep_within(self.due_in(self.reactor.now))

    # what it is

    @property
    def ready_state(self):
        """CONNECTING, OPEN, CLOSING or CLOSED, as in the W3C WebSocket API."""
        if phase_is_opening(self.phase):
            return READY_STATE[0]
        if self.phase == PHASE_OPEN:
            return READY_STATE[1]
        return READY_STATE[2] if self.phase == PHASE_CLOSING else READY_STATE[3]

    @property
    def request(self):
        """The request of the upgrade, on a route with `keep_request=True`. AttributeError on any other."""
        if self.kept_request is None:
            raise AttributeError(
                "the request is not kept: give the route keep_request=True, or have `upgrade` take from it what is "
                "needed"
            )
        return self.kept_request

    @property
    def extensions(self):
        """What was negotiated, as Sec-WebSocket-Extensions has it; "" for nothing."""
        return "" if self.deflation is None else self.deflation.agreement.answer

    @property
    def is_text(self):
        """Whether the message being delivered is text. Read it before the first await."""
        return self.is_text_message != 0

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


cdef int _check_thread_slowly(WebSocket ws) except -1:
    if not ws.reactor.is_here():
        raise RuntimeError(
            "a WebSocket belongs to the thread of its event loop: use loop.call_soon_threadsafe(ws.send, data)"
        )
    return 0


cdef inline int check_thread(WebSocket ws) except -1:
    """Raises RuntimeError outside the thread of the loop. The loop is asked only where this is not the thread in which
    it was last seen: asking costs a system call."""
    return 0 if PyThread_get_thread_ident() == ws.reactor.thread else _check_thread_slowly(ws)
