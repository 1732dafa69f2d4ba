/* What can be seen, and whether it adds up. */
#include "internal.h"

#include <stdio.h>

void sched_counts(const struct sched *s, struct sched_counts *counts)
{
    *counts = (struct sched_counts){
        .limit = s->config.account_limit,
        .reserved = s->reserved,
        .provisioned = s->provisioned,
        .concurrency = s->calls.live,
        .unreserved_in_use = s->unreserved_in_use,
        .waiting = s->waiting,
        .sandboxes = s->sandboxes.live,
        .starting = s->by_state[SANDBOX_STARTING],
        .idle = s->by_state[SANDBOX_IDLE],
        .busy = s->by_state[SANDBOX_BUSY],
        .closing = s->by_state[SANDBOX_CLOSING],
        .peak_sandboxes = s->peak_sandboxes,
        .peak_concurrency = s->peak_concurrency,
        .submitted = s->submitted,
        .cold = s->cold,
        .warm = s->warm,
        .provisioned_runs = s->provisioned_runs,
        .waited = s->waited,
    };
    for (size_t i = 0; i < SCHED_REASONS; i++)
        counts->throttled[i] = s->throttled[i];
}

int sched_function_counts(const struct sched *s, sched_id id, struct sched_function_counts *counts)
{
    uint32_t slot = pool_find(&s->functions, id);
    const struct function *function = function_at(s, slot);
    uint32_t calls = 0, leased = 0;

    if (slot == 0)
        return SCHED_E_STALE;
    for (uint32_t at = function->targets.first; at != 0; at = target_at(s, at)->siblings.next) {
        calls += target_at(s, at)->calls;
        leased += target_at(s, at)->leased;
    }
    *counts = (struct sched_function_counts){
        .reserved = function->reserved,
        .provisioned = function->provisioned,
        .concurrency = calls,
        .on_demand = calls - leased,
        .waiting = function->queued,
        .sandboxes = function->sandboxes,
        .throttled = function->throttled,
    };
    return 0;
}

/* Sums of what is found by walking, beside those that were kept. */
struct sums {
    uint32_t by_state[SANDBOX_STATES], hurried, waiting, reserved, provisioned, unreserved;
};

#define CLAIM(holds, ...)                                                                                              \
    do {                                                                                                               \
        if (!(holds)) {                                                                                                \
            snprintf(text, size, __VA_ARGS__);                                                                         \
            return -1;                                                                                                 \
        }                                                                                                              \
    } while (0)

static bool used(const struct pool *pool, uint32_t slot)
{
    return (pool_item(pool, slot)->generation & 1) != 0;
}

static int check_sandboxes(const struct sched *s, struct sums *sums, char *text, size_t size)
{
    uint32_t live = 0;

    for (uint32_t slot = 1; slot <= s->sandboxes.used; slot++) {
        const struct sandbox *sandbox = sandbox_at(s, slot);
        const struct call *call = call_at(s, sandbox->call);

        if (!used(&s->sandboxes, slot))
            continue;
        live++;
        CLAIM(sandbox->state != SANDBOX_GONE && sandbox->state < SANDBOX_STATES, "sandbox %u has no state", slot);
        CLAIM(used(&s->targets, sandbox->target), "sandbox %u has no target", slot);
        sums->by_state[sandbox->state]++;
        sums->hurried += sandbox->hurried;
        CLAIM(!sandbox->hurried || sandbox->state == SANDBOX_CLOSING, "sandbox %u is hurried and not closing", slot);
        CLAIM((sandbox->state == SANDBOX_BUSY) <= (sandbox->call != 0), "sandbox %u is busy with nothing", slot);
        CLAIM((sandbox->state == SANDBOX_IDLE || sandbox->state == SANDBOX_CLOSING) <= (sandbox->call == 0),
              "sandbox %u has a call that it should not have", slot);
        CLAIM(sandbox->state != SANDBOX_IDLE || !target_at(s, sandbox->target)->retired,
              "sandbox %u idles for a retired target", slot);
        if (sandbox->call != 0) {
            CLAIM(used(&s->calls, sandbox->call) && call->sandbox == slot, "sandbox %u's call is not its own", slot);
            CLAIM(call->state == (sandbox->state == SANDBOX_BUSY ? CALL_RUNNING : CALL_STARTING),
                  "sandbox %u's call is in another state", slot);
            CLAIM(call->provisioned == sandbox->provisioned, "sandbox %u's call has another lease", slot);
            CLAIM(call->target == sandbox->target, "sandbox %u runs another target's call", slot);
        }
    }
    CLAIM(live == s->sandboxes.live, "%u sandboxes, %u counted", live, s->sandboxes.live);
    for (int state = SANDBOX_STARTING; state < SANDBOX_STATES; state++)
        CLAIM(sums->by_state[state] == s->by_state[state], "state %d: %u sandboxes, %u counted", state,
              sums->by_state[state], s->by_state[state]);
    CLAIM(sums->by_state[SANDBOX_CLOSING] == s->closing && sums->hurried == s->hurried, "closing is miscounted");
    return 0;
}

