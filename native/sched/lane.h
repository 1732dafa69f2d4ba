/* The pipes of sandboxes: events out, answers in.
 *
 * A seat is one sandbox's pair of pipes and its log. While it is *busy* it has an event whose answer comes in one
 * piece, and the lane itself takes that; anything else that comes is its owner's to follow, who has it read by then.
 * All seats of a lane are in one epoll set, whose descriptor is readable when lane_turn has something to do: it can be
 * waited for here, or be one of many in another loop.
 *
 * Pure C, one thread. What a guest sends is hostile: nothing is allocated for it, and no length of its is believed. The
 * frames are those of engine/guest/wire.py. */
#ifndef LANE_H
#define LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { LANE_BUFFER = 65536, LANE_BATCH = 64, LANE_HEADER = 8, LANE_RESULT = 18 };

typedef uint64_t lane_id; /* generation << 32 | index + 1; 0 is never one */

enum lane_what {
    LANE_ANSWER, /* of a busy seat: one RESULT frame, of which this is the body; it is not busy any longer */
    LANE_DATA,   /* of a busy seat: this was read, and the rest is its owner's; it is not busy any longer */
    LANE_END,    /* of a busy seat: the other end is closed; likewise */
    LANE_READY,  /* of another: there is something to read, by its owner */
};

struct lane_news {
    enum lane_what what;
    lane_id seat;
    void *owner;
    const uint8_t *data; /* until the next turn */
    size_t size;
    int64_t at_ns; /* CLOCK_MONOTONIC */
    bool logged;   /* there is something in the log's pipe, written before the answer */
};

struct lane_seat {
    int answers, events, log;
    uint32_t generation;
    bool taken, busy, watched;
    void *owner;
};

struct lane {
    int epoll;
    uint32_t count, free_count;
    struct lane_seat *seats;
    uint32_t *free_seats;
    uint8_t buffer[LANE_BUFFER];
};

typedef void lane_tell(const struct lane_news *news, void *arg);

/* 0, or -1 with errno. */
int lane_open(struct lane *lane);
void lane_close(struct lane *lane);

/* A seat for descriptors that stay its owner's, and are open until lane_remove. 0 with errno where it cannot be. */
lane_id lane_add(struct lane *lane, int answers, int events, int log, void *owner);
/* Forget it; news of it that is on its way is not told. Safe for one that is gone. */
void lane_remove(struct lane *lane, lane_id seat);

/* Whose it is, NULL for one that is gone. */
void *lane_owner(struct lane *lane, lane_id seat);

/* Tell of what comes from here on, or tell nothing. 0, or -1 with errno. */
int lane_watch(struct lane *lane, lane_id seat, bool watch);

/* Write an event: its head and its payload. Returns how many bytes the pipe took, -1 with errno (EAGAIN: none). It is
 * busy from here on if it took them all. */
ssize_t lane_call(struct lane *lane, lane_id seat, const void *head, size_t head_size, const void *payload,
                  size_t payload_size);
/* Nobody waits for the answer: what comes is its owner's. */
void lane_leave(struct lane *lane, lane_id seat);

/* Tell of what has come, after waiting for it up to timeout_ms (-1: as long as it takes). Returns how much was told, -1
 * with errno. */
int lane_turn(struct lane *lane, int timeout_ms, lane_tell *tell, void *arg);

#endif
