/* The scheduler's decisions: who runs where, who waits, who is throttled, which sandbox goes.
 *
 * Pure state: no clock, no thread, no lock, no I/O, nothing global. One thread owns a `struct sched` and calls it with
 * the time of its own loop. Each input changes the state at once, and what the owner has to do by it is in the decision
 * that the input returns, or waits in the queue of actions: read it empty with sched_next() after each input.
 *
 * Words. A *call* is one event and, for as long as it is there, the lease on its concurrency. A *target* is what
 * sandboxes are interchangeable for: a function, a version, an etag. A *sandbox* has room from the decision to start it
 * until the owner has said that it is closed. *Provisioned* sandboxes are kept ready for their target; all others are
 * on demand.
 *
 * A call    WAITING (no room) → STARTING (a sandbox for it) → RUNNING → ended; a warm one begins at RUNNING.
 * A sandbox STARTING → BUSY ⇄ IDLE → CLOSING → gone; see sched_sandbox_moves[].
 *
 * Ids have a generation: one that is stale, or was made up, gets SCHED_E_STALE and changes nothing. The lower 32 bits
 * are a small index (sched_slot) that an owner may use for a table of its own. 0 is never an id.
 *
 * Time is in nanoseconds of any clock. It may step back: for the scheduler it then stood still for that moment, so that
 * everything that was due in n nanoseconds still is. Up to SCHED_JITTER_NS are no step: two clocks were read, or one
 * twice in another order, and time stands still until it is that late again.
 *
 * The rules are AWS Lambda's: docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html, and
 * .../configuration-concurrency.html, .../provisioned-concurrency.html, .../scaling-behavior.html. */
#ifndef SCHED_H
#define SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t sched_id; /* generation << 32 | slot */

static inline uint32_t sched_slot(sched_id id)
{
    return (uint32_t)id;
}

enum { SCHED_JITTER_NS = 10000000 };

/* What every input returns: 0, or one of these, and then nothing has changed. */
enum sched_error {
    SCHED_OK = 0,
    SCHED_E_STALE = -1,       /* no such id, or not any longer */
    SCHED_E_STATE = -2,       /* there is one, but it is past that or not there yet */
    SCHED_E_FULL = -3,        /* the capacity given to sched_new is used up */
    SCHED_E_UNRESERVED = -4,  /* less than min_unreserved would be left to functions without a reservation */
    SCHED_E_PROVISIONED = -5, /* a function's provisioned concurrency would be more than its reserved concurrency */
    SCHED_E_WEIGHTS = -6,     /* an alias's weights do not add up to SCHED_WEIGHT, or there are too many targets */
    SCHED_E_VALUE = -7,       /* a number out of its range */
};

/* How much there can be at most; the memory is taken as it is used and never grows beyond. 1 … 2^24 each. */
struct sched_capacity {
    uint32_t functions, targets, aliases, calls, sandboxes;
};

struct sched_config {
    uint32_t account_limit;  /* calls under way at once: 1,000 on AWS */
    uint32_t min_unreserved; /* of them, what nobody can reserve: 100 on AWS */
    uint32_t room;           /* sandboxes at once, closing ones included; a call waits for room and is not throttled */
    uint32_t rate_factor;    /* requests a second for each unit of concurrency: 10 on AWS; 0: any number */
    uint32_t burst;        /* sandboxes on demand that a function may start in burst_ns: 1,000 on AWS; 0: any number */
    int64_t burst_ns;      /* 10 s on AWS */
    int64_t keep_alive_ns; /* how long one on demand may idle */
    uint32_t retry_after_ms;           /* what a throttle for concurrency tells the caller to wait */
    uint32_t provisioned_starts;       /* provisioned sandboxes of one target that start at once, at most */
    int64_t provisioned_retry_ns;      /* the pause after one failed to start; doubled for each more in a row … */
    int64_t provisioned_retry_most_ns; /* … up to this */
};

/* AWS's values, with room for as many sandboxes as calls. */
void sched_config_default(struct sched_config *config);

struct sched;

/* NULL where there is no memory or a capacity or setting is out of range. */
struct sched *sched_new(const struct sched_capacity *capacity, const struct sched_config *config);
void sched_free(struct sched *sched);

/* --- What there is ----------------------------------------------------------------------------------------------- */

int sched_configure(struct sched *sched, const struct sched_config *config, int64_t now_ns);

int sched_function_add(struct sched *sched, sched_id *function);
/* Retires its targets and releases its reservation; it is gone with its last sandbox. */
int sched_function_remove(struct sched *sched, sched_id function, int64_t now_ns);
/* -1: none; 0 stops the function. SCHED_E_UNRESERVED only where it asks for more than before. */
int sched_set_reserved(struct sched *sched, sched_id function, int32_t reserved, int64_t now_ns);

