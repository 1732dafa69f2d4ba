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


cdef extern from "sched/sched.h":
    struct sched
    struct sched_counts_t "sched_counts":
        uint32_t concurrency

    bint sched_pending(const sched *)
    int64_t sched_due(const sched *)
    void sched_counts(const sched *, sched_counts_t *)


cdef extern from "sched/loop.h":
    enum:
        LOOP_ID
        LOOP_HEAD
        LOOP_EVENT_MOST

    struct loop_line:
        uint64_t target
        uint32_t timeout_ms
        uint32_t result_limit
        const char *arn
        uint32_t memory_mb
        const char *version
        void *user

    enum loop_stands:
        LOOP_NOWHERE
        LOOP_WAITS
        LOOP_RUNS
        LOOP_CHOSEN
        LOOP_STARTS
        LOOP_REFUSED
        LOOP_LEFT

    struct loop_call:
        const loop_line *line
        void (*told)(loop_call *) noexcept
        void *user
        const uint8_t *payload
        size_t payload_size
        char request_id[36]
        int64_t accepted_ns
        loop_stands stands
        int64_t waits_ns
        int64_t begun_wall_ns
        int64_t began_ns
        uint64_t call
        uint64_t sandbox
        lane_id seat
        size_t sent
        const uint8_t *answer
        size_t answer_size
        int64_t answered_ns
        int64_t ended_wall_ns
        uint64_t peak_bytes
        uint64_t cpu_us

    enum loop_submitted:
        LOOP_TAKEN
        LOOP_ELSEWHERE
        LOOP_LENT

    struct loop_usage:
        uint64_t peak_bytes
        uint64_t cpu_us
        uint64_t stored_bytes

    struct loop_owner:
        int (*usage)(void *, loop_usage *) noexcept
        void (*ended)(loop_call *, void *, void *) noexcept
        void (*hand)(loop_call *, void *, void *) noexcept
        void (*stirred)(void *) noexcept
        lane_tell other
        void *arg

    struct loop_rest_t "loop_rest":
        uint64_t peak_bytes
        uint64_t shown_bytes
        uint64_t cpu_us
        uint64_t stored_bytes

    struct loop:
        int timer
        sched *sched
        uint32_t running
        uint32_t waiting
        uint64_t taken
        uint64_t told
        uint64_t handed

    int loop_open(loop *, lane *, const loop_owner *)
    void loop_close(loop *)
    int loop_offer(loop *, lane_id, const loop_rest_t *)
    bint loop_take(loop *, lane_id)
    bint loop_rest(const loop *, lane_id, loop_rest_t *)
    size_t loop_frame(const loop_call *, uint8_t *head)
    loop_submitted loop_submit(loop *, loop_call *)
    void loop_cancel(loop *, loop_call *)
    void loop_act(loop *)
    int loop_turn(loop *, int timeout_ms)


