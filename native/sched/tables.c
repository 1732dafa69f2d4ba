/* The tables of functions, targets, aliases, calls and sandboxes. Their memory is asked for once and taken as it is
 * touched: nothing is allocated while calls run. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

int pool_init(struct pool *pool, size_t size, uint32_t capacity)
{
    *pool = (struct pool){.size = size, .capacity = capacity};
    pool->memory = calloc((size_t)capacity + 2, size);
    if (pool->memory == NULL)
        return -1;
    pool->items = (unsigned char *)(((uintptr_t)pool->memory + LINE - 1) & ~(uintptr_t)(LINE - 1));
    return 0;
}

uint32_t pool_take(struct pool *pool)
{
    uint32_t slot = pool->free, generation;
    struct item *item;

    if (slot != 0) {
        pool->free = pool_item(pool, slot)->next_free;
    } else {
        if (pool->used == pool->capacity)
            return 0;
        slot = ++pool->used;
    }
    item = pool_item(pool, slot);
    generation = item->generation;
    memset(item, 0, pool->size);
    item->generation = generation + 1;
    pool->live++;
    return slot;
}

void pool_give(struct pool *pool, uint32_t slot)
{
    struct item *item = pool_item(pool, slot);

    item->generation++;
    item->next_free = pool->free;
    pool->free = slot;
    pool->live--;
}

static void function_let_go(struct sched *s, uint32_t slot)
{
    const struct function *function = function_at(s, slot);

    if (function->removed && function->targets.first == 0)
        pool_give(&s->functions, slot);
}

void target_let_go(struct sched *s, uint32_t slot)
{
    struct target *target = target_at(s, slot);
    uint32_t function = target->function;

    if (!target->retired || target->calls != 0 || target->sandboxes != 0)
        return;
    wheel_disarm(&s->wheel, &target->retry);
    sibling_remove(s, &function_at(s, function)->targets, slot);
    pool_give(&s->targets, slot);
    function_let_go(s, function);
}

static bool fits(const struct sched_config *config, const struct sched_capacity *capacity)
{
    return config->account_limit <= capacity->calls && config->room <= capacity->sandboxes && config->room > 0 &&
           config->rate_factor <= RATE_FACTOR_MOST && config->burst <= CAPACITY_MOST && config->burst_ns > 0 &&
           config->burst_ns <= BURST_NS_MOST && config->keep_alive_ns >= 0 && config->provisioned_starts > 0 &&
           config->provisioned_retry_ns > 0 && config->provisioned_retry_most_ns >= config->provisioned_retry_ns &&
           config->provisioned_retry_most_ns <= HOUR_NS;
}

static bool sane(const struct sched_capacity *capacity)
{
    const uint32_t all[] = {capacity->functions, capacity->targets, capacity->aliases, capacity->calls,
                            capacity->sandboxes};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i] == 0 || all[i] > CAPACITY_MOST)
            return false;
    }
    return true;
}

void sched_config_default(struct sched_config *config)
{
    *config = (struct sched_config){
        .account_limit = 1000,
        .min_unreserved = 100,
        .room = 1000,
        .rate_factor = 10,
        .burst = 1000,
        .burst_ns = 10 * NS_PER_S,
        .keep_alive_ns = 600 * NS_PER_S,
        .retry_after_ms = 1000,
        .provisioned_starts = 16,
        .provisioned_retry_ns = NS_PER_S,
        .provisioned_retry_most_ns = 60 * NS_PER_S,
    };
}

struct sched *sched_new(const struct sched_capacity *capacity, const struct sched_config *config)
{
    struct sched *s;

    if (!sane(capacity) || !fits(config, capacity))
        return NULL;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->config = *config;
    /* Between two readings of the queue a sandbox can be started or killed, closed and hurried, and a call can get its
     * place or be refused, and be late. */
    s->actions.size = 4 * (size_t)capacity->sandboxes + 2 * (size_t)capacity->calls + 16;
    s->actions.entries = calloc(s->actions.size, sizeof *s->actions.entries);
    s->claimed.size = (size_t)capacity->calls;
    s->claimed.entries = calloc(s->claimed.size, sizeof *s->claimed.entries);
    if (s->actions.entries == NULL || s->claimed.entries == NULL ||
        pool_init(&s->functions, sizeof(struct function), capacity->functions) < 0 ||
        pool_init(&s->targets, sizeof(struct target), capacity->targets) < 0 ||
        pool_init(&s->aliases, sizeof(struct alias), capacity->aliases) < 0 ||
        pool_init(&s->calls, sizeof(struct call), capacity->calls) < 0 ||
        pool_init(&s->sandboxes, sizeof(struct sandbox), capacity->sandboxes) < 0) {
        sched_free(s);
        return NULL;
    }
    bucket_fill(&s->rate, rate_capacity(s, NULL), NS_PER_S, 0);
    return s;
}

void sched_free(struct sched *s)
{
    if (s == NULL)
        return;
    free(s->functions.memory);
    free(s->targets.memory);
    free(s->aliases.memory);
    free(s->calls.memory);
    free(s->sandboxes.memory);
    free(s->actions.entries);
    free(s->claimed.entries);
    free(s);
}

int sched_configure(struct sched *s, const struct sched_config *config, int64_t now_ns)
{
    const struct sched_capacity capacity = {s->functions.capacity, s->targets.capacity, s->aliases.capacity,
                                            s->calls.capacity, s->sandboxes.capacity};

    if (!fits(config, &capacity))
        return SCHED_E_VALUE;
    clock_set(s, now_ns);
    /* What came back until here came by the old figures. */
    bucket_refill(&s->rate, rate_capacity(s, NULL), NS_PER_S, s->now_ns);
    for (uint32_t slot = 1; slot <= s->functions.used; slot++) {
        struct function *function = function_at(s, slot);

        bucket_refill(&function->rate, rate_capacity(s, function), NS_PER_S, s->now_ns);
        bucket_refill(&function->burst, s->config.burst, s->config.burst_ns, s->now_ns);
        /* Full stays full, and a level in other units starts anew. */
        if (config->burst != s->config.burst || config->burst_ns != s->config.burst_ns)
            bucket_fill(&function->burst, config->burst, config->burst_ns, s->now_ns);
    }
    bool rates = config->rate_factor != s->config.rate_factor || config->account_limit != s->config.account_limit;

    s->config = *config;
    if (rates) {
        bucket_fill(&s->rate, rate_capacity(s, NULL), NS_PER_S, s->now_ns);
        for (uint32_t slot = 1; slot <= s->functions.used; slot++)
            bucket_fill(&function_at(s, slot)->rate, rate_capacity(s, function_at(s, slot)), NS_PER_S, s->now_ns);
    }
    s->stir = s->walk = true;
    settle(s);
    return 0;
}
