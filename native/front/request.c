/* Requests: their headers, the messages that gRPC's framing makes of their bytes, and their end. */
#include "front/call.h"

#include <stdlib.h>

static bool copy(struct front_text *to, const uint8_t *data, size_t size)
{
    char *own = malloc(size + 1);
    if (own == NULL)
        return false;
    memcpy(own, data, size);
    own[size] = '\0';
    free((char *)to->data);
    *to = (struct front_text){own, size};
    return true;
}

static bool is(const uint8_t *data, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(data, word, size) == 0;
}

int request_begin(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    struct front *front = data;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct front_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    call->front = front;
    call->ops = front->ops;
    call->id = frame->hd.stream_id;
    call->last = &call->first;
    call->next = front->calls;
    if (front->calls != NULL)
        front->calls->previous = call;
    front->calls = call;
    front->count++;
    if (nghttp2_session_set_stream_user_data(session, call->id, call) != 0) {
        call_forget(call);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return 0;
}

static bool keep(struct front_call *call, const uint8_t *name, size_t name_size, const uint8_t *value,
                 size_t value_size)
{
    size_t needs = name_size + value_size + 4;

    if (call->head_size + needs > FRONT_HEAD) {
        call->over_head = true;
        return true;
    }
    if (call->head_size + needs > call->head_room) {
        size_t room =
            call->head_room * 2 > call->head_size + needs ? call->head_room * 2 : call->head_size + needs + 256;
        char *head = realloc(call->head, room);
        if (head == NULL)
            return false;
        call->head = head;
        call->head_room = room;
    }
    char *end = put(put(call->head + call->head_size, name, name_size), value, value_size);
    call->head_size = (size_t)(end - call->head);
    return true;
}

int request_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                   const uint8_t *value, size_t value_size, uint8_t flags, void *data)
{
    (void)flags;
    (void)data;
    struct front_call *call = call_of(session, frame->hd.stream_id);
    bool kept = true;

    if (call == NULL || call->opened)
        return 0; /* trailers of a client mean nothing */
    if (name_size > 0 && name[0] == ':') {
        if (is(name, name_size, ":path"))
            kept = copy(&call->path, value, value_size);
        else if (is(name, name_size, ":method"))
            call->is_post = is(value, value_size, "POST");
    } else if (is(name, name_size, "content-type")) {
        call->is_grpc = value_size >= 16 && memcmp(value, "application/grpc", 16) == 0 &&
                        (value_size == 16 || value[16] == '+' || value[16] == ';');
    } else if (is(name, name_size, "grpc-encoding")) {
        kept = copy(&call->encoding, value, value_size);
    } else if (is(name, name_size, "grpc-timeout")) {
        kept = copy(&call->timeout, value, value_size);
    } else if (!is(name, name_size, "te")) {
        kept = keep(call, name, name_size, value, value_size);
    }
    return kept ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void open_call(struct front_call *call)
{
    struct front *front = call->front;

    if (!call->is_post || !call->is_grpc) {
        front_refuse(call, call->is_post ? "415" : "405");
        return;
    }
    if (call->over_head) {
        call->begun = false;
        front_finish(call, 8, (struct front_text){"metadata too large", 18}, NULL, 0);
        return;
    }
    const struct front_head head = front_head_of(call);
    call->opened = true;
    call->user = front->ops->opened(front->owner, call, &head);
    if (call->user == NULL)
        front_reset(call);
}

static void end_of_requests(struct front_call *call)
{
    call->half_closed = true;
    if (call->user == NULL || call->finished)
        return;
    call->ops->half_closed(call->user, call->prefix_got == 0);
}

int request_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    (void)data;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct front_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        open_call(call);
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        end_of_requests(call);
    return 0;
}

static void told(struct front_call *call)
{
    call->prefix_got = 0;
    call->waiting++;
    call->ops->message(call->user, call->message, call->message_size, call->prefix[0] != 0);
}

/* False where there is no memory for it, or its owner did not refuse what is too large. */
static bool take(struct front_call *call, const uint8_t *data, size_t size)
{
    while (size > 0 && !call->finished) {
        if (call->prefix_got < PREFIX) {
            call->prefix[call->prefix_got++] = *data++;
            size--;
            if (call->prefix_got < PREFIX)
                continue;
            const uint8_t *p = call->prefix;
            call->message_size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
            call->message_got = 0;
            if (p[0] > 1 || call->message_size > call->front->limit) {
                call->ops->oversized(call->user, p[0] > 1 ? 0 : call->message_size);
                return call->finished;
            }
            if (size >= call->message_size) { /* all of it is here: no copy of its own */
                call->prefix_got = 0;
                call->waiting++;
                call->ops->message(call->user, data, call->message_size, p[0] != 0);
                data += call->message_size;
                size -= call->message_size;
                continue;
            }
            if (size == 0)
                break; /* the rest is yet to come */
        }
        size_t part = call->message_size - call->message_got;
        if (part > size)
            part = size;
        if (call->message_got + part > call->room) { /* as it comes: an announced length costs a client nothing */
            size_t room = call->room * 2 > FRONT_READ ? call->room * 2 : FRONT_READ;
            if (room < call->message_got + part)
                room = call->message_got + part;
            if (room > call->message_size)
                room = call->message_size;
            uint8_t *message = realloc(call->message, room);
            if (message == NULL)
                return false;
            call->message = message;
            call->room = room;
        }
        memcpy(call->message + call->message_got, data, part);
        call->message_got += part;
        data += part;
        size -= part;
        if (call->message_got == call->message_size) {
            told(call);
            free(call->message);
            call->message = NULL;
            call->room = 0;
        }
    }
    return true;
}

int request_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *owner)
{
    (void)flags;
    (void)owner;
    struct front_call *call = call_of(session, id);

    nghttp2_session_consume_connection(session, size);
    if (call == NULL || call->user == NULL) {
        nghttp2_session_consume_stream(session, id, size);
        return 0;
    }
    bool waited = call->waiting > 0;
    if (!take(call, data, size)) {
        front_reset(call);
        return 0;
    }
    if (waited)
        call->held += size;
    else
        nghttp2_session_consume_stream(session, id, size);
    return 0;
}

void front_taken(struct front_call *call)
{
    if (call->waiting > 0 && --call->waiting == 0 && call->held > 0) {
        nghttp2_session_consume_stream(call->front->session, call->id, call->held);
        call->held = 0;
    }
}
