# Memory that Python objects may look into: the shared receive buffer, and windows on it for binary="view".

cdef class Buffer:
    def __cinit__(self, size_t size):
        self.data = <uint8_t *>PyMem_Malloc(size)
        if self.data == NULL:
            raise MemoryError
        self.size = size

    def __dealloc__(self):
        PyMem_Free(self.data)


@cython.final
cdef class Window:
    """Exports a stretch of a Buffer, read-only, until window_end(). Whatever exports it by then keeps the whole Buffer,
    which its owner, who counts exports, does not overwrite: freed or reused memory is never read."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.ended or self.buffer is None:
            raise BufferError("the view has ended: it is valid until its callback returns; take bytes(view) before")
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)
        self.exports += 1
        self.buffer.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1
        self.buffer.exports -= 1
        if self.ended and not self.exports:
            self.buffer = None


cdef Window window_on(Buffer buffer, uint8_t *data, size_t n):
    """Of n bytes that lie in the buffer, which counts it as an export: its view may be released before it ends."""
    cdef Window window = Window.__new__(Window)
    buffer.exports += 1
    window.buffer = buffer
    window.data = data
    window.size = <Py_ssize_t>n
    return window


cdef int window_end(Window window, view) except -1:
    """Ends the memoryview and the window, which the application may have kept (memoryview.obj): the next input may lie
    in the same place. What exports it already goes on."""
    window.ended = True
    window.buffer.exports -= 1
    try:
        view.release()
    except BufferError:
        pass
    if not window.exports:
        window.buffer = None
    return 0
