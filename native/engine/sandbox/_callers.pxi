# Callers in native code, for tests and the bench: part of _box.pyx.


cdef int64_t lane_now() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * <int64_t>1000000000 + now.tv_nsec


cdef class Callers:
    """So many native callers of one function, each of which calls again when it has its answer, until a moment of
    time.monotonic_ns(): what a front in native code is to the loop. Their calls are Python's only where the loop hands
    them over."""

    cdef Door door
    cdef Line line
    cdef bytes payload
    cdef int64_t until_ns
    cdef int64_t count_from_ns
    cdef size_t count
    cdef door_call *calls
    cdef readonly size_t running
    cdef readonly uint64_t answered
    cdef readonly uint64_t wrong
    cdef readonly list refused
    cdef object on_over

    def __cinit__(self, Door door not None, Line line not None, bytes payload not None, size_t count, on_over):
        self.door, self.line, self.payload, self.count, self.on_over = door, line, payload, count, on_over
        self.refused = []
        self.calls = <door_call *>calloc(count, sizeof(door_call))
        if self.calls == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.calls)

    def start(self, int64_t count_from_ns, int64_t until_ns):
        """All of them begin. Answers from `count_from_ns` on are counted."""
        cdef size_t number
        cdef door_call *which
        if self.running:
            raise ValueError("they run")
        self.count_from_ns, self.until_ns, self.running = count_from_ns, until_ns, self.count
        # Until the last is over, which may be after whoever started them has left.
        Py_INCREF(self)
        for number in range(self.count):
            which = &self.calls[number]
            which.told, which.handed, which.user = caller_told, caller_handed, <void *>self
            which.loop.line = &self.line.line
            which.loop.payload = <const uint8_t *><const char *>self.payload
            which.loop.payload_size = len(self.payload)
            self.again(which, lane_now())

    def cancel(self):
        """All that are under way leave; none calls again."""
        cdef size_t number
        self.until_ns = 0
        for number in range(self.count):
            if self.calls[number].under_way:
                self.door.door.cancel(<void *>self.door, &self.calls[number])
                self.again(&self.calls[number], lane_now())

    cdef again(self, door_call *which, int64_t now_ns):
        which.loop.accepted_ns = now_ns
        if now_ns < self.until_ns and door_new_id(<void *>self.door, which.loop.request_id) == 0:
            if door_submit(<void *>self.door, which) == LOOP_TAKEN:
                return
            self.refused.append(LOOP_ELSEWHERE)
        self.running -= 1
        if self.running == 0:
            self.on_over()
            Py_DECREF(self)

    def over(self, size_t number, future):
        """The end of one that was handed over."""
        error = future.exception()
        if error is not None or future.result().payload != self.payload:
            self.wrong += 1
        elif lane_now() >= self.count_from_ns:
            self.answered += 1
        self.again(&self.calls[number], lane_now())


cdef void caller_told(door_call *which) noexcept:
    cdef Callers callers = <Callers>which.user
    try:
        if (
            which.loop.answer_size != which.loop.payload_size
            or memcmp(which.loop.answer, which.loop.payload, which.loop.answer_size)
        ):
            callers.wrong += 1
        elif which.loop.answered_ns >= callers.count_from_ns:
            callers.answered += 1
        callers.again(which, which.loop.answered_ns)
    except BaseException as error:
        callers.refused.append(error)


cdef void caller_handed(door_call *which, void *standing) noexcept:
    cdef Callers callers = <Callers>which.user
    cdef size_t number = which - callers.calls
    try:
        (<object>standing).future.add_done_callback(lambda future: callers.over(number, future))
    except BaseException as error:
        callers.refused.append(error)
