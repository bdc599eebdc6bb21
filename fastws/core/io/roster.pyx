# A roster: sockets in the order in which they came. It holds them.

@cython.final
cdef class Roster:
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
