# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The I/O half of fastws alone, with a server of lines over it: it compiles without the protocol half and the connection,
so it knows nothing of WebSockets.

    say TEXT        is answered with the line itself
    blob N          and N bytes behind it are answered with these bytes, which are never copied on their way
    due MS          is answered with "due" after so many milliseconds
    pause           stops reading, until Peer.go_on() is called
    later           stops for this turn: what is behind it comes in the next
    raise           raises
    bye             is answered with "bye" and the end
"""

include "imports.pxi"
include "buffer.pyx"
include "address.pyx"
include "outbox.pyx"
include "wire.pyx"
include "pushed.pyx"
include "socket.pyx"
include "listener.pyx"
include "crowd.pyx"
include "reactor.pyx"

from cpython.bytes cimport PyBytes_AS_STRING


cdef class Peer(Socket):
    """`events` is what the reactor has told it: the names of its on_ methods."""

    cdef readonly list events
    cdef bytes blob             # that is being received
    cdef size_t blob_filled
    cdef uint32_t waits_since, waits

    def __cinit__(self, *args):
        self.events = []

    @property
    def remote_address(self):
        return address_object(&self.address)

    @property
    def unsent_bytes(self):
        return self.unsent()

    @property
    def held_bytes(self):
        return self.held_size

    def go_on(self):
        self.resume(1)

    def stay(self):
        """It has a claim to stay."""
        self.crowd.settle(self, True)

    def end(self):
        self.drop()

    cdef Py_ssize_t on_input(self, uint8_t *data, size_t n) except -1:
        cdef Py_ssize_t used = 0, end
        text = (<char *>data)[:n]
        self.events.append("input")
        while self.blob is None and not self.pauses and not self.resumed and not self.hung_up and self.fd >= 0:
            end = text.find(b"\n", used) + 1
            if not end:
                break
            line, used = text[used:end], end
            used += self._obey(line, text[used:])
        return used

    cdef Py_ssize_t _obey(self, bytes line, bytes rest) except -1:
        """Returns how much of the rest it has used up, too."""
        command, _, argument = line.rstrip(b"\n").partition(b" ")
        if command == b"say":
            self.write(<const uint8_t *>PyBytes_AS_STRING(line), <size_t>len(line))
        elif command == b"blob":
            self.blob = bytes(int(argument))
            self.blob_filled = min(<size_t>len(rest), <size_t>len(self.blob))
            memcpy(PyBytes_AS_STRING(self.blob), PyBytes_AS_STRING(rest), self.blob_filled)
            rest = rest[:self.blob_filled]
            self._answer_blob()
            return len(rest)
        elif command == b"due":
            self.waits, self.waits_since = int(argument), self.reactor.now
            self.reactor.sweep_within(self.waits)
        elif command == b"pause":
            self.pause(1)
        elif command == b"later":
            self.come_back()
        elif command == b"raise":
            raise ZeroDivisionError
        elif command == b"bye":
            self.write(<const uint8_t *>PyBytes_AS_STRING(line), <size_t>len(line))
            self.hang_up()
        return 0

    cdef int _answer_blob(self) except -1:
        if self.blob_filled == <size_t>len(self.blob):
            blob, self.blob = self.blob, None
            self.write_large(NULL, 0, <const uint8_t *>PyBytes_AS_STRING(blob), self.blob_filled, blob)
        return 0

    cdef uint8_t *on_room(self, size_t *room) except? NULL:
        if self.blob is None:
            return NULL
        room[0] = <size_t>len(self.blob) - self.blob_filled
        return <uint8_t *>PyBytes_AS_STRING(self.blob) + self.blob_filled

    cdef int on_received(self, size_t n) except -1:
        self.events.append("received")
        self.blob_filled += n
        return self._answer_blob()

    cdef int on_end(self) except -1:
        self.events.append("end")
        return self.drop()

    cdef int on_evicted(self) except -1:
        self.events.append("evicted")
        return self.drop()

    cdef int on_blocked(self) except -1:
        self.events.append("blocked")
        return 0

    cdef int on_taken(self) except -1:
        self.events.append("taken")
        return 0

    cdef int on_peer_shut(self) except -1:
        self.events.append("peer_shut")
        return 0

    cdef int on_resumed(self) except -1:
        self.events.append("resumed")
        return 0

    cdef uint32_t due_in(self, uint32_t now) noexcept:
        cdef uint32_t passed = now - self.waits_since
        if not self.waits:
            return NEVER
        return 0 if passed >= self.waits else self.waits - passed

    cdef int on_due(self, uint32_t now) except -1:
        self.waits = 0
        self.write(<const uint8_t *>b"due\n", 4)
        return 0


cdef class Peers(Crowd):
    """Those of one server, in the order in which they came."""

    cdef readonly list came

    def __cinit__(self):
        self.came = []

    def join(self, Reactor reactor not None, log, double tick, Py_ssize_t max_transient):
        reactor.add(self, log, tick, max_transient)

    def leave(self):
        self.reactor.remove(self)

    def serve(self, sock):
        cdef Listener listener = Listener(self, sock)
        listener.make = make_peer
        self.listen(listener)

    @property
    def accepted_count(self):
        return self.accepted


cdef Socket make_peer(Crowd crowd):
    cdef Peer peer = Peer.__new__(Peer, crowd)
    (<Peers>crowd).came.append(peer)
    return peer
