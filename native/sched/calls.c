/* The inputs about calls and sandboxes: check the id and the state, then move. */
#include "internal.h"

#include <stddef.h>

int sched_submit(struct sched *s, sched_id target_id, uint64_t user, int64_t now_ns, struct sched_decision *decision)
{
    uint32_t slot = pool_find(&s->targets, target_id), call;
    struct target *target = target_at(s, slot);

    *decision = (struct sched_decision){.verdict = SCHED_NOTHING};
    if (slot == 0 || target->retired)
        return SCHED_E_STALE;
    clock_set(s, now_ns);
    s->submitted++;
    if (s->draining) {
        decision->verdict = SCHED_REFUSED;
        return 0;
    }
    bool paid = false;

    decision->reason = admit(s, target, &paid, &decision->retry_after_ms);
    if (decision->reason != SCHED_NO_REASON) {
        s->throttled[decision->reason]++;
        function_at(s, target->function)->throttled++;
        decision->verdict = SCHED_THROTTLED;
        return 0;
    }
    call = call_begin(s, slot, user); /* there are as many as the account's limit */
    call_at(s, call)->burst_taken = paid;
    place(s, call, decision);
    settle(s);
    return 0;
}

int sched_submit_claimed(struct sched *s, sched_id target_id, uint64_t user, int64_t now_ns,
                         struct sched_decision *decision)
{
    uint32_t slot = pool_find(&s->targets, target_id), call, retry_after_ms;
    const struct target *target = target_at(s, slot);
    bool paid = false;

    *decision = (struct sched_decision){.verdict = SCHED_NOTHING};
    if (slot == 0 || target->retired)
        return SCHED_E_STALE;
    clock_set(s, now_ns);
    if (s->draining || (target->ready == 0 && target->idle == 0 && has_room(s)) ||
        admit(s, target, &paid, &retry_after_ms) != SCHED_NO_REASON)
        return 0;
    s->submitted++;
    call = call_begin(s, slot, user);
    call_at(s, call)->burst_taken = paid;
    place(s, call, decision);
    call_at(s, call)->claimed = decision->verdict == SCHED_WAIT;
    settle(s);
    return 0;
}

/* The sandbox that ran the call: serves on, or closes. */
static void leave(struct sched *s, uint32_t slot, bool keep)
{
    struct sandbox *sandbox = sandbox_at(s, slot);

    if (keep && !sandbox->dead && !s->killed && !target_at(s, sandbox->target)->retired)
        release(s, slot);
    else
        sandbox_close(s, slot);
}

int sched_finished(struct sched *s, sched_id id, bool keep, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->calls, id), sandbox;

    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    if (call_at(s, slot)->state != CALL_RUNNING)
        return SCHED_E_STATE;
    sandbox = call_at(s, slot)->sandbox;
    call_end(s, slot);
    leave(s, sandbox, keep);
    settle(s);
    return 0;
}

int sched_again(struct sched *s, sched_id id, enum sched_why why, int64_t now_ns, struct sched_decision *decision)
{
    uint32_t slot = pool_find(&s->calls, id);
    struct call *call = call_at(s, slot);
    bool failed = false;

    *decision = (struct sched_decision){.verdict = SCHED_NOTHING};
    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    if (call->state != CALL_RUNNING)
        return SCHED_E_STATE;
    sandbox_close(s, call->sandbox);
    call->sandbox = 0;
    switch (why) {
    case SCHED_WHY_DEAD:
        if (call->warm) {
            call->warm_left = call->warm_left < WARM_TRIES ? call->warm_left + 1 : WARM_TRIES;
            if (call->fresh_left == 0) /* it was handed over while the call waited for a fresh one */
                call->fresh_left = 1;
        }
        break;
    case SCHED_WHY_REFUSED:
        break;
    case SCHED_WHY_INIT:
        failed = call->covers_init;
        call->covers_init = true;
        call->warm_left = WARM_TRIES;
        call->fresh_left = FRESH_TRIES;
        break;
    }
    failed |= call->fresh_left == 0;
    if (failed || s->killed) {
        decision->verdict = failed ? SCHED_FAILED : SCHED_REFUSED;
        decision->call = id;
        call_end(s, slot);
    } else {
        struct function *function = function_at(s, target_at(s, call->target)->function);

        /* A start under a lease that is there is never throttled, but it counts. */
        bucket_refill(&function->burst, s->config.burst, s->config.burst_ns, s->now_ns);
        if (!(call->warm_left > 0 &&
              (target_at(s, call->target)->ready != 0 || target_at(s, call->target)->idle != 0)) &&
            s->config.burst > 0 && bucket_wait_ns(&function->burst, s->config.burst, s->config.burst_ns) == 0) {
            bucket_take(&function->burst, s->config.burst_ns);
            call->burst_taken = true;
        }
        place(s, slot, decision);
    }
    settle(s);
    return 0;
}

