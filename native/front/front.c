/* The connection: a session of nghttp2, and what is read from and written to the socket. */
#include "front/call.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

void call_drop(struct front_call *call, struct out *out)
{
    if (out->hold != NULL)
        call->ops->released(out->hold);
    free(out);
}

void call_forget(struct front_call *call)
{
    struct front *front = call->front;
    const struct front_ops *ops = call->ops;

    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        front->calls = call->next;
    if (call->next != NULL)
        call->next->previous = call->previous;
    front->count--;
    void *user = call->user;
    bool opened = call->opened, whole = call->whole;
    for (struct out *out = call->first, *next; out != NULL; out = next) {
        next = out->next;
        call_drop(call, out);
    }
    free((char *)call->path.data);
    free((char *)call->encoding.data);
    free((char *)call->timeout.data);
    free(call->head);
    free(call->message);
    free(call->trailers);
    free(call);
    if (opened && user != NULL)
        ops->closed(user, whole);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *data)
{
    (void)data;
    struct front_call *call = call_of(session, id);

    if (call == NULL)
        return 0;
    call->whole = call->finished && call->closing && code == NGHTTP2_NO_ERROR;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    call_forget(call);
    return 0;
}

static nghttp2_session_callbacks *callbacks(void)
{
    nghttp2_session_callbacks *all;

    if (nghttp2_session_callbacks_new(&all) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_begin_headers_callback(all, request_begin);
    nghttp2_session_callbacks_set_on_header_callback(all, request_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(all, request_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(all, request_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(all, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(all, response_frame);
    nghttp2_session_callbacks_set_data_source_read_length_callback(all, response_length);
    return all;
}

static bool greet(struct front *front)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, FRONT_STREAMS},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, FRONT_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, FRONT_HEAD},
    };

    return nghttp2_submit_settings(front->session, NGHTTP2_FLAG_NONE, settings, 3) == 0 &&
           nghttp2_session_set_local_window_size(front->session, NGHTTP2_FLAG_NONE, 0, FRONT_ALL) == 0;
}

struct front *front_new(int fd, const struct front_ops *ops, void *owner, size_t limit)
{
    struct front *front = malloc(sizeof *front);
    nghttp2_session_callbacks *all = callbacks();
    nghttp2_option *options = NULL;
    bool made = front != NULL && all != NULL && nghttp2_option_new(&options) == 0;

    if (made) {
        front->session = NULL;
        front->ops = ops;
        front->owner = owner;
        front->fd = fd;
        front->limit = limit;
        front->count = front->out_from = front->out_to = 0;
        front->calls = NULL;
        nghttp2_option_set_no_auto_window_update(options, 1);
        nghttp2_option_set_no_closed_streams(options, 1); /* else as many are remembered as may be open */
        nghttp2_option_set_stream_reset_rate_limit(options, FRONT_RESETS_BURST, FRONT_RESETS_RATE);
        made = nghttp2_session_server_new2(&front->session, all, front, options) == 0 && greet(front);
    }
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(all);
    if (made)
        return front;
    if (front != NULL)
        nghttp2_session_del(front->session);
    free(front);
    errno = ENOMEM;
    return NULL;
}

void front_free(struct front *front)
{
    if (front == NULL)
        return;
    while (front->calls != NULL) /* first: who is told of one may speak to another */
        call_forget(front->calls);
    nghttp2_session_del(front->session); /* tells nothing */
    free(front);
}

int front_read(struct front *front)
{
    /* A client that takes no answers and asks for more: each call that it gives up leaves a frame to be sent. */
    if (nghttp2_session_get_outbound_queue_size(front->session) > 4 * FRONT_STREAMS)
        return -1;
    for (size_t all = 0; all < FRONT_TURN;) {
        ssize_t got = recv(front->fd, front->in, sizeof front->in, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
        if (got == 0 || nghttp2_session_mem_recv(front->session, front->in, (size_t)got) < 0)
            return -1;
        if ((size_t)got < sizeof front->in)
            return 0; /* all that there was: what comes meanwhile makes it readable again */
        all += (size_t)got;
    }
    return 1;
}

int front_flush(struct front *front)
{
    for (;;) {
        while (front->out_to - front->out_from < FRONT_OUT) {
            const uint8_t *data;
            ssize_t size = nghttp2_session_mem_send(front->session, &data);
            if (size < 0)
                return -1;
            if (size == 0)
                break;
            if ((size_t)size > sizeof front->out - front->out_to) { /* what was sent makes room */
                memmove(front->out, front->out + front->out_from, front->out_to - front->out_from);
                front->out_to -= front->out_from;
                front->out_from = 0;
            }
            if ((size_t)size > sizeof front->out - front->out_to)
                return -1; /* no frame is that large */
            memcpy(front->out + front->out_to, data, (size_t)size);
            front->out_to += (size_t)size;
        }
        if (front->out_from == front->out_to)
            break;
        ssize_t sent =
            send(front->fd, front->out + front->out_from, front->out_to - front->out_from, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 1 : -1;
        front->out_from += (size_t)sent;
        if (front->out_from == front->out_to)
            front->out_from = front->out_to = 0;
    }
    return nghttp2_session_want_read(front->session) || nghttp2_session_want_write(front->session) ? 0 : -1;
}

struct front_head front_head_of(const struct front_call *call)
{
    return (struct front_head){call->path, call->encoding, call->timeout, call->head, call->head_size};
}

void front_become(struct front_call *call, const struct front_ops *ops, void *user)
{
    call->ops = ops;
    call->user = user;
}

size_t front_calls(const struct front *front)
{
    return front->count;
}

void front_shut(struct front *front)
{
    nghttp2_submit_goaway(front->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(front->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
}
