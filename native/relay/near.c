/* The end of the relay that is beside the dispatch loop: relay.h. What comes is a front's, which is hostile. */
#include "relay/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIRST_CALLS = 64 };
static const int64_t S = 1000000000;

/* One call: the door's while it is under way, with its event behind it. */
struct near_call {
    struct door_call door;
    struct relay_near *near;
    uint64_t serial;
    uint8_t payload[];
};

static struct near_call **place_of(const struct relay_near *near, uint64_t serial)
{
    uint32_t index = (uint32_t)serial;

    return index < near->count ? &near->calls[index] : NULL;
}

/* To be called last: its owner may end it. */
static void look_whether_over(struct relay_near *near)
{
    if (near->gone && near->under_way == 0 && !near->later.waiting)
        near->over(near->arg);
}

static void forget(struct near_call *call)
{
    struct relay_near *near = call->near;

    *place_of(near, call->serial) = NULL;
    near->under_way--;
    free(call);
    look_whether_over(near);
}

static void flush_later(struct door_later *later)
{
    struct relay_near *near = (struct relay_near *)((char *)later - offsetof(struct relay_near, later));

    if (!near->gone)
        near->wake(near->arg);
    look_whether_over(near);
}

/* Something is to be sent: with all that this turn of the lane brings, or at once. */
static void send_soon(struct relay_near *near)
{
    if (!near->door->later(near->door->self, &near->later))
        near->wake(near->arg);
}

static void say(struct relay_near *near, unsigned kind, uint64_t serial, int64_t at_ns, const uint8_t *answer,
                size_t size)
{
    if (near->gone)
        return;
    struct relay_frame *frame = relay_put(&near->relay, kind, serial, size);
    if (frame == NULL && size > 0)
        frame = relay_put(&near->relay, RELAY_HANDED, serial, size = 0);
    if (frame == NULL)
        return; /* no memory for sixty bytes: its caller waits for who is about to go */
    frame->at_ns = at_ns;
    if (size > 0)
        memcpy(frame->rest, answer, size);
    send_soon(near);
}

static void near_told(struct door_call *door)
{
    struct near_call *call = (struct near_call *)door;

    call->near->told++;
    say(call->near, RELAY_TOLD, call->serial, door->loop.answered_ns, door->loop.answer, door->loop.answer_size);
    forget(call);
}

static void near_handed(struct door_call *door, void *standing)
{
    struct near_call *call = (struct near_call *)door;
    struct relay_near *near = call->near;

    near->left++;
    near->handed(near->arg, door->loop.request_id, standing);
    say(near, RELAY_HANDED, call->serial, 0, NULL, 0);
    forget(call);
}

static struct near_call **place_for(struct relay_near *near, uint32_t index)
{
    if (index >= RELAY_CALLS)
        return NULL;
    if (index >= near->count) {
        uint32_t count = near->count ? near->count : FIRST_CALLS;
        while (count <= index)
            count *= 2;
        struct near_call **calls = realloc(near->calls, count * sizeof(struct near_call *));
        if (calls == NULL)
            return NULL;
        memset(calls + near->count, 0, (count - near->count) * sizeof *calls);
        near->calls = calls;
        near->count = count;
    }
    return near->calls[index] == NULL ? &near->calls[index] : NULL;
}

static const struct loop_line *line_of(struct relay_near *near, const char *name, size_t size)
{
    if (size > 0 && name[0] == '\0') {
        name = near->function_of(near->arg, name + 1, size - 1, &size);
        if (name == NULL)
            return NULL;
    }
    return near->door->line(near->door->self, name, size);
}

/* When a call was accepted, where that can be. */
static int64_t believed(int64_t at_ns)
{
    struct timespec read;

    clock_gettime(CLOCK_MONOTONIC, &read);
    int64_t now_ns = read.tv_sec * S + read.tv_nsec;
    return at_ns <= now_ns && at_ns > now_ns - 60 * S ? at_ns : now_ns;
}

/* Whether the far end may say this. */
static bool submit(struct relay_near *near, const struct relay_frame *frame)
{
    size_t name_size = frame->name_size, size = frame->size - sizeof *frame;

    if (name_size > size || name_size > RELAY_NAME || size - name_size > LOOP_EVENT_MOST)
        return false;
    size -= name_size;
    struct near_call **place = place_for(near, (uint32_t)frame->serial);
    if (place == NULL)
        return false; /* in use, or beyond what there may be; or no memory, which ends it as well */
    struct near_call *call = calloc(1, sizeof *call + size);
    const struct loop_line *line = call == NULL ? NULL : line_of(near, (const char *)frame->rest, name_size);
    if (line == NULL) {
        free(call);
        say(near, RELAY_HANDED, frame->serial, 0, NULL, 0);
        return true;
    }
    call->near = near;
    call->serial = frame->serial;
    call->door.told = near_told;
    call->door.handed = near_handed;
    call->door.loop.line = line;
    call->door.loop.accepted_ns = believed(frame->at_ns);
    call->door.loop.payload = call->payload;
    call->door.loop.payload_size = size;
    memcpy(call->door.loop.request_id, frame->request_id, LOOP_ID);
    memcpy(call->payload, frame->rest + name_size, size);
    *place = call;
    near->under_way++;
    if (near->door->submit(near->door->self, &call->door) == LOOP_TAKEN)
        return true; /* it may be gone already */
    say(near, RELAY_HANDED, frame->serial, 0, NULL, 0);
    forget(call);
    return true;
}

static void cancel(struct relay_near *near, uint64_t serial)
{
    struct near_call **place = place_of(near, serial);

    if (place == NULL || *place == NULL || (*place)->serial != serial)
        return; /* it has ended */
    struct near_call *call = *place;
    near->door->cancel(near->door->self, &call->door);
    forget(call);
}

void near_open(struct relay_near *near, struct door *door, int fd)
{
    *near = (struct relay_near){.relay = {.fd = fd}, .door = door, .later = {.run = flush_later}};
}

int near_turn(struct relay_near *near)
{
    const struct relay_frame *frame;
    bool broken = false;

    if (relay_waits(&near->relay) > RELAY_WAITS)
        return 0; /* who reads no answers asks for no more */
    int more = relay_read(&near->relay);
    if (more < 0)
        return -1;
    while (!near->gone && !broken && (frame = relay_next(&near->relay, &broken)) != NULL) {
        if (frame->kind == RELAY_CALL)
            broken = !submit(near, frame);
        else if (frame->kind == RELAY_CANCEL)
            cancel(near, frame->serial);
        else
            broken = true;
    }
    if (broken) {
        errno = EPROTO;
        return -1;
    }
    return more;
}

void near_abandon(struct relay_near *near)
{
    for (uint32_t index = 0; index < near->count; index++)
        if (near->calls[index] != NULL) {
            uint64_t serial = near->calls[index]->serial;
            cancel(near, serial);
            say(near, RELAY_HANDED, serial, 0, NULL, 0);
        }
}

void near_leave(struct relay_near *near, bool cancel_all)
{
    for (uint32_t index = 0; cancel_all && index < near->count; index++)
        if (near->calls[index] != NULL)
            cancel(near, near->calls[index]->serial);
    near->gone = true;
    look_whether_over(near);
}

void near_close(struct relay_near *near)
{
    relay_free(&near->relay);
    free(near->calls);
    near->calls = NULL;
    near->count = 0;
}
