/* An answer's chunks on their way from a guest's pipe to a client's socket, in HTTP's chunked coding (RFC 9112 section
 * 7.1): read and written here, so that a long answer costs the event loop's Python nothing for each chunk.
 *
 * Each read becomes one chunk of the coding, whatever the guest's chunks were; where the answer is AWS's event stream,
 * one message of it (crc.h). What is not a chunk, or one that the guest may not send, is left for whoever follows the
 * guest otherwise, with all that was read behind it. No more is read until what was read is written: a slow client
 * holds the guest up.
 *
 * Pure C, one thread, no descriptor of its own: both are non-blocking and its owner's. The frames are those of
 * engine/guest/wire.py. */
#ifndef CARRY_H
#define CARRY_H

#include "crc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    CARRY_CHUNK = 262144, /* the most that a guest's chunk may have: wire.CHUNK_LIMIT_BYTES */
    CARRY_BUFFER = 327680,
    CARRY_PIECES = 256, /* of one write */
    CARRY_HEADERS = 256,
    CARRY_READS = 2, /* of one turn, so that others have theirs */
};

enum carry_found {
    CARRY_EMPTY, /* nothing more to read now, or enough for this turn */
    CARRY_FULL,  /* the client's socket takes no more now */
    CARRY_FRAME, /* something else comes next; all before it is written */
    CARRY_END,   /* the guest's end is closed; likewise */
    CARRY_GONE,  /* the client is */
};

struct carry {
    int in, out;
    uint64_t left; /* bytes that the guest may still send, without those of the chunk under way */
    uint32_t body; /* bytes of the chunk under way that were not read yet */
    bool stuck;    /* something else than a chunk is next */
    size_t at, end;
    struct iovec pieces[CARRY_PIECES + 3];
    unsigned first, count;
    size_t headers; /* bytes of a message's headers, 0 for none */
    struct crc crc;
    uint8_t headers_of[CARRY_HEADERS];
    uint8_t head[32 + CARRY_HEADERS], tail[8];
    uint8_t buffer[CARRY_BUFFER];
};

/* Begin: `out` is the client's. With headers, each piece is a message with them. -1 where these are too long. */
int carry_open(struct carry *carry, int out, const void *headers, size_t headers_size);
/* Write these bytes first; they are its caller's until a turn has returned something else than CARRY_FULL. */
void carry_put(struct carry *carry, const void *data, size_t size);
/* Take over a guest's pipe, and what was read of it. -1 where that is too much. */
int carry_take(struct carry *carry, int in, uint64_t left, const void *data, size_t size);
/* Read and write what is there. */
enum carry_found carry_turn(struct carry *carry);
/* Write what was read: CARRY_EMPTY when nothing of it is left, CARRY_FULL or CARRY_GONE. */
enum carry_found carry_flush(struct carry *carry);

#endif
