/* Where the front meets the dispatch loop: unary calls of engine.v1.InvocationService/Invoke that are plain go from the
 * connection to a warm sandbox and back, in C.
 *
 * Theory of operation. A call that may be such a one is *fresh* from its headers on. If its message and its end come
 * with them, and there is a line for its function, it is submitted to the door (sched/door.h), and is the loop's until
 * it is told: then its answer is queued, and sent at the end of the turn. Everything else is the servicer's, which is
 * told of the call from its beginning (`other`), as if nobody had looked at it: each call that is not Invoke, that is
 * compressed, has more fields, no line, or more to read than came at once. A call that the loop hands over goes on as a
 * servicer's that has begun.
 *
 * A client that leaves, or whose deadline passes, has its call cancelled, which kills the sandbox. Answers wait for
 * their clients as those of servicers do (front.h); no sandbox waits with them.
 *
 * One thread, that of the door. */
#ifndef JOIN_H
#define JOIN_H

#include "front/front.h"
#include "sched/door.h"

struct joined;

struct join_ops {
    /* A call that the door has handed over goes on as `standing`; `left_ns` is until its deadline, INT64_MAX where it
     * has none. Returns what it is known by to `other`; NULL: it could not be. */
    void *(*handed)(void *owner, struct front_call *call, const struct front_head *head, void *standing,
                    int64_t left_ns);
    /* Something was queued: to be sent at the end of the lane's turn, or soon; never from within this. */
    void (*queued)(void *owner);
    /* None is under way any more, after join_shut. */
    void (*none)(void *owner);
};

/* Of one server. */
struct join {
    const struct front_ops *other;
    const struct join_ops *ops;
    struct door *door;
    void *owner;
    int timer;                          /* a timerfd: readable when join_due has something to do */
    int64_t fires_ns;                   /* what it is set to; INT64_MAX: to nothing */
    bool shut;                          /* all further ones are the servicer's */
    size_t under_way;                   /* from when they are taken until they are closed or handed over */
    struct joined *calls;               /* those that the loop has */
    uint64_t taken, told, handed, left; /* so many: told natively, gone on with in Python, cancelled */
};

/* Of one connection: the owner that front_new is given, with JOIN_FRONT. */
struct join_end {
    struct door_later later; /* its owner's, for join_ops.queued */
    struct join *join;
    void *owner; /* that of `other`, and of join_ops but for `none` */
    struct joined *fresh;
};

extern const struct front_ops JOIN_FRONT;

/* 0, or -1 with errno. */
int join_open(struct join *join, struct door *door, const struct front_ops *other, const struct join_ops *ops,
              void *owner);
/* No call may be left. */
void join_close(struct join *join);
/* After each front_read: what has not come whole is the servicer's. */
void join_settle(struct join_end *end);
/* Take no more. */
void join_shut(struct join *join);
/* Cancel what is under way, with a status: the server stops. */
void join_stop(struct join *join);
/* End what is past its deadline. */
void join_due(struct join *join);

#endif
