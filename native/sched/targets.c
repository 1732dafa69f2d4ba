/* Functions, targets and aliases come and go. */
#include "internal.h"

#include <stddef.h>

int sched_function_add(struct sched *s, sched_id *id)
{
    uint32_t slot = pool_take(&s->functions);
    struct function *function = function_at(s, slot);

    if (slot == 0)
        return SCHED_E_FULL;
    function->reserved = -1;
    bucket_fill(&function->burst, s->config.burst, s->config.burst_ns, s->now_ns);
    *id = pool_id(&s->functions, slot);
    return 0;
}

int sched_target_add(struct sched *s, sched_id function_id, uint64_t tag, uint64_t user, sched_id *id)
{
    uint32_t function = pool_find(&s->functions, function_id), slot;

    if (function == 0 || function_at(s, function)->removed)
        return SCHED_E_STALE;
    slot = pool_take(&s->targets);
    if (slot == 0)
        return SCHED_E_FULL;
    struct target *target = target_at(s, slot);

    target->function = function;
    target->reserves = function_at(s, function)->reserved >= 0;
    target->tag = tag;
    target->user = user;
    sibling_append(s, &function_at(s, function)->targets, slot);
    *id = pool_id(&s->targets, slot);
    return 0;
}

static void retire(struct sched *s, uint32_t slot)
{
    struct target *target = target_at(s, slot);
    struct function *function = function_at(s, target->function);

    if (target->retired)
        return;
    if (target->provisioned > 0) {
        kept_remove(s, &s->kept, slot);
        function->provisioned -= target->provisioned;
        if (function->reserved < 0)
            s->provisioned -= target->provisioned;
        target->provisioned = 0;
    }
    target->retired = true;
    while (target->ready != 0)
        sandbox_close(s, target->ready);
    while (target->idle != 0)
        sandbox_close(s, target->idle);
    s->stir = s->walk = true;
    target_let_go(s, slot);
}

int sched_target_retire(struct sched *s, sched_id id, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->targets, id);

    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    retire(s, slot);
    settle(s);
    return 0;
}

static void retire_all(struct sched *s, uint32_t function, bool keep, uint64_t tag)
{
    uint32_t next;

    for (uint32_t slot = function_at(s, function)->targets.first; slot != 0; slot = next) {
        next = target_at(s, slot)->siblings.next;
        if (!keep || target_at(s, slot)->tag != tag)
            retire(s, slot);
    }
    settle(s);
}

int sched_retire(struct sched *s, sched_id id, bool keep, uint64_t tag, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->functions, id);

    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    retire_all(s, slot, keep, tag);
    return 0;
}

int sched_function_remove(struct sched *s, sched_id id, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->functions, id);
    struct function *function = function_at(s, slot);

    clock_set(s, now_ns);
    if (slot == 0 || function->removed)
        return SCHED_E_STALE;
    /* Its targets are retired first, so that no provisioned concurrency passes to the account with the reservation. */
    retire_all(s, slot, false, 0);
    sched_set_reserved(s, id, -1, now_ns);
    function->removed = true;
    if (function->targets.first == 0)
        pool_give(&s->functions, slot);
    return 0;
}

int sched_alias_set(struct sched *s, sched_id *id, const sched_id *targets, const uint32_t *weights, size_t count)
{
    uint32_t slot = pool_find(&s->aliases, *id);
    uint64_t sum = 0;
    struct alias *alias;

    if (*id != 0 && slot == 0)
        return SCHED_E_STALE;
    if (count == 0 || count > SCHED_ROUTES)
        return SCHED_E_WEIGHTS;
    for (size_t i = 0; i < count; i++) {
        uint32_t target = pool_find(&s->targets, targets[i]);

        if (target == 0 || target_at(s, target)->retired)
            return SCHED_E_STALE;
        sum += weights[i];
    }
    if (sum != SCHED_WEIGHT)
        return SCHED_E_WEIGHTS;
    if (slot == 0)
        slot = pool_take(&s->aliases);
    if (slot == 0)
        return SCHED_E_FULL;
    alias = (struct alias *)pool_item(&s->aliases, slot);
    alias->count = (uint32_t)count;
    sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += weights[i];
        alias->upto[i] = (uint32_t)sum;
        alias->target[i] = targets[i];
    }
    *id = pool_id(&s->aliases, slot);
    return 0;
}

int sched_alias_remove(struct sched *s, sched_id id)
{
    uint32_t slot = pool_find(&s->aliases, id);

    if (slot == 0)
        return SCHED_E_STALE;
    pool_give(&s->aliases, slot);
    return 0;
}

sched_id sched_route(const struct sched *s, sched_id id, uint32_t random)
{
    uint32_t slot = pool_find(&s->aliases, id), point;
    const struct alias *alias = (const struct alias *)pool_item(&s->aliases, slot);

    if (slot == 0)
        return 0;
    point = (uint32_t)(((uint64_t)random * SCHED_WEIGHT) >> 32);
    for (uint32_t i = 0; i + 1 < alias->count; i++) {
        if (point < alias->upto[i])
            return alias->target[i];
    }
    return alias->target[alias->count - 1];
}