cdef class Lane:
    """Readable, as a descriptor, when `turn` has something to do."""

    cdef lane lane
    cdef loop loop
    cdef object core
    cdef object on_given_back
    cdef list records  # of native calls that have ended
    cdef readonly NativeOwner owner  # who goes on with them
    cdef public bint timed  # who the lane decides for has a timer set for what is due
    cdef public bint ending  # he is to hear of the end of the last call
    cdef bint turning
    cdef door_later *later  # what native callers do at the end of a turn

    def __cinit__(self):
        cdef loop_owner owner
        owner.usage, owner.ended, owner.hand, owner.other = seat_usage, call_ended, call_handed, tell_seat
        owner.stirred, owner.arg = lane_stirred, <void *>self
        self.lane.epoll = self.loop.timer = -1
        self.records = []
        if lane_open(&self.lane) < 0 or loop_open(&self.loop, &self.lane, &owner) < 0:
            raise SandboxFault("lane", errno, "cannot make an epoll set", fix="raise the engine's limit of open files")

    def __dealloc__(self):
        loop_close(&self.loop)
        lane_close(&self.lane)

    def fileno(self):
        return self.lane.epoll

    def join(self, core, on_given_back):
        """Take plain calls as this scheduler decides. `on_given_back()` is told when what came of them leaves it with
        something to be done, with something due while it is not `timed`, or with no call at all while it is `ending`."""
        self.loop.sched = <sched *>PyCapsule_GetPointer(core.capsule(), "sched")
        self.core, self.on_given_back = core, on_given_back

    def close(self):
        """Sandboxes are closed before."""
        loop_close(&self.loop)
        lane_close(&self.lane)
        self.core = self.on_given_back = self.owner = None

    def turn(self):
        """Take what has come, and tell the seats. What a seat's listener raises is its own fault: it must not."""
        cdef uint64_t told = self.loop.told
        cdef door_later *later
        self.turning = True
        cdef int turned = loop_turn(&self.loop, 0)
        while self.later != NULL:
            later, self.later = self.later, self.later.next
            later.waiting = False
            later.run(later)
        self.turning = False
        if self.loop.told != told:
            lane_stirred(<void *>self)
        if self.records:
            records, self.records = self.records, []
            self.owner.ended(records)
        return turned

    def submit(self, Call call not None, Line line not None, bytes payload not None, str request_id not None,
               int64_t accepted_ns):
        """Run it as soon as there is a sandbox that has not to be started for it: TAKEN; ELSEWHERE where nothing has
        changed; LENT where the scheduler has given it a sandbox in which its caller is to run it. The payload is JSON
        in ASCII, the id a UUID."""
        cdef Py_ssize_t size
        cdef const char *text = PyUnicode_AsUTF8AndSize(request_id, &size)
        if size != LOOP_ID or call.line is not None:
            raise ValueError("not a UUID, or not a new call")
        call.line, call.payload, call.request_id = line, payload, request_id
        memcpy(call.call.request_id, text, LOOP_ID)
        call.call.line, call.call.told, call.call.user = &line.line, call_answered, <void *>call
        call.call.payload, call.call.payload_size = <const uint8_t *><const char *>payload, len(payload)
        call.call.accepted_ns = accepted_ns
        Py_INCREF(call)
        cdef loop_submitted found = loop_submit(&self.loop, &call.call)
        if found != LOOP_TAKEN:
            call.call.user = NULL
            Py_DECREF(call)
        return found

    cdef complain(self, error):
        """What had to go on failed."""
        PyErr_SetObject(type(error), error)
        PyErr_WriteUnraisable(self)

    def cancel(self, Call call not None):
        """It is handed over, if it is under way."""
        if call.call.user != NULL:
            loop_cancel(&self.loop, &call.call)

    def act(self):
        """Let those that wait go on as the scheduler has decided: after each input that it got from others."""
        loop_act(&self.loop)

    @property
    def waiting(self):
        """How many plain calls wait."""
        return self.loop.waiting

    @property
    def counts(self):
        """How many plain calls were taken, ended, and were handed over."""
        return self.loop.taken, self.loop.told, self.loop.handed

    cdef bint restless(self):
        cdef sched_counts_t counts
        if sched_pending(self.loop.sched) or (not self.timed and sched_due(self.loop.sched) >= 0):
            return True
        sched_counts(self.loop.sched, &counts)
        return self.ending and counts.concurrency == 0


cdef void lane_stirred(void *arg) noexcept:
    cdef Lane lane = <Lane>arg
    if lane.loop.sched != NULL and lane.on_given_back is not None and lane.restless():
        lane.on_given_back()


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

    cdef readonly Lane lane
    cdef readonly lane_id id
    cdef Leaf leaf
    cdef Scratch scratch
    cdef object on_answer
    cdef object on_data
    cdef readonly object failed
    cdef Call last
    cdef loop_call native  # the latest that ended here, where `native_line` is what it was of
    cdef Line native_line
    cdef bint bare  # there is nothing to ask for what is used

    def __init__(self, Lane lane not None, int answers, int events, int log, leaf, scratch, on_answer, on_data, failed):
        self.lane = lane
        # Whatever stands in for one in a test or a bench is asked in Python.
        self.leaf = leaf if isinstance(leaf, Leaf) else None
        self.scratch = scratch if isinstance(scratch, Scratch) else None
        self.bare = leaf is None and scratch is None
        self.on_answer = on_answer
        self.on_data = on_data
        self.failed = failed
        self.id = lane_add(&lane.lane, answers, events, log, <void *>self)
        if self.id == 0:
            raise MemoryError

    def __dealloc__(self):
        if self.lane is not None:
            lane_remove(&self.lane.lane, self.id)

    def offer(self, uint64_t peak_bytes, uint64_t shown_bytes, uint64_t cpu_us, uint64_t stored_bytes):
        """Its sandbox is at rest: plain calls may have it. What it has used, as the kernel counts the peak, and as a
        report shows it."""
        cdef loop_rest_t rest
        rest.peak_bytes, rest.shown_bytes, rest.cpu_us, rest.stored_bytes = (
            peak_bytes, shown_bytes, cpu_us, stored_bytes
        )
        if loop_offer(&self.lane.loop, self.id, &rest) < 0 and errno == ENOMEM:
            raise MemoryError

    def take(self):
        """Plain calls have it no longer; the one that is under way is handed over. Whether they had."""
        return loop_take(&self.lane.loop, self.id)

    @property
    def rest(self):
        """CPU time and bytes in /tmp that the latest plain call left it at; None where it never had one."""
        cdef loop_rest_t rest
        return (rest.cpu_us, rest.stored_bytes) if loop_rest(&self.lane.loop, self.id, &rest) else None

    def last_call(self):
        """The plain call that ended here last, once: for who hears of it later."""
        last, self.last = self.last, None
        line, self.native_line = self.native_line, None
        if line is None or self.lane.owner is None:
            return last
        self.native.payload_size = 0  # it is gone
        last = standing_for(self.lane, &self.native)
        last.over = True
        return last

    def close(self):
        loop_take(&self.lane.loop, self.id)
        self.last = self.native_line = None
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
