/* What becomes of calls and sandboxes: one gate each, and the sums that go with every move. */
#include "internal.h"

#include <stddef.h>

const bool sched_sandbox_moves[SANDBOX_STATES][SANDBOX_STATES] = {
    [SANDBOX_GONE] = {[SANDBOX_STARTING] = true},
    [SANDBOX_STARTING] = {[SANDBOX_GONE] = true,
                          [SANDBOX_BUSY] = true,
                          [SANDBOX_IDLE] = true,
                          [SANDBOX_CLOSING] = true},
    [SANDBOX_BUSY] = {[SANDBOX_BUSY] = true, [SANDBOX_IDLE] = true, [SANDBOX_CLOSING] = true},
    [SANDBOX_IDLE] = {[SANDBOX_BUSY] = true, [SANDBOX_CLOSING] = true},
    [SANDBOX_CLOSING] = {[SANDBOX_GONE] = true},
};

/* From RUNNING it goes on elsewhere when its sandbox was none: sched_again. */
const bool sched_call_moves[CALL_STATES][CALL_STATES] = {
    [CALL_ENDED] = {[CALL_WAITING] = true, [CALL_STARTING] = true, [CALL_RUNNING] = true},
    [CALL_WAITING] = {[CALL_ENDED] = true, [CALL_STARTING] = true, [CALL_RUNNING] = true},
    [CALL_STARTING] = {[CALL_ENDED] = true, [CALL_RUNNING] = true},
    [CALL_RUNNING] = {[CALL_ENDED] = true, [CALL_WAITING] = true, [CALL_STARTING] = true, [CALL_RUNNING] = true},
};

void sandbox_move(struct sched *s, struct sandbox *sandbox, enum sandbox_state to)
{
    if (!sched_sandbox_moves[sandbox->state][to])
        s->broken = "a sandbox made a move that there is not";
    if (sandbox->state == SANDBOX_STARTING && sandbox->provisioned)
        target_at(s, sandbox->target)->kept_starting--;
    if (sandbox->state != SANDBOX_GONE)
        s->by_state[sandbox->state]--;
    if (to != SANDBOX_GONE)
        s->by_state[to]++;
    sandbox->state = (uint8_t)to;
}

void call_move(struct sched *s, struct call *call, enum call_state to)
{
    if (!sched_call_moves[call->state][to])
        s->broken = "a call made a move that there is not";
    call->state = (uint8_t)to;
}

uint32_t sandbox_start(struct sched *s, uint32_t target_slot, uint32_t call, bool provisioned)
{
    uint32_t slot = has_room(s) ? pool_take(&s->sandboxes) : 0;
    struct target *target = target_at(s, target_slot);
    struct function *function = function_at(s, target->function);
    struct sandbox *sandbox;

    if (slot == 0)
        return 0;
    sandbox = sandbox_at(s, slot);
    sandbox->target = target_slot;
    sandbox->call = call;
    sandbox->provisioned = provisioned;
    sandbox_move(s, sandbox, SANDBOX_STARTING);
    target->sandboxes++;
    target->live++;
    function->sandboxes++;
    function->live++;
    if (provisioned) {
        target->kept_all++;
        target->kept_starting++;
    }
    if (call != 0) {
        call_at(s, call)->sandbox = slot;
        call_at(s, call)->burst_taken = false;
        call_move(s, call_at(s, call), CALL_STARTING);
        s->cold++;
    }
    if (s->sandboxes.live > s->peak_sandboxes)
        s->peak_sandboxes = s->sandboxes.live;
    return slot;
}

void sandbox_run(struct sched *s, uint32_t slot, uint32_t call_slot)
{
    struct sandbox *sandbox = sandbox_at(s, slot);
    struct call *call = call_at(s, call_slot);

    sandbox_move(s, sandbox, SANDBOX_BUSY);
    sandbox->call = call_slot;
    call->sandbox = slot;
    call_move(s, call, CALL_RUNNING);
    call_lease(s, call, sandbox->provisioned);
    if (call->warm)
        s->warm++;
    if (sandbox->provisioned)
        s->provisioned_runs++;
}

static void stack_push(struct sched *s, uint32_t *head, uint32_t slot)
{
    struct link *link = stack_link(s, slot);

    link->prev = 0;
    link->next = *head;
    if (*head != 0)
        stack_link(s, *head)->prev = slot;
    *head = slot;
}

void sandbox_idle(struct sched *s, uint32_t slot)
{
    struct sandbox *sandbox = sandbox_at(s, slot);
    struct target *target = target_at(s, sandbox->target);

    sandbox_move(s, sandbox, SANDBOX_IDLE);
    sandbox->call = 0;
    sandbox->idle_since = s->now_ns;
    if (sandbox->provisioned) {
        stack_push(s, &target->ready, slot);
        target->kept_idle++;
    } else {
        stack_push(s, &target->idle, slot);
        age_append(s, &s->oldest, slot);
    }
}

void sandbox_unstack(struct sched *s, uint32_t slot)
{
    struct sandbox *sandbox = sandbox_at(s, slot);
    struct target *target = target_at(s, sandbox->target);
    uint32_t *head = sandbox->provisioned ? &target->ready : &target->idle;
    struct link *link = &sandbox->stack;

    if (link->next != 0)
        stack_link(s, link->next)->prev = link->prev;
    if (link->prev != 0)
        stack_link(s, link->prev)->next = link->next;
    else
        *head = link->next;
    link->next = link->prev = 0;
    if (sandbox->provisioned)
        target->kept_idle--;
    else
        age_remove(s, &s->oldest, slot);
}

