/* Frames over a stream socket: relay.h. */
#include "relay/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ALIGN = 8 }; /* of frames among each other: what is read is where the compiler expects it */

static size_t rounded(size_t size)
{
    return (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static int make_room(struct relay_bytes *bytes, size_t size)
{
    if (bytes->from == bytes->to)
        bytes->from = bytes->to = 0;
    if (bytes->room - bytes->to >= size)
        return 0;
    size_t gone = bytes->from & ~(size_t)(ALIGN - 1); /* `from` may be within a frame, whose place is kept aligned */
    if (gone > 0) {
        memmove(bytes->data, bytes->data + gone, bytes->to - gone);
        bytes->to -= gone;
        bytes->from -= gone;
    }
    size_t room = bytes->room ? bytes->room : RELAY_READ;
    while (room - bytes->to < size)
        room *= 2;
    if (room == bytes->room)
        return 0;
    uint8_t *data = realloc(bytes->data, room);
    if (data == NULL)
        return -1;
    bytes->data = data;
    bytes->room = room;
    return 0;
}

int relay_read(struct relay *relay)
{
    struct relay_bytes *in = &relay->in;

    if (make_room(in, RELAY_READ) < 0)
        return -1;
    ssize_t got = recv(relay->fd, in->data + in->to, in->room - in->to, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (got == 0) {
        errno = 0;
        return -1;
    }
    in->to += (size_t)got;
    return in->to == in->room;
}

const struct relay_frame *relay_next(struct relay *relay, bool *broken)
{
    struct relay_bytes *in = &relay->in;
    size_t left = in->to - in->from;

    *broken = false;
    if (left < sizeof(struct relay_frame))
        return NULL;
    const struct relay_frame *frame = (const struct relay_frame *)(in->data + in->from);
    if (frame->size < sizeof *frame || frame->size > RELAY_FRAME) {
        *broken = true;
        return NULL;
    }
    if (left < rounded(frame->size))
        return NULL;
    in->from += rounded(frame->size);
    return frame;
}

struct relay_frame *relay_put(struct relay *relay, unsigned kind, uint64_t serial, size_t size)
{
    struct relay_bytes *out = &relay->out;

    if (size > RELAY_FRAME - sizeof(struct relay_frame)) {
        errno = EMSGSIZE;
        return NULL;
    }
    size += sizeof(struct relay_frame);
    if (make_room(out, rounded(size)) < 0)
        return NULL;
    struct relay_frame *frame = (struct relay_frame *)(out->data + out->to);
    memset(out->data + out->to, 0, sizeof *frame);
    memset(out->data + out->to + rounded(size) - ALIGN, 0, ALIGN); /* what fills it up */
    frame->size = (uint32_t)size;
    frame->kind = (uint8_t)kind;
    frame->serial = serial;
    out->to += rounded(size);
    return frame;
}

int relay_flush(struct relay *relay)
{
    struct relay_bytes *out = &relay->out;

    while (out->from < out->to) {
        ssize_t sent = send(relay->fd, out->data + out->from, out->to - out->from, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN ? 1 : -1;
        }
        out->from += (size_t)sent;
    }
    out->from = out->to = 0;
    return 0;
}

size_t relay_waits(const struct relay *relay)
{
    return relay->out.to - relay->out.from;
}

void relay_free(struct relay *relay)
{
    free(relay->in.data);
    free(relay->out.data);
    relay->in = relay->out = (struct relay_bytes){0};
}
