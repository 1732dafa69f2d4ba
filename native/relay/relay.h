/* The door to the dispatch loop (native/sched/door.h) for fronts in other processes: a stream socket with the engine at
 * one end, relay_near, which submits what comes, and at the other a process with relay_far, which is a door to its own
 * front. A turn's calls and a turn's answers go over it with one system call each.
 *
 *     far → near   CALL, CANCEL
 *     near → far   TOLD: the answer; HANDED: the engine goes on with it as `request_id`, or has not begun it
 *
 * Guarantees: a frame's length is compared with a limit before it is believed; a far end that reads nothing is read no
 * further; what is under way when the far end goes runs to its end, or is cancelled, as its owner says.
 *
 * Pure C, one thread on each side, nothing global. */
#ifndef RELAY_H
#define RELAY_H

#include "sched/door.h"
#include "sched/ids.h"

#include <stddef.h>

enum {
    RELAY_FRAME = 1 << 23, /* bytes of a frame at most: of an answer; a call's are LOOP_EVENT_MOST and little more */
    RELAY_NAME = 80,       /* bytes of a function's name; where the first is 0, of a URL's id behind it */
    RELAY_CALLS = 65536,   /* under way at once */
    RELAY_READ = 262144,
    RELAY_WAITS = 4 << 20, /* bytes that wait to be sent before nothing more is read */
};

struct relay_bytes {
    uint8_t *data;
    size_t from, to, room;
};

struct relay {
    int fd; /* its owner's */
    struct relay_bytes in, out;
};

/* What came: 1 more may be there, 0 not now, -1 with errno (0: the other end is gone). */
int relay_read(struct relay *relay);
/* The next whole frame; NULL where there is none. It is there until relay_read. *broken: the other end is out of step.
 */
struct relay_frame;
const struct relay_frame *relay_next(struct relay *relay, bool *broken);
/* Room for a frame with so many bytes behind its head; NULL with ENOMEM. */
struct relay_frame *relay_put(struct relay *relay, unsigned kind, uint64_t serial, size_t size);
/* 1: the socket takes no more, 0: all was sent, -1 with errno. */
int relay_flush(struct relay *relay);
size_t relay_waits(const struct relay *relay);
void relay_free(struct relay *relay);

struct relay_frame {
    uint32_t size; /* of the whole */
    uint8_t kind, name_size;
    uint16_t nothing;
    uint64_t serial; /* by which the far end knows the call: a slot below, how often that was used above */
    int64_t at_ns;   /* accepted, or answered: CLOCK_MONOTONIC is one for all processes of a host */
    char request_id[LOOP_ID];
    uint32_t nothing_more;
    uint8_t rest[]; /* CALL: name, event; TOLD: answer */
};
_Static_assert(offsetof(struct relay_frame, rest) == sizeof(struct relay_frame), "what follows the head is at its end");
enum { RELAY_CALL = 1, RELAY_CANCEL, RELAY_TOLD, RELAY_HANDED };

/* --- The far end ------------------------------------------------------------------------------------------------- */

struct far_slot {
    struct door_call *call; /* NULL: free */
    uint32_t uses, next;
};

struct relay_far {
    struct door door;
    struct relay relay;
    bool gone;
    struct ids ids;
    struct loop_line line; /* that of any function: of which, is known until it is submitted */
    char name[RELAY_NAME];
    size_t name_size;
    struct far_slot *slots;
    uint32_t count, free; /* `free`: one more than the first that is */
    size_t under_way;
    /* Something waits to be sent: relay_flush is wanted, soon. */
    void (*wake)(void *arg);
    void *standing; /* what `handed` gets */
    void *arg;
};

void far_open(struct relay_far *far, int fd, const char *version);
/* Take what has come. 1, 0, -1 as of relay_read; -1: every call was handed. */
int far_turn(struct relay_far *far);
void far_close(struct relay_far *far);

/* --- The near end ------------------------------------------------------------------------------------------------ */

struct near_call;

struct relay_near {
    struct relay relay;
    struct door *door;
    bool gone;
    struct door_later later;
    struct near_call **calls; /* by slot */
    uint32_t count;
    size_t under_way;
    uint64_t told, left; /* how many until now, and how many went on in Python */
    /* Something waits to be sent and this is no turn of the lane: relay_flush is wanted, now. */
    void (*wake)(void *arg);
    /* The function of a URL, NULL for none; of that moment. */
    const char *(*function_of)(void *arg, const char *url_id, size_t size, size_t *found);
    /* It goes on in Python, for whoever names this request id, an engine.sandbox.box.Call as of door.h. */
    void (*handed)(void *arg, const char *request_id, void *standing);
    /* After near_leave, once: nothing refers to it any more. */
    void (*over)(void *arg);
    void *arg;
};

void near_open(struct relay_near *near, struct door *door, int fd);
int near_turn(struct relay_near *near);
/* Calls under way are cancelled and handed back: there is no more time for them. */
void near_abandon(struct relay_near *near);
/* The far end is gone: calls under way are cancelled, or run to their end with nobody to be told. */
void near_leave(struct relay_near *near, bool cancel);
/* What it has of memory; after `over`. */
void near_close(struct relay_near *near);

#endif
