/* The dispatch loop: plain calls to warm sandboxes, from the decision to the answer, with nobody in between.
 *
 * Theory of operation. A *plain* call is one event with one answer in one piece. loop_submit asks the scheduler for a
 * warm sandbox (sched.h), writes the event's frame to the seat of that sandbox in the lane (lane.h), and returns.
 * loop_turn takes what the guests of such sandboxes have sent: a whole answer, with nothing odd about it, ends its
 * call: the sandbox goes back to the scheduler, which may have the next call for it, and the caller is told. Whatever
 * is odd (anything but a whole answer, output, memory that grew, a deadline) makes the call its *owner's*: it is handed
 * over as it is, once, with its lease and its sandbox, and the loop knows it no more. So the loop has one way through,
 * and all rules about what goes wrong are in one place, which is not here.
 *
 * Where no sandbox is free and there is no room for another one, the call waits in the scheduler's queue, which knows
 * it by its address. When the scheduler has a warm sandbox for it, be it that a call of the loop ended there or another
 * one, its frame is written at once. A sandbox that has to be started for it is its owner's to start: it is handed over
 * for that, and so is one that is refused at the end of a drain, or that nobody waits for any longer.
 *
 * A seat takes part once its owner has said that its sandbox is at rest (loop_offer), until he takes it back
 * (loop_take). The scheduler's user value of a sandbox is its seat, or 0. After each input that the owner gives the
 * scheduler himself he calls loop_act, as he reads the scheduler's actions: before he does them.
 *
 * Guarantees: a call that was taken is told or handed over, once; nothing is allocated for a call, which is its
 * caller's memory; no time is read but CLOCK_MONOTONIC, and CLOCK_REALTIME for the documents that show it.
 *
 * Pure C, one thread: the one that owns the lane and the scheduler. The lane's descriptor is readable when loop_turn
 * has something to do, deadlines included: it can be waited for here, or be one of many in another loop, such as that
 * of a front whose connections are in the same thread. */
#ifndef LOOP_H
#define LOOP_H

#include "lane.h"
#include "sched.h"

enum {
    LOOP_ID = 36,                        /* bytes of a request id, a UUID */
    LOOP_HEAD = 1024,                    /* an event's frame up to its payload fits in */
    LOOP_EVENT_MOST = 65536 - LOOP_HEAD, /* a payload; a larger one is not taken by an empty pipe at once */
};

/* What plain calls of one function have in common. Its owner's, for as long as there are calls of it. */
struct loop_line {
    sched_id target;
    uint32_t timeout_ms;
    uint32_t result_limit;
    const char *arn; /* nothing in it has to be escaped in JSON */
    /* For who reports: the loop asks for neither. */
    uint32_t memory_mb;
    const char *version;
    void *user;
};

struct loop_call;
/* The call has ended well: its `answer` is there until this returns. A call may be submitted from here. */
typedef void loop_told(struct loop_call *call);

/* Where a call is. All but the first two are what it is handed over as. */
enum loop_stands {
    LOOP_NOWHERE, /* not the loop's */
    LOOP_WAITS,   /* in the scheduler's queue: nobody has it, and nothing of it was sent */
    LOOP_RUNS,    /* on its sandbox, which has so much of its frame as `sent` says */
    LOOP_CHOSEN,  /* the same by the scheduler, but the sandbox does not take part, or took nothing */
    LOOP_STARTS,  /* `sandbox` is to be started for it, as of SCHED_DO_START */
    LOOP_REFUSED, /* it is no call of the scheduler's any longer: SCHED_DO_REFUSE */
    LOOP_LEFT,    /* likewise: it was cancelled while it waited */
};

/* One plain call: its caller's, who leaves it alone from loop_submit until it is told or handed over. */
struct loop_call {
    const struct loop_line *line;
    loop_told *told;
    void *user;
    const uint8_t *payload; /* JSON in ASCII, checked */
    size_t payload_size;
    char request_id[LOOP_ID];
    int64_t accepted_ns; /* here and below: CLOCK_MONOTONIC, or CLOCK_REALTIME for those on the wall */
    /* Once it is taken or lent. */
    enum loop_stands stands;
    int64_t waits_ns;                /* since when it waited; 0: it did not have to */
    int64_t begun_wall_ns, began_ns; /* the event was about to be written; 0: it waits */
    sched_id call, sandbox;          /* the latter is 0 while it waits */
    lane_id seat;
    size_t sent; /* of its frame, where it is handed over before all was */
    /* Once it has ended. */
    const uint8_t *answer;
    size_t answer_size;
    int64_t answered_ns, ended_wall_ns;
    uint64_t peak_bytes, cpu_us;
};

