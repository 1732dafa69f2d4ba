"""See engine/rpc/_front.pyi. Objects above native/front: one for a connection, one for a call.

A call's object is kept by a reference of the connection's from `opened` to `closed`; its pointer is gone after that. The
functions that the C side tells by never raise into it: what goes wrong goes to the loop's exception handler, and the
call is reset.
"""

cimport cython
from cpython.bytes cimport PyBytes_AsString
from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc

import os

cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"

cdef extern from "front/front.h":
    cdef struct front
    cdef struct front_call
    cdef struct front_text:
        const char *data
        size_t size
    cdef struct front_head:
        front_text path, encoding, timeout
        const char *metadata
        size_t metadata_size
    cdef struct front_field:
        front_text name, value
    cdef struct front_ops:
        void *(*opened)(void *owner, front_call *call, const front_head *head) noexcept
        void (*message)(void *user, const uint8_t *data, size_t size, c_bool compressed) noexcept
        void (*oversized)(void *user, size_t size) noexcept
        void (*half_closed)(void *user, c_bool whole) noexcept
        void (*drained)(void *user) noexcept
        void (*closed)(void *user, c_bool whole) noexcept
        void (*released)(void *hold) noexcept
    front *front_new(int fd, const front_ops *ops, void *owner, size_t limit)
    void front_free(front *front)
    int front_read(front *front)
    int front_flush(front *front)
    size_t front_calls(const front *front)
    void front_shut(front *front)
    int front_begin(front_call *call, const front_field *fields, size_t count)
    int front_send(front_call *call, const void *data, size_t size, void *hold)
    int front_finish(front_call *call, int status, front_text message, const front_field *fields, size_t count)
    void front_reset(front_call *call)
    void front_taken(front_call *call)


cdef extern from "front/join.h":
    const char *DOOR_CAPSULE
    const front_ops JOIN_FRONT
    struct door_later:
        void (*run)(door_later *) noexcept
        c_bool waiting
    struct door:
        void *self
        c_bool (*later)(void *, door_later *) noexcept
    struct join_ops:
        void *(*handed)(void *owner, front_call *call, const front_head *head, void *standing, int64_t left_ns) noexcept
        void (*queued)(void *owner) noexcept
        void (*none)(void *owner) noexcept
    struct join:
        door *door
        int timer
        size_t under_way
        uint64_t taken, told, handed, left
    struct join_end:
        door_later later
        join *join
        void *owner
    int join_open(join *, door *, const front_ops *other, const join_ops *ops, void *owner)
    void join_close(join *)
    void join_settle(join_end *)
    void join_shut(join *)
    void join_stop(join *)
    void join_due(join *)


cdef front_ops OPS
cdef join_ops JOIN_OPS


