# The protocol half, declared: bytes in, events and bytes out. Nothing here can name a socket; the test-only
# extension in tests/core/protocol includes this file and its parts alone to prove it.

from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "simd.h" nogil:
    ctypedef struct simd_text:
        uint8_t need
        size_t chars
    ctypedef struct simd_kernels:
        const char *name
        uint32_t (*unmask)(uint8_t *to, const uint8_t *source, size_t n, uint32_t key) noexcept nogil
        size_t (*check)(simd_text *text, const uint8_t *p, size_t n) noexcept nogil
        size_t (*unmask_check)(
            simd_text *text, uint8_t *to, const uint8_t *source, size_t n, uint32_t *key) noexcept nogil
        void (*decode)(void *to, int width, size_t chars, const uint8_t *source, size_t n) noexcept nogil
        size_t (*encoded_size)(const void *source, int width, size_t chars) noexcept nogil
        void (*encode)(uint8_t *to, size_t size, const void *source, int width, size_t chars) noexcept nogil
    const size_t SIMD_SURROGATE, SIMD_VARIANTS
    const simd_kernels *simd_variants[]
    simd_kernels simd
    bint simd_supported(const simd_kernels *)
    bint simd_choose(const char *name)
    int simd_width(const simd_text *)


cdef enum Opcode:               # RFC 6455 section 5.2
    OPCODE_CONTINUATION = 0
    OPCODE_TEXT = 1
    OPCODE_BINARY = 2
    OPCODE_CLOSE = 8
    OPCODE_PING = 9
    OPCODE_PONG = 10

cdef enum:
    MAX_FRAME_HEADER = 14       # 2 + 8 of length + 4 of masking key
    MASKED = 0x80               # in a frame's second byte: a client's, with a key (RFC 6455 section 5.3)
    MAX_CONTROL_PAYLOAD = 125   # RFC 6455 section 5.5
    RSV1 = 0x40                 # in a frame's first byte: the message is compressed (RFC 7692 section 6)
    DEFLATE_MARGIN = 64         # bytes that a short message may grow by in DEFLATE, and more

cdef struct Header:             # a frame header, judged and found right
    uint8_t opcode
    bint fin
    bint deflated               # it belongs to a message with RSV1
    size_t size                 # of the header itself, in bytes
    uint64_t length             # of the payload
    uint32_t mask               # the key, in wire order; 0 where the payload is not masked

cdef struct Limits:
    uint64_t max_message_size   # bytes, assembled
    uint32_t max_fragments      # frames of one message, empty ones counted

cdef enum Fault:                # why a connection is failed (RFC 6455 section 7.1.7)
    FAULT_NONE
    FAULT_RSV
    FAULT_OPCODE
    FAULT_CONTROL_FRAGMENTED
    FAULT_CONTROL_LENGTH
    FAULT_UNMASKED
    FAULT_MASKED
    FAULT_NOTHING_TO_CONTINUE
    FAULT_INTERLEAVED
    FAULT_LENGTH_SIGN
    FAULT_LENGTH_FORM
    FAULT_MESSAGE_SIZE
    FAULT_FRAGMENTS
    FAULT_UTF8
    FAULT_DEFLATE
    FAULT_CLOSE_LENGTH
    FAULT_CLOSE_CODE
    FAULT_CLOSE_UTF8

cdef struct Inbox:              # one connection's receiving side
    uint8_t takes_deflate       # RSV1 may be set
    uint8_t from_server         # the frames are a server's: not masked
    # The rest is as new after each message.
    # the message in progress
    uint8_t deflated            # its first frame had RSV1
    uint8_t opcode              # TEXT or BINARY; 0 between messages
    # the data frame in progress
    uint8_t in_frame
    uint8_t fin
    uint32_t mask               # rotated to the next payload byte
    uint32_t fragments          # of the message
    uint64_t remaining          # payload bytes of the frame still to come
    # what there is of the message
    simd_text text              # what is known of it, where it is text
    PyObject *body              # a bytes object that is being filled; NULL while there is nothing to keep
    size_t filled               # how much of it is

cdef enum EventKind:
    EVENT_NONE                  # what is left of the input is the beginning of something: keep it
    EVENT_MESSAGE
    EVENT_PING
    EVENT_PONG
    EVENT_CLOSE
    EVENT_FAULT

cdef struct Event:
    EventKind kind
    uint8_t opcode              # of a message: TEXT or BINARY
    bint deflated               # what it is, is known only once it is inflated
    simd_text text              # of a text: what is known of it
    uint8_t *data               # unmasked; lies in the input or in `body`, valid until either changes
    size_t length
    PyObject *body              # of a message that was put together; owned, by the caller of inbox_next()
    uint16_t code               # of a close or a fault
    Fault fault

cdef extern from *:
    """
    #define ZLIB_CONST
    #include <zlib.h>
    """
    ctypedef struct z_stream:
        const uint8_t *next_in
        unsigned int avail_in
        uint8_t *next_out
        unsigned int avail_out
        int data_type

cdef struct DeflateSettings:    # fastws.Deflate
    int level, window_bits, mem_level
    size_t history, threshold   # bytes
    uint32_t history_timeout    # milliseconds; 0 is off
    size_t max_inflater_memory  # bytes

cdef struct History:            # the end of what was compressed for a peer
    uint8_t *data
    uint32_t size, capacity

