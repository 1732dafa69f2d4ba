/* What a call and a connection are, for the files of native/front alone: front.c has the connection, request.c what
 * comes in, response.c what goes out. The functions here are those that nghttp2 calls. */
#ifndef FRONT_CALL_H
#define FRONT_CALL_H

#include "front/front.h"

#include <nghttp2/nghttp2.h>
#include <string.h>

enum { PREFIX = 5 };

struct out {
    struct out *next;
    const uint8_t *data;
    size_t size, sent; /* of the prefix and the data */
    void *hold;
    uint8_t prefix[PREFIX];
};

struct front_call {
    struct front *front;
    const struct front_ops *ops;
    struct front_call *previous, *next;
    void *user;
    int32_t id;
    bool opened, half_closed, begun, finished, deferred, closing, over_head, stalled, whole, refused;
    bool is_post, is_grpc;
    /* in */
    uint8_t prefix[PREFIX];
    unsigned prefix_got;
    uint8_t *message;
    size_t message_size, message_got, room;
    size_t waiting; /* messages told and not taken */
    size_t held;    /* bytes of the window that are given back once they are */
    char *head;
    size_t head_size, head_room;
    struct front_text path, encoding, timeout; /* of own memory */
    /* out */
    struct out *first, **last;
    size_t queued;
    char *trailers; /* as head's metadata */
    size_t trailers_size;
};

struct front {
    nghttp2_session *session;
    const struct front_ops *ops; /* of a call that begins */
    void *owner;
    int fd;
    size_t limit, count;
    struct front_call *calls;
    size_t out_from, out_to;
    uint8_t in[FRONT_READ], out[FRONT_OUT + FRONT_FRAME + 64];
};

/* Forget it and tell its owner. */
void call_forget(struct front_call *call);
void call_drop(struct front_call *call, struct out *out);

int request_begin(nghttp2_session *session, const nghttp2_frame *frame, void *data);
int request_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                   const uint8_t *value, size_t value_size, uint8_t flags, void *data);
int request_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data);
int request_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *owner);

int response_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data);
ssize_t response_length(nghttp2_session *session, uint8_t type, int32_t id, int32_t session_window,
                        int32_t stream_window, uint32_t frame_size, void *data);

static inline struct front_call *call_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* A text with its length before it. */
static inline char *put(char *at, const void *data, size_t size)
{
    at[0] = (char)(size >> 8);
    at[1] = (char)size;
    memcpy(at + 2, data, size);
    return at + 2 + size;
}

#endif
