/* What the files of the scheduler share: its tables, and the few verbs by which they change. */
#ifndef SCHED_INTERNAL_H
#define SCHED_INTERNAL_H

#include "bucket.h"
#include "lists.h"
#include "sched.h"
#include "wheel.h"

enum {
    CAPACITY_MOST = 1 << 24,
    RATE_FACTOR_MOST = 100,
    WARM_TRIES = 3,  /* after so many warm sandboxes that refused the call, it gets a fresh one */
    FRESH_TRIES = 2, /* after so many fresh ones, the fault is not theirs */
    QUANTUM = 16,    /* calls that a target hands to its own sandbox in a row while another has none */
};
static const int64_t NS_PER_S = 1000000000;
static const int64_t BURST_NS_MOST = 100000000000;
static const int64_t HOUR_NS = 3600000000000;

/* Items begin a line of the cache, and what each call touches comes first in them: with ten thousand functions, lines
 * are what a decision costs. */
enum { LINE = 64 };
#define LINES __attribute__((aligned(LINE)))

/* Every item of a pool begins so. An even generation is free, an odd one is in use. */
struct item {
    uint32_t generation;
    uint32_t next_free;
};

struct pool {
    void *memory;
    unsigned char
        *items; /* in it, aligned; zeroed by the kernel as they are first touched; slot 0 is never given out */
    size_t size;
    uint32_t capacity, used, free, live;
};

enum sandbox_state {
    SANDBOX_GONE,
    SANDBOX_STARTING, /* decided on; the owner has not said yet that it is there */
    SANDBOX_BUSY,
    SANDBOX_IDLE,    /* on a stack of its target */
    SANDBOX_CLOSING, /* the owner ends it; it still takes room */
    SANDBOX_STATES,
};

enum call_state {
    CALL_ENDED,
    CALL_WAITING,  /* for room; in the queue of its target */
    CALL_STARTING, /* its sandbox does */
    CALL_RUNNING,
    CALL_STATES,
};

struct LINES sandbox {
    struct item item;
    uint32_t target;
    uint32_t call; /* 0: none */
    struct link stack;
    struct link age; /* among all that idle on demand, or all that close unhurried */
    int64_t idle_since;
    uint64_t user;
    uint8_t state;
    bool provisioned;
    bool dead;
    bool hurried;
};

struct LINES call {
    struct item item;
    uint32_t target;
    uint32_t sandbox; /* 0: waits */
    struct link waiting;
    uint64_t user;
    uint8_t state;
    uint8_t warm_left, fresh_left;
    bool provisioned; /* the lease is the target's, not one of the function's on demand */
    bool warm;
    bool covers_init;
    bool burst_taken; /* has paid for a start that is not decided yet */
    bool claimed;     /* waits, and who submitted it is told apart how it goes on */
    struct timer deadline;
};

struct LINES target {
    struct item item;
    uint32_t function;
    uint32_t idle;  /* on demand, the youngest first */
    uint32_t ready; /* provisioned */
    uint32_t calls, sandboxes;
    uint32_t live; /* sandboxes that do not close */
    uint32_t queued;
    uint32_t handovers;
    uint32_t leased; /* calls whose lease is of its provisioned concurrency; the others are on demand */
    bool retired;
    bool reserves; /* its function has a reservation: here too, so that a warm call of any other need not look there */
    struct list waiting; /* calls */
    bool backing_off;
    struct link ring;     /* among those of its function that have waiting calls */
    struct link siblings; /* of its function */
    struct link kept;     /* among all with provisioned concurrency */
    uint32_t provisioned; /* requested */
    uint32_t kept_all;    /* provisioned ones that start, idle or run */
    uint32_t kept_starting, kept_idle;
    uint32_t failures;
    uint64_t tag, user;
    struct timer retry;
};

struct LINES function {
    struct item item;
    int32_t reserved;     /* -1: none */
    uint32_t in_use;      /* calls on demand; counted where it has a reservation */
    uint32_t provisioned; /* requested by all its targets */
    uint32_t live, sandboxes, queued;
    bool removed;
    struct link ring;    /* among those that have waiting calls */
    struct list waiting; /* targets that have some */
    struct list targets;
    uint64_t throttled;
    struct bucket burst, rate;
};