/* `tag` is the owner's, such as a number for the etag: sched_retire compares it. */
int sched_target_add(struct sched *sched, sched_id function, uint64_t tag, uint64_t user, sched_id *target);
/* Sandboxes kept ready for it, beyond on-demand ones; calls beyond those run on demand. */
int sched_set_provisioned(struct sched *sched, sched_id target, uint32_t provisioned, int64_t now_ns);
/* Its idle sandboxes close at once, the others after their call; it takes no further call, and is gone with the last.
 */
int sched_target_retire(struct sched *sched, sched_id target, int64_t now_ns);
/* The same for each target of a function, but for those with the tag (`keep` false: for all). */
int sched_retire(struct sched *sched, sched_id function, bool keep, uint64_t tag, int64_t now_ns);

enum { SCHED_WEIGHT = 1000000, SCHED_ROUTES = 2 };
/* Makes an alias (*alias 0) or points one elsewhere. Weights are millionths and add up to SCHED_WEIGHT. */
int sched_alias_set(struct sched *sched, sched_id *alias, const sched_id *targets, const uint32_t *weights,
                    size_t count);
int sched_alias_remove(struct sched *sched, sched_id alias);
/* Which target this call goes to; 0 for a stale alias. `random` is uniform over 32 bits. */
sched_id sched_route(const struct sched *sched, sched_id alias, uint32_t random);

/* --- Calls ------------------------------------------------------------------------------------------------------- */

enum sched_verdict {
    SCHED_NOTHING,   /* no call is concerned */
    SCHED_RUN,       /* on `sandbox`, which is there */
    SCHED_START,     /* start `sandbox` for it, then say sched_started or sched_start_failed */
    SCHED_WAIT,      /* for room; an action will say how it goes on */
    SCHED_THROTTLED, /* never was a call: `reason`, `retry_after_ms` */
    SCHED_REFUSED,   /* draining: never was a call, or is none any longer */
    SCHED_FAILED,    /* every try that it has is used up: no call any longer */
};

enum sched_reason {
    SCHED_NO_REASON,
    SCHED_CONCURRENCY,          /* ConcurrentInvocationLimitExceeded: the account's */
    SCHED_RESERVED_CONCURRENCY, /* ReservedFunctionConcurrentInvocationLimitExceeded */
    SCHED_RATE,                 /* FunctionInvocationRateLimitExceeded: of all functions without a reservation */
    SCHED_RESERVED_RATE,        /* FunctionInvocationRateLimitExceeded: of a function with one */
    SCHED_BURST,                /* ConcurrentInvocationLimitExceeded: it scales up no faster */
    SCHED_REASONS,
};
/* AWS's name of it, as in TooManyRequestsException; "" for SCHED_NO_REASON. */
const char *sched_reason_name(enum sched_reason reason);

struct sched_decision {
    enum sched_verdict verdict;
    enum sched_reason reason;
    uint32_t retry_after_ms;
    bool warm;        /* with SCHED_RUN: the sandbox has served, or was provisioned */
    bool provisioned; /* with SCHED_RUN: by the target's provisioned concurrency */
    bool covers_init; /* the timeout covers the init phase, since that failed once for this call */
    sched_id call, sandbox;
    uint64_t user;      /* with SCHED_RUN: the sandbox's */
    uint64_t call_user; /* of `call` */
};

int sched_submit(struct sched *sched, sched_id target, uint64_t user, int64_t now_ns, struct sched_decision *decision);

/* The same where nothing speaks against the call and no sandbox has to be started for it: it runs on a warm one, or
 * waits for room. Else SCHED_NOTHING, and nothing has changed: all others are left to sched_submit. One that waits is
 * *claimed*: how it goes on (SCHED_DO_RUN, SCHED_DO_START, SCHED_DO_REFUSE) is told by sched_next_claimed, and from
 * then on it is a call like any other. */
int sched_submit_claimed(struct sched *sched, sched_id target, uint64_t user, int64_t now_ns,
                         struct sched_decision *decision);

/* The call ran to an end. The sandbox serves on if `keep`, and if nothing else speaks against it; else it closes. */
int sched_finished(struct sched *sched, sched_id call, bool keep, int64_t now_ns);

enum sched_why {
    SCHED_WHY_DEAD,    /* the warm sandbox was dead before: costs no try */
    SCHED_WHY_REFUSED, /* the sandbox never had the event: 3 warm and 2 fresh ones are tried */
    SCHED_WHY_INIT,    /* the init phase failed: tried again once, with covers_init, by all tries again */
};
/* The call's sandbox closes, and the call goes elsewhere under the same lease, or has SCHED_FAILED. */
int sched_again(struct sched *sched, sched_id call, enum sched_why why, int64_t now_ns,
                struct sched_decision *decision);

/* Nobody wants the answer. A running call's sandbox closes; one that starts for it goes on and then idles. */
int sched_cancel(struct sched *sched, sched_id call, int64_t now_ns);

