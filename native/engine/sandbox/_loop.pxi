# Plain calls through a lane, and who makes them: part of _box.pyx.


cdef class Line:
    """What plain calls of one function have in common: the scheduler's target, milliseconds, bytes, an ARN."""

    cdef loop_line line
    cdef bytes arn, version
    cdef readonly object about

    def __init__(self, uint64_t target, uint32_t timeout_ms, uint32_t result_limit_bytes, str arn not None, about,
                 uint32_t memory_mb=0, str version not None=""):
        self.arn = arn.encode()
        if not arn.isascii() or not arn.isprintable() or '"' in arn or "\\" in arn:
            raise ValueError("an ARN that would have to be escaped")
        self.line.target = target
        self.line.timeout_ms = timeout_ms
        self.line.result_limit = result_limit_bytes
        self.line.arn = <const char *>self.arn
        self.version = version.encode()
        self.line.memory_mb, self.line.version = memory_mb, <const char *>self.version
        self.line.user = <void *>self
        self.about = about

    @property
    def target(self):
        return self.line.target


TAKEN, ELSEWHERE, LENT = LOOP_TAKEN, LOOP_ELSEWHERE, LOOP_LENT
RUNS, CHOSEN, STARTS, REFUSED, LEFT = LOOP_RUNS, LOOP_CHOSEN, LOOP_STARTS, LOOP_REFUSED, LOOP_LEFT


cdef class Call:
    """One plain call, made by Lane.submit at most once. A subclass has `answered(body)`, told of its end, and
    `handed()`, told that it is its own to go on with; `failed(error)` gets what those raise. One that stands for a native
    call also has `leave()`: nobody waits for it any longer."""

    cdef loop_call call
    cdef readonly Line line
    cdef public bytes payload
    cdef readonly str request_id

    @property
    def under_way(self):
        """Whether it is the lane's: taken, and neither ended nor handed over."""
        return self.call.user != NULL

    @property
    def stands(self):
        """What it was handed over as: RUNS on its sandbox; CHOSEN, which has nothing of it; STARTS, which is to be
        started for it; REFUSED or LEFT, of which the scheduler knows nothing any longer."""
        return <int>self.call.stands

    @property
    def waits_ns(self):
        """Since when it waited for a sandbox: time.monotonic_ns(); 0 where it did not have to."""
        return self.call.waits_ns

    @property
    def accepted_ns(self):
        return self.call.accepted_ns

    @property
    def started_ns(self):
        """When its event was about to be written: time.monotonic_ns()."""
        return self.call.began_ns

    @property
    def begun_ns(self):
        """The same on the wall's clock."""
        return self.call.begun_wall_ns

    @property
    def answered_ns(self):
        return self.call.answered_ns

    @property
    def peak_bytes(self):
        return self.call.peak_bytes

    @property
    def cpu_us(self):
        return self.call.cpu_us

    @property
    def call_id(self):
        """The scheduler's, as is sandbox_id; both are 0 before it is taken or lent."""
        return self.call.call

    @property
    def sandbox_id(self):
        return self.call.sandbox

    @property
    def sent(self):
        """How many bytes of its frame the sandbox's pipe took."""
        return self.call.sent

    def head(self):
        """Its frame up to the payload."""
        cdef uint8_t head[LOOP_HEAD]
        cdef size_t size = loop_frame(&self.call, head)
        return (<const char *>head)[:size]


cdef void call_answered(loop_call *which) noexcept:
    cdef Call call = <Call>which.user
    which.user = NULL
    Py_DECREF(call)
    call.payload = None
    try:
        call.answered((<const char *>which.answer)[:which.answer_size])
    except BaseException as error:
        call.failed(error)


cdef void call_ended(loop_call *which, void *owner, void *arg) noexcept:
    cdef Seat seat = <Seat>owner
    if which.told != call_answered:
        native_ended(<Lane>arg, seat, which)
        return
    seat.last = <Call>which.user
    seat.native_line = None


cdef void call_handed(loop_call *which, void *owner, void *arg) noexcept:
    cdef Call call
    if which.told != call_answered:
        native_handed(<Lane>arg, which)
        return
    call = <Call>which.user
    which.user = NULL
    Py_DECREF(call)
    try:
        call.handed()
    except BaseException as error:
        call.failed(error)


cdef int seat_usage(void *owner, loop_usage *used) noexcept:
    cdef Seat seat = <Seat>owner
    cdef box_error err
    cdef box_usage usage
    if seat.bare:
        memset(used, 0, sizeof(used[0]))
        return 0
    if (
        seat.leaf is None or seat.scratch is None or not seat.scratch.whole
        or box_leaf_usage(&seat.leaf.owner.host, &seat.leaf.leaf, &usage, &err) < 0
        or box_scratch_used(&seat.scratch.scratch, &used.stored_bytes, &err) < 0
    ):
        return -1
    used.peak_bytes, used.cpu_us = usage.peak_bytes, usage.cpu_us
    return 0
