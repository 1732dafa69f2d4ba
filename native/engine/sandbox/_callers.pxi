# Callers in native code: part of _box.pyx.

cdef extern from "sched/ids.h":
    struct ids:
        pass

    int ids_next(ids *, char *text)


cdef int64_t lane_now() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * <int64_t>1000000000 + now.tv_nsec


cdef class NativeOwner:
    """What goes on with native calls where the lane does not: `call(about)` makes a Call that stands for one, and
    `ended(records)` gets those that the lane has run to their end, in order: (Line.about, request id, when it was
    accepted, begun, begun on the wall's clock, answered, answered on the wall's clock, peak in bytes, CPU time in
    microseconds)."""

    cdef readonly object call
    cdef readonly object ended

    def __init__(self, call, ended):
        self.call, self.ended = call, ended


cdef Call standing_for(Lane lane, loop_call *which):
    """Python's own for a native call."""
    cdef Line line = <Line>which.line.user
    cdef Call call = lane.owner.call(line.about)
    call.call, call.line = which[0], line
    call.call.user = NULL
    call.payload = (<const char *>which.payload)[:which.payload_size]
    call.request_id = which.request_id[:LOOP_ID].decode("ascii")
    return call


cdef class Callers:
    """So many native callers of one function, each of which calls again when it has its answer, until a moment of
    time.monotonic_ns(): what a front in native code is to the loop. Their calls are Python's only where the loop hands
    them over."""

    cdef Lane lane
    cdef Line line
    cdef bytes payload
    cdef int64_t until_ns
    cdef int64_t count_from_ns
    cdef ids ids
    cdef size_t count
    cdef loop_call *calls
    cdef readonly size_t running
    cdef readonly uint64_t answered
    cdef readonly uint64_t wrong
    cdef readonly list refused
    cdef object on_over

    def __cinit__(self, Lane lane not None, Line line not None, bytes payload not None, size_t count, on_over):
        if lane.owner is None:
            raise ValueError("nobody would go on with what the lane hands over")
        self.lane, self.line, self.payload, self.count, self.on_over = lane, line, payload, count, on_over
        self.refused = []
        self.calls = <loop_call *>calloc(count, sizeof(loop_call))
        if self.calls == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.calls)

    def start(self, int64_t count_from_ns, int64_t until_ns):
        """All of them begin. Answers from `count_from_ns` on are counted."""
        cdef size_t number
        if self.running:
            raise ValueError("they run")
        self.count_from_ns, self.until_ns, self.running = count_from_ns, until_ns, self.count
        # Until the last is over, which may be after whoever started them has left.
        Py_INCREF(self)
        for number in range(self.count):
            self.calls[number].line, self.calls[number].user = &self.line.line, <void *>self
            self.calls[number].told = caller_told
            self.calls[number].payload = <const uint8_t *><const char *>self.payload
            self.calls[number].payload_size = len(self.payload)
            self.again(&self.calls[number], lane_now())

    cdef again(self, loop_call *which, int64_t now_ns):
        cdef loop_submitted found = LOOP_ELSEWHERE
        which.accepted_ns = now_ns
        if now_ns < self.until_ns and ids_next(&self.ids, which.request_id) == 0:
            found = loop_submit(&self.lane.loop, which)
            if found == LOOP_TAKEN:
                return
            if found == LOOP_LENT:
                call = standing_for(self.lane, which)
                if call.run():
                    return self.follow(which, call)
            self.refused.append(found)
        self.running -= 1
        if self.running == 0:
            self.on_over()
            Py_DECREF(self)

    cdef follow(self, loop_call *which, Call call):
        """It is Python's; its caller hears of its end."""
        cdef size_t number = which - self.calls
        call.future.add_done_callback(lambda future: self.over(number, future))

    def over(self, size_t number, future):
        """The end of one that was handed over."""
        error = future.exception()
        if error is not None or future.result().payload != self.payload:
            self.wrong += 1
        elif lane_now() >= self.count_from_ns:
            self.answered += 1
        self.again(&self.calls[number], lane_now())


cdef void caller_told(loop_call *which) noexcept:
    cdef Callers callers = <Callers>which.user
    try:
        if which.answer_size != which.payload_size or memcmp(which.answer, which.payload, which.answer_size):
            callers.wrong += 1
        elif which.answered_ns >= callers.count_from_ns:
            callers.answered += 1
        callers.again(which, which.answered_ns)
    except BaseException as error:
        callers.refused.append(error)


cdef void caller_handed(Lane lane, loop_call *which) noexcept:
    cdef Callers callers = <Callers>which.user
    try:
        call = standing_for(lane, which)
        callers.follow(which, call)
        try:
            call.handed()
        except BaseException as error:
            call.failed(error)
    except BaseException as error:
        callers.refused.append(error)


cdef void caller_ended(Lane lane, Seat seat, loop_call *which) noexcept:
    cdef Line line = <Line>which.line.user
    seat.last, seat.native, seat.native_line = None, which[0], line
    lane.records.append((
        line.about, which.request_id[:LOOP_ID].decode("ascii"), which.accepted_ns, which.began_ns,
        which.begun_wall_ns, which.answered_ns, which.ended_wall_ns, which.peak_bytes, which.cpu_us,
    ))
