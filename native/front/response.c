/* Responses: headers, messages that wait for credit, and the status. */
#include "front/call.h"

#include <stdio.h>
#include <stdlib.h>

enum { FIELDS = FRONT_FIELDS + 8 };

static nghttp2_nv pair(const char *name, size_t name_size, const char *value, size_t value_size, uint8_t flags)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, name_size, value_size, flags};
}

#define FIXED(name, value)                                                                                             \
    pair(name, sizeof name - 1, value, sizeof value - 1, NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)

int response_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    (void)data;
    if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct front_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL)
        return 0;
    call->closing = true;
    if (!call->half_closed) /* the client need not go on */
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static size_t fields_of(const char *packed, size_t size, nghttp2_nv *nva, size_t count)
{
    for (size_t at = 0; at < size && count < FIELDS; count++) {
        struct front_text texts[2];
        for (int which = 0; which < 2; which++) {
            size_t length = (size_t)(uint8_t)packed[at] << 8 | (uint8_t)packed[at + 1];
            texts[which] = (struct front_text){packed + at + 2, length};
            at += 2 + length;
        }
        nva[count] = pair(texts[0].data, texts[0].size, texts[1].data, texts[1].size, NGHTTP2_NV_FLAG_NONE);
    }
    return count;
}

static ssize_t response_read(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                             nghttp2_data_source *source, void *data)
{
    (void)data;
    struct front_call *call = source->ptr;
    size_t filled = 0;

    while (filled < room && call->first != NULL) {
        struct out *out = call->first;
        if (out->sent < PREFIX) {
            size_t part = PREFIX - out->sent < room - filled ? PREFIX - out->sent : room - filled;
            memcpy(to + filled, out->prefix + out->sent, part);
            out->sent += part;
            filled += part;
        }
        if (out->sent >= PREFIX) {
            size_t from = out->sent - PREFIX, part = out->size - from;
            if (part > room - filled)
                part = room - filled;
            memcpy(to + filled, out->data + from, part);
            out->sent += part;
            filled += part;
            if (out->sent == out->size + PREFIX) {
                call->first = out->next;
                if (call->first == NULL)
                    call->last = &call->first;
                call_drop(call, out);
            }
        }
    }
    call->queued -= filled;
    if (call->first == NULL && call->finished) {
        nghttp2_nv nva[FIELDS];
        size_t count = fields_of(call->trailers, call->trailers_size, nva, 0);
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, nva, count) != 0)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    } else if (filled == 0) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (call->stalled && call->queued <= FRONT_OUT) {
        call->stalled = false;
        call->ops->drained(call->user);
    }
    return (ssize_t)filled;
}

ssize_t response_length(nghttp2_session *session, uint8_t type, int32_t id, int32_t session_window,
                        int32_t stream_window, uint32_t frame_size, void *data)
{
    (void)session, (void)type, (void)id, (void)data;
    size_t room = FRONT_FRAME;

    if ((size_t)session_window < room)
        room = (size_t)session_window;
    if ((size_t)stream_window < room)
        room = (size_t)stream_window;
    return (ssize_t)(frame_size < room ? frame_size : room);
}

static void resume(struct front_call *call)
{
    if (call->deferred) {
        call->deferred = false;
        nghttp2_session_resume_data(call->front->session, call->id);
    }
}

static int begin(struct front_call *call, const char *packed, size_t packed_size, bool ends)
{
    nghttp2_nv nva[FIELDS] = {FIXED(":status", "200"), FIXED("content-type", "application/grpc"),
                              FIXED("grpc-accept-encoding", "identity,deflate,gzip")};
    size_t count = fields_of(packed, packed_size, nva, 3);
    const nghttp2_data_provider source = {{.ptr = call}, response_read};

    call->begun = true;
    return nghttp2_submit_response(call->front->session, call->id, nva, count, ends ? NULL : &source) == 0 ? 0 : -1;
}

static char *pack(const struct front_field *fields, size_t count, size_t extra, size_t *size)
{
    size_t needs = extra;
    if (count > FRONT_FIELDS)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (fields[i].name.size > FRONT_SAID || fields[i].value.size > FRONT_SAID)
            return NULL;
        needs += fields[i].name.size + fields[i].value.size + 4;
    }
    if (needs > FRONT_SAID)
        return NULL;
    char *packed = malloc(needs + 1), *at = packed;
    if (packed == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        at = put(put(at, fields[i].name.data, fields[i].name.size), fields[i].value.data, fields[i].value.size);
    *size = (size_t)(at - packed);
    return packed;
}

int front_begin(struct front_call *call, const struct front_field *fields, size_t count)
{
    size_t size;

    if (call->begun)
        return 0;
    char *packed = pack(fields, count, 0, &size);
    if (packed == NULL)
        return -1;
    int done = begin(call, packed, size, false);
    free(packed);
    return done;
}

int front_send(struct front_call *call, const void *data, size_t size, void *hold)
{
    struct out *out = call->finished || size > UINT32_MAX ? NULL : malloc(sizeof *out);
    if (out == NULL || (!call->begun && begin(call, NULL, 0, false) < 0)) {
        free(out);
        call->ops->released(hold);
        return -1;
    }
    *out =
        (struct out){.data = data,
                     .size = size,
                     .hold = hold,
                     .prefix = {0, (uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size}};
    *call->last = out;
    call->last = &out->next;
    call->queued += size + PREFIX;
    resume(call);
    call->stalled = call->queued > FRONT_OUT;
    return call->stalled;
}

int front_finish(struct front_call *call, int status, struct front_text message, const struct front_field *fields,
                 size_t count)
{
    char number[12];
    size_t size, number_size = (size_t)snprintf(number, sizeof number, "%d", status);

    if (call->finished)
        return 0;
    if (message.size > 4096)
        message.size = 4096;
    call->trailers = pack(fields, count, number_size + message.size + 64, &size);
    if (call->trailers == NULL)
        return -1;
    call->finished = true;
    char *at = put(put(call->trailers + size, "grpc-status", 11), number, number_size);
    if (message.size > 0)
        at = put(put(at, "grpc-message", 12), message.data, message.size);
    call->trailers_size = (size_t)(at - call->trailers);
    if (!call->begun)
        return begin(call, call->trailers, call->trailers_size, true);
    resume(call);
    return 0;
}

void front_refuse(struct front_call *call, const char *http_status)
{
    const nghttp2_nv nva[] = {pair(":status", 7, http_status, strlen(http_status), NGHTTP2_NV_FLAG_NONE)};

    if (call->begun)
        return;
    call->begun = call->finished = true;
    nghttp2_submit_response(call->front->session, call->id, nva, 1, NULL);
}

void front_reset(struct front_call *call)
{
    call->finished = true;
    nghttp2_submit_rst_stream(call->front->session, NGHTTP2_FLAG_NONE, call->id, NGHTTP2_INTERNAL_ERROR);
}