static int check_calls(const struct sched *s, struct sums *sums, char *text, size_t size)
{
    uint32_t live = 0;

    for (uint32_t slot = 1; slot <= s->calls.used; slot++) {
        const struct call *call = call_at(s, slot);

        if (!used(&s->calls, slot))
            continue;
        live++;
        CLAIM(call->state != CALL_ENDED && call->state < CALL_STATES, "call %u has no state", slot);
        CLAIM((call->state == CALL_WAITING) == (call->sandbox == 0), "call %u: sandbox %u, state %d", slot,
              call->sandbox, call->state);
        CLAIM(call->sandbox == 0 || sandbox_at(s, call->sandbox)->call == slot, "call %u's sandbox is not its own",
              slot);
        CLAIM(!call->burst_taken || call->state == CALL_WAITING, "call %u has paid for a start and does not wait",
              slot);
        sums->waiting += call->state == CALL_WAITING;
    }
    CLAIM(live == s->calls.live, "%u calls, %u counted", live, s->calls.live);
    CLAIM(sums->waiting == s->waiting, "%u calls wait, %u counted", sums->waiting, s->waiting);
    return 0;
}

struct target_sums {
    uint32_t calls, sandboxes, live, queued, kept, kept_starting, kept_idle, idle, ready;
};

static int check_target(const struct sched *s, uint32_t slot, const struct target_sums *found, char *text, size_t size)
{
    const struct target *target = target_at(s, slot);
    uint32_t count = 0;

    CLAIM(found->calls == target->calls, "target %u: %u calls, %u counted", slot, found->calls, target->calls);
    CLAIM(found->sandboxes == target->sandboxes && found->live == target->live, "target %u miscounts sandboxes", slot);
    CLAIM(found->queued == target->queued, "target %u: %u wait, %u counted", slot, found->queued, target->queued);
    CLAIM(found->kept == target->kept_all && found->kept_starting == target->kept_starting &&
              found->kept_idle == target->kept_idle,
          "target %u miscounts provisioned sandboxes", slot);
    CLAIM(!target->retired || (target->provisioned == 0 && found->calls + found->sandboxes > 0),
          "target %u is retired and still there", slot);
    for (uint32_t at = target->idle; at != 0; at = sandbox_at(s, at)->stack.next, count++)
        CLAIM(sandbox_at(s, at)->state == SANDBOX_IDLE && !sandbox_at(s, at)->provisioned && count <= found->idle,
              "target %u: sandbox %u is on the wrong stack", slot, at);
    CLAIM(count == found->idle, "target %u: %u idle, %u on the stack", slot, found->idle, count);
    count = 0;
    for (uint32_t at = target->ready; at != 0; at = sandbox_at(s, at)->stack.next, count++)
        CLAIM(sandbox_at(s, at)->state == SANDBOX_IDLE && sandbox_at(s, at)->provisioned && count <= found->ready,
              "target %u: sandbox %u is on the wrong stack", slot, at);
    CLAIM(count == found->ready, "target %u: %u ready, %u on the stack", slot, found->ready, count);
    count = 0;
    for (uint32_t at = target->waiting.first; at != 0; at = call_at(s, at)->waiting.next, count++)
        CLAIM(call_at(s, at)->state == CALL_WAITING && call_at(s, at)->target == slot && count <= found->queued,
              "target %u: call %u is in the wrong queue", slot, at);
    CLAIM(count == found->queued, "target %u: %u wait, %u in the queue", slot, found->queued, count);
    return 0;
}

static int check_targets(const struct sched *s, char *text, size_t size)
{
    for (uint32_t slot = 1; slot <= s->targets.used; slot++) {
        struct target_sums found = {0};

        if (!used(&s->targets, slot))
            continue;
        for (uint32_t at = 1; at <= s->sandboxes.used; at++) {
            const struct sandbox *sandbox = sandbox_at(s, at);

            if (!used(&s->sandboxes, at) || sandbox->target != slot)
                continue;
            found.sandboxes++;
            found.live += sandbox->state != SANDBOX_CLOSING;
            found.kept += sandbox->provisioned;
            found.kept_starting += sandbox->provisioned && sandbox->state == SANDBOX_STARTING;
            found.ready += sandbox->provisioned && sandbox->state == SANDBOX_IDLE;
            found.idle += !sandbox->provisioned && sandbox->state == SANDBOX_IDLE;
        }
        found.kept_idle = found.ready;
        for (uint32_t at = 1; at <= s->calls.used; at++) {
            found.calls += used(&s->calls, at) && call_at(s, at)->target == slot;
            found.queued += used(&s->calls, at) && call_at(s, at)->target == slot && call_at(s, at)->sandbox == 0;
        }
        if (check_target(s, slot, &found, text, size) < 0)
            return -1;
    }
    return 0;
}

