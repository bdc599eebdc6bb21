# A wire whose bytes an asyncio.Transport gives, and that writes to it.

cdef enum:
    NO_DESCRIPTOR = 0x7FFFFFFF  # the `fd` of a socket that has none and yet is open: no system call knows it
    WRITTEN_AT_MOST = 65536     # bytes that a transport is handed before it has sent them
    GIVEN_AT_MOST = 1048576     # bytes that it may give although reading pauses
    LINGER = 10000              # milliseconds that a transport has for its last bytes


@cython.final
cdef class Pushed(Wire):
    """Has a socket's bytes carried by an asyncio.Transport. The transport, or the protocol that it has, calls
    data_received() and the other methods of asyncio.Protocol.

    The transport's code is foreign: it may raise, call back, or end the connection. So the socket's calls only note
    what is to be done, and run no Python; the reactor has it done by see_to_transport(), between two sockets.
    """

    def __cinit__(self, Socket socket not None, transport):
        self.socket, self.transport = socket, transport
        self.reactor, self.crowd = socket.reactor, socket.crowd
        self.given = b""
        self.waiting = deque()
        self.written = []
        self.reading = True

    cdef int begin(self) except -1:
        """The socket is served from now on."""
        self.shuts = self.transport.can_write_eof()
        self.socket.wire = self
        self.socket.fd = NO_DESCRIPTOR
        self.socket.interest = POLL_READ
        self.socket.crowd.link(self.socket)
        return self.reactor.tell(self)      # to set its limits, when its protocol knows what to tell of them

    # what the transport calls

    def data_received(self, data):
        cdef bytes copy = bytes(data)
        if self.socket is None or self.ended:
            return
        self.waiting.append(copy)
        self.unread += <size_t>len(copy)
        if not self.reading and self.unread > GIVEN_AT_MOST:
            self.broken = True              # it gives more although it was asked not to
        self.reactor.tell(self)

    def eof_received(self):
        """Keeps the transport open where it can be: there may be answers still to be sent."""
        self.ended = True
        self.reactor.tell(self)
        return self.shuts

    def connection_lost(self, error):
        """Without an error, what has come is still processed, as after a peer's close()."""
        self.ended = self.lost = True
        self.broken |= error is not None
        self.full = False
        self.reactor.lingering.discard(self)
        self.reactor.tell(self)

    def pause_writing(self):
        self.full = True

    def resume_writing(self):
        self.full = False
        self.reactor.tell(self)

    # what the reactor asks

    cdef uint32_t ready(self) noexcept:
        """What the poller would report of it now: again and again, until the socket has seen to it."""
        cdef uint32_t events = 0
        if self.socket is None or self.socket.fd < 0:
            return 0
        if self.unread or self.ended:
            events |= POLL_READ
        if self._room() or self.lost:
            events |= POLL_WRITE
        if self.ended:
            events |= POLL_PEER_SHUT
        return events & self.socket.interest | (POLL_HANGUP if self.broken else 0)

    cdef bint is_due(self) noexcept:
        """The transport is to be asked for something."""
        if self.lost:
            return False
        return (
            len(self.written) > 0 or self.shut_due or self.abort_due or self.close_due
            or not self.has_limits or self.reading != self._wants_to_read()
        )

    cdef int see_to_transport(self) except -1:
        """Asks it for what is due. Where that raises, the connection is broken, and the transport aborted next. An
        OSError is the peer's: asyncio's write_eof() raises one where that has reset the connection."""
        cdef bint reads = self._wants_to_read()
        if self.lost:
            return 0
        try:
            if self.abort_due:
                self.lost = True
                self.transport.abort()
                return 0
            if not self.has_limits:
                # It is `full` while it has something unsent. With 0 a TLS transport says so while it has nothing.
                self.has_limits = True
                self.transport.set_write_buffer_limits(1)
            if self.reading != reads:
                self.reading = reads
                self.transport.resume_reading() if reads else self.transport.pause_reading()
            if self.written and not self.lost:
                written, self.written = self.written, []
                self.written_size = 0
                self.transport.write(b"".join(written))
            if self.shut_due and not self.lost:
                self.shut_due = False
                self.transport.write_eof() if self.shuts else self.transport.close()
            if self.close_due and not self.lost:
                self.close_due = False
                self.transport.close()
        except OSError:
            self.broken = self.abort_due = True
        except BaseException:
            self.broken = self.abort_due = True
            raise
        return 0

    # what the socket asks for

    cdef size_t unread_size(self) noexcept:
        return self.unread

    cdef bint _wants_to_read(self) noexcept:
        return self.reading if self.socket is None or self.ended else self.socket.interest & POLL_READ != 0

    cdef size_t _room(self) noexcept:
        return 0 if self.full else WRITTEN_AT_MOST - self.written_size

    cdef ssize_t read(self, Socket socket, uint8_t *to, size_t n) noexcept:
        cdef size_t size, done = 0
        while done < n:
            size = min(n - done, <size_t>len(self.given) - self.at)
            memcpy(to + done, PyBytes_AS_STRING(self.given) + self.at, size)
            self.at += size
            done += size
            if self.at < <size_t>len(self.given):
                break
            self.given, self.at = b"", 0
            if not self.waiting:
                break
            self.given = self.waiting.popleft()
        self.unread -= done
        if done or self.ended:
            return <ssize_t>done
        return fails_with(EAGAIN)

    cdef ssize_t write(self, Socket socket, const iovec *pieces, int count) noexcept:
        """Takes a copy, made without what a garbage collection could run in: the pieces lie in the outbox and the cork,
        which a destructor might empty."""
        cdef size_t room = self._room(), n = 0, size
        cdef bytes copy = None
        cdef uint8_t *to
        cdef int i
        if self.broken:
            return fails_with(EPIPE)
        if not room and not self.lost:
            return fails_with(EAGAIN)
        for i in range(count):
            n += pieces[i].iov_len
        if self.lost:
            return <ssize_t>n               # as for a peer that has closed: what came before is still processed
        n = min(n, room)
        try:
            copy = bytes_of_size(NULL, <Py_ssize_t>n)
        except MemoryError:
            pass
        if copy is None or list_append(self.written, copy) < 0:
            PyErr_Clear()
            return fails_with(ENOMEM)
        to = <uint8_t *>PyBytes_AS_STRING(copy)
        room = n
        for i in range(count):
            size = min(room, pieces[i].iov_len)
            if size:                        # an empty piece may be NULL, of which memcpy() may copy nothing
                memcpy(to, pieces[i].iov_base, size)
            to += size
            room -= size
        self.written_size += n
        self.reactor.list_wire(self)
        return <ssize_t>n

    cdef int shut(self, Socket socket) noexcept:
        self.shut_due = True
        return self.reactor.list_wire(self)

    cdef int break_off(self, Socket socket) noexcept:
        self.broken = self.abort_due = True
        return self.reactor.list_wire(self)

    cdef int close(self, Socket socket) noexcept:
        """What was written arrives if it can, but where the peer has not taken it all so far, the connection is cut."""
        self.socket = None
        self.waiting = self.given = None
        self.unread = 0
        if socket.outbox.size or self.broken:
            self.abort_due = True
        else:
            self.close_due = True
            self.closed_at = self.reactor.now
        return self.reactor.list_wire(self)

    cdef bint watch(self, Socket socket, uint32_t interest) noexcept:
        socket.interest = interest
        self.reactor.list_wire(self)
        return True