@cython.no_gc_clear  # the front has the address of its join until __dealloc__
cdef class Connection:
    cdef front *_front
    cdef int _fd
    cdef bint _telling, _scheduled, _writing, _over
    cdef object _loop, _make, _on_closed, _socket
    cdef Join _join
    cdef join_end _end
    cdef readonly str peer

    def __init__(self, socket, str peer, size_t limit, loop, make, on_closed, Join join=None):
        self._socket = socket
        self._fd = socket.fileno()
        self.peer = peer
        self._loop = loop
        self._make = make
        self._on_closed = on_closed
        if join is None:
            self._front = front_new(self._fd, &OPS, <void *>self, limit)
        else:
            self._join = join
            self._end.join, self._end.owner, self._end.later.run = &join._join, <void *>self, _at_turns_end
            self._front = front_new(self._fd, &JOIN_FRONT, &self._end, limit)
        if self._front == NULL:
            raise OSError(errno, os.strerror(errno))
        loop.add_reader(self._fd, self._readable)
        self._flush()

    def __dealloc__(self):
        front_free(self._front)

    @property
    def calls(self):
        return 0 if self._front == NULL else front_calls(self._front)

    @property
    def writing(self):
        return self._writing

    def shut(self):
        if self._front != NULL:
            front_shut(self._front)
            self._soon()

    def close(self):
        cdef front *gone = self._front
        if gone == NULL:
            return
        self._flush()
        if self._front == NULL:
            return
        self._front = NULL
        self._loop.remove_reader(self._fd)
        if self._writing:
            self._loop.remove_writer(self._fd)
        self._telling = True
        front_free(gone)
        self._telling = False
        self._socket.close()
        self._on_closed(self)

    def _readable(self):
        if self._front == NULL:
            return
        self._telling = True
        cdef int more = front_read(self._front)
        if self._join is not None and more >= 0:
            join_settle(&self._end)
        self._telling = False
        if more < 0:
            self._lost()
        else:
            self._flush()

    def _flush(self):
        self._scheduled = False
        if self._front == NULL or self._over:
            return
        self._telling = True
        cdef int waits = front_flush(self._front)
        self._telling = False
        if waits < 0:
            self._lost()
        elif waits != self._writing:
            self._writing = waits
            if waits:
                self._loop.add_writer(self._fd, self._flush)
            else:
                self._loop.remove_writer(self._fd)

    cdef void _lost(self):
        """Later, since who asked for it may be a call of this connection."""
        self._over = True
        self._loop.remove_reader(self._fd)
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        self._loop.call_soon(self._gone)

    def _gone(self):
        cdef front *gone = self._front
        if gone == NULL:
            return
        self._front = NULL
        self._telling = True
        front_free(gone)
        self._telling = False
        self._socket.close()
        self._on_closed(self)

    cdef _soon(self):
        """Send what waits: at once where this is the only call, else together with what others have to say."""
        if self._telling or self._scheduled:
            return
        if front_calls(self._front) <= 1:
            self._flush()
        else:
            self._later()

    cdef _later(self):
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    cdef _failed(self, what, error):
        self._loop.call_exception_handler({"message": what, "exception": error})


cdef class Call:
    cdef front_call *_call
    cdef bint _stalled
    cdef Connection _connection
    cdef readonly str path
    cdef readonly bytes encoding, timeout
    cdef bytes _metadata

    @property
    def connection(self):
        return self._connection

    @property
    def open(self):
        return self._call != NULL

    def metadata(self):
        cdef list found = []
        cdef Py_ssize_t at = 0, size
        packed = self._metadata
        while at < len(packed):
            pair = []
            for _ in range(2):
                size = packed[at] << 8 | packed[at + 1]
                pair.append(packed[at + 2:at + 2 + size])
                at += 2 + size
            found.append((pair[0], pair[1]))
        return found

    def begin(self, fields):
        self._here()
        cdef front_field *all = _fields(fields)
        cdef int done = front_begin(self._call, all, len(fields))
        free(all)
        if done < 0:
            raise ValueError("such metadata cannot be sent")
        self._connection._soon()

    def send(self, bytes data):
        self._here()
        Py_INCREF(data)
        cdef const char *start = data
        cdef int more = front_send(self._call, start, len(data), <void *>data)
        if more < 0:
            raise BrokenPipeError("the call is over")
        if more:
            self._stalled = True
            self._connection._soon()
            return bool(self._stalled and self._call != NULL)
        # A message goes with what follows in the same turn of the loop, as its trailers do.
        if not self._connection._telling:
            self._connection._later()
        return False

    def answer(self, bytes data):
        """A whole unary answer: its message and a good status."""
        cdef front_text none
        none.data = NULL
        none.size = 0
        self._here()
        Py_INCREF(data)
        cdef const char *start = data
        if front_send(self._call, start, len(data), <void *>data) < 0:
            raise BrokenPipeError("the call is over")
        front_finish(self._call, 0, none, NULL, 0)
        self._connection._soon()

    def finish(self, int status, bytes message, fields):
        cdef front_text text
        self._here()
        text.data = message
        text.size = len(message)
        cdef front_field *all = _fields(fields)
        cdef int done = front_finish(self._call, status, text, all, len(fields))
        free(all)
        self._connection._soon()
        if done < 0:
            raise ValueError("such metadata cannot be sent")

    def reset(self):
        if self._call != NULL:
            front_reset(self._call)
            self._connection._soon()

    def taken(self):
        if self._call != NULL:
            front_taken(self._call)
            self._connection._soon()

    cdef _here(self):
        if self._call == NULL:
            raise BrokenPipeError("the call is over")


