/* The end, in two steps: what may end ends, then what has not is ended. */
#include "internal.h"

void sched_drain(struct sched *s, int64_t now_ns)
{
    clock_set(s, now_ns);
    s->draining = true;
    for (uint32_t slot = s->kept.first; slot != 0; slot = target_at(s, slot)->kept.next) {
        while (target_at(s, slot)->ready != 0)
            sandbox_close(s, target_at(s, slot)->ready);
    }
    while (s->oldest.first != 0)
        sandbox_close(s, s->oldest.first);
    s->stir = s->walk = true;
    settle(s);
}

void sched_kill(struct sched *s, int64_t now_ns)
{
    sched_drain(s, now_ns);
    if (s->killed)
        return;
    s->killed = true;
    while (s->ring.first != 0) {
        uint32_t call = target_at(s, function_at(s, s->ring.first)->waiting.first)->waiting.first;

        act(s, SCHED_DO_REFUSE, call, 0);
        call_end(s, call);
    }
    while (s->leaving.first != 0) {
        uint32_t slot = s->leaving.first;

        age_remove(s, &s->leaving, slot);
        sandbox_at(s, slot)->hurried = true;
        s->hurried++;
        act(s, SCHED_DO_HURRY, 0, slot);
    }
    for (uint32_t slot = 1; slot <= s->sandboxes.used; slot++) {
        if (sandbox_at(s, slot)->state == SANDBOX_BUSY)
            act(s, SCHED_DO_KILL, sandbox_at(s, slot)->call, slot);
    }
    settle(s);
}
