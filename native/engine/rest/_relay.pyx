"""See engine/rest/_relay.pyi. Both ends of native/relay on an asyncio loop."""

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset, strerror
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"

cdef extern from "sched/door.h":
    const char *DOOR_CAPSULE
    enum:
        LOOP_ID
        LOOP_TAKEN

    struct loop_line:
        pass

    struct loop_call:
        const loop_line *line
        const uint8_t *payload
        size_t payload_size
        char *request_id
        int64_t accepted_ns
        const uint8_t *answer
        size_t answer_size

    struct door_call:
        loop_call loop
        void (*told)(door_call *) noexcept
        void (*handed)(door_call *, void *) noexcept
        void *user
        c_bool under_way

    struct door:
        void *self
        const loop_line *(*line)(void *, const char *, size_t) noexcept
        int (*new_id)(void *, char *) noexcept
        int (*submit)(void *, door_call *) noexcept
        void (*cancel)(void *, door_call *) noexcept

cdef extern from "relay/relay.h":
    enum:
        RELAY_WAITS

    struct relay:
        int fd

    struct relay_far:
        door door
        relay relay
        c_bool gone
        size_t under_way
        void (*wake)(void *) noexcept
        void *standing
        void *arg

    struct relay_near:
        relay relay
        c_bool gone
        size_t under_way
        uint64_t told, left
        void (*wake)(void *) noexcept
        const char *(*function_of)(void *, const char *, size_t, size_t *) noexcept
        void (*handed)(void *, const char *, void *) noexcept
        void (*over)(void *) noexcept
        void *arg

    int relay_flush(relay *)
    size_t relay_waits(const relay *)
    void far_open(relay_far *, int fd, const char *version)
    int far_turn(relay_far *)
    void far_close(relay_far *)
    void near_open(relay_near *, door *, int fd)
    int near_turn(relay_near *)
    void near_abandon(relay_near *)
    void near_leave(relay_near *, c_bool cancel_all)
    void near_close(relay_near *)


cdef class Far:
    cdef relay_far far
    cdef object _loop, _standing, _on_lost
    cdef bytes _version
    cdef bint _woken, _writing

    def __init__(self, int fd, str version not None, standing, on_lost, loop):
        self._loop, self._standing, self._on_lost, self._version = loop, standing, on_lost, version.encode()
        far_open(&self.far, fd, self._version)
        self.far.wake, self.far.arg, self.far.standing = far_wake, <void *>self, <void *>standing
        loop.add_reader(fd, self._turn)

    def __dealloc__(self):
        far_close(&self.far)

    @property
    def under_way(self):
        return self.far.under_way

    def capsule(self):
        return PyCapsule_New(&self.far.door, DOOR_CAPSULE, NULL)

    def close(self):
        if self.far.relay.fd >= 0:
            self._loop.remove_reader(self.far.relay.fd)
            self._loop.remove_writer(self.far.relay.fd)
            self.far.relay.fd, self.far.gone = -1, True

    def _turn(self):
        cdef int turns
        for turns in range(4):  # then others are next
            if self.far.relay.fd < 0:
                return
            more = far_turn(&self.far)
            if more < 0:
                self.close()
                self._on_lost()
            if more <= 0:
                return

    def _flush(self):
        cdef int found
        self._woken = False
        if self.far.relay.fd < 0:
            return
        found = relay_flush(&self.far.relay)
        if (found == 1) != self._writing:
            self._writing = found == 1
            if self._writing:
                self._loop.add_writer(self.far.relay.fd, self._flush)
            else:
                self._loop.remove_writer(self.far.relay.fd)


cdef void far_wake(void *arg) noexcept:
    cdef Far self = <Far>arg
    if self._woken or self._writing:
        return
    self._woken = True
    try:
        self._loop.call_soon(self._flush)
    except BaseException:
        self._woken = False


