# The lane of an event loop, and the seats of its sandboxes: part of _box.pyx.


cdef extern from "sched/lane.h":
    ctypedef uint64_t lane_id

    enum lane_what:
        LANE_ANSWER
        LANE_DATA
        LANE_END
        LANE_READY

    struct lane_news:
        lane_what what
        void *owner
        const uint8_t *data
        size_t size
        int64_t at_ns
        bint logged

    struct lane:
        int epoll

    ctypedef void (*lane_tell)(const lane_news *, void *) noexcept
    int lane_open(lane *)
    void lane_close(lane *)
    lane_id lane_add(lane *, int answers, int events, int log, void *owner)
    void lane_remove(lane *, lane_id)
    int lane_watch(lane *, lane_id, bint watch)
    ssize_t lane_call(lane *, lane_id, const void *head, size_t, const void *payload, size_t)
    void lane_leave(lane *, lane_id)
    int lane_turn(lane *, int timeout_ms, lane_tell, void *arg)


cdef class Lane:
    """Readable, as a descriptor, when `turn` has something to do."""

    cdef lane lane

    def __cinit__(self):
        self.lane.epoll = -1
        if lane_open(&self.lane) < 0:
            raise SandboxFault("lane", errno, "cannot make an epoll set", fix="raise the engine's limit of open files")

    def __dealloc__(self):
        lane_close(&self.lane)

    def fileno(self):
        return self.lane.epoll

    def close(self):
        lane_close(&self.lane)

    def turn(self):
        """Take what has come, and tell the seats. What a seat's listener raises is its own fault: it must not."""
        return lane_turn(&self.lane, 0, tell_seat, NULL)


cdef void tell_seat(const lane_news *news, void *arg) noexcept:
    cdef Seat seat = <Seat>news.owner
    try:
        seat.hear(news)
    except BaseException as error:
        seat.failed(error)


@cython.no_gc_clear  # the lane has its address until __dealloc__
cdef class Seat:
    """One sandbox's in a lane. `on_answer(body, at_ns, logged, peak_bytes, cpu_us, tmp_bytes)` is told of a whole answer
    to `call`; peak_bytes is -1 where that has
    to be asked for. `on_data(data)` has what else came instead
    of one, b"" at the end, and None of something to be read while nothing was called."""

    cdef Lane lane
    cdef lane_id id
    cdef Leaf leaf
    cdef Scratch scratch
    cdef object on_answer
    cdef object on_data
    cdef readonly object failed

    def __init__(self, Lane lane not None, int answers, int events, int log, leaf, scratch, on_answer, on_data, failed):
        self.lane = lane
        # Whatever stands in for one in a test or a bench is asked in Python.
        self.leaf = leaf if isinstance(leaf, Leaf) else None
        self.scratch = scratch if isinstance(scratch, Scratch) else None
        self.on_answer = on_answer
        self.on_data = on_data
        self.failed = failed
        self.id = lane_add(&lane.lane, answers, events, log, <void *>self)
        if self.id == 0:
            raise MemoryError

    def __dealloc__(self):
        if self.lane is not None:
            lane_remove(&self.lane.lane, self.id)

    def close(self):
        lane_remove(&self.lane.lane, self.id)
        # They lead back to the sandbox.
        self.on_answer = self.on_data = self.failed = None

    def watch(self, bint watch):
        if lane_watch(&self.lane.lane, self.id, watch) < 0 and watch:
            raise SandboxFault("lane", errno, "cannot wait for what a sandbox sends")

    def call(self, bytes head not None, bytes payload not None):
        """How many bytes of it the pipe took; -1 where nobody reads."""
        cdef ssize_t sent = lane_call(
            &self.lane.lane, self.id, <const char *>head, len(head), <const char *>payload, len(payload)
        )
        if sent < 0:
            return 0 if errno == EAGAIN else -1
        return sent

    def leave(self):
        lane_leave(&self.lane.lane, self.id)

    cdef hear(self, const lane_news *news):
        cdef box_error err
        cdef box_usage usage
        cdef uint64_t stored
        if news.what == LANE_READY:
            self.on_data(None)
        elif news.what == LANE_END:
            self.on_data(b"")
        elif news.what == LANE_DATA:
            self.on_data((<const char *>news.data)[:news.size])
        elif (
            self.leaf is None or self.scratch is None or not self.scratch.whole
            or box_leaf_usage(&self.leaf.owner.host, &self.leaf.leaf, &usage, &err) < 0
            or box_scratch_used(&self.scratch.scratch, &stored, &err) < 0
        ):
            self.on_answer((<const char *>news.data)[:news.size], news.at_ns, news.logged, -1, 0, 0)
        else:
            self.on_answer((<const char *>news.data)[:news.size], news.at_ns, news.logged, usage.peak_bytes,
                           usage.cpu_us, stored)