struct LINES alias {
    struct item item;
    uint32_t count;
    uint32_t upto[SCHED_ROUTES]; /* cumulated weights */
    sched_id target[SCHED_ROUTES];
};

struct entry {
    enum sched_do what;
    sched_id call, sandbox;
    uint64_t call_user;
};

/* Entries from `head` to `tail`; both go back to 0 when it is empty. */
struct actions {
    struct entry *entries;
    size_t size, head, tail;
};

struct sched {
    struct sched_config config;
    struct pool functions, targets, aliases, calls, sandboxes;
    bool seen; /* a time was */
    int64_t raw_ns, now_ns;
    struct bucket rate;         /* of all functions without a reservation */
    uint32_t reserved;          /* in all */
    uint32_t provisioned;       /* requested by functions without a reservation */
    uint32_t unreserved_in_use; /* on demand, by functions without a reservation */
    uint32_t waiting;           /* calls */
    struct list ring;           /* functions with waiting calls, the next to get room first */
    struct list oldest;         /* idle on demand, by age */
    struct list leaving;        /* closing unhurried, by age */
    struct list kept;           /* targets with provisioned concurrency, in the order in which they got it */
    uint32_t closing, hurried;  /* the second among the first */
    uint32_t by_state[SANDBOX_STATES];
    uint32_t hungry; /* provisioned sandboxes that would start if there were room */
    bool stir;       /* settle() has something to look at */
    bool walk;       /* … and among it provisioned concurrency */
    bool draining, killed;
    const char *broken; /* what should never happen and did; sched_check tells */
    struct wheel wheel;
    struct actions actions, claimed; /* the second: of claimed calls */
    uint32_t peak_sandboxes, peak_concurrency;
    uint64_t submitted, cold, warm, provisioned_runs, waited, throttled[SCHED_REASONS];
};

/* --- Tables (tables.c) */

int pool_init(struct pool *pool, size_t size, uint32_t capacity);
uint32_t pool_take(struct pool *pool); /* 0: full. The item is zeroed but for its generation */
void pool_give(struct pool *pool, uint32_t slot);

static inline struct item *pool_item(const struct pool *pool, uint32_t slot)
{
    return (struct item *)(pool->items + (size_t)slot * pool->size);
}

static inline sched_id pool_id(const struct pool *pool, uint32_t slot)
{
    return slot == 0 ? 0 : (uint64_t)pool_item(pool, slot)->generation << 32 | slot;
}

/* The slot of an id that is in use; 0 for every other. */
static inline uint32_t pool_find(const struct pool *pool, sched_id id)
{
    uint32_t slot = (uint32_t)id, generation = (uint32_t)(id >> 32);

    if (slot == 0 || slot > pool->used || (generation & 1) == 0)
        return 0;
    return pool_item(pool, slot)->generation == generation ? slot : 0;
}

static inline struct function *function_at(const struct sched *s, uint32_t slot)
{
    return (struct function *)(s->functions.items + (size_t)slot * sizeof(struct function));
}

static inline struct target *target_at(const struct sched *s, uint32_t slot)
{
    return (struct target *)(s->targets.items + (size_t)slot * sizeof(struct target));
}

static inline struct call *call_at(const struct sched *s, uint32_t slot)
{
    return (struct call *)(s->calls.items + (size_t)slot * sizeof(struct call));
}

static inline struct sandbox *sandbox_at(const struct sched *s, uint32_t slot)
{
    return (struct sandbox *)(s->sandboxes.items + (size_t)slot * sizeof(struct sandbox));
}

static inline struct link *stack_link(struct sched *s, uint32_t slot)
{
    return &sandbox_at(s, slot)->stack;
}

static inline struct link *age_link(struct sched *s, uint32_t slot)
{
    return &sandbox_at(s, slot)->age;
}

static inline struct link *waiting_link(struct sched *s, uint32_t slot)
{
    return &call_at(s, slot)->waiting;
}

static inline struct link *target_ring_link(struct sched *s, uint32_t slot)
{
    return &target_at(s, slot)->ring;
}

static inline struct link *sibling_link(struct sched *s, uint32_t slot)
{
    return &target_at(s, slot)->siblings;
}

static inline struct link *kept_link(struct sched *s, uint32_t slot)
{
    return &target_at(s, slot)->kept;
}

