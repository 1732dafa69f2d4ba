/* The queue of what the owner has to do, and what comes with time. */
#include "internal.h"

#include <stddef.h>
#include <string.h>

static void add(struct sched *s, struct actions *queue, struct entry entry)
{
    if (queue->tail == queue->size && queue->head > 0) {
        memmove(queue->entries, queue->entries + queue->head, (queue->tail - queue->head) * sizeof *queue->entries);
        queue->tail -= queue->head;
        queue->head = 0;
    }
    if (queue->tail == queue->size) {
        s->broken = "a queue of actions was not read";
        return;
    }
    queue->entries[queue->tail++] = entry;
}

void act(struct sched *s, enum sched_do what, uint32_t slot, uint32_t sandbox)
{
    struct entry entry = {.what = what, .call = pool_id(&s->calls, slot), .sandbox = pool_id(&s->sandboxes, sandbox)};
    struct call *call = call_at(s, slot);
    bool claimed = slot != 0 && call->claimed;

    if (claimed && (what == SCHED_DO_RUN || what == SCHED_DO_START || what == SCHED_DO_REFUSE)) {
        entry.call_user = call->user;
        call->claimed = false;
        add(s, &s->claimed, entry);
        return;
    }
    add(s, &s->actions, entry);
}

/* Whether it is still to be done. */
static bool holds(const struct sched *s, const struct entry *entry)
{
    uint32_t call = pool_find(&s->calls, entry->call), sandbox = pool_find(&s->sandboxes, entry->sandbox);

    switch (entry->what) {
    case SCHED_DO_RUN:
        return call != 0 && sandbox != 0 && call_at(s, call)->state == CALL_RUNNING;
    case SCHED_DO_START:
        return sandbox != 0 && sandbox_at(s, sandbox)->state == SANDBOX_STARTING;
    case SCHED_DO_CLOSE:
    case SCHED_DO_HURRY:
        return sandbox != 0 && sandbox_at(s, sandbox)->state == SANDBOX_CLOSING;
    case SCHED_DO_KILL:
        return sandbox != 0 && sandbox_at(s, sandbox)->state == SANDBOX_BUSY;
    case SCHED_DO_DEADLINE:
        return call != 0;
    default:
        return true; /* SCHED_DO_REFUSE: its call has ended by then */
    }
}

bool sched_pending(const struct sched *s)
{
    return s->actions.head != s->actions.tail;
}

bool sched_pending_claimed(const struct sched *s)
{
    return s->claimed.head != s->claimed.tail;
}

static bool next(struct sched *s, struct actions *queue, struct sched_action *action)
{
    while (queue->head != queue->tail) {
        const struct entry *entry = &queue->entries[queue->head++];

        if (!holds(s, entry))
            continue;
        uint32_t call = pool_find(&s->calls, entry->call), sandbox = pool_find(&s->sandboxes, entry->sandbox);
        uint32_t target = sandbox != 0 ? sandbox_at(s, sandbox)->target : call != 0 ? call_at(s, call)->target : 0;

        *action = (struct sched_action){
            .what = entry->what,
            .call = entry->what == SCHED_DO_REFUSE ? entry->call : pool_id(&s->calls, call),
            .sandbox = pool_id(&s->sandboxes, sandbox),
            .target = pool_id(&s->targets, target),
            .call_user = call != 0 ? call_at(s, call)->user : entry->call_user,
            .sandbox_user = sandbox != 0 ? sandbox_at(s, sandbox)->user : 0,
            .target_user = target != 0 ? target_at(s, target)->user : 0,
        };
        if (queue->head == queue->tail)
            queue->head = queue->tail = 0;
        return true;
    }
    queue->head = queue->tail = 0;
    return false;
}

bool sched_next(struct sched *s, struct sched_action *action)
{
    return next(s, &s->actions, action);
}

bool sched_next_claimed(struct sched *s, struct sched_action *action)
{
    return next(s, &s->claimed, action);
}

static void fire(struct sched *s, const struct timer *timer, enum sched_do what)
{
    if (what == SCHED_DO_DEADLINE) {
        act(s, SCHED_DO_DEADLINE, timer->owner, 0);
        return;
    }
    target_at(s, timer->owner)->backing_off = false;
    s->stir = s->walk = true;
}

void sched_tick(struct sched *s, int64_t now_ns)
{
    struct timer *timer;

    clock_set(s, now_ns);
    while ((timer = wheel_expire(&s->wheel, s->now_ns)) != NULL)
        fire(s, timer, (enum sched_do)timer->kind);
    while (s->oldest.first != 0 && s->now_ns - sandbox_at(s, s->oldest.first)->idle_since >= s->config.keep_alive_ns)
        sandbox_close(s, s->oldest.first);
    settle(s);
}

int64_t sched_due(const struct sched *s)
{
    int64_t next = wheel_next_ns(&s->wheel), keep;

    if (s->oldest.first != 0) {
        /* Below 2^61 each. */
        int64_t since = sandbox_at(s, s->oldest.first)->idle_since;

        keep = s->config.keep_alive_ns < ((int64_t)1 << 61) ? since + s->config.keep_alive_ns : INT64_MAX;
        if (next < 0 || keep < next)
            next = keep;
    }
    if (next < 0)
        return -1;
    return next > s->now_ns ? next - s->now_ns : 0;
}

int sched_set_deadline(struct sched *s, sched_id id, int64_t after_ns, int64_t now_ns)
{
    const int64_t most = (int64_t)1 << 61;
    uint32_t slot = pool_find(&s->calls, id);

    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    struct timer *timer = &call_at(s, slot)->deadline;

    if (after_ns < 0) {
        wheel_disarm(&s->wheel, timer);
        return 0;
    }
    timer->kind = SCHED_DO_DEADLINE;
    timer->owner = slot;
    wheel_arm(&s->wheel, timer, s->now_ns + (after_ns < most ? after_ns : most));
    return 0;
}