cdef class Deflater:            # zlib's compressor
    cdef z_stream stream
    cdef int level, window_bits, mem_level
    cdef int prime(self, const History *history) except -1
    cdef size_t deflate(self, const uint8_t *data, size_t n, uint8_t *to, size_t room) noexcept

cdef class Inflater:            # and its decompressor
    cdef z_stream stream
    cdef int window_bits

cdef struct Work:               # how much a call may inflate: no less than 1 of each; it counts down
    size_t input                # bytes that are read
    size_t output               # bytes that they make

cdef struct Inflation:          # a message that is being inflated
    uint8_t opcode
    uint8_t marked              # `data` is the FLUSH_MARK, behind all that has come
    uint8_t complete            # no block has begun that has not ended
    PyObject *payload           # a bytes object that `data` lies in, if it is one; owned
    const uint8_t *data         # what is still to be read
    size_t left
    PyObject *body              # a bytes object that holds the message, once it is more than was lent; owned
    uint8_t *out
    size_t filled, capacity

cdef class Unfinished:          # a message whose inflation is to be continued
    cdef Inflation inflation
    cdef Inflater inflater

cdef class Deflation:           # what a connection has negotiated, and keeps
    cdef readonly object agreement
    cdef uint8_t window_bits    # of what is sent
    cdef uint8_t client_window_bits
    cdef uint8_t takeover       # of what is sent: it may refer to what was sent before
    cdef uint8_t client_takeover
    cdef uint32_t used_at       # when the history grew last, in milliseconds
    cdef History history
    cdef Inflater inflater      # its own, with client_takeover
    cdef Unfinished unfinished  # None, but for few and for a while

cdef class Codec:               # what the connections of a server share
    cdef list deflaters
    cdef Inflater inflater      # for all messages without takeover, but those that are unfinished
    cdef Deflater last          # used last, for
    cdef Deflation last_target  # whose window it still has
    cdef uint8_t *packed        # what it has made
    cdef size_t packed_room
    cdef size_t reserved        # bytes, for inflaters of single connections
    cdef uint64_t deflations, inflations
    cdef Deflater _deflater(self, const DeflateSettings *settings, int window_bits, size_t need)
    cdef size_t pack(
        self, const DeflateSettings *settings, Deflation target, const uint8_t *data, size_t n) except? 0
    cdef int sent(
        self, const DeflateSettings *settings, Deflation target, const uint8_t *data, size_t n) except -1
    cdef int sent_shared(
        self, const DeflateSettings *settings, Deflation target, const uint8_t *data, size_t n) except -1
    cdef void trim(self) noexcept
    cdef void _free_packed(self) noexcept
    cdef EventKind unpack(
        self, Deflation source, const Limits *limits, uint8_t *lent, size_t room, Work *work, Event *event) except *
    cdef EventKind unpack_on(self, Deflation source, const Limits *limits, Work *work, Event *event) except *
    cdef int _put_aside(
        self, Deflation source, Inflation *inflation, Inflater inflater, const Limits *limits) except -1
    cdef Inflater _inflater(self, Deflation source)
    cdef size_t memory(self) noexcept

cdef class FrameParser:         # frames for others: section 5 without a connection
    cdef Limits limits
    cdef uint8_t allowed        # of the first byte, the reserved bits that an extension may set
    # the frame in progress
    cdef uint8_t head[MAX_FRAME_HEADER]
    cdef size_t head_size       # how much of it is there
    cdef Inbox inbox            # the payload is its body; `opcode` is that of the message in progress
    # the end
    cdef bint closed            # by a Close frame
    cdef str error              # or by a fault
    cdef uint16_t error_code

    cdef int _parse(self, const uint8_t *p, size_t n, list frames) except -1
    cdef bint _header(self, size_t n, size_t *used) except -1
    cdef int _finish(self, list frames) except -1
    cdef int _fail_header(self, Fault fault) except -1
    cdef int _fail(self, str error, uint16_t code) except -1

cdef enum HeadState:
    HEAD_MORE                   # no end of the head yet
    HEAD_DONE
    HEAD_BAD                    # 400
    HEAD_LONG_TARGET            # 414
    HEAD_TOO_LARGE              # 431

cdef class HeadLimits:
    cdef readonly size_t max_header_size        # bytes of the whole head
    cdef readonly size_t max_request_line       # bytes
    cdef readonly size_t max_headers

cdef class Handshake:           # one request head: collected, parsed by httptools, judged by RFC 6455 section 4.2
    # collecting
    cdef HeadLimits limits
    cdef size_t scanned, line_start, lines
    # parsed
    cdef readonly bytes method
    cdef readonly bytes target
    cdef readonly list headers
    cdef readonly bytes version
    cdef bint complete
    # picked out of the headers
    cdef readonly bytes host, origin, key, protocols, extensions, sec_version
    cdef int hosts, origins, keys, versions
    cdef bint wants_websocket, connection_upgrade, has_body, bad_length

    cdef HeadState scan(self, const uint8_t *data, size_t n) noexcept
    cdef bint parse(self, bytes head) except -1
    cdef int _pick(self, bytes name, bytes value) except -1
    cpdef refuse_request(self, allowed_hosts)
    cdef str host_text(self)
    cdef bint asks_for_options(self) except -1
    cpdef refuse_upgrade(self, origins)
    cpdef bytes response(self, accept, bytes extensions=*)