/* An action SCHED_DO_DEADLINE once that much time is over; replaces the one before. Below 0: none. */
int sched_set_deadline(struct sched *sched, sched_id call, int64_t after_ns, int64_t now_ns);

/* --- Sandboxes --------------------------------------------------------------------------------------------------- */

/* It is there. With SCHED_RUN its call is to run on it; with SCHED_REFUSED its call is none any longer. */
int sched_started(struct sched *sched, sched_id sandbox, uint64_t user, int64_t now_ns,
                  struct sched_decision *decision);
/* Another user value. */
int sched_set_user(struct sched *sched, sched_id sandbox, uint64_t user);
/* It never came to be and nothing of it is left; its call, if it has one, has ended. */
int sched_start_failed(struct sched *sched, sched_id sandbox, int64_t now_ns);
/* It ended by itself: an idle one closes; a busy one is not kept once its call has finished. */
int sched_died(struct sched *sched, sched_id sandbox, int64_t now_ns);
/* Nothing of it is left: its room is free. Once for each SCHED_DO_CLOSE. */
int sched_closed(struct sched *sched, sched_id sandbox, int64_t now_ns);

/* --- What is to be done ------------------------------------------------------------------------------------------ */

enum sched_do {
    SCHED_DO_NOTHING,
    SCHED_DO_RUN,   /* the waiting `call` runs on `sandbox`, which is warm */
    SCHED_DO_START, /* start `sandbox` of `target`: for `call`, or provisioned (`call` is 0), its init phase included */
    SCHED_DO_CLOSE, /* end `sandbox`, then say sched_closed */
    SCHED_DO_HURRY, /* `sandbox` is being closed: wait for no farewell, its room is needed */
    SCHED_DO_KILL,  /* end what runs on `sandbox`, then sched_finished or sched_cancel as ever: a drain's patience is
                       over */
    SCHED_DO_REFUSE,   /* the waiting `call` is none any longer: the same */
    SCHED_DO_DEADLINE, /* of `call`, which is otherwise as before */
};

struct sched_action {
    enum sched_do what;
    sched_id call, sandbox, target;
    uint64_t call_user, sandbox_user, target_user;
};

/* The next action, oldest first; false when there is none. What is not true any longer is left out. */
bool sched_next(struct sched *sched, struct sched_action *action);
/* Whether sched_next has something. */
bool sched_pending(const struct sched *sched);
/* The same for claimed calls, to be read empty likewise; `call_user` is there also where the call has ended. */
bool sched_next_claimed(struct sched *sched, struct sched_action *action);
bool sched_pending_claimed(const struct sched *sched);

/* Everything that is due by the clock. */
void sched_tick(struct sched *sched, int64_t now_ns);
/* In how many nanoseconds a tick has something to do, counted from the latest time that it knows; -1: never. It may be
 * too early, never too late. */
int64_t sched_due(const struct sched *sched);

/* No further call, and nothing is kept: what idles closes. What runs, waits and starts goes on. */
void sched_drain(struct sched *sched, int64_t now_ns);
/* What waits is refused, what closes is hurried, what runs is killed, what starts closes when it is there. */
void sched_kill(struct sched *sched, int64_t now_ns);

/* --- To be seen -------------------------------------------------------------------------------------------------- */

struct sched_counts {
    uint32_t limit, reserved,
        provisioned; /* the account's limit; what is reserved; provisioned without a reservation */
    uint32_t concurrency, unreserved_in_use; /* calls; of them on demand, of functions without a reservation */
    uint32_t waiting;
    uint32_t sandboxes, starting, idle, busy, closing; /* idle: provisioned ones included */
    uint32_t peak_sandboxes, peak_concurrency;
    uint64_t submitted, cold, warm, provisioned_runs, waited; /* cold: sandboxes started for a call */
    uint64_t throttled[SCHED_REASONS];
};
void sched_counts(const struct sched *sched, struct sched_counts *counts);

struct sched_function_counts {
    int32_t reserved;     /* -1: none */
    uint32_t provisioned; /* of all its targets */
    uint32_t concurrency; /* calls, on provisioned sandboxes too */
    uint32_t on_demand;   /* of them, those that are not */
    uint32_t waiting, sandboxes;
    uint64_t throttled;
};
int sched_function_counts(const struct sched *sched, sched_id function, struct sched_function_counts *counts);

/* Whether a sandbox has a call: 1, or 0 where it idles; -1 for one that starts, closes or is not there. */
int sched_busy(const struct sched *sched, sched_id sandbox);

struct sched_allocation {
    uint32_t requested;
    uint32_t allocated; /* of them ready, idle or busy */
    uint32_t available; /* of them idle */
    uint32_t starting;
    uint32_t failures; /* starts that failed in a row */
};
int sched_allocation(const struct sched *sched, sched_id target, struct sched_allocation *allocation);

/* Walks everything and compares every sum, list and state. 0, or -1 with a sentence. For tests: not O(1). */
int sched_check(const struct sched *sched, char *text, size_t size);

#endif
