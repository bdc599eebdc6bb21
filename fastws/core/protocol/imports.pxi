# What the protocol half uses of C, CPython and the library.

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.stdlib cimport getenv
from libc.string cimport memcpy, memmove, memset

from binascii import a2b_base64, b2a_base64
from hashlib import sha1

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from fastws.frames import Frame, ProtocolError
from fastws.http import host_allowed, is_host, origin_allowed, split_target, target_host


cdef extern from *:
    """
    /* Until 3.12 a str that was made by a deprecated function has its characters elsewhere at first. */
    #if PY_VERSION_HEX < 0x030C0000
    #define text_ready(text) PyUnicode_READY(text)
    #else
    #define text_ready(text) 0
    #endif
    """
    int text_ready(object) except -1

cdef extern from "Python.h":
    void Py_CLEAR(PyObject *)
    bytes PyBytes_FromStringAndSize(const char *, Py_ssize_t)
    PyObject *PyBytes_New "PyBytes_FromStringAndSize" (const char *, Py_ssize_t) except NULL
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    bint PyUnicode_IS_COMPACT_ASCII(object)
    str PyUnicode_New(Py_ssize_t, Py_UCS4)
    str PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)


cdef extern from "zlib.h" nogil:
    enum:
        Z_OK, Z_STREAM_END, Z_BUF_ERROR, Z_MEM_ERROR, Z_SYNC_FLUSH, Z_BLOCK, Z_DEFLATED, Z_DEFAULT_STRATEGY
    int deflateInit2(z_stream *, int level, int method, int window_bits, int mem_level, int strategy)
    int deflateReset(z_stream *)
    int deflateSetDictionary(z_stream *, const uint8_t *, unsigned int)
    int deflate(z_stream *, int flush)
    int deflateEnd(z_stream *)
    int inflateInit2(z_stream *, int window_bits)
    int inflateReset(z_stream *)
    int inflateResetKeep(z_stream *)
    int inflate(z_stream *, int flush)
    int inflateEnd(z_stream *)
