"""The native scheduler, called from Python: convert, call, raise. What it decides is in native/sched.

One importer: engine.scheduler.core. One thread calls it, the one that made it. Failures raise Rejected.
"""


from cpython.pycapsule cimport PyCapsule_New


class Rejected(Exception):
    """An input that changed nothing; `code` says why: one of STALE, STATE, FULL, UNRESERVED, PROVISIONED, WEIGHTS, VALUE."""

    def __init__(self, int code):
        super().__init__(CODES.get(code, f"code {code}"))
        self.code = code


OK, STALE, STATE, FULL, UNRESERVED = SCHED_OK, SCHED_E_STALE, SCHED_E_STATE, SCHED_E_FULL, SCHED_E_UNRESERVED
PROVISIONED, WEIGHTS, VALUE = SCHED_E_PROVISIONED, SCHED_E_WEIGHTS, SCHED_E_VALUE
CODES = {
    STALE: "no such id, or not any longer",
    STATE: "not in this state",
    FULL: "no more of this kind fit in",
    UNRESERVED: "too little would stay unreserved",
    PROVISIONED: "more provisioned than reserved",
    WEIGHTS: "the weights do not add up",
    VALUE: "a number is out of its range",
}

NOTHING, RUN, START, WAIT = SCHED_NOTHING, SCHED_RUN, SCHED_START, SCHED_WAIT
THROTTLED, REFUSED, FAILED = SCHED_THROTTLED, SCHED_REFUSED, SCHED_FAILED
NO_REASON, CONCURRENCY, RESERVED_CONCURRENCY = SCHED_NO_REASON, SCHED_CONCURRENCY, SCHED_RESERVED_CONCURRENCY
RATE, RESERVED_RATE, BURST = SCHED_RATE, SCHED_RESERVED_RATE, SCHED_BURST
REASON_NAMES = tuple([sched_reason_name(<sched_reason>reason).decode() for reason in range(<int>SCHED_REASONS)])
WHY_DEAD, WHY_REFUSED, WHY_INIT = SCHED_WHY_DEAD, SCHED_WHY_REFUSED, SCHED_WHY_INIT
DO_RUN, DO_START, DO_CLOSE, DO_HURRY = SCHED_DO_RUN, SCHED_DO_START, SCHED_DO_CLOSE, SCHED_DO_HURRY
DO_KILL, DO_REFUSE, DO_DEADLINE = SCHED_DO_KILL, SCHED_DO_REFUSE, SCHED_DO_DEADLINE
WEIGHT = SCHED_WEIGHT


cdef int took(int code) except -1:
    if code < 0:
        raise Rejected(code)
    return 0


