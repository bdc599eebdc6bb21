# One peer's socket: reading into shared buffers, corked and queued writing, pausing, and the end. How bytes come and go
# is the wire's; nothing here assumes that a readable descriptor has something to read.

cdef enum:
    CORK_SIZE = 262144          # bytes of the shared send buffer; an outbox this long is sent without waiting
    ZERO_COPY_FROM = 65536      # bytes; from this size on, a system call of its own costs less than a copy
    OWN_BUFFER_FROM = 512       # bytes; a smaller frame lies in a Buffer with others, so a blocked peer gets a copy
    PROGRESS = 4096             # bytes; a peer that takes fewer in the time of a deadline is as one that takes nothing
    ASKED = 3                   # probes that must go unanswered before silence counts
    HELD_AT_ONCE = 16384        # bytes of what is held that are copied for on_input(), of which it may use up few

cdef uint32_t NEVER = 0xFFFFFFFF


cdef class Endpoint:
    def __cinit__(self, Crowd crowd not None, *args):
        if crowd.reactor is None:
            raise RuntimeError("the crowd has no reactor yet")
        self.crowd, self.reactor = crowd, crowd.reactor
        self.fd = -1

    cdef uint64_t key(self) noexcept:
        """What its events carry."""
        return <uint64_t>self.generation << 32 | <uint32_t>self.fd

    cdef int on_ready(self, uint32_t events) except -1:
        raise NotImplementedError

    cdef bint watch_for(self, uint32_t interest) noexcept:
        """False where the poller does not take it, and nothing has changed."""
        if interest == self.interest or self.fd < 0:
            return True
        if poller_change(self.reactor.poller, self.fd, interest, self.key()) < 0:
            return False
        self.interest = interest
        return True


