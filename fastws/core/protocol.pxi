# The protocol half, declared: bytes in, events and bytes out. Nothing here can name a socket; the test-only
# extension in tests/protocol includes this file and its parts alone to prove it.

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
    MAX_CONTROL_PAYLOAD = 125   # RFC 6455 section 5.5

cdef struct Header:             # a client's frame header, judged and found right
    uint8_t opcode
    bint fin
    size_t size                 # of the header itself, in bytes
    uint64_t length             # of the payload
    uint32_t mask               # in wire order

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
    FAULT_NOTHING_TO_CONTINUE
    FAULT_INTERLEAVED
    FAULT_LENGTH_SIGN
    FAULT_LENGTH_FORM
    FAULT_MESSAGE_SIZE
    FAULT_FRAGMENTS
    FAULT_UTF8
    FAULT_CLOSE_LENGTH
    FAULT_CLOSE_CODE
    FAULT_CLOSE_UTF8

cdef struct Inbox:             # one connection's receiving side
    # the message in progress
    uint8_t opcode              # TEXT or BINARY; 0 between messages
    uint32_t fragments
    simd_text text              # what is known of it, where it is text
    PyObject *body              # a bytes object that is being filled; NULL while there is nothing to keep
    size_t filled               # how much of it is
    # the data frame in progress
    bint in_frame
    bint fin
    uint32_t mask               # rotated to the next payload byte
    uint64_t remaining          # payload bytes still to come

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
    simd_text text              # of a text: what is known of it
    uint8_t *data               # unmasked; lies in the input or in `body`, valid until either changes
    size_t length
    PyObject *body              # of a message that was put together: owned by whoever takes the event
    uint16_t code               # of a close or a fault
    Fault fault

cdef class FrameParser:         # frames for others: section 5 without a connection
    cdef Limits limits
    cdef uint8_t allowed        # of the first byte, the reserved bits that an extension may set
    cdef bint masked
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
    cdef readonly str version
    cdef bint complete
    # picked out of the headers
    cdef readonly bytes host, origin, key, protocols, sec_version
    cdef int hosts, origins, keys, versions
    cdef bint wants_websocket, connection_upgrade, has_body, bad_length

    cdef HeadState scan(self, const uint8_t *data, size_t n) noexcept
    cdef bint parse(self, bytes head) except -1
    cdef int _pick(self, bytes name, bytes value) except -1
