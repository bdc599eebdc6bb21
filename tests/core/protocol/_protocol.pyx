# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The protocol half of fastws alone, for tests: it compiles without the I/O half, so it cannot name a socket."""

include "imports.pxi"
include "kernels.pyx"
include "handshake.pyx"
include "frame.pyx"
include "closing.pyx"
include "message.pyx"
include "deflate.pyx"
include "speedups.pyx"
include "parser.pyx"

HEAD_STATES = {HEAD_MORE: "more", HEAD_DONE: "done", HEAD_BAD: 400, HEAD_LONG_TARGET: 414, HEAD_TOO_LARGE: 431}


WHOLE = (1 << 63) - 1


cdef EventKind unpack(
    Codec codec, Deflation source, const Limits *limits, uint8_t *lent, size_t room, Work share, Event *event
) except *:
    """Inflates a message share by share, for as long as it takes."""
    cdef Work work = share
    cdef EventKind kind = codec.unpack(source, limits, lent, room, &work, event)
    while kind == EVENT_NONE:
        memset(lent, 0xAA, room)            # others have it meanwhile
        work = share
        kind = codec.unpack_on(source, limits, &work, event)
    return kind


cdef class Reader:
    """The receiving side of a server, or with `from_server` of a client: frames in, events out, however the stream is cut.

    Keeps what is left over as a connection does. After a close or a failure it yields nothing more. With a `deflation`
    it takes compressed messages, too, and lends them memory of `room` bytes; it inflates at most `input` bytes, to at most
    `output`, at a time.
    """

    cdef Inbox inbox
    cdef Limits limits
    cdef bytearray rest
    cdef uint8_t *place
    cdef bint over
    cdef Codec codec
    cdef Deflation deflation
    cdef uint8_t *lent
    cdef size_t room
    cdef Work share

    def __cinit__(
        self, max_message_size=1 << 20, max_fragments=16384, Deflation deflation=None, size_t room=65536,
        size_t input=WHOLE, size_t output=WHOLE, bint from_server=False
    ):
        self.inbox.from_server = from_server
        self.share = Work(input, output)
        self.limits.max_message_size = max_message_size
        self.limits.max_fragments = max_fragments
        self.rest = bytearray()
        self.deflation = deflation
        if deflation is not None:
            self.inbox.takes_deflate = True
            self.codec = Codec()
            self.lent = <uint8_t *>PyMem_Malloc(room)
            self.room = room
            if self.lent == NULL:
                raise MemoryError

    def __dealloc__(self):
        inbox_clear(&self.inbox)
        PyMem_Free(self.lent)

    def feed(self, const uint8_t[:] data):
        cdef Event event
        cdef EventKind kind
        cdef uint8_t *cursor
        cdef uint8_t *end
        events = []
        if self.over:
            return events
        self.rest += data
        cursor = <uint8_t *><char *>self.rest
        end = cursor + len(self.rest)
        while not self.over:
            kind = inbox_next(&self.inbox, &self.limits, &cursor, end, &event)
            if kind == EVENT_NONE:
                break
            events.append(self._event(&event))
        del self.rest[: len(self.rest) - (end - cursor)]
        return events

    def window(self, size_t wish):
        """How many bytes may be received straight into the message; 0 where the input must be parsed."""
        cdef size_t room = 0
        self.place = NULL if self.rest else inbox_room(&self.inbox, wish, &room)
        return room if self.place != NULL else 0

    def receive(self, const uint8_t[:] data):
        """Puts data, no longer than the window just granted, straight into the message."""
        cdef Event event
        if self.place == NULL:
            raise ValueError("no window has been granted")
        memcpy(self.place, &data[0], <size_t>data.shape[0])
        self.place = NULL
        return [] if inbox_received(&self.inbox, <size_t>data.shape[0], &event) == EVENT_NONE else [self._event(&event)]

    @property
    def idle(self):
        """No part of a message has been taken in."""
        return inbox_idle(&self.inbox)

    def kept(self):
        """Bytes allocated for the message in progress."""
        return PyBytes_GET_SIZE(<object>self.inbox.body) if self.inbox.body != NULL else 0

    cdef _event(self, Event *event):
        if event.kind == EVENT_MESSAGE and event.deflated:
            unpack(self.codec, self.deflation, &self.limits, self.lent, self.room, self.share, event)
        if event.kind == EVENT_FAULT:
            self.over = True
            return "fail", event.code, fault_text(event.fault)
        if event.kind == EVENT_CLOSE:
            self.over = True
            return "close", event.code, close_reason(event)
        if event.kind == EVENT_PING:
            return "ping", control_body(event)
        if event.kind == EVENT_PONG:
            return "pong", control_body(event)
        message = message_text(event) if event.opcode == OPCODE_TEXT else message_bytes(event)
        Py_CLEAR(event.body)
        return "text" if event.opcode == OPCODE_TEXT else "binary", message


