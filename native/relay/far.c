/* The end of the relay that is a door: relay.h. */
#include "relay/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 64 };

static uint64_t serial_of(const struct relay_far *far, uint32_t index)
{
    return (uint64_t)far->slots[index].uses << 32 | index;
}

/* The slot that a serial is of, while it is. */
static struct far_slot *slot_of(const struct relay_far *far, uint64_t serial)
{
    uint32_t index = (uint32_t)serial;

    if (index >= far->count || far->slots[index].call == NULL || far->slots[index].uses != serial >> 32)
        return NULL;
    return &far->slots[index];
}

static struct door_call *let_go(struct relay_far *far, struct far_slot *slot)
{
    struct door_call *call = slot->call;

    slot->call = NULL;
    slot->uses++;
    slot->next = far->free;
    far->free = (uint32_t)(slot - far->slots) + 1;
    far->under_way--;
    call->under_way = false;
    return call;
}

static const struct loop_line *far_line(void *self, const char *name, size_t size)
{
    struct relay_far *far = self;

    if (far->gone || size == 0 || size > RELAY_NAME)
        return NULL;
    memcpy(far->name, name, size);
    far->name_size = size;
    return &far->line;
}

static int far_new_id(void *self, char id[LOOP_ID])
{
    return ids_next(&((struct relay_far *)self)->ids, id);
}

static int grow(struct relay_far *far)
{
    uint32_t count = far->count ? far->count * 2 : FIRST_SLOTS;

    if (count > RELAY_CALLS)
        return -1;
    struct far_slot *slots = realloc(far->slots, count * sizeof *slots);
    if (slots == NULL)
        return -1;
    far->slots = slots;
    for (uint32_t index = count; index-- > far->count;) {
        slots[index] = (struct far_slot){.next = far->free};
        far->free = index + 1;
    }
    far->count = count;
    return 0;
}

static enum loop_submitted far_submit(void *self, struct door_call *call)
{
    struct relay_far *far = self;
    const struct loop_call *loop = &call->loop;

    if (far->gone || relay_waits(&far->relay) > RELAY_WAITS || (far->free == 0 && grow(far) < 0))
        return LOOP_ELSEWHERE;
    uint32_t index = far->free - 1;
    struct relay_frame *frame =
        relay_put(&far->relay, RELAY_CALL, serial_of(far, index), far->name_size + loop->payload_size);
    if (frame == NULL)
        return LOOP_ELSEWHERE;
    frame->name_size = (uint8_t)far->name_size;
    frame->at_ns = loop->accepted_ns;
    memcpy(frame->request_id, loop->request_id, LOOP_ID);
    memcpy(frame->rest, far->name, far->name_size);
    memcpy(frame->rest + far->name_size, loop->payload, loop->payload_size);
    far->free = far->slots[index].next;
    far->slots[index].call = call;
    far->under_way++;
    call->loop.call = serial_of(far, index);
    call->under_way = true;
    far->wake(far->arg);
    return LOOP_TAKEN;
}

static void far_cancel(void *self, struct door_call *call)
{
    struct relay_far *far = self;
    struct far_slot *slot = slot_of(far, call->loop.call);

    if (slot == NULL || slot->call != call)
        return;
    /* Where there is no memory to say so, it runs to its end. */
    relay_put(&far->relay, RELAY_CANCEL, call->loop.call, 0);
    let_go(far, slot);
    far->wake(far->arg);
}

static bool far_later(void *self, struct door_later *later)
{
    (void)self;
    (void)later;
    return false;
}

void far_open(struct relay_far *far, int fd, const char *version)
{
    *far = (struct relay_far){.relay = {.fd = fd}, .line = {.version = version}};
    far->door = (struct door){.self = far,
                              .line = far_line,
                              .new_id = far_new_id,
                              .submit = far_submit,
                              .cancel = far_cancel,
                              .later = far_later};
}

static void lost(struct relay_far *far)
{
    far->gone = true;
    for (uint32_t index = 0; index < far->count; index++)
        if (far->slots[index].call != NULL) {
            struct door_call *call = let_go(far, &far->slots[index]);
            call->handed(call, far->standing);
        }
}

int far_turn(struct relay_far *far)
{
    const struct relay_frame *frame;
    bool broken;
    int more = relay_read(&far->relay);

    if (more < 0) {
        lost(far);
        return -1;
    }
    while ((frame = relay_next(&far->relay, &broken)) != NULL) {
        struct far_slot *slot = slot_of(far, frame->serial);
        if (slot == NULL)
            continue; /* it was cancelled */
        struct door_call *call = let_go(far, slot);
        if (frame->kind == RELAY_TOLD) {
            call->loop.answer = frame->rest;
            call->loop.answer_size = frame->size - sizeof *frame;
            call->loop.answered_ns = frame->at_ns;
            call->told(call);
        } else {
            call->handed(call, far->standing);
        }
    }
    if (broken) {
        errno = EPROTO;
        lost(far);
        return -1;
    }
    return more;
}

void far_close(struct relay_far *far)
{
    far->gone = true;
    relay_free(&far->relay);
    free(far->slots);
    far->slots = NULL;
    far->count = 0;
}
