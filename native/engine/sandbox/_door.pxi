# The door for native fronts (native/sched/door.h): part of _box.pyx.

cdef extern from "sched/ids.h":
    struct ids:
        pass

    int ids_next(ids *, char *text)
    bint ids_is(const char *text)


cdef extern from "sched/json.h":
    bint json_plain(const uint8_t *, size_t)


cdef extern from "sched/door.h":
    const char *DOOR_CAPSULE

    struct door_call:
        loop_call loop
        void (*told)(door_call *) noexcept
        void (*handed)(door_call *, void *) noexcept
        void *user
        bint under_way
        bint left

    struct door_later:
        door_later *next
        void (*run)(door_later *) noexcept
        bint waiting

    struct door:
        void *self
        const loop_line *(*line)(void *, const char *, size_t) noexcept
        int (*new_id)(void *, char *) noexcept
        loop_submitted (*submit)(void *, door_call *) noexcept
        void (*cancel)(void *, door_call *) noexcept
        bint (*later)(void *, door_later *) noexcept


cdef class NativeOwner:
    """What goes on with native calls where the lane does not. `call(about)` makes a Call that stands for one;
    `handed(call)` is told of one that goes on as that; `ended(records)` gets those that the lane has run to their end,
    in order: (Line.about, request id, when it was accepted, begun, begun on the wall's clock, answered, answered on the
    wall's clock, peak in bytes, CPU time in microseconds, when it began to wait or 0, bytes of the event, bytes of the
    answer); `left(about, request id, when it was accepted, when it began to wait)` is told of one that waited and whose
    caller left, where that is given."""

    cdef readonly object call
    cdef readonly object handed
    cdef readonly object ended
    cdef readonly object left

    def __init__(self, call, handed, ended, left=None):
        self.call, self.handed, self.ended, self.left = call, handed, ended, left


cdef class Door:
    """Where native fronts submit plain calls. Functions are found by the names that they were opened under."""

    cdef door door
    cdef ids ids
    cdef dict lines
    cdef Lane lane
    cdef readonly NativeOwner owner
    cdef readonly size_t event_limit

    def __init__(self, NativeOwner owner not None, size_t event_limit_bytes):
        self.lines = {}
        self.owner, self.event_limit = owner, min(event_limit_bytes, LOOP_EVENT_MOST)
        self.door.self = <void *>self
        self.door.line, self.door.new_id, self.door.submit = door_line, door_new_id, door_submit
        self.door.cancel, self.door.later = door_cancel, door_later_do

    def open(self, str name not None, Lane lane not None, Line line not None):
        """Calls of this function may come."""
        lane.owner = self.owner
        self.lane = lane
        self.lines[name.encode()] = line

    def drop(self, str name not None):
        """None may any longer; those that are under way go on."""
        self.lines.pop(name.encode(), None)

    def __contains__(self, str name not None):
        return name.encode() in self.lines

    def capsule(self):
        """The door itself; it keeps this alive."""
        Py_INCREF(self)
        return PyCapsule_New(&self.door, DOOR_CAPSULE, door_let_go)


def plain_json(const uint8_t[::1] text not None):
    """Whether an event is one that the door lets through: JSON in ASCII, not too deep."""
    return len(text) > 0 and json_plain(&text[0], len(text))


cdef void door_let_go(object capsule) noexcept:
    cdef door *gone = <door *>PyCapsule_GetPointer(capsule, DOOR_CAPSULE)
    Py_DECREF(<Door>gone.self)


cdef const loop_line *door_line(void *this, const char *name, size_t size) noexcept:
    try:
        found = (<Door>this).lines.get(name[:size])
        return NULL if found is None else &(<Line>found).line
    except BaseException:
        return NULL


cdef int door_new_id(void *this, char *text) noexcept:
    return ids_next(&(<Door>this).ids, text)


cdef loop_submitted door_submit(void *this, door_call *which) noexcept:
    cdef Door self = <Door>this
    cdef Lane lane = self.lane
    cdef loop_submitted found = LOOP_ELSEWHERE
    if (
        lane is None or which.loop.payload_size > self.event_limit
        or not ids_is(which.loop.request_id) or not json_plain(which.loop.payload, which.loop.payload_size)
    ):
        return found
    cdef Line line = <Line>which.loop.line.user
    which.loop.told, which.loop.user = door_told, <void *>lane
    which.left, which.under_way = False, True
    Py_INCREF(line)
    found = loop_submit(&lane.loop, &which.loop)
    if found != LOOP_TAKEN:
        which.under_way = False
        Py_DECREF(line)
    try:
        if found == LOOP_LENT:
            found = lent(lane, which)
    except BaseException as error:
        lane.complain(error)
    return found


cdef loop_submitted lent(Lane lane, door_call *which):
    """The lane has lent it a sandbox."""
    cdef Call call = standing_for(lane, &which.loop)
    try:
        if not call.run():
            return LOOP_ELSEWHERE
    except BaseException as error:
        call.failed(error)
    lane.owner.handed(call)
    which.handed(which, <void *>call)
    return LOOP_TAKEN


cdef void door_cancel(void *this, door_call *which) noexcept:
    which.left = True
    loop_cancel(&(<Lane>which.loop.user).loop, &which.loop)


cdef bint door_later_do(void *this, door_later *later) noexcept:
    cdef Lane lane = (<Door>this).lane
    if lane is None or not lane.turning:
        return False
    if not later.waiting:
        later.waiting, later.next = True, lane.later
        lane.later = later
    return True


cdef Call standing_for(Lane lane, loop_call *which):
    """Python's own for a native call."""
    cdef Line line = <Line>which.line.user
    cdef Call call = lane.owner.call(line.about)
    call.call, call.line = which[0], line
    call.call.user = NULL
    call.payload = (<const char *>which.payload)[:which.payload_size]
    call.request_id = which.request_id[:LOOP_ID].decode("ascii")
    return call


cdef void door_told(loop_call *loop) noexcept:
    cdef door_call *which = <door_call *>loop
    cdef Line line = <Line>loop.line.user
    which.under_way = False
    which.told(which)
    Py_DECREF(line)


cdef void native_handed(Lane lane, loop_call *loop) noexcept:
    cdef door_call *which = <door_call *>loop
    cdef Line line = <Line>loop.line.user
    cdef Call call = None
    cdef bint left = which.left  # its caller may forget it while Python runs
    which.under_way = False
    if left and loop.stands == LOOP_LEFT and lane.owner.left is not None:
        native_left(lane, line, loop)
        Py_DECREF(line)
        return
    try:
        call = standing_for(lane, loop)
        lane.owner.handed(call)
        try:
            call.handed()
        except BaseException as error:
            call.failed(error)
        if left:
            call.leave()
    except BaseException as error:
        lane.complain(error)
    if not left:
        which.handed(which, NULL if call is None else <void *>call)
    Py_DECREF(line)


cdef void native_left(Lane lane, Line line, loop_call *which) noexcept:
    try:
        lane.owner.left(line.about, which.request_id[:LOOP_ID].decode("ascii"), which.accepted_ns, which.waits_ns)
    except BaseException as error:
        lane.complain(error)


cdef void native_ended(Lane lane, Seat seat, loop_call *which) noexcept:
    cdef Line line = <Line>which.line.user
    seat.last, seat.native, seat.native_line = None, which[0], line
    lane.records.append((
        line.about, which.request_id[:LOOP_ID].decode("ascii"), which.accepted_ns, which.began_ns,
        which.begun_wall_ns, which.answered_ns, which.ended_wall_ns, which.peak_bytes, which.cpu_us,
        which.waits_ns, which.payload_size, which.answer_size,
    ))
