# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The protocol half with libFuzzer's instruments in it, and libFuzzer.

The readers here give the core each read in a block of memory of exactly its size, so that the sanitizer sees every byte
that is read too much.
"""

include "_protocol.pyx"

import os
import sys
import traceback

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport abort, free, malloc


cdef extern from "guided.h":
    enum: MARKS
    uint8_t marks[MARKS]
    int LLVMFuzzerRunDriver(int *, char ***, int (*)(const uint8_t *, size_t) noexcept)


cdef class Exact:
    """Bytes in a block of their size; nothing may write to them but the core."""

    cdef uint8_t *data
    cdef size_t size

    def __cinit__(self, bytes data):
        self.size = len(data)
        self.data = <uint8_t *>malloc(self.size)
        if self.data == NULL:
            raise MemoryError
        memcpy(self.data, <const char *>data, self.size)

    def __dealloc__(self):
        free(self.data)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, <Py_ssize_t>self.size, True, flags)


cdef class ExactReader(Reader):
    def feed(self, data):
        cdef Event event
        cdef Exact block = Exact(bytes(self.rest) + data)
        cdef uint8_t *cursor = block.data
        cdef uint8_t *end = block.data + block.size
        events = []
        while not self.over and inbox_next(&self.inbox, &self.limits, &cursor, end, &event) != EVENT_NONE:
            events.append(self._event(&event))
        self.rest = bytearray((<const char *>cursor)[: end - cursor])
        return events


cdef class ExactHead(RequestHead):
    def scan(self, bytes data):
        cdef Exact block
        self.data += data
        block = Exact(bytes(self.data))
        return HEAD_STATES[self.handshake.scan(block.data, block.size)]


# Looked up once: asking a virtual processor what it can do takes longer than most inputs.
SUPPORTED = [i for i in range(SIMD_VARIANTS) if simd_supported(simd_variants[i])]


def use_variant(size_t number):
    """Makes the core use other SIMD kernels, of those that this processor has."""
    global simd
    simd = simd_variants[<size_t>SUPPORTED[number % <size_t>len(SUPPORTED)]][0]


def mark(unsigned int number):
    """Tells libFuzzer that the input has done this."""
    number %= MARKS
    if marks[number] < 255:
        marks[number] += 1


cdef object TARGET = None


cdef int _one(const uint8_t *data, size_t size) noexcept:
    try:
        TARGET((<const char *>data)[:size])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        abort()                         # libFuzzer keeps the input
    return 0


def run(target, list arguments):
    """Gives the target one input after the other until libFuzzer ends the process."""
    global TARGET
    TARGET = target
    encoded = [os.fsencode(argument) for argument in arguments]
    cdef int argc = <int>len(encoded)
    cdef char **argv = <char **>malloc((<size_t>argc + 1) * sizeof(char *))
    cdef int i
    for i in range(argc):
        argv[i] = encoded[i]
    argv[argc] = NULL
    return LLVMFuzzerRunDriver(&argc, &argv, _one)