static inline struct link *function_ring_link(struct sched *s, uint32_t slot)
{
    return &function_at(s, slot)->ring;
}

LIST_OF(age, age_link)
LIST_OF(waiting, waiting_link)
LIST_OF(target_ring, target_ring_link)
LIST_OF(sibling, sibling_link)
LIST_OF(kept, kept_link)
LIST_OF(function_ring, function_ring_link)

/* Frees a retired target, and a removed function, with which nothing is left. */
void target_let_go(struct sched *s, uint32_t slot);

/* --- Time and actions (actions.c) */

/* Takes the owner's time: one that stepped back stood still. */
static inline void clock_set(struct sched *s, int64_t now_ns)
{
    const uint64_t most = (uint64_t)1 << 61;

    if (s->seen && now_ns > s->raw_ns) {
        uint64_t passed = (uint64_t)now_ns - (uint64_t)s->raw_ns, left = most - (uint64_t)s->now_ns;

        s->now_ns += (int64_t)(passed < left ? passed : left);
    } else if (s->seen && (uint64_t)s->raw_ns - (uint64_t)now_ns <= SCHED_JITTER_NS) {
        return;
    }
    s->seen = true;
    s->raw_ns = now_ns;
}

void act(struct sched *s, enum sched_do what, uint32_t call, uint32_t sandbox);

/* --- Moves (moves.c): the one gate of each kind, and what belongs to a move */

extern const bool sched_sandbox_moves[SANDBOX_STATES][SANDBOX_STATES];
extern const bool sched_call_moves[CALL_STATES][CALL_STATES];

void sandbox_move(struct sched *s, struct sandbox *sandbox, enum sandbox_state to);
void call_move(struct sched *s, struct call *call, enum call_state to);

/* A new one in STARTING; 0 where there is no room. */
uint32_t sandbox_start(struct sched *s, uint32_t target, uint32_t call, bool provisioned);
void sandbox_run(struct sched *s, uint32_t sandbox, uint32_t call);
void sandbox_idle(struct sched *s, uint32_t sandbox);
void sandbox_unstack(struct sched *s, uint32_t sandbox);
void sandbox_close(struct sched *s, uint32_t sandbox);
void sandbox_gone(struct sched *s, uint32_t sandbox);
/* It is one on demand from here on. */
void sandbox_unprovision(struct sched *s, uint32_t sandbox);

uint32_t call_begin(struct sched *s, uint32_t target, uint64_t user);
void call_wait(struct sched *s, uint32_t call);
void call_unwait(struct sched *s, uint32_t call);
void call_end(struct sched *s, uint32_t call);
/* Whose lease the call has: the target's, or one of the function's on demand. */
void call_lease(struct sched *s, struct call *call, bool provisioned);

static inline bool has_room(const struct sched *s)
{
    return s->sandboxes.live < s->config.room;
}

/* --- Placing (place.c) */

/* Where an admitted call runs: warm, started or waiting. */
void place(struct sched *s, uint32_t call, struct sched_decision *decision);
/* A sandbox that may serve on: the next of its target, idle, or closed for its room. */
void release(struct sched *s, uint32_t sandbox);
/* After each input: room to those who wait, provisioned sandboxes, and pressure on those that are in the way. */
void settle_now(struct sched *s);

static inline void settle(struct sched *s)
{
    if (s->stir)
        settle_now(s);
}

/* --- Limits (admit.c) */

/* SCHED_NO_REASON, or why not. What it costs is taken; `paid`: a start is part of that. */
enum sched_reason admit(struct sched *s, const struct target *target, bool *paid, uint32_t *retry_after_ms);

static inline uint64_t rate_capacity(const struct sched *s, const struct function *function)
{
    if (function != NULL && function->reserved >= 0)
        return (uint64_t)s->config.rate_factor * (uint64_t)function->reserved;
    return s->reserved >= s->config.account_limit
               ? 0
               : (uint64_t)s->config.rate_factor * (s->config.account_limit - s->reserved);
}

/* --- Provisioned concurrency (provision.c) */

void provision_walk(struct sched *s);
/* The next start waits for its pause. */
void provision_back_off(struct sched *s, uint32_t target, bool failed);

#endif
