# A crowd is the sockets of one server. A reactor may have several crowds.

@cython.final
cdef class Roster:
    """Sockets in the order in which they came. It holds them."""

    cdef int add(self, Socket socket) noexcept:
        socket.next = self.newest
        if self.newest is not None:
            self.newest.previous = socket
        else:
            self.oldest = socket
        self.newest = socket
        self.count += 1
        return 0

    cdef int remove(self, Socket socket) noexcept:
        if socket.previous is not None:
            socket.previous.next = socket.next
        else:
            self.newest = socket.next
        if socket.next is not None:
            socket.next.previous = socket.previous
        else:
            self.oldest = socket.previous
        socket.previous = socket.next = None
        self.count -= 1
        return 0


cdef class Crowd:
    """The sockets and listeners of one server. Sockets with a claim to stay are settled; of the others, who are still
    coming or already going, there are at most max_transient."""

    def __cinit__(self, *args, **options):
        self.settled = Roster()
        self.transient = Roster()
        self.listeners = []

    @property
    def socket_count(self):
        return self.settled.count + self.transient.count

    cdef int admit(self, Socket socket, int fd) noexcept:
        """Takes in a connected, non-blocking descriptor, whose socket is new. Returns 0, or an error of errno.h, with
        which the descriptor is the caller's still."""
        cdef int error
        socket.fd = fd
        error = self.reactor.watch(socket, POLL_READ)
        if error:
            socket.fd = -1
            return error
        return self.link(socket)

    cdef int link(self, Socket socket) noexcept:
        socket.linked = True
        self.accepted += 1
        return self.transient.add(socket)

    cdef int unlink(self, Socket socket) except -1:
        if not socket.linked:
            return 0
        socket.linked = False
        (self.settled if socket.settled else self.transient).remove(socket)
        socket.drop()                       # the roster held it: no event may find it from here on
        return self.reactor.ask_turn() if self.is_empty() else 0

    cdef int settle(self, Socket socket, bint settled) noexcept:
        """Gives a socket a claim to stay, or takes it away."""
        if not socket.linked or socket.settled == settled:
            return 0
        (self.settled if socket.settled else self.transient).remove(socket)
        socket.settled = settled
        return (self.settled if settled else self.transient).add(socket)

    cdef int evict(self) except -1:
        """Not before the turn ends, when no socket is in the middle of anything."""
        cdef Socket oldest
        while self.transient.count > self.max_transient:
            oldest = self.transient.oldest
            if oldest.goes_on():            # its first bytes have come, and are looked at in the next turn
                break
            try:
                oldest.on_evicted()
            except BaseException as error:
                self.reactor.failed(oldest, error)
            self.settle(oldest, True)       # where it is still there, it has no descriptor any more
        return 0

    cdef bint is_empty(self) noexcept:
        """No socket is left, and on_empty is set."""
        return self.on_empty is not None and not self.settled.count and not self.transient.count

    cdef int mark_all(self) except -1:
        cdef Roster roster
        cdef Socket socket
        for roster in (self.transient, self.settled):
            socket = roster.newest
            while socket is not None:
                socket.mark()
                socket = socket.next
        return 0

    cdef int drop_all(self) except -1:
        cdef Roster roster
        cdef Socket socket
        for roster in (self.transient, self.settled):
            while roster.newest is not None:
                socket = roster.newest
                socket.drop()
                self.unlink(socket)
        return 0

    cdef int leave_to_parent(self) except -1:
        """See Reactor.leave_to_parent()."""
        cdef Roster roster
        cdef Socket socket
        cdef Listener listener
        for roster in (self.transient, self.settled):
            socket = roster.newest
            while socket is not None:
                if socket.fd >= 0:
                    close(socket.fd)
                    socket.fd = -1
                socket = socket.next
        for listener in self.listeners:
            listener.fd = -1
            listener.sock.close()
        return 0

    cdef int listen(self, Listener listener) except -1:
        cdef int error
        self.listeners.append(listener)
        error = self.reactor.watch(listener, POLL_READ)
        if error:
            self.listeners.remove(listener)
            raise OSError(error, f"cannot poll a listening socket: {strerror(error).decode()}")
        return 0

    def stop_listening(self):
        """Closes the listening sockets; connections live on."""
        cdef Listener listener
        while self.listeners:
            listener = self.listeners.pop()
            listener.shut_down()

    cdef int log_later(self, str method, tuple arguments, error) except -1:
        """Calls a method of the log when the turn ends and no socket is in the middle of something, as the
        application's log handlers may do anything. error: its exc_info, or None."""
        try:
            self.reactor.lines.append((self.log, method, arguments, error))
        except MemoryError:
            pass
        return self.reactor.ask_turn()