int sched_cancel(struct sched *s, sched_id id, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->calls, id);
    struct call *call = call_at(s, slot);

    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    if (call->state == CALL_RUNNING)
        sandbox_close(s, call->sandbox);
    else if (call->state == CALL_STARTING)
        sandbox_at(s, call->sandbox)->call = 0;
    call_end(s, slot);
    s->stir = true;
    settle(s);
    return 0;
}

int sched_started(struct sched *s, sched_id id, uint64_t user, int64_t now_ns, struct sched_decision *decision)
{
    uint32_t slot = pool_find(&s->sandboxes, id);
    struct sandbox *sandbox = sandbox_at(s, slot);

    *decision = (struct sched_decision){.verdict = SCHED_NOTHING, .sandbox = id};
    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    if (sandbox->state != SANDBOX_STARTING)
        return SCHED_E_STATE;
    struct target *target = target_at(s, sandbox->target);
    uint32_t call = sandbox->call;

    sandbox->user = user;
    decision->call = pool_id(&s->calls, call);
    decision->call_user = call_at(s, call)->user;
    decision->user = user;
    if (sandbox->provisioned) {
        target->failures = 0;
        s->stir = s->walk = true;
    }
    if (call != 0 && !s->killed) {
        sandbox_run(s, slot, call);
        decision->verdict = SCHED_RUN;
        decision->covers_init = call_at(s, call)->covers_init;
    } else if (call != 0) {
        decision->verdict = SCHED_REFUSED;
        call_end(s, call);
        sandbox_close(s, slot);
    } else if (s->killed || target->retired) {
        sandbox_close(s, slot);
    } else {
        release(s, slot);
    }
    settle(s);
    return 0;
}

int sched_set_user(struct sched *s, sched_id id, uint64_t user)
{
    uint32_t slot = pool_find(&s->sandboxes, id);

    if (slot == 0)
        return SCHED_E_STALE;
    sandbox_at(s, slot)->user = user;
    return 0;
}

int sched_start_failed(struct sched *s, sched_id id, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->sandboxes, id);
    struct sandbox *sandbox = sandbox_at(s, slot);

    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    if (sandbox->state != SANDBOX_STARTING)
        return SCHED_E_STATE;
    if (sandbox->provisioned)
        provision_back_off(s, sandbox->target, true);
    if (sandbox->call != 0)
        call_end(s, sandbox->call);
    sandbox_gone(s, slot);
    settle(s);
    return 0;
}

int sched_died(struct sched *s, sched_id id, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->sandboxes, id);
    struct sandbox *sandbox = sandbox_at(s, slot);

    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    switch (sandbox->state) {
    case SANDBOX_IDLE:
        if (sandbox->provisioned) /* it was not its call's fault: no loop of replacements */
            provision_back_off(s, sandbox->target, false);
        sandbox_close(s, slot);
        settle(s);
        return 0;
    case SANDBOX_BUSY:
        sandbox->dead = true;
        return 0;
    case SANDBOX_CLOSING:
        return 0;
    default:
        return SCHED_E_STATE;
    }
}

int sched_closed(struct sched *s, sched_id id, int64_t now_ns)
{
    uint32_t slot = pool_find(&s->sandboxes, id);

    clock_set(s, now_ns);
    if (slot == 0)
        return SCHED_E_STALE;
    if (sandbox_at(s, slot)->state != SANDBOX_CLOSING)
        return SCHED_E_STATE;
    sandbox_gone(s, slot);
    settle(s);
    return 0;
}
