# Memory that Python objects may look into: the shared receive buffer, and windows on it for binary="view".

cdef class Buffer:
    def __cinit__(self, size_t size):
        self.data = <uint8_t *>PyMem_Malloc(size)
        if self.data == NULL:
            raise MemoryError
        self.size = size

    def __dealloc__(self):
        PyMem_Free(self.data)


def keep_freed_memory():
    """Has the C library keep some freed memory for large blocks to come; for a program that is nothing but a server.
    Does nothing, and returns False, where the environment says how to allocate."""
    if getenv("MALLOC_TRIM_THRESHOLD_") or getenv("MALLOC_MMAP_THRESHOLD_") or getenv("GLIBC_TUNABLES"):
        return False
    memory_keep()
    return True


@cython.final
cdef class Window:
    """Exports a stretch of a Buffer, read-only. Whatever still exports it keeps the whole Buffer alive, and the
    reactor, which counts exports, then takes a fresh one: freed or reused memory is never read."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.buffer is None:
            raise BufferError("a window on nothing: it was not made by buffer_view()")
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)
        self.buffer.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.buffer.exports -= 1


cdef object buffer_view(Buffer buffer, uint8_t *data, size_t n):
    """A read-only memoryview of n bytes that lie in the buffer."""
    cdef Window window = Window.__new__(Window)
    window.buffer = buffer
    window.data = data
    window.size = <Py_ssize_t>n
    return PyMemoryView_FromObject(window)
