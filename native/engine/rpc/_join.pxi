# Plain calls that go to the dispatch loop and back in C (native/front/join.h): part of _front.pyx.

cdef extern from "front/invoke.h":
    cdef struct invoke_text:
        const uint8_t *data
        size_t size
    cdef struct invoke_request:
        invoke_text function, payload, id
    cdef struct invoke_report:
        invoke_text id, version
        uint64_t queue_us, handler_us, total_us, peak_bytes, cpu_us, memory_mb
    c_bool invoke_read(const uint8_t *, size_t, invoke_request *)
    size_t invoke_room(size_t, const invoke_report *)
    size_t invoke_write(uint8_t *, const uint8_t *, size_t, const invoke_report *)


cdef class Join:
    """Readable, as a descriptor, when `due` has something to do."""

    cdef join _join
    cdef object _capsule, _on_none

    def __cinit__(self, capsule, on_none):
        self._join.timer = -1
        cdef door *found = <door *>PyCapsule_GetPointer(capsule, DOOR_CAPSULE)
        if join_open(&self._join, found, &OPS, &JOIN_OPS, <void *>self) < 0:
            raise OSError(errno, os.strerror(errno))
        self._capsule, self._on_none = capsule, on_none

    def __dealloc__(self):
        join_close(&self._join)

    def fileno(self):
        return self._join.timer

    def due(self):
        join_due(&self._join)

    def shut(self):
        join_shut(&self._join)

    def stop(self):
        join_stop(&self._join)

    def close(self):
        join_shut(&self._join)
        join_close(&self._join)
        self._on_none = None

    @property
    def under_way(self):
        return self._join.under_way

    @property
    def counts(self):
        return self._join.taken, self._join.told, self._join.handed, self._join.left


cdef void *_handed(void *owner, front_call *pointer, const front_head *head, void *standing, int64_t left_ns) noexcept:
    cdef Connection connection = <Connection>owner
    cdef Call call = _made(connection, pointer, head)
    if call is None:
        return NULL
    try:
        call.on_handed(<object>standing, None if left_ns == INT64_MAX else left_ns / 1e9)
    except BaseException as error:
        connection._failed("a call could not go on", error)
        front_reset(pointer)
    return <void *>call


cdef void _queued(void *owner) noexcept:
    cdef Connection connection = <Connection>owner
    cdef door *door = connection._join._join.door
    if connection._front == NULL or connection._end.later.waiting:
        return
    if door.later(door.self, &connection._end.later):
        Py_INCREF(connection)
        return
    try:
        connection._later()
    except BaseException as error:
        connection._failed("an answer could not be sent", error)


cdef void _at_turns_end(door_later *later) noexcept:
    cdef Connection connection = <Connection>(<join_end *>later).owner
    try:
        connection._flush()
    except BaseException as error:
        connection._failed("an answer could not be sent", error)
    Py_DECREF(connection)


cdef void _none(void *owner) noexcept:
    cdef Join self = <Join>owner
    try:
        if self._on_none is not None:
            self._on_none()
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        PyErr_WriteUnraisable(self)


JOIN_OPS.handed = _handed
JOIN_OPS.queued = _queued
JOIN_OPS.none = _none


def plain_request(bytes message not None):
    """The function, the event and the request id of a request that goes natively; None of any other."""
    cdef invoke_request request
    if not invoke_read(<const uint8_t *><const char *>message, len(message), &request):
        return None
    return _slice(request.function), _slice(request.payload), _slice(request.id)


def plain_response(bytes answer not None, bytes request_id not None, bytes version not None, uint64_t queue_us,
                   uint64_t handler_us, uint64_t total_us, uint64_t peak_bytes, uint64_t cpu_us, uint64_t memory_mb):
    """A response as native calls get it."""
    cdef invoke_report report
    report.id.data, report.id.size = <const uint8_t *><const char *>request_id, len(request_id)
    report.version.data, report.version.size = <const uint8_t *><const char *>version, len(version)
    report.queue_us, report.handler_us, report.total_us, report.peak_bytes = queue_us, handler_us, total_us, peak_bytes
    report.cpu_us, report.memory_mb = cpu_us, memory_mb
    cdef size_t room = invoke_room(len(answer), &report)
    cdef uint8_t *message = <uint8_t *>malloc(room)
    if message == NULL:
        raise MemoryError
    cdef size_t size = invoke_write(message, <const uint8_t *><const char *>answer, len(answer), &report)
    try:
        return (<const char *>message)[:size]
    finally:
        free(message)


cdef bytes _slice(invoke_text text):
    return (<const char *>text.data)[:text.size] if text.size else b""
