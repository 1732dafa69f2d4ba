/* One connection of a gRPC client: HTTP/2 by libnghttp2, gRPC's framing of messages, and credit both ways.
 *
 * The owner reads when the socket is readable and flushes when it has something to say; everything that comes is told
 * by the functions of front_ops, from within front_read or front_flush. What a call's owner sends is queued by
 * reference and given back once its bytes are in a buffer for the socket. A call is known by its pointer from
 * `opened` to `closed`, which is told once for each, whatever ends it.
 *
 * Credit: a client may send as much as its stream's window of what has not been taken, beside one message that comes
 * in; the connection's own window is given back at once, so that no call waits for another's owner.
 *
 * Pure C, one thread, nothing global. What a client sends is hostile: no length of its is believed before it was
 * compared with a limit. The wire: RFC 9113, and PROTOCOL-HTTP2.md of gRPC. */
#ifndef FRONT_H
#define FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FRONT_READ = 65536,          /* bytes read at once */
    FRONT_TURN = 4 * FRONT_READ, /* bytes read before others have their turn */
    FRONT_OUT = 262144,          /* bytes that wait for the socket at most */
    FRONT_FRAME = 65536,         /* bytes of a DATA frame at most, where the client takes as much */
    FRONT_WINDOW = 1 << 20,      /* of a stream */
    FRONT_ALL = 1 << 30,         /* of the connection */
    FRONT_HEAD = 16384,          /* of a call's metadata */
    FRONT_SAID = 61440,          /* of a response's; libnghttp2 drops more than 64 KiB without a word */
    FRONT_FIELDS = 56,           /* of them */
    FRONT_STREAMS = 16384,       /* calls under way at once */
    FRONT_RESETS_BURST = 100000, /* of calls cancelled by a client: those of a thousand callers who leave together */
    FRONT_RESETS_RATE = 10000,   /* a second */
};

struct front;
struct front_call;

struct front_text {
    const char *data;
    size_t size;
};

/* What a call begins with, for as long as it lasts. */
struct front_head {
    struct front_text path, encoding, timeout;
    const char *metadata; /* name, value, name, value …, each with a length in two bytes before it */
    size_t metadata_size;
};

struct front_field {
    struct front_text name, value;
};

struct front_ops {
    /* Returns what the call is known by to its owner. */
    void *(*opened)(void *owner, struct front_call *call, const struct front_head *head);
    /* A whole message, to be copied; `compressed` by the head's encoding. To be acknowledged by front_taken. */
    void (*message)(void *user, const uint8_t *data, size_t size, bool compressed);
    /* A message was announced that is larger than the limit; nothing of it is kept. */
    void (*oversized)(void *user, size_t size);
    /* The client sends nothing more; not `whole` where that was within a message. */
    void (*half_closed)(void *user, bool whole);
    /* Less than FRONT_OUT waits to be sent of a call that was told that more does. */
    void (*drained)(void *user);
    /* It is over: nothing more is told of it, and the pointer is gone. `whole` if the client has its status. */
    void (*closed)(void *user, bool whole);
    /* What was queued by reference is no longer needed. */
    void (*released)(void *hold);
};

/* NULL with errno. The descriptor is the caller's; `limit` is of a message, in bytes. */
struct front *front_new(int fd, const struct front_ops *ops, void *owner, size_t limit);
/* Calls that are under way are told as closed. */
void front_free(struct front *front);

/* Read what has come. 1: there may be more; 0: not now; -1: the connection is over. */
int front_read(struct front *front);
/* Send what waits. 1: the socket takes no more; 0: all was sent; -1: the connection is over. */
int front_flush(struct front *front);
size_t front_calls(const struct front *front);
/* Take no more calls, and tell the client so. */
void front_shut(struct front *front);

/* Queue the response's headers, with these fields beside the usual ones; nothing where they were queued. -1 where they
 * cannot be sent. */
int front_begin(struct front_call *call, const struct front_field *fields, size_t count);
/* Queue a message. Returns 1 if more than FRONT_OUT waits (`drained` is told), 0 if not, -1 with errno where it cannot;
 * `hold` is released in each case. */
int front_send(struct front_call *call, const void *data, size_t size, void *hold);
/* Queue the end: a gRPC status, its message as it goes over the wire, further trailers. Where they cannot be sent, -1
 * and nothing is queued. */
int front_finish(struct front_call *call, int status, struct front_text message, const struct front_field *fields,
                 size_t count);
/* Answer what is no gRPC call, or give one up. */
void front_refuse(struct front_call *call, const char *http_status);
void front_reset(struct front_call *call);
/* What it began with. */
struct front_head front_head_of(const struct front_call *call);
/* From here on it is told by these, and known as this; also from within `opened`, which returns the same then. */
void front_become(struct front_call *call, const struct front_ops *ops, void *user);
/* The owner has taken a message. */
void front_taken(struct front_call *call);

#endif