cdef class Core:
    """One `struct sched`. Ids are ints, times are nanoseconds of one clock; see native/sched/sched.h."""

    def __cinit__(self, *, uint32_t functions=65536, uint32_t targets=131072, uint32_t aliases=65536,
                  uint32_t calls=65536, uint32_t sandboxes=65536, **settings):
        cdef sched_capacity capacity
        capacity.functions, capacity.targets, capacity.aliases = functions, targets, aliases
        capacity.calls, capacity.sandboxes = calls, sandboxes
        sched_config_default(&self.config)
        read(&self.config, settings)
        self.sched = sched_new(&capacity, &self.config)
        if self.sched == NULL:
            raise Rejected(SCHED_E_VALUE)

    def __dealloc__(self):
        sched_free(self.sched)

    def capsule(self):
        """Its `struct sched`, as long as it lives: for native code that decides by it on the same thread."""
        return PyCapsule_New(<void *>self.sched, "sched", NULL)

    def configure(self, int64_t now, **settings):
        cdef sched_config config = self.config
        read(&config, settings)
        took(sched_configure(self.sched, &config, now))
        self.config = config

    @property
    def settings(self):
        return self.config

    def function_add(self):
        cdef sched_id function = 0
        took(sched_function_add(self.sched, &function))
        return function

    def function_remove(self, sched_id function, int64_t now):
        took(sched_function_remove(self.sched, function, now))

    def set_reserved(self, sched_id function, int32_t reserved, int64_t now):
        took(sched_set_reserved(self.sched, function, reserved, now))

    def target_add(self, sched_id function, uint64_t tag=0, uint64_t user=0):
        cdef sched_id target = 0
        took(sched_target_add(self.sched, function, tag, user, &target))
        return target

    def set_provisioned(self, sched_id target, uint32_t provisioned, int64_t now):
        took(sched_set_provisioned(self.sched, target, provisioned, now))

    def target_retire(self, sched_id target, int64_t now):
        took(sched_target_retire(self.sched, target, now))

    def retire(self, sched_id function, keep, int64_t now):
        took(sched_retire(self.sched, function, keep is not None, 0 if keep is None else keep, now))

    def alias_set(self, sched_id alias, routes):
        cdef sched_id targets[SCHED_ROUTES]
        cdef uint32_t weights[SCHED_ROUTES]
        cdef size_t count = 0
        for target, weight in routes:
            if count == SCHED_ROUTES:
                raise Rejected(SCHED_E_WEIGHTS)
            targets[count], weights[count] = target, weight
            count += 1
        took(sched_alias_set(self.sched, &alias, targets, weights, count))
        return alias

    def alias_remove(self, sched_id alias):
        took(sched_alias_remove(self.sched, alias))

    def route(self, sched_id alias, uint32_t random):
        return sched_route(self.sched, alias, random)

    # What the latest submit, again or started decided.

    @property
    def call(self):
        return self.decision.call

    @property
    def sandbox(self):
        return self.decision.sandbox

    @property
    def user(self):
        return self.decision.user

    @property
    def reason(self):
        return <int>self.decision.reason

    @property
    def retry_after_ms(self):
        return self.decision.retry_after_ms

    @property
    def warm(self):
        return self.decision.warm

    @property
    def provisioned(self):
        return self.decision.provisioned

    @property
    def covers_init(self):
        return self.decision.covers_init

    def submit(self, sched_id target, int64_t now, uint64_t user=0):
        took(sched_submit(self.sched, target, user, now, &self.decision))
        return <int>self.decision.verdict

    def submit_claimed(self, sched_id target, int64_t now, uint64_t user=0):
        took(sched_submit_claimed(self.sched, target, user, now, &self.decision))
        return <int>self.decision.verdict

    def finished(self, sched_id call, bint keep, int64_t now):
        took(sched_finished(self.sched, call, keep, now))

    def again(self, sched_id call, int why, int64_t now):
        took(sched_again(self.sched, call, <sched_why>why, now, &self.decision))
        return <int>self.decision.verdict

    def cancel(self, sched_id call, int64_t now):
        took(sched_cancel(self.sched, call, now))

    def set_deadline(self, sched_id call, int64_t after, int64_t now):
        took(sched_set_deadline(self.sched, call, after, now))

    def started(self, sched_id sandbox, int64_t now, uint64_t user=0):
        took(sched_started(self.sched, sandbox, user, now, &self.decision))
        return <int>self.decision.verdict

    def set_user(self, sched_id sandbox, uint64_t user):
        took(sched_set_user(self.sched, sandbox, user))

    def start_failed(self, sched_id sandbox, int64_t now):
        took(sched_start_failed(self.sched, sandbox, now))

    def died(self, sched_id sandbox, int64_t now):
        took(sched_died(self.sched, sandbox, now))

    def closed(self, sched_id sandbox, int64_t now):
        took(sched_closed(self.sched, sandbox, now))

    @property
    def pending(self):
        return sched_pending(self.sched) or sched_pending_claimed(self.sched)

    def next(self):
        cdef sched_action action
        if not sched_next(self.sched, &action):
            return None
        return <int>action.what, action.call, action.sandbox, action.target

    def next_claimed(self):
        cdef sched_action action
        if not sched_next_claimed(self.sched, &action):
            return None
        return <int>action.what, action.call, action.sandbox, action.target, action.call_user

    def tick(self, int64_t now):
        sched_tick(self.sched, now)

    @property
    def due(self):
        return sched_due(self.sched)

    def drain(self, int64_t now):
        sched_drain(self.sched, now)

    def kill(self, int64_t now):
        sched_kill(self.sched, now)

    @property
    def concurrency(self):
        cdef sched_counts_t counts
        sched_counts(self.sched, &counts)
        return counts.concurrency

    @property
    def idle(self):
        cdef sched_counts_t counts
        sched_counts(self.sched, &counts)
        return counts.idle

    def counts(self):
        cdef sched_counts_t counts
        sched_counts(self.sched, &counts)
        seen = <dict>counts
        seen["throttled"] = tuple([counts.throttled[reason] for reason in range(<int>SCHED_REASONS)])
        return seen

    def function_counts(self, sched_id function):
        cdef sched_function_counts_t counts
        took(sched_function_counts(self.sched, function, &counts))
        return counts

    def busy(self, sched_id sandbox):
        return sched_busy(self.sched, sandbox)

    def allocation(self, sched_id target):
        cdef sched_allocation_t allocation
        took(sched_allocation(self.sched, target, &allocation))
        return allocation

    def check(self):
        cdef char text[160]
        if sched_check(self.sched, text, sizeof(text)) < 0:
            return (<bytes>text).decode()
        return ""


cdef int read(sched_config *config, dict settings) except -1:
    """Put what is given over what is there."""
    known = <dict>config[0]
    for name in settings:
        if name not in known:
            raise TypeError(f"the scheduler has no setting {name}")
    known.update(settings)
    config[0] = known
    return 0