cdef class Socket(Endpoint):
    def __dealloc__(self):
        outbox_clear(&self.outbox)
        PyMem_Free(self.held)
        if self.linked and self.fd >= 0 and self.wire is None:      # where the constructor failed, fd 0 is not ours
            close(self.fd)

    cdef bint watch_for(self, uint32_t interest) noexcept:
        """A socket that is polled for the wrong thing would hang for ever: it breaks."""
        if not wire_watch(self, interest):
            self.break_off()
            return False
        return True

    # what a subclass answers

    cdef Py_ssize_t on_input(self, uint8_t *data, size_t n) except -1:
        """Bytes have come (may be changed in place). Returns how many were used up; the rest comes again with more."""
        raise NotImplementedError

    cdef uint8_t *on_room(self, size_t *room) except? NULL:
        """Where the next bytes should be received instead of the shared buffer, or NULL."""
        return NULL

    cdef int on_received(self, size_t n) except -1:
        """n bytes were received there."""
        raise NotImplementedError

    cdef int on_end(self) except -1:
        """The peer is gone."""
        raise NotImplementedError

    cdef int on_input_end(self) except -1:
        """The peer's last byte has been read. It may still take what is sent."""
        return self.on_end()

    cdef int on_evicted(self) except -1:
        """It had no claim to stay, and there are too many of those. Its descriptor must be closed."""
        return self.on_end()

    cdef int on_peer_shut(self) except -1:
        """While reading pauses: the peer will send nothing more than what is not read yet."""
        return 0

    cdef int on_blocked(self) except -1:
        """The kernel takes no more for now."""
        return 0

    cdef int on_resumed(self) except -1:
        """Reading goes on."""
        return 0

    cdef int on_taken(self) except -1:
        """Some of what was queued has been sent."""
        return 0

    cdef uint32_t due_in(self, uint32_t now) noexcept:
        """Milliseconds to the nearest deadline: 0 where it has come, NEVER where there is none. Asked of every socket
        in a sweep, so nothing is called from here. Whoever starts a deadline calls Reactor.sweep_within()."""
        return NEVER

    cdef int on_due(self, uint32_t now) except -1:
        return 0

    cdef int on_turn(self, bint late) except -1:
        """The socket was marked in this turn of the loop, which ends now. late: what goes on waits for another turn."""
        if self.fd < 0:
            return 0
        if not self.blocked:
            self.flush()
        if not late and Socket.goes_on(self):
            self._feed_held()
        return 0

    cdef bint goes_on(self) noexcept:
        """Input that has been read is to be processed in this turn."""
        return self.resumed and not self.pauses and self.fd >= 0

    cdef bint is_over(self) noexcept:
        """The descriptor is closed. Where something else is still to end, the subclass unlinks the socket itself."""
        return True

    # receive

    cdef int on_ready(self, uint32_t events) except -1:
        if events & POLL_WRITE and self.fd >= 0:
            self.flush()
            if self.fd >= 0:
                self.on_taken()
        if self.fd < 0:
            return 0
        if self.feeding and events & POLL_READ:     # a callback of its own runs the loop; see Reactor._run()
            self.pause(PAUSE_FEEDING)
        if events & POLL_READ and self.interest & POLL_READ:
            return self._receive()
        if events & (POLL_HANGUP | POLL_ERROR):
            return self.on_end()
        if events & POLL_PEER_SHUT:
            self.watch_for(self.interest & ~<uint32_t>POLL_PEER_SHUT)
            return self.on_peer_shut()
        return 0

    cdef int _receive(self) except -1:
        cdef Buffer buffer = self.reactor.fresh_input()
        cdef size_t n, used, room = 0
        cdef ssize_t got
        cdef uint8_t *place
        if self.hung_up:
            got = wire_read(self, buffer.data, buffer.size)
        elif self.resumed:
            return 0                    # the turn, which comes next, goes on with what is held
        else:
            place = self.on_room(&room)
            if place != NULL:
                got = wire_read(self, place, room)
                if got > 0:
                    self._feed(NULL, <size_t>got)
                    return self._fed()
            else:
                n = self.held_size
                if n:
                    memcpy(buffer.data, self.held + self.held_start, n)
                got = wire_read(self, buffer.data + n, buffer.size - n)
                if got > 0:
                    n += <size_t>got
                    used = self._feed(buffer.data, n)
                    self.hold(buffer.data + used, n - <size_t>used)
                    return self._fed()
        if got == 0:
            self.pauses |= PAUSE_AT_END
            self.on_input_end()             # where this drops it, the poller need not be asked
            return self.watch_for(self.interest & ~<uint32_t>(POLL_READ | POLL_PEER_SHUT))
        if got < 0 and errno not in (EAGAIN, EINTR):
            return self.on_end()
        return 0

    cdef int _feed_held(self) except -1:
        """What is held comes before anything new is read. A part of it is enough for a turn."""
        cdef size_t held = self.held_size, n = min(held, <size_t>HELD_AT_ONCE), used
        if self.feeding:
            return 0
        self.resumed = False
        if self.hung_up:
            return 0
        self.on_resumed()                   # it has waited for us since come_back(), or since it was paused
        used = self._feed_copy(n)
        if not used and n < held and not self.resumed and not self.pauses:
            n = held                        # a part is not enough for what begins there
            used = self._feed_copy(n)
        if self.fd < 0 or self.hung_up:
            return 0                        # nothing is held any more
        self._let_go(used)
        if n < held and not self.pauses:
            self.come_back()
        return self._fed()

    cdef int _fed(self) except -1:
        """The input is processed, as far as it is. A turn inside that may have passed over what is to go on."""
        if self.resumed:
            self.mark()
        return self.resume(PAUSE_FEEDING)

    cdef Py_ssize_t _feed_copy(self, size_t n) except -1:
        """Feeds the first n bytes that are held, as a copy: callbacks may look into it, and have what is held freed."""
        cdef Buffer buffer = self.reactor.fresh_input()
        if n:
            memcpy(buffer.data, self.held + self.held_start, n)
        return self._feed(buffer.data, n)

    cdef Py_ssize_t _feed(self, uint8_t *data, size_t n) except -1:
        """Input for the subclass: at data, or in its own room where data is NULL. All that is written to this socket
        meanwhile is corked, and leaves in one send when it is done. Returns how many bytes need not be held."""
        cdef Reactor reactor = self.reactor
        cdef Py_ssize_t used = 0
        self.feeding = True
        reactor.fed = reactor.corked_for = self
        try:
            if data == NULL:
                self.on_received(n)
            else:
                used = self.on_input(data, n)
        finally:
            self.feeding = False
            reactor.fed = reactor.corked_for = None
            self.uncork()
        return <Py_ssize_t>n if self.fd < 0 or self.hung_up else used

    cdef int hold(self, uint8_t *data, size_t n) except -1:
        """Holds n bytes, and nothing else."""
        cdef uint8_t *held
        if n == 0:
            PyMem_Free(self.held)
            self.held = NULL
        else:
            held = <uint8_t *>PyMem_Realloc(self.held, n)
            if held == NULL:
                raise MemoryError
            memcpy(held, data, n)
            self.held = held
        self.held_start = 0
        self.held_size = <uint32_t>n
        return 0

    cdef int _let_go(self, size_t n) except -1:
        """Drops the first n held bytes. The rest moves to the front, and its memory is cut, only where it is no more
        than what was dropped since the last move, so each byte moves once on average."""
        cdef uint8_t *smaller
        self.held_start += <uint32_t>n
        self.held_size -= <uint32_t>n
        if self.held_start < self.held_size:
            return 0
        if not self.held_size:
            return self.hold(NULL, 0)
        memmove(self.held, self.held + self.held_start, self.held_size)
        self.held_start = 0
        smaller = <uint8_t *>PyMem_Realloc(self.held, self.held_size)
        if smaller != NULL:
            self.held = smaller
        return 0

    cdef int come_back(self) except -1:
        """What on_input() does not use up now, it gets again in the next turn. It is called even if that is nothing."""
        if not self.resumed and not self.pauses:
            self.paused_at = self.reactor.now
        self.resumed = True
        return self.mark()

    cdef int pause(self, uint8_t reason) except -1:
        """Stops reading while any reason stands. The poller still reports that the peer shuts or resets."""
        if not self.pauses:
            if not self.resumed:
                self.reactor.read_clock()
                self.paused_at = self.reactor.now
            self.watch_for(self.interest & ~<uint32_t>POLL_READ | POLL_PEER_SHUT)
        self.pauses |= reason
        return 0 if self.wire is None else self.mark()      # for a turn, in which the wire is seen to

    cdef int resume(self, uint8_t reason) except -1:
        if not self.pauses & reason:
            return 0
        self.pauses &= ~reason | PAUSE_AT_END
        if self.pauses:
            return 0
        self.watch_for(self.interest & ~<uint32_t>POLL_PEER_SHUT | POLL_READ)
        if self.wire is not None:
            self.mark()
        if not self.held_size and not self.resumed:
            return self.on_resumed()
        self.resumed = True                 # it waits for its turn, where _feed_held() says the same
        return self.mark()

    # send

    cdef uint8_t *reserve(self, size_t n) except NULL:
        """Room for n bytes that count as written: in the cork while this socket's input is processed, else in its
        outbox, which is flushed when the turn ends."""
        cdef Reactor reactor = self.reactor
        if reactor.corked_for is self and self.outbox.size == 0:
            if reactor.corked + n > CORK_SIZE:
                self.uncork()
            if self.outbox.size == 0 and n <= CORK_SIZE:
                reactor.corked += n
                return reactor.cork + reactor.corked - n
        elif self.outbox.size >= CORK_SIZE and not self.blocked:
            self.flush()
        if not self.blocked:
            self.mark()
        return outbox_reserve(&self.outbox, n)

    cdef int write(self, const uint8_t *data, size_t n) except -1:
        memcpy(self.reserve(n), data, n)
        return 0

    cdef int refer(self, const uint8_t *data, size_t n, object owner) except -1:
        """Writes bytes that will never change and that others write, too: `owner`, in which they lie, is kept instead
        of a copy. They leave when the turn ends."""
        cdef bint in_cork = self.reactor.corked_for is self and not self.outbox.size
        if in_cork and n < ZERO_COPY_FROM or self.blocked and n < OWN_BUFFER_FROM:
            return self.write(data, n)
        if in_cork:
            self.uncork()
        if self.outbox.size >= CORK_SIZE and not self.blocked:
            self.flush()
        if self.broken:
            return 0
        outbox_refer(&self.outbox, data, n, owner)
        return 0 if self.blocked else self.mark()

    cdef int write_large(
        self, const uint8_t *head, size_t head_size, const uint8_t *data, size_t n, object owner
    ) except -1:
        """Writes head and data at once, the data without a copy; of what the kernel does not take, `owner` is kept
        where there is one (it must never change), else a copy."""
        cdef iovec pieces[3]
        cdef ssize_t sent = 0
        cdef size_t corked = self.reactor.corked if self.reactor.corked_for is self else 0
        cdef size_t taken
        if self.outbox.size and not self.blocked:
            self.flush()
        if self.broken:
            return 0
        if not self.outbox.size:
            pieces[0].iov_base, pieces[0].iov_len = self.reactor.cork, corked
            pieces[1].iov_base, pieces[1].iov_len = <void *>head, head_size
            pieces[2].iov_base, pieces[2].iov_len = <void *>data, n
            sent = wire_write(self, pieces, 3)
            if sent < 0:
                if self._refused():
                    return 0
                sent = 0
            if corked:
                self.reactor.corked = 0
                taken = min(<size_t>sent, corked)
                self._queue(self.reactor.cork + taken, corked - taken)
                sent -= taken
        taken = min(<size_t>sent, head_size)
        self._queue(head + taken, head_size - taken)
        taken = <size_t>sent - taken
        if owner is None:
            self._queue(data + taken, n - taken)
        elif taken < n and not self.broken:
            try:
                outbox_refer(&self.outbox, data + taken, n - taken, owner)
            except MemoryError:
                self.break_off()
        if self.outbox.size:
            self._block()
        return 0

    cdef int _queue(self, const uint8_t *data, size_t n) noexcept:
        """Appends what the kernel has not taken of something that it has taken a part of, or that was corked. Where
        there is no memory for it, the stream would have a hole, so nothing follows."""
        if n and not self.broken:
            try:
                memcpy(outbox_reserve(&self.outbox, n), data, n)
            except MemoryError:
                self.break_off()
        return 0

    cdef int uncork(self) except -1:
        cdef Reactor reactor = self.reactor
        cdef size_t n = reactor.corked
        cdef iovec piece
        cdef ssize_t sent
        reactor.corked = 0
        if n and self.fd >= 0 and not self.broken:
            piece.iov_base, piece.iov_len = reactor.cork, n
            sent = wire_write(self, &piece, 1)
            if sent != <ssize_t>n:
                if sent < 0:
                    if self._refused():
                        return 0
                    sent = 0
                self._queue(reactor.cork + sent, n - <size_t>sent)
                if self.outbox.size:
                    self._block()
        return self._shut_if_sent()

    cdef int flush(self) except -1:
        cdef iovec pieces[MAX_PIECES]
        cdef size_t offered
        cdef ssize_t sent
        cdef int i, count
        while self.outbox.size:
            count = outbox_pieces(&self.outbox, pieces)
            offered = 0
            for i in range(count):
                offered += pieces[i].iov_len
            sent = wire_write(self, pieces, count)
            if sent < 0:
                if self._refused():
                    return 0
                return self._block()
            outbox_sent(&self.outbox, <size_t>sent)
            if self.taken + <size_t>sent < PROGRESS and self.outbox.size:
                self.taken += <uint16_t>sent
            elif self.blocked:
                self.taken, self.stalled_at = 0, self.reactor.now
            if <size_t>sent < offered:
                return self._block()
        if self.blocked:
            self.blocked = False
            self.watch_for(self.interest & ~<uint32_t>POLL_WRITE)
        return self._shut_if_sent()

    cdef bint _refused(self) noexcept:
        """Whether a send failed for good, rather than for now. A kernel without memory says that the socket is writable
        all the same, so the poller is not asked for that before the next sweep."""
        if errno in (ENOBUFS, ENOMEM):
            self.resting = True
        elif errno not in (EAGAIN, EINTR):
            self.break_off()
        return self.broken

    cdef int wake_up(self) noexcept:
        self.resting = False
        if self.blocked:
            self.watch_for(self.interest | POLL_WRITE)
        return 0

    cdef int give_up(self) noexcept:
        """Something of ours has failed halfway: nothing more comes in or goes out, and the poller reports the end."""
        self.break_off()
        self.hung_up = True
        self.resumed = False
        return 0

    cdef int break_off(self) noexcept:
        """Nothing more goes out. The poller will report the end in its own time, so that no callback of the user's runs
        inside another's send(): after shutdown() it does so whatever the kernel thinks of the connection."""
        self.broken = True
        if self.reactor.corked_for is self:
            self.reactor.corked = 0
        outbox_clear(&self.outbox)
        return wire_break(self)

    cdef int _block(self) except -1:
        if self.resting:
            self.reactor.read_clock()
            self.reactor.sweep_within(self.reactor.tick)
            self.watch_for(self.interest & ~<uint32_t>POLL_WRITE)
        if self.blocked:
            return 0
        self.blocked = True
        self.taken = 0
        self.reactor.took_large_block()     # the outbox may grow to anything
        self.reactor.read_clock()            # this may be a task that runs long after the last batch of events
        self.stalled_at = self.reactor.now
        if not self.resting:
            self.watch_for(self.interest | POLL_WRITE)
        return self.on_blocked()

    cdef size_t unsent(self) noexcept:
        """Bytes written and not yet taken by the kernel."""
        return self.outbox.size + (self.reactor.corked if self.reactor.corked_for is self else 0)

    cdef int mark(self) except -1:
        """Has on_turn() called when this turn of the loop ends. The loop's call_soon may be Python, and so run
        anything: a trace function, a signal's handler, what a subclass does. So mark first, then look at the state."""
        if not self.marked:
            self.marked = list_append(self.reactor.marked, self) == 0
            if not self.marked:
                self.reactor.overlook()
        return 0 if self.reactor.turn_asked else self.reactor.ask_turn()

    # end

    cdef int hang_up(self) except -1:
        """Sends what is written, then shuts our direction; the peer's bytes are read and thrown away until it closes,
        because closing on unread input would make the kernel reset the connection and lose our last bytes."""
        self.hung_up = True
        self.pauses &= PAUSE_AT_END
        self.hold(NULL, 0)
        if not self.pauses:
            self.watch_for(self.interest & ~<uint32_t>POLL_PEER_SHUT | POLL_READ)
        return self._shut_if_sent()

    cdef int _shut_if_sent(self) except -1:
        if self.hung_up and not self.shut and self.fd >= 0 and not self.unsent():
            self.shut = True
            wire_shut(self)
        return 0

    cdef int drop(self) except -1:
        """Closes the socket at once. It leaves the reactor."""
        if self.fd < 0:
            return 0
        wire_close(self)
        self.fd = -1
        self.resumed = False
        outbox_clear(&self.outbox)
        self.hold(NULL, 0)
        if self.reactor.corked_for is self:
            self.reactor.corked = 0
        if self.is_over():
            self.crowd.unlink(self)
        return 0


cdef inline int will_write(Socket self) except -1:
    """Asks for the turn that a write outside the cork needs. That may run any Python code, so a writer calls this, then
    looks at the state, then calls reserve(), which runs none, except for more than CORK_SIZE bytes in the cork. A
    function rather than a method, so that C can inline it."""
    if self.reactor.turn_asked or self.reactor.corked_for is self and not self.outbox.size:
        return 0
    return self.reactor.ask_turn()
