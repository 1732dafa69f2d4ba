/* May this call be? The account's limit, reservations, the rate of requests, the burst of starts.
 *
 * Reserved concurrency is a function's own, and all others share what is left; provisioned concurrency is taken out of
 * the one or the other whether it runs or not (docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html). A call
 * that finds a provisioned sandbox has that one's lease, and every other counts as on demand. */
#include "internal.h"

#include <stddef.h>

static const char *const NAMES[SCHED_REASONS] = {
    [SCHED_NO_REASON] = "",
    [SCHED_CONCURRENCY] = "ConcurrentInvocationLimitExceeded",
    [SCHED_RESERVED_CONCURRENCY] = "ReservedFunctionConcurrentInvocationLimitExceeded",
    [SCHED_RATE] = "FunctionInvocationRateLimitExceeded",
    [SCHED_RESERVED_RATE] = "FunctionInvocationRateLimitExceeded",
    [SCHED_BURST] = "ConcurrentInvocationLimitExceeded",
};

const char *sched_reason_name(enum sched_reason reason)
{
    return (unsigned)reason < SCHED_REASONS ? NAMES[reason] : "";
}

static uint32_t in_ms(const struct sched *s, int64_t wait_ns)
{
    return wait_ns < 0 ? s->config.retry_after_ms : (uint32_t)((wait_ns + 999999) / 1000000);
}

static enum sched_reason concurrency(const struct sched *s, const struct target *target)
{
    if (target->ready == 0 && target->reserves) {
        const struct function *function = function_at(s, target->function);

        if ((int64_t)function->in_use >= (int64_t)function->reserved - function->provisioned)
            return SCHED_RESERVED_CONCURRENCY;
    }
    if (s->calls.live >= s->config.account_limit)
        return SCHED_CONCURRENCY;
    if (target->ready == 0 && !target->reserves &&
        (int64_t)s->unreserved_in_use >= (int64_t)s->config.account_limit - s->reserved - s->provisioned)
        return SCHED_CONCURRENCY;
    return SCHED_NO_REASON;
}

enum sched_reason admit(struct sched *s, const struct target *target, bool *paid, uint32_t *retry_after_ms)
{
    struct function *function = function_at(s, target->function);
    struct bucket *rate = target->reserves ? &function->rate : &s->rate;
    bool limited = s->config.rate_factor > 0;
    enum sched_reason reason = concurrency(s, target);

    if (reason != SCHED_NO_REASON) {
        *retry_after_ms = s->config.retry_after_ms;
        return reason;
    }
    if (limited) {
        uint64_t capacity = rate_capacity(s, target->reserves ? function : NULL);

        bucket_refill(rate, capacity, NS_PER_S, s->now_ns);
        int64_t wait_ns = bucket_wait_ns(rate, capacity, NS_PER_S);

        if (wait_ns != 0) {
            *retry_after_ms = in_ms(s, wait_ns);
            return target->reserves ? SCHED_RESERVED_RATE : SCHED_RATE;
        }
    }
    if (s->config.burst > 0 && target->ready == 0 && target->idle == 0) {
        bucket_refill(&function->burst, s->config.burst, s->config.burst_ns, s->now_ns);
        int64_t wait_ns = bucket_wait_ns(&function->burst, s->config.burst, s->config.burst_ns);

        if (wait_ns != 0) {
            *retry_after_ms = in_ms(s, wait_ns);
            return SCHED_BURST;
        }
        bucket_take(&function->burst, s->config.burst_ns);
        *paid = true;
    }
    if (limited)
        bucket_take(rate, NS_PER_S);
    return SCHED_NO_REASON;
}

/* Calls on demand of all its targets. */
static uint32_t on_demand(const struct sched *s, const struct function *function)
{
    uint32_t calls = 0;

    for (uint32_t slot = function->targets.first; slot != 0; slot = target_at(s, slot)->siblings.next)
        calls += target_at(s, slot)->calls - target_at(s, slot)->leased;
    return calls;
}

