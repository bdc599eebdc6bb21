# The wire is how a socket's bytes come and go: its descriptor (Socket.wire is None), or a Wire. Nothing else in the
# core reads, writes or shuts the descriptor of a connection, or asks the system what became of its bytes. Pushed is a
# Wire that an asyncio.Transport gives its bytes, and that writes to it. TLS will be another.
#
# Every call says MSG_DONTWAIT: O_NONBLOCK belongs to what all processes with a copy of the descriptor share, and one of
# them may take it away.

cdef enum:
    NO_DESCRIPTOR = 0x7FFFFFFF  # the `fd` of a socket that has none and yet is open: no system call knows it
    WRITTEN_AT_MOST = 65536     # bytes that a transport is handed before it has sent them
    GIVEN_AT_MOST = 1048576     # bytes that it may give although reading pauses
    LINGER = 10000              # milliseconds that a transport has for its last bytes


cdef inline ssize_t wire_read(Socket socket, uint8_t *to, size_t n) noexcept:
    """As recv(2): how many bytes were read, 0 at the end, -1 with errno set."""
    return recv(socket.fd, to, n, MSG_DONTWAIT) if socket.wire is None else socket.wire.read(socket, to, n)


cdef inline ssize_t wire_write(Socket socket, iovec *pieces, int count) noexcept:
    """As sendmsg(2): how many bytes were taken, -1 with errno set."""
    cdef msghdr message
    if socket.wire is not None:
        return socket.wire.write(socket, pieces, count)
    if count == 1:                          # costs the kernel less than the same through sendmsg()
        return send(socket.fd, pieces.iov_base, pieces.iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
    memset(&message, 0, sizeof(message))
    message.msg_iov, message.msg_iovlen = pieces, <size_t>count
    return sendmsg(socket.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)


cdef int wire_shut(Socket socket) noexcept:
    """Nothing more will be written; what was arrives."""
    return shutdown(socket.fd, SHUT_WR) if socket.wire is None else socket.wire.shut(socket)


cdef int wire_break(Socket socket) noexcept:
    """Nothing more goes either way. The poller or the transport reports the end."""
    return shutdown(socket.fd, SHUT_RDWR) if socket.wire is None else socket.wire.break_off(socket)


cdef int wire_close(Socket socket) noexcept:
    """Closes the socket at once; what was written arrives if it can. The peer sees the end although the child of a fork
    may hold a copy of the descriptor: so it is shut before, unless it is at its end in both directions."""
    if socket.wire is not None:
        return socket.wire.close(socket)
    socket.reactor.unwatch(socket)
    if not (socket.shut and socket.pauses & PAUSE_AT_END):
        shutdown(socket.fd, SHUT_RDWR)
    return close(socket.fd)


cdef bint wire_watch(Socket socket, uint32_t interest) noexcept:
    """Reports these events to the socket from now on. False where that cannot be."""
    return Endpoint.watch_for(socket, interest) if socket.wire is None else socket.wire.watch(socket, interest)


cdef size_t wire_on_its_way(Socket socket) noexcept:
    """Bytes taken by the kernel that the peer's has not acknowledged; 0 where it does not tell."""
    cdef int n = 0
    if ioctl(socket.fd, SIOCOUTQ, &n) < 0:
        return 0
    return <size_t>n


cdef bint wire_is_unanswered(Socket socket, uint32_t milliseconds) noexcept:
    """Whether our kernel has asked ASKED times, by sending something again or by a probe, and the peer's has
    acknowledged nothing for so long. Two minutes may pass between two probes of a closed window, and one be lost.
    The kernel's own TCP_USER_TIMEOUT would also end a peer that does acknowledge, once its window has been smaller
    than what is to be sent for that long, however steadily its program reads (Linux, tcp_probe_timer())."""
    cdef tcp_info info
    cdef socklen_t size = sizeof(info)
    if getsockopt(socket.fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0:
        return False
    return max(info.tcpi_retransmits, info.tcpi_probes) >= ASKED and info.tcpi_last_ack_recv >= milliseconds


cdef ssize_t _fails_with(int error) noexcept:
    global errno                            # C's: an assignment would make a variable here
    errno = error
    return -1


cdef size_t wire_unread(Socket socket) noexcept:
    """Bytes that a Wire was given and that are still to be read."""
    return 0 if socket.wire is None else socket.wire.unread_size()


cdef class Wire:
    cdef ssize_t read(self, Socket socket, uint8_t *to, size_t n) noexcept:
        return _fails_with(EIO)

    cdef ssize_t write(self, Socket socket, const iovec *pieces, int count) noexcept:
        return _fails_with(EIO)

    cdef int shut(self, Socket socket) noexcept:
        return 0

    cdef int break_off(self, Socket socket) noexcept:
        return 0

    cdef int close(self, Socket socket) noexcept:
        return 0

    cdef bint watch(self, Socket socket, uint32_t interest) noexcept:
        return True

    cdef size_t unread_size(self) noexcept:
        return 0


@cython.final
cdef class Pushed(Wire):
    """Has a socket's bytes carried by an asyncio.Transport. The transport, or the protocol that it has, calls
    data_received() and the other methods of asyncio.Protocol.

    The transport's code is foreign: it may raise, call back, or end the connection. So the socket's calls only note
    what is to be done, and run no Python; the reactor has it done by see_to_transport(), between two sockets.
    """

    def __cinit__(self, Socket socket not None, transport):
        self.socket, self.transport = socket, transport
        self.reactor = socket.reactor
        self.given = b""
        self.waiting = deque()
        self.written = []
        self.reading = True

    cdef int begin(self) except -1:
        """The socket is served from now on."""
        self.transport.set_write_buffer_limits(0)   # so that it is `full` as long as it has something unsent
        self.shuts = self.transport.can_write_eof()
        self.socket.wire = self
        self.socket.fd = NO_DESCRIPTOR
        self.socket.interest = POLL_READ
        return self.socket.crowd.link(self.socket)

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
            or self.reading != self._wants_to_read()
        )

    cdef int see_to_transport(self) except -1:
        """Asks it for what is due. Where that raises, the connection is broken, and the transport aborted next."""
        cdef bint reads = self._wants_to_read()
        if self.lost:
            return 0
        try:
            if self.abort_due:
                self.lost = True
                self.transport.abort()
                return 0
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
        except BaseException:
            self.broken = self.abort_due = True
            raise
        return 0

    cdef bint lingers(self, uint32_t now) noexcept:
        """It is closed, and has something unsent still. After LINGER it is ended."""
        if self.lost or not self.full:
            return False
        if now - self.closed_at >= LINGER:
            self.abort_due = True
        return True

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
        return _fails_with(EAGAIN)

    cdef ssize_t write(self, Socket socket, const iovec *pieces, int count) noexcept:
        """Takes a copy, made without what a garbage collection could run in: the pieces lie in the outbox and the cork,
        which a destructor might empty."""
        cdef size_t room = self._room(), n = 0, size
        cdef bytes copy = None
        cdef uint8_t *to
        cdef int i
        if self.broken:
            return _fails_with(EPIPE)
        if not room and not self.lost:
            return _fails_with(EAGAIN)
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
            return _fails_with(ENOMEM)
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
