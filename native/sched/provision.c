/* Provisioned concurrency: sandboxes that are there, init phase over, before the call; replaced when they go. */
#include "internal.h"

#include <stddef.h>

/* Targets get room in the order in which they were provisioned; who gets none is counted, so that what idles on demand
 * makes room. */
void provision_walk(struct sched *s)
{
    s->walk = false;
    s->hungry = 0;
    if (s->draining)
        return;
    for (uint32_t slot = s->kept.first; slot != 0; slot = target_at(s, slot)->kept.next) {
        struct target *target = target_at(s, slot);

        while (!target->backing_off && target->kept_all < target->provisioned &&
               target->kept_starting < s->config.provisioned_starts && has_room(s))
            act(s, SCHED_DO_START, 0, sandbox_start(s, slot, 0, true));
        if (!target->backing_off && target->kept_all < target->provisioned) {
            uint32_t missing = target->provisioned - target->kept_all;
            uint32_t allowed = s->config.provisioned_starts > target->kept_starting
                                   ? s->config.provisioned_starts - target->kept_starting
                                   : 0;

            s->hungry += missing < allowed ? missing : allowed;
        }
    }
}

void provision_back_off(struct sched *s, uint32_t slot, bool failed)
{
    struct target *target = target_at(s, slot);
    int64_t pause_ns = s->config.provisioned_retry_ns;

    if (target->backing_off || target->provisioned == 0)
        return;
    if (failed) {
        for (uint32_t i = 0; i < target->failures && pause_ns < s->config.provisioned_retry_most_ns; i++)
            pause_ns *= 2;
        if (pause_ns > s->config.provisioned_retry_most_ns)
            pause_ns = s->config.provisioned_retry_most_ns;
        target->failures++;
    }
    target->backing_off = true;
    target->retry.kind = SCHED_DO_START;
    target->retry.owner = slot;
    wheel_arm(&s->wheel, &target->retry, s->now_ns + pause_ns);
    s->stir = s->walk = true;
}

int sched_allocation(const struct sched *s, sched_id id, struct sched_allocation *allocation)
{
    uint32_t slot = pool_find(&s->targets, id);
    const struct target *target = target_at(s, slot);

    if (slot == 0)
        return SCHED_E_STALE;
    *allocation = (struct sched_allocation){
        .requested = target->provisioned,
        .allocated = target->kept_all - target->kept_starting,
        .available = target->kept_idle,
        .starting = target->kept_starting,
        .failures = target->failures,
    };
    return 0;
}