cdef class Near:
    cdef relay_near near
    cdef object _capsule, _loop, _function_of, _on_lost
    cdef bytes _function
    cdef bint _writing, _paused, _lost
    cdef readonly dict standing

    def __init__(self, capsule, int fd, function_of, on_lost, loop):
        self._capsule, self._loop, self._function_of, self._on_lost = capsule, loop, function_of, on_lost
        self.standing = {}
        near_open(&self.near, <door *>PyCapsule_GetPointer(capsule, DOOR_CAPSULE), fd)
        self.near.wake, self.near.arg = near_wake, <void *>self
        self.near.function_of, self.near.handed, self.near.over = near_function_of, near_handed, near_over
        Py_INCREF(self)  # until it is over
        loop.add_reader(fd, self._turn)

    def __dealloc__(self):
        near_close(&self.near)

    @property
    def under_way(self):
        return self.near.under_way

    @property
    def told(self):
        return self.near.told

    @property
    def left(self):
        return self.near.left

    def forget(self, str request_id not None):
        call = self.standing.pop(request_id, None)
        if call is not None:
            call.future.add_done_callback(unheard)

    def abandon(self):
        if self.near.relay.fd >= 0:
            near_abandon(&self.near)

    def leave(self, bint cancel):
        if self.near.relay.fd >= 0:
            self._loop.remove_reader(self.near.relay.fd)
            self._loop.remove_writer(self.near.relay.fd)
            self.near.relay.fd = -1
            near_leave(&self.near, cancel)
            for call in self.standing.values():
                call.future.add_done_callback(unheard)
                if cancel:
                    call.leave()
            self.standing.clear()

    def _turn(self):
        cdef int turns, more
        for turns in range(4):
            if self.near.relay.fd < 0:
                return
            if relay_waits(&self.near.relay) > RELAY_WAITS:
                self._paused = True
                self._loop.remove_reader(self.near.relay.fd)
                return
            more = near_turn(&self.near)
            if more < 0:
                why = strerror(errno).decode() if errno else ""
                self._lost = True  # nothing more is read of it: it would be kept without bounds
                self._loop.remove_reader(self.near.relay.fd)
                self._on_lost(why)
            if more <= 0:
                return

    def _flush(self):
        cdef int found
        if self.near.relay.fd < 0:
            return
        found = relay_flush(&self.near.relay)
        if (found == 1) != self._writing:
            self._writing = found == 1
            if self._writing:
                self._loop.add_writer(self.near.relay.fd, self._flush)
            else:
                self._loop.remove_writer(self.near.relay.fd)
        if self._paused and not self._writing and not self._lost:
            self._paused = False
            self._loop.add_reader(self.near.relay.fd, self._turn)


cdef void near_wake(void *arg) noexcept:
    cdef Near self = <Near>arg
    if self._writing:
        return
    try:
        self._flush()
    except BaseException as error:
        self._loop.call_exception_handler({"message": "answers could not be sent to a worker", "exception": error})


cdef const char *near_function_of(void *arg, const char *url_id, size_t size, size_t *found) noexcept:
    cdef Near self = <Near>arg
    try:
        self._function = self._function_of(url_id[:size])
        if self._function is None:
            return NULL
        found[0] = len(self._function)
        return self._function
    except BaseException:
        return NULL


cdef void near_over(void *arg) noexcept:
    Py_DECREF(<Near>arg)


def unheard(future):
    """Nobody asks how it ended."""
    if not future.cancelled():
        future.exception()


cdef void near_handed(void *arg, const char *request_id, void *standing) noexcept:
    cdef Near self = <Near>arg
    try:
        if standing != NULL and self.near.gone:
            (<object>standing).future.add_done_callback(unheard)
        elif standing != NULL:
            self.standing[request_id[:LOOP_ID].decode("ascii")] = <object>standing
    except BaseException as error:
        self._loop.call_exception_handler({"message": "a call could not be gone on with", "exception": error})


# --- For tests: a front that makes one call after another -------------------------------------------------------------


cdef class Caller:
    cdef object _capsule, _future
    cdef bytes _payload
    cdef door *_door
    cdef door_call _call

    def __init__(self, capsule):
        self._capsule = capsule
        self._door = <door *>PyCapsule_GetPointer(capsule, DOOR_CAPSULE)

    def submit(self, bytes name not None, bytes payload not None, future):
        cdef timespec now
        if self._call.under_way:
            raise ValueError("one at a time")
        memset(&self._call, 0, sizeof(self._call))
        self._call.told, self._call.handed, self._call.user = caller_told, caller_handed, <void *>self
        self._call.loop.line = self._door.line(self._door.self, name, len(name))
        if self._call.loop.line == NULL or self._door.new_id(self._door.self, self._call.loop.request_id) < 0:
            return None
        clock_gettime(CLOCK_MONOTONIC, &now)
        self._call.loop.accepted_ns = now.tv_sec * <int64_t>1000000000 + now.tv_nsec
        self._payload, self._future = payload, future
        self._call.loop.payload, self._call.loop.payload_size = payload, len(payload)
        request_id = self._call.loop.request_id[:LOOP_ID].decode("ascii")
        Py_INCREF(self)
        if self._door.submit(self._door.self, &self._call) == LOOP_TAKEN:
            return request_id
        Py_DECREF(self)
        return None

    def cancel(self):
        if self._call.under_way:
            self._door.cancel(self._door.self, &self._call)
            Py_DECREF(self)


cdef void caller_told(door_call *call) noexcept:
    cdef Caller self = <Caller>call.user
    if not self._future.done():
        self._future.set_result((<const char *>call.loop.answer)[:call.loop.answer_size])
    Py_DECREF(self)


cdef void caller_handed(door_call *call, void *standing) noexcept:
    cdef Caller self = <Caller>call.user
    if not self._future.done():
        self._future.set_result(None if standing == NULL else <object>standing)
    Py_DECREF(self)
