"""The native scheduler against virtual sandboxes and a virtual clock: no process, no waiting, a million calls in seconds.

One importer: engine.scheduler.simulation. The loop takes whatever comes next (an arrival, the end of a start, of a call or
of a close, a tick) and answers each decision as an owner would, at once or after the virtual time that it takes.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t

from engine.scheduler._sched cimport *


cdef enum what:
    STARTED
    FINISHED
    CLOSED


cdef struct event:
    int64_t at
    uint64_t order  # among those of one moment, the first to be due first
    what kind
    sched_id sandbox
    sched_id call


cdef struct costs:
    int64_t start_ns
    int64_t close_ns
    uint32_t crash_every  # of so many calls, one takes its sandbox along; 0: none


cdef class Simulation:
    """One run. `Core` is not given out: the run is its only owner."""

    cdef Core core
    cdef sched *sched
    cdef costs cost
    cdef event *heap
    cdef size_t size
    cdef uint64_t order
    cdef uint64_t ended
    cdef list function_ids
    cdef sched_id *target_ids
    cdef sched_id *alias_ids  # 0: the function is called as it is
    cdef size_t functions

    def __cinit__(self, size_t functions, *, int64_t start_ns, int64_t close_ns, uint32_t crash_every=0, **settings):
        cdef size_t sandboxes = settings["room"]
        self.core = Core(functions=functions, targets=2 * functions, aliases=functions,
                         calls=max(1, settings["account_limit"]), sandboxes=sandboxes, **settings)
        self.sched = self.core.sched
        self.cost.start_ns, self.cost.close_ns, self.cost.crash_every = start_ns, close_ns, crash_every
        self.functions = functions
        # A sandbox is starting, running a call, or closing: each has one event at most.
        self.heap = <event *>PyMem_Malloc((sandboxes + 1) * sizeof(event))
        self.target_ids = <sched_id *>PyMem_Malloc(functions * sizeof(sched_id))
        self.alias_ids = <sched_id *>PyMem_Calloc(functions, sizeof(sched_id))
        if self.heap == NULL or self.target_ids == NULL or self.alias_ids == NULL:
            raise MemoryError()
        self.function_ids = [self.core.function_add() for _ in range(functions)]
        for number, function in enumerate(self.function_ids):
            self.target_ids[<size_t>number] = self.core.target_add(function)

    def __dealloc__(self):
        PyMem_Free(self.heap)
        PyMem_Free(self.target_ids)
        PyMem_Free(self.alias_ids)

    def limit(self, reserved, provisioned):
        """Mappings from the number of a function to sandboxes. Before the run."""
        for number, count in reserved.items():
            self.core.set_reserved(self.function_ids[number], count, 0)
        for number, count in provisioned.items():
            if not 0 <= number < self.functions:
                raise IndexError(number)
            self.core.set_provisioned(self.target_ids[<size_t>number], count, 0)
        self.obey(0, NULL, NULL, NULL)

    def alias(self, number, uint32_t weight, uint32_t provisioned):
        """The function is called through an alias from here on: so many of SCHED_WEIGHT calls go to another version of
        it, of which so many sandboxes are kept ready. Once for each, before the run."""
        if not 0 <= number < self.functions:
            raise IndexError(number)
        first = self.target_ids[<size_t>number]
        second = self.core.target_add(self.function_ids[number], 1)
        self.alias_ids[<size_t>number] = self.core.alias_set(0, [(first, SCHED_WEIGHT - weight), (second, weight)])
        self.core.set_provisioned(second, provisioned, 0)
        self.obey(0, NULL, NULL, NULL)

    def run(self, const int64_t[::1] times, const int64_t[::1] functions, const int64_t[::1] durations,
            int64_t[::1] waits, unsigned char[::1] reasons, unsigned char[::1] seconds):
        """Fills `waits` (nanoseconds from the arrival to the handler; -1: it never came to that), `reasons` (of a
        throttle, by the native scheduler's number) and `seconds` (1 where an alias sent it to its second version).
        Returns the counts at the end."""
        cdef size_t count = times.shape[0], number = 0
        cdef const int64_t *time_of
        cdef const int64_t *function_of
        cdef const int64_t *duration_of
        cdef int64_t *wait_of
        cdef unsigned char *reason_of
        cdef unsigned char *second_of
        cdef sched_id target
        cdef sched_decision decision
        cdef event due
        cdef int64_t now = 0, arrival, tick
        if not (<size_t>functions.shape[0] == <size_t>durations.shape[0] == <size_t>waits.shape[0] == count
                == <size_t>reasons.shape[0] == <size_t>seconds.shape[0]):
            raise ValueError("times, functions, durations, waits, reasons and seconds have to have the same length")
        if count == 0:
            return self.core.counts()
        time_of, function_of, duration_of = &times[0], &functions[0], &durations[0]
        wait_of, reason_of, second_of = &waits[0], &reasons[0], &seconds[0]
        for number in range(count):
            if <uint64_t>function_of[number] >= self.functions:
                raise ValueError(f"arrival {number}: there is no function {function_of[number]}")
            if time_of[number] < 0 or duration_of[number] < 0 or (number and time_of[number] < time_of[number - 1]):
                raise ValueError(f"arrival {number}: times and durations are from 0 on, and times in order")
            wait_of[number], reason_of[number], second_of[number] = -1, 0, 0
        number = 0
        with nogil:
            while number < count or self.size > 0:
                arrival = time_of[number] if number < count else INT64_MAX
                tick = sched_due(self.sched)
                tick = now + tick if tick >= 0 else INT64_MAX
                if self.size > 0 and self.heap[0].at <= arrival and self.heap[0].at <= tick:
                    due = self.pop()
                    now = due.at
                    self.happen(&due, now, time_of, duration_of, wait_of)
                elif tick < arrival:
                    now = tick
                    sched_tick(self.sched, now)
                else:
                    now = arrival
                    target = self.target_ids[function_of[number]]
                    if self.alias_ids[function_of[number]]:
                        target = sched_route(self.sched, self.alias_ids[function_of[number]], dice(number))
                        second_of[number] = target != self.target_ids[function_of[number]]
                    sched_submit(self.sched, target, number, now, &decision)
                    if decision.verdict == SCHED_RUN:
                        self.begin(decision.call, decision.sandbox, number, now, time_of, duration_of, wait_of)
                    elif decision.verdict == SCHED_START:
                        self.push(now + self.cost.start_ns, STARTED, decision.sandbox, decision.call)
                    elif decision.verdict == SCHED_THROTTLED:
                        reason_of[number] = <unsigned char>decision.reason
                    number += 1
                self.obey(now, time_of, duration_of, wait_of)
        return self.core.counts()

    cdef void happen(self, event *due, int64_t now, const int64_t *times, const int64_t *durations,
                     int64_t *waits) noexcept nogil:
        cdef sched_decision decision
        if due.kind == STARTED:
            if sched_started(self.sched, due.sandbox, 0, now, &decision) == 0 and decision.verdict == SCHED_RUN:
                self.begin(decision.call, decision.sandbox, decision.call_user, now, times,
                           durations, waits)
        elif due.kind == FINISHED:
            self.ended += 1
            sched_finished(self.sched, due.call,
                           self.cost.crash_every == 0 or self.ended % self.cost.crash_every != 0, now)
        else:
            sched_closed(self.sched, due.sandbox, now)

    cdef void begin(self, sched_id call, sched_id sandbox, uint64_t number, int64_t now, const int64_t *times,
                    const int64_t *durations, int64_t *waits) noexcept nogil:
        waits[number] = now - times[number]
        self.push(now + durations[number], FINISHED, sandbox, call)

    cdef void obey(self, int64_t now, const int64_t *times, const int64_t *durations, int64_t *waits) noexcept nogil:
        cdef sched_action action
        while sched_next(self.sched, &action):
            if action.what == SCHED_DO_RUN:
                self.begin(action.call, action.sandbox, action.call_user, now, times, durations, waits)
            elif action.what == SCHED_DO_START:
                self.push(now + self.cost.start_ns, STARTED, action.sandbox, action.call)
            elif action.what == SCHED_DO_CLOSE:
                self.push(now + self.cost.close_ns, CLOSED, action.sandbox, 0)

    cdef void push(self, int64_t at, what kind, sched_id sandbox, sched_id call) noexcept nogil:
        cdef size_t here = self.size, above
        cdef event new
        new.at, new.kind, new.sandbox, new.call = at, kind, sandbox, call
        new.order = self.order
        self.order += 1
        self.size += 1
        while here > 0:
            above = (here - 1) // 2
            if not before(&new, &self.heap[above]):
                break
            self.heap[here] = self.heap[above]
            here = above
        self.heap[here] = new

    cdef event pop(self) noexcept nogil:
        cdef event first = self.heap[0], last
        cdef size_t here = 0, below
        self.size -= 1
        last = self.heap[self.size]
        while True:
            below = 2 * here + 1
            if below >= self.size:
                break
            if below + 1 < self.size and before(&self.heap[below + 1], &self.heap[below]):
                below += 1
            if not before(&self.heap[below], &last):
                break
            self.heap[here] = self.heap[below]
            here = below
        self.heap[here] = last
        return first


cdef inline uint32_t dice(uint64_t number) noexcept nogil:
    """Uniform, and the same for the same arrival: SplitMix64 (Steele, Lea, Flood: OOPSLA 2014)."""
    number = (number + 1) * <uint64_t>0x9e3779b97f4a7c15
    number = (number ^ (number >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    number = (number ^ (number >> 27)) * <uint64_t>0x94d049bb133111eb
    return <uint32_t>((number ^ (number >> 31)) >> 32)


cdef inline bint before(const event *one, const event *other) noexcept nogil:
    return one.at < other.at or (one.at == other.at and one.order < other.order)
