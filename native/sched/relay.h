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
#ifndef RELAY_H
#define RELAY_H

#include "crc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    RELAY_CHUNK = 262144, /* the most that a guest's chunk may have: wire.CHUNK_LIMIT_BYTES */
    RELAY_BUFFER = 327680,
    RELAY_PIECES = 256, /* of one write */
    RELAY_HEADERS = 256,
    RELAY_READS = 2, /* of one turn, so that others have theirs */
};

enum relay_found {
    RELAY_EMPTY, /* nothing more to read now, or enough for this turn */
    RELAY_FULL,  /* the client's socket takes no more now */
    RELAY_FRAME, /* something else comes next; all before it is written */
    RELAY_END,   /* the guest's end is closed; likewise */
    RELAY_GONE,  /* the client is */
};

struct relay {
    int in, out;
    uint64_t left; /* bytes that the guest may still send, without those of the chunk under way */
    uint32_t body; /* bytes of the chunk under way that were not read yet */
    bool stuck;    /* something else than a chunk is next */
    size_t at, end;
    struct iovec pieces[RELAY_PIECES + 3];
    unsigned first, count;
    size_t headers; /* bytes of a message's headers, 0 for none */
    struct crc crc;
    uint8_t headers_of[RELAY_HEADERS];
    uint8_t head[32 + RELAY_HEADERS], tail[8];
    uint8_t buffer[RELAY_BUFFER];
};

/* Begin: `out` is the client's. With headers, each piece is a message with them. -1 where these are too long. */
int relay_open(struct relay *relay, int out, const void *headers, size_t headers_size);
/* Write these bytes first; they are its caller's until a turn has returned something else than RELAY_FULL. */
void relay_put(struct relay *relay, const void *data, size_t size);
/* Take over a guest's pipe, and what was read of it. -1 where that is too much. */
int relay_take(struct relay *relay, int in, uint64_t left, const void *data, size_t size);
/* Read and write what is there. */
enum relay_found relay_turn(struct relay *relay);
/* Write what was read: RELAY_EMPTY when nothing of it is left, RELAY_FULL or RELAY_GONE. */
enum relay_found relay_flush(struct relay *relay);

#endif