enum loop_submitted {
    LOOP_TAKEN,     /* it runs or waits */
    LOOP_ELSEWHERE, /* a sandbox is to be started for it, or something speaks against it: nothing has changed */
    LOOP_LENT,      /* `call` runs on `sandbox` by the scheduler, but its owner is to do it */
};

struct loop_usage {
    uint64_t peak_bytes, cpu_us, stored_bytes;
};

struct loop_owner {
    /* What the sandbox has used until now: 0, or -1 where that cannot be asked for here. */
    int (*usage)(void *seat_owner, struct loop_usage *usage);
    /* The call has ended well; it is told next. For who keeps the books. */
    void (*ended)(struct loop_call *call, void *seat_owner, void *arg);
    /* The call is yours, as it `stands`, with its sandbox and its lease where it has them. Its seat stays busy where
     * the answer is still to come. `seat_owner` is NULL where there is no seat. */
    void (*hand)(struct loop_call *call, void *seat_owner, void *arg);
    /* The scheduler has actions that are not the loop's, or has ended a call that waited. */
    void (*stirred)(void *arg);
    /* News of a seat that has no plain call (any more): as of lane_turn. */
    lane_tell *other;
    void *arg;
};

/* A sandbox's at rest. */
struct loop_rest {
    uint64_t peak_bytes;   /* as the kernel counts it; another makes a call its owner's */
    uint64_t shown_bytes;  /* what a report says of it */
    uint64_t cpu_us;       /* until now */
    uint64_t stored_bytes; /* in /tmp; more makes a call its owner's */
};

struct loop_seat {
    lane_id id; /* 0: nobody's */
    bool ready;
    struct loop_call *call;
    int64_t due_ns;
    struct loop_rest rest;
};

struct loop {
    struct lane *lane;
    struct sched *sched; /* NULL: no call is taken */
    struct loop_owner owner;
    int timer;        /* a timerfd in the lane's epoll set */
    int64_t fires_ns; /* what it is set to; INT64_MAX: to nothing */
    uint32_t count, running, waiting;
    struct loop_seat *seats; /* by the lane's index */
    uint64_t taken, told, handed;
};

/* 0, or -1 with errno. The lane is open until loop_close, which hands nothing over: no call may be under way. */
int loop_open(struct loop *loop, struct lane *lane, const struct loop_owner *owner);
void loop_close(struct loop *loop);

/* 0, or -1 with errno; EBUSY while it has a call. */
int loop_offer(struct loop *loop, lane_id seat, const struct loop_rest *rest);
/* It takes part no longer; its call, if it has one, is handed over before this returns. Whether it took part. */
bool loop_take(struct loop *loop, lane_id seat);
/* What it was left at, taking part or not; false for a seat that never did. */
bool loop_rest(const struct loop *loop, lane_id seat, struct loop_rest *rest);
/* The call that a seat has, or NULL. */
struct loop_call *loop_of(const struct loop *loop, lane_id seat);
/* A call's frame up to its payload, as of engine/guest/wire.py; how many bytes, 0 where it does not fit. */
size_t loop_frame(const struct loop_call *call, uint8_t head[LOOP_HEAD]);

enum loop_submitted loop_submit(struct loop *loop, struct loop_call *call);
/* Nobody waits for it any longer, or somebody else is to go on with it: it is handed over before this returns. One that
 * waits leaves the queue. It must be under way. */
void loop_cancel(struct loop *loop, struct loop_call *call);
/* Do what the scheduler has said of the calls that wait. */
void loop_act(struct loop *loop);

/* As lane_turn, and what is due by the clock. */
int loop_turn(struct loop *loop, int timeout_ms);

#endif