/* What functions without a reservation would be left with. */
static int64_t left(const struct sched *s, int64_t reserved, int64_t provisioned)
{
    return (int64_t)s->config.account_limit - reserved - provisioned;
}

int sched_set_reserved(struct sched *s, sched_id id, int32_t reserved, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->functions, id);
    struct function *function = function_at(s, slot);

    if (slot == 0 || function->removed)
        return SCHED_E_STALE;
    if (reserved < -1)
        return SCHED_E_VALUE;
    if (reserved >= 0 && (uint32_t)reserved < function->provisioned)
        return SCHED_E_PROVISIONED;
    /* What it claims of the account: the reservation, or without one what is provisioned. */
    int64_t before = function->reserved >= 0 ? function->reserved : (int64_t)function->provisioned;
    int64_t after = reserved >= 0 ? reserved : (int64_t)function->provisioned;

    if (after > before && left(s, s->reserved, s->provisioned) + before - after < s->config.min_unreserved)
        return SCHED_E_UNRESERVED;

    clock_set(s, now_ns);
    bucket_refill(&s->rate, rate_capacity(s, NULL), NS_PER_S, s->now_ns);
    if (function->reserved >= 0) {
        bucket_refill(&function->rate, rate_capacity(s, function), NS_PER_S, s->now_ns);
        s->reserved -= (uint32_t)function->reserved;
    } else {
        s->provisioned -= function->provisioned;
        s->unreserved_in_use -= on_demand(s, function);
    }
    bool had = function->reserved >= 0;

    function->reserved = reserved;
    if (reserved >= 0) {
        s->reserved += (uint32_t)reserved;
        if (had)
            bucket_refill(&function->rate, rate_capacity(s, function), NS_PER_S, s->now_ns);
        else
            bucket_fill(&function->rate, rate_capacity(s, function), NS_PER_S, s->now_ns);
    } else {
        s->provisioned += function->provisioned;
        s->unreserved_in_use += on_demand(s, function);
    }
    function->in_use = reserved >= 0 ? on_demand(s, function) : 0;
    for (uint32_t at = function->targets.first; at != 0; at = target_at(s, at)->siblings.next)
        target_at(s, at)->reserves = reserved >= 0;
    bucket_refill(&s->rate, rate_capacity(s, NULL), NS_PER_S, s->now_ns);
    return 0;
}

int sched_set_provisioned(struct sched *s, sched_id id, uint32_t provisioned, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->targets, id);
    struct target *target = target_at(s, slot);

    if (slot == 0 || target->retired)
        return SCHED_E_STALE;
    if (provisioned > CAPACITY_MOST)
        return SCHED_E_VALUE;
    struct function *function = function_at(s, target->function);
    uint32_t more = provisioned > target->provisioned ? provisioned - target->provisioned : 0;

    if (more > 0) {
        if (function->reserved >= 0 && (int64_t)function->provisioned + more > function->reserved)
            return SCHED_E_PROVISIONED;
        if (function->reserved < 0 && left(s, s->reserved, s->provisioned) - more < s->config.min_unreserved)
            return SCHED_E_UNRESERVED;
    }
    clock_set(s, now_ns);
    if (target->provisioned == 0 && provisioned > 0)
        kept_append(s, &s->kept, slot);
    if (target->provisioned > 0 && provisioned == 0)
        kept_remove(s, &s->kept, slot);
    function->provisioned += provisioned - target->provisioned;
    if (function->reserved < 0)
        s->provisioned += provisioned - target->provisioned;
    target->provisioned = provisioned;
    /* Another request is another try. */
    wheel_disarm(&s->wheel, &target->retry);
    target->backing_off = false;
    target->failures = 0;
    while (target->kept_all > provisioned && target->ready != 0)
        sandbox_unprovision(s, target->ready);
    s->stir = s->walk = true;
    settle(s);
    return 0;
}