static int check_functions(const struct sched *s, struct sums *sums, char *text, size_t size)
{
    for (uint32_t slot = 1; slot <= s->functions.used; slot++) {
        const struct function *function = function_at(s, slot);
        uint32_t calls = 0, kept = 0, leased = 0, live = 0, sandboxes = 0, queued = 0, provisioned = 0;

        if (!used(&s->functions, slot))
            continue;
        for (uint32_t at = function->targets.first; at != 0; at = target_at(s, at)->siblings.next) {
            const struct target *target = target_at(s, at);

            CLAIM(used(&s->targets, at) && target->function == slot, "function %u has another's target", slot);
            CLAIM(target->reserves == (function->reserved >= 0), "target %u does not know of the reservation", at);
            calls += target->calls;
            leased += target->leased;
            live += target->live;
            sandboxes += target->sandboxes;
            queued += target->queued;
            provisioned += target->provisioned;
        }
        for (uint32_t at = 1; at <= s->calls.used; at++)
            kept += used(&s->calls, at) && call_at(s, at)->provisioned &&
                    target_at(s, call_at(s, at)->target)->function == slot;
        CLAIM(kept == leased, "function %u: %u calls with its provisioned concurrency, %u counted", slot, kept, leased);
        CLAIM(function->in_use == (function->reserved >= 0 ? calls - kept : 0), "function %u: %u calls, %u in use",
              slot, calls, function->in_use);
        CLAIM(live == function->live && sandboxes == function->sandboxes && queued == function->queued,
              "function %u miscounts sandboxes or waiting calls", slot);
        CLAIM(provisioned == function->provisioned, "function %u miscounts provisioned concurrency", slot);
        CLAIM(function->reserved < 0 || (uint32_t)function->reserved >= provisioned,
              "function %u has more provisioned than reserved", slot);
        CLAIM(!function->removed || function->targets.first != 0, "function %u is removed and still there", slot);
        if (function->reserved >= 0) {
            sums->reserved += (uint32_t)function->reserved;
        } else {
            sums->provisioned += provisioned;
            sums->unreserved += calls - kept;
        }
    }
    CLAIM(sums->reserved == s->reserved, "%u reserved, %u counted", sums->reserved, s->reserved);
    CLAIM(sums->provisioned == s->provisioned, "%u provisioned, %u counted", sums->provisioned, s->provisioned);
    CLAIM(sums->unreserved == s->unreserved_in_use, "%u unreserved in use, %u counted", sums->unreserved,
          s->unreserved_in_use);
    return 0;
}

static int check_order(const struct sched *s, char *text, size_t size)
{
    int64_t since = 0;
    uint32_t count = 0, waiting = 0;

    for (uint32_t at = s->oldest.first; at != 0; at = sandbox_at(s, at)->age.next, count++) {
        const struct sandbox *sandbox = sandbox_at(s, at);

        CLAIM(sandbox->state == SANDBOX_IDLE && !sandbox->provisioned, "sandbox %u is not idle on demand", at);
        CLAIM(sandbox->idle_since >= since, "sandbox %u idles out of order", at);
        CLAIM(count <= s->sandboxes.live, "the list of idle sandboxes has no end");
        since = sandbox->idle_since;
    }
    for (uint32_t at = s->ring.first; at != 0; at = function_at(s, at)->ring.next) {
        CLAIM(function_at(s, at)->queued > 0 && function_at(s, at)->waiting.first != 0,
              "function %u is in the ring and nothing waits", at);
        waiting += function_at(s, at)->queued;
        CLAIM(waiting <= s->waiting, "more wait in the ring than wait");
    }
    CLAIM(waiting == s->waiting, "%u wait, %u in the ring", s->waiting, waiting);
    CLAIM(s->waiting == 0 || !has_room(s), "%u calls wait and there is room", s->waiting);
    CLAIM(s->oldest.first == 0 || s->closing >= s->waiting, "%u calls wait for the room of one that idles", s->waiting);
    return 0;
}

int sched_check(const struct sched *s, char *text, size_t size)
{
    struct sums sums = {0};

    CLAIM(s->broken == NULL, "%s", s->broken);
    if (check_sandboxes(s, &sums, text, size) < 0 || check_calls(s, &sums, text, size) < 0 ||
        check_targets(s, text, size) < 0 || check_functions(s, &sums, text, size) < 0)
        return -1;
    return check_order(s, text, size);
}
