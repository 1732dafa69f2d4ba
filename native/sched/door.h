/* The door to the dispatch loop for fronts in native code, which are extension modules of their own: what loop.h
 * offers, as functions behind pointers. engine.sandbox.box.Door gives it out as a capsule (DOOR_CAPSULE); it lives as
 * long as that.
 *
 * A front looks for its function's line, fills in a call and submits it. What is taken is told of once: `told`, with
 * the whole answer, or `handed`, where anything about it is odd (its sandbox wrote to the log, ran into its deadline,
 * crashed, has more to answer than fits, cannot be had at once …). It is then a call in Python, which goes on with it
 * as with any other: the front hears of its end from that. Whoever has gone by then says so by `cancel`, which kills
 * the sandbox, and hears nothing more.
 *
 * Guarantees: an event is checked here, so no front can forget to; the lines, the counts and the log of a call are as
 * for any other, whichever way it goes; once a call was told, handed or cancelled the loop knows it no more. Neither
 * Python code nor an allocation is between `submit` and `told`.
 *
 * One thread, with the GIL: the one of the event loop that the lane is on. */
#ifndef DOOR_H
#define DOOR_H

#include "loop.h"

#define DOOR_CAPSULE "engine.sandbox.door"

/* One call: its caller's memory, all zero at first. It may go as soon as it was told, handed or cancelled, from within
 * these too. */
struct door_call {
    struct loop_call loop; /* its caller fills in line, payload, payload_size, request_id, and accepted_ns */
    /* The call has ended well: loop.answer is there until this returns, and with it all that loop_call says. */
    void (*told)(struct door_call *call);
    /* It goes on as `standing`, a borrowed engine.sandbox.box.Call, whose `future` has its end: a Completion or what
     * was raised. May come from within submit. NULL where there was no memory for one: nothing follows. */
    void (*handed)(struct door_call *call, void *standing);
    void *user;
    bool under_way, left; /* the door's own: submitted and not told; cancelled */
};

/* What is to be done once at the end of a turn, such as to send what several calls have queued. All zero at first; it
 * stays where it is until it was run. */
struct door_later {
    struct door_later *next;
    void (*run)(struct door_later *later);
    bool waiting; /* the door's own */
};

/* `self` is the door's first field. */
struct door {
    void *self;
    /* That of a function's unpublished version, for plain calls to warm sandboxes; NULL where there is none. Good
     * until the thread does something else: it is kept for a call that was taken. */
    const struct loop_line *(*line)(void *self, const char *name, size_t size);
    /* A request id; 0, or -1 where the kernel gives no randomness. */
    int (*new_id)(void *self, char id[LOOP_ID]);
    /* LOOP_TAKEN; or LOOP_ELSEWHERE: nothing was done, the request is Python's. */
    enum loop_submitted (*submit)(void *self, struct door_call *call);
    /* Nobody waits for it any longer. It must be under way: taken, and neither told nor handed. */
    void (*cancel)(void *self, struct door_call *call);
    /* Run it at the end of the turn of the lane that is under way, before anything is in Python; false where there is
     * none, as in what was called from elsewhere than `told`. */
    bool (*later)(void *self, struct door_later *later);
};

#endif
