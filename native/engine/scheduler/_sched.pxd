# The C-visible shape of native/sched/sched.h and of the Core over it: what another extension needs to decide without
# Python. Such a one has the files of native/sched compiled into it as well, and works on the same `struct sched`.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "sched/sched.h" nogil:
    ctypedef uint64_t sched_id

    enum:
        SCHED_OK
        SCHED_E_STALE
        SCHED_E_STATE
        SCHED_E_FULL
        SCHED_E_UNRESERVED
        SCHED_E_PROVISIONED
        SCHED_E_WEIGHTS
        SCHED_E_VALUE
        SCHED_WEIGHT
        SCHED_ROUTES

    struct sched_capacity:
        uint32_t functions
        uint32_t targets
        uint32_t aliases
        uint32_t calls
        uint32_t sandboxes

    struct sched_config:
        uint32_t account_limit
        uint32_t min_unreserved
        uint32_t room
        uint32_t rate_factor
        uint32_t burst
        int64_t burst_ns
        int64_t keep_alive_ns
        uint32_t retry_after_ms
        uint32_t provisioned_starts
        int64_t provisioned_retry_ns
        int64_t provisioned_retry_most_ns

    enum sched_verdict:
        SCHED_NOTHING
        SCHED_RUN
        SCHED_START
        SCHED_WAIT
        SCHED_THROTTLED
        SCHED_REFUSED
        SCHED_FAILED

    enum sched_reason:
        SCHED_NO_REASON
        SCHED_CONCURRENCY
        SCHED_RESERVED_CONCURRENCY
        SCHED_RATE
        SCHED_RESERVED_RATE
        SCHED_BURST
        SCHED_REASONS

    struct sched_decision:
        sched_verdict verdict
        sched_reason reason
        uint32_t retry_after_ms
        bint warm
        bint provisioned
        bint covers_init
        sched_id call
        sched_id sandbox
        uint64_t user
        uint64_t call_user

    enum sched_why:
        SCHED_WHY_DEAD
        SCHED_WHY_REFUSED
        SCHED_WHY_INIT

    enum sched_do:
        SCHED_DO_NOTHING
        SCHED_DO_RUN
        SCHED_DO_START
        SCHED_DO_CLOSE
        SCHED_DO_HURRY
        SCHED_DO_KILL
        SCHED_DO_REFUSE
        SCHED_DO_DEADLINE

    struct sched_action:
        sched_do what
        sched_id call
        sched_id sandbox
        sched_id target
        uint64_t call_user
        uint64_t sandbox_user
        uint64_t target_user

    struct sched_counts_t "sched_counts":
        uint32_t limit
        uint32_t reserved
        uint32_t provisioned
        uint32_t concurrency
        uint32_t unreserved_in_use
        uint32_t waiting
        uint32_t sandboxes
        uint32_t starting
        uint32_t idle
        uint32_t busy
        uint32_t closing
        uint32_t peak_sandboxes
        uint32_t peak_concurrency
        uint64_t submitted
        uint64_t cold
        uint64_t warm
        uint64_t provisioned_runs
        uint64_t waited
        uint64_t throttled[6]

    struct sched_function_counts_t "sched_function_counts":
        int32_t reserved
        uint32_t provisioned
        uint32_t concurrency
        uint32_t on_demand
        uint32_t waiting
        uint32_t sandboxes
        uint64_t throttled

    struct sched_allocation_t "sched_allocation":
        uint32_t requested
        uint32_t allocated
        uint32_t available
        uint32_t starting
        uint32_t failures

    struct sched

    void sched_config_default(sched_config *config)
    sched *sched_new(const sched_capacity *capacity, const sched_config *config)
    void sched_free(sched *sched)
    int sched_configure(sched *sched, const sched_config *config, int64_t now_ns)
    int sched_function_add(sched *sched, sched_id *function)
    int sched_function_remove(sched *sched, sched_id function, int64_t now_ns)
    int sched_set_reserved(sched *sched, sched_id function, int32_t reserved, int64_t now_ns)
    int sched_target_add(sched *sched, sched_id function, uint64_t tag, uint64_t user, sched_id *target)
    int sched_set_provisioned(sched *sched, sched_id target, uint32_t provisioned, int64_t now_ns)
    int sched_target_retire(sched *sched, sched_id target, int64_t now_ns)
    int sched_retire(sched *sched, sched_id function, bint keep, uint64_t tag, int64_t now_ns)
    int sched_alias_set(sched *sched, sched_id *alias, const sched_id *targets, const uint32_t *weights, size_t count)
    int sched_alias_remove(sched *sched, sched_id alias)
    sched_id sched_route(const sched *sched, sched_id alias, uint32_t random)
    const char *sched_reason_name(sched_reason reason)
    int sched_submit(sched *sched, sched_id target, uint64_t user, int64_t now_ns, sched_decision *decision)
    int sched_submit_claimed(sched *sched, sched_id target, uint64_t user, int64_t now_ns, sched_decision *decision)
    int sched_finished(sched *sched, sched_id call, bint keep, int64_t now_ns)
    int sched_again(sched *sched, sched_id call, sched_why why, int64_t now_ns, sched_decision *decision)
    int sched_cancel(sched *sched, sched_id call, int64_t now_ns)
    int sched_set_deadline(sched *sched, sched_id call, int64_t after_ns, int64_t now_ns)
    int sched_started(sched *sched, sched_id sandbox, uint64_t user, int64_t now_ns, sched_decision *decision)
    int sched_set_user(sched *sched, sched_id sandbox, uint64_t user)
    int sched_start_failed(sched *sched, sched_id sandbox, int64_t now_ns)
    int sched_died(sched *sched, sched_id sandbox, int64_t now_ns)
    int sched_closed(sched *sched, sched_id sandbox, int64_t now_ns)
    bint sched_next(sched *sched, sched_action *action)
    bint sched_pending(const sched *sched)
    bint sched_next_claimed(sched *sched, sched_action *action)
    bint sched_pending_claimed(const sched *sched)
    void sched_tick(sched *sched, int64_t now_ns)
    int64_t sched_due(const sched *sched)
    void sched_drain(sched *sched, int64_t now_ns)
    void sched_kill(sched *sched, int64_t now_ns)
    void sched_counts(const sched *sched, sched_counts_t *counts)
    int sched_function_counts(const sched *sched, sched_id function, sched_function_counts_t *counts)
    int sched_busy(const sched *sched, sched_id sandbox)
    int sched_allocation(const sched *sched, sched_id target, sched_allocation_t *allocation)
    int sched_check(const sched *sched, char *text, size_t size)


cdef class Core:
    cdef sched *sched
    cdef sched_config config
    cdef sched_decision decision