/* One provisioned sandbox less. */
static void kept_less(struct sched *s, struct sandbox *sandbox)
{
    struct target *target = target_at(s, sandbox->target);

    target->kept_all--;
    if (sandbox->state == SANDBOX_STARTING)
        target->kept_starting--;
    sandbox->provisioned = false;
    if (target->kept_all < target->provisioned)
        s->stir = s->walk = true;
}

void sandbox_unprovision(struct sched *s, uint32_t slot)
{
    struct sandbox *sandbox = sandbox_at(s, slot);

    if (sandbox->state == SANDBOX_IDLE) {
        sandbox_unstack(s, slot);
        kept_less(s, sandbox);
        stack_push(s, &target_at(s, sandbox->target)->idle, slot);
        age_append(s, &s->oldest, slot);
        sandbox->idle_since = s->now_ns;
        return;
    }
    kept_less(s, sandbox);
}

void sandbox_close(struct sched *s, uint32_t slot)
{
    struct sandbox *sandbox = sandbox_at(s, slot);
    struct target *target = target_at(s, sandbox->target);

    if (sandbox->state == SANDBOX_IDLE)
        sandbox_unstack(s, slot);
    if (sandbox->provisioned)
        kept_less(s, sandbox);
    sandbox->call = 0;
    sandbox_move(s, sandbox, SANDBOX_CLOSING);
    target->live--;
    function_at(s, target->function)->live--;
    s->closing++;
    age_append(s, &s->leaving, slot);
    act(s, SCHED_DO_CLOSE, 0, slot);
    s->stir = true;
}

void sandbox_gone(struct sched *s, uint32_t slot)
{
    struct sandbox *sandbox = sandbox_at(s, slot);
    uint32_t target_slot = sandbox->target;
    struct target *target = target_at(s, target_slot);
    struct function *function = function_at(s, target->function);

    if (sandbox->state == SANDBOX_CLOSING) {
        s->closing--;
        if (sandbox->hurried)
            s->hurried--;
        else
            age_remove(s, &s->leaving, slot);
    } else {
        if (sandbox->provisioned)
            kept_less(s, sandbox);
        target->live--;
        function->live--;
    }
    sandbox_move(s, sandbox, SANDBOX_GONE);
    target->sandboxes--;
    function->sandboxes--;
    pool_give(&s->sandboxes, slot);
    target_let_go(s, target_slot);
    s->stir = true;
}

/* So many calls more on demand. */
static void on_demand(struct sched *s, const struct target *target, int more)
{
    if (target->reserves)
        function_at(s, target->function)->in_use += (uint32_t)more;
    else
        s->unreserved_in_use += (uint32_t)more;
}

uint32_t call_begin(struct sched *s, uint32_t target_slot, uint64_t user)
{
    uint32_t slot = pool_take(&s->calls);
    struct target *target = target_at(s, target_slot);
    struct call *call;

    if (slot == 0)
        return 0;
    call = call_at(s, slot);
    call->target = target_slot;
    call->user = user;
    call->warm_left = WARM_TRIES;
    call->fresh_left = FRESH_TRIES;
    target->calls++;
    on_demand(s, target, 1);
    if (s->calls.live > s->peak_concurrency)
        s->peak_concurrency = s->calls.live;
    return slot;
}

void call_lease(struct sched *s, struct call *call, bool provisioned)
{
    struct target *target = target_at(s, call->target);

    if (call->provisioned == provisioned)
        return;
    call->provisioned = provisioned;
    target->leased += provisioned ? 1 : -1U;
    on_demand(s, target, provisioned ? -1 : 1);
}

void call_wait(struct sched *s, uint32_t slot)
{
    struct call *call = call_at(s, slot);
    struct target *target = target_at(s, call->target);
    struct function *function = function_at(s, target->function);

    call_move(s, call, CALL_WAITING);
    call->sandbox = 0;
    waiting_append(s, &target->waiting, slot);
    if (target->queued++ == 0)
        target_ring_append(s, &function->waiting, call->target);
    if (function->queued++ == 0)
        function_ring_append(s, &s->ring, target->function);
    s->waiting++;
    s->waited++;
    s->stir = true;
}

void call_unwait(struct sched *s, uint32_t slot)
{
    struct call *call = call_at(s, slot);
    struct target *target = target_at(s, call->target);
    struct function *function = function_at(s, target->function);

    waiting_remove(s, &target->waiting, slot);
    if (--target->queued == 0) {
        target_ring_remove(s, &function->waiting, call->target);
        target->handovers = 0;
    }
    if (--function->queued == 0)
        function_ring_remove(s, &s->ring, target->function);
    s->waiting--;
    if (call->burst_taken) {
        bucket_refill(&function->burst, s->config.burst, s->config.burst_ns, s->now_ns);
        bucket_give(&function->burst, s->config.burst, s->config.burst_ns);
    }
    call->burst_taken = false;
}

void call_end(struct sched *s, uint32_t slot)
{
    struct call *call = call_at(s, slot);
    uint32_t target_slot = call->target;
    struct target *target = target_at(s, target_slot);

    if (call->state == CALL_WAITING)
        call_unwait(s, slot);
    if (call->provisioned)
        target->leased--;
    else
        on_demand(s, target, -1);
    target->calls--;
    wheel_disarm(&s->wheel, &call->deadline);
    call_move(s, call, CALL_ENDED);
    pool_give(&s->calls, slot);
    if (target->retired)
        target_let_go(s, target_slot);
}