cdef class Compression:
    """A server's compression: connections that share a Codec. `settings`: a fastws.Deflate."""

    cdef Codec codec
    cdef DeflateSettings settings
    cdef bytearray lent

    def __cinit__(self, settings, size_t room=65536):
        self.codec = Codec()
        self.lent = bytearray(room)
        self.settings.level = settings.level
        self.settings.window_bits = settings.window_bits
        self.settings.mem_level = settings.mem_level
        self.settings.history = settings.history

    def compress(self, Deflation target, bytes data):
        """The payload of a compressed message to `target`; None where it would not be smaller, or for a shared one."""
        cdef size_t size = self.codec.pack(&self.settings, target, data, len(data))
        if not size:
            return None
        packed = (<const char *>self.codec.packed)[:size]
        self.codec.trim()
        if target is not None:
            self.codec.sent(&self.settings, target, data, len(data))
        return packed

    def shared(self, Deflation target, bytes data):
        """`target` has been sent a payload that was made for None."""
        self.codec.sent_shared(&self.settings, target, data, len(data))

    def decompress(self, Deflation source, bytes payload, **how):
        """The message, or ("fail", code, reason). `how`: as for `begin`."""
        found = self.begin(source, payload, **how)
        while found is None:
            found = self.go_on(source, **how)
        return found

    def begin(
        self, Deflation source, bytes payload, uint64_t max_message_size=1 << 20, bint is_text=False,
        size_t input=WHOLE, size_t output=WHOLE
    ):
        """As `decompress`; None where it is not finished with reading `input` bytes, or making `output` of them."""
        cdef Event event
        cdef Limits limits
        cdef Work work = Work(input, output)
        cdef bytearray copy = bytearray(payload)
        limits.max_message_size = max_message_size
        event.opcode = OPCODE_TEXT if is_text else OPCODE_BINARY
        event.body = NULL
        event.data = <uint8_t *><char *>copy
        event.length = len(copy)
        return self._found(&event, self.codec.unpack(
            source, &limits, <uint8_t *><char *>self.lent, len(self.lent), &work, &event))

    def go_on(
        self, Deflation source, uint64_t max_message_size=1 << 20, bint is_text=False,
        size_t input=WHOLE, size_t output=WHOLE
    ):
        """With what `begin` has begun."""
        cdef Event event
        cdef Limits limits
        cdef Work work = Work(input, output)
        limits.max_message_size = max_message_size
        memset(<char *>self.lent, 0xAA, len(self.lent))     # others have it meanwhile
        return self._found(&event, self.codec.unpack_on(source, &limits, &work, &event))

    cdef _found(self, Event *event, EventKind kind):
        if kind == EVENT_NONE:
            return None
        if kind == EVENT_FAULT:
            return "fail", event.code, fault_text(event.fault)
        message = message_text(event) if event.opcode == OPCODE_TEXT else message_bytes(event)
        Py_CLEAR(event.body)
        return message

    @property
    def counts(self):
        """Messages deflated and inflated, and bytes held for everybody."""
        return self.codec.deflations, self.codec.inflations, self.codec.memory()


def give_up_history(Deflation deflation not None):
    history_drop(&deflation.history)


def kept_for(Deflation deflation not None):
    """Bytes that the connection keeps, and those of a message that is unfinished."""
    return deflation_memory(deflation), deflation_buffered(deflation)


def end_deflation(Deflation deflation not None):
    """Returns how many bytes the connection has kept until then."""
    cdef size_t kept = deflation_memory(deflation)
    deflation_end(deflation)
    return kept


def build_frame(int opcode, bytes payload, bint fin=True):
    cdef uint8_t head[MAX_FRAME_HEADER]
    cdef size_t size = header_write(head, (0x80 if fin else 0) | <uint8_t>opcode, len(payload))
    return (<const char *>head)[:size] + payload


cdef class Utf8:
    cdef simd_text state

    def feed(self, bytes data):
        """The index of the first byte in this piece that cannot be right, or -1."""
        cdef size_t index = simd.check(&self.state, <const uint8_t *><const char *>data, len(data))
        return -1 if index == <size_t>len(data) else index

    def complete(self):
        return self.state.need == 0


cdef class RequestHead:
    """Feeds a request head in pieces, as a connection does; `feed` returns "more", "done" or the status of a refusal."""

    cdef readonly Handshake handshake
    cdef bytearray data

    def __cinit__(self, size_t max_header_size=16384, size_t max_request_line=8192, size_t max_headers=100):
        self.handshake = Handshake(HeadLimits(max_header_size, max_request_line, max_headers))
        self.data = bytearray()

    def feed(self, bytes data):
        state = self.scan(data)
        if state == "done" and not self.handshake.parse(bytes(self.data[: self.handshake.scanned])):
            return 400
        return state

    def scan(self, bytes data):
        """As `feed`, without parsing a head that is complete."""
        self.data += data
        return HEAD_STATES[self.handshake.scan(<const uint8_t *><char *>self.data, len(self.data))]

    @property
    def scanned(self):
        return self.handshake.scanned


def build_close(unsigned int code, str reason=""):
    """The body of a server's close frame."""
    return close_body(code, reason)


def split_request_target(bytes target):
    """(path, query string, path to look up), or ValueError."""
    return request_target(target)
