# What the connection uses of C, CPython and the library beside what the two halves use.

from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.number cimport PyNumber_Index
from cpython.ref cimport Py_DECREF
from cpython.unicode cimport PyUnicode_FromObject

from asyncio import CancelledError, Future
from collections.abc import Coroutine
from functools import partial
from inspect import isawaitable
from types import ModuleType

from fastws.causes import CLOSED, REFUSED
from fastws.constants import ReadyState, SendStatus
from fastws.http import Accept, Request, Response, awaited, error_response


cdef extern from "Python.h":
    bint PyCoro_CheckExact(object)
    bint PyIndex_Check(object)
    bint PyObject_CheckBuffer(object)
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1
    enum:
        PY_VECTORCALL_ARGUMENTS_OFFSET
    PyObject *PyObject_Vectorcall(object, PyObject **, size_t, PyObject *)
    Py_ssize_t refcount "Py_REFCNT" (PyObject *)