cdef front_field *_fields(fields) except? NULL:
    """Pairs of bytes; to be freed, while the pairs live."""
    cdef Py_ssize_t i
    cdef front_field *all = <front_field *>malloc((len(fields) + 1) * sizeof(front_field))
    if all == NULL:
        raise MemoryError
    try:
        for i in range(len(fields)):
            name, value = fields[i]
            all[i].name.data = PyBytes_AsString(name)
            all[i].name.size = len(name)
            all[i].value.data = PyBytes_AsString(value)
            all[i].value.size = len(value)
    except BaseException:
        free(all)
        raise
    return all


cdef bytes _bytes(front_text text):
    return text.data[:text.size] if text.size else b""


cdef Call _made(Connection connection, front_call *pointer, const front_head *head):
    """None where it could not be, which was said."""
    cdef Call call = None
    try:
        call = connection._make()
        call._connection = connection
        call._call = pointer
        call.path = _bytes(head.path).decode("utf-8", "replace")
        call.encoding = _bytes(head.encoding)
        call.timeout = _bytes(head.timeout)
        call._metadata = head.metadata[:head.metadata_size] if head.metadata_size else b""
    except BaseException as error:
        if call is not None:
            call._call = NULL
        connection._failed("a call could not be taken", error)
        return None
    Py_INCREF(call)
    return call


cdef void *_opened(void *owner, front_call *pointer, const front_head *head) noexcept:
    cdef Connection connection = <Connection>owner
    cdef Call call = _made(connection, pointer, head)
    if call is None:
        return NULL
    try:
        call.on_open()
    except BaseException as error:
        connection._failed("a call could not be opened", error)
        front_reset(pointer)
    return <void *>call


cdef void _message(void *user, const uint8_t *data, size_t size, c_bool compressed) noexcept:
    cdef Call call = <Call>user
    try:
        call.on_message((<const char *>data)[:size] if size else b"", compressed)
    except BaseException as error:
        call._connection._failed("a message could not be taken", error)
        front_reset(call._call)


cdef void _oversized(void *user, size_t size) noexcept:
    cdef Call call = <Call>user
    try:
        call.on_oversized(size)
    except BaseException as error:
        call._connection._failed("a message could not be refused", error)
        front_reset(call._call)


cdef void _half_closed(void *user, c_bool whole) noexcept:
    cdef Call call = <Call>user
    try:
        call.on_half_closed(bool(whole))
    except BaseException as error:
        call._connection._failed("a call could not begin", error)
        front_reset(call._call)


cdef void _drained(void *user) noexcept:
    cdef Call call = <Call>user
    call._stalled = False
    try:
        call.on_drained()
    except BaseException as error:
        call._connection._failed("a call could not go on", error)


cdef void _closed(void *user, c_bool whole) noexcept:
    cdef Call call = <Call>user
    call._call = NULL
    try:
        call.on_closed(bool(whole))
    except BaseException as error:
        call._connection._failed("a call could not be ended", error)
    Py_DECREF(call)


cdef void _released(void *hold) noexcept:
    Py_DECREF(<object>hold)


OPS.opened = _opened
OPS.message = _message
OPS.oversized = _oversized
OPS.half_closed = _half_closed
OPS.drained = _drained
OPS.closed = _closed
OPS.released = _released

include "_join.pxi"
