/* Where a call runs, and who gets the room of whom.
 *
 * A call that finds neither a warm sandbox nor room waits with its target. Room goes round robin: to the next function
 * that waits, and in it to the next target. A sandbox that has served goes to the next call of its own target, which is
 * cheaper than any start, unless another function (or another target of this one) that waits has a smaller share of the
 * room: then it closes for its sake. So shares level out, whoever floods, and no sandbox is closed once they have. */
#include "internal.h"

#include <stddef.h>

void place(struct sched *s, uint32_t slot, struct sched_decision *decision)
{
    struct call *call = call_at(s, slot);
    const struct target *target = target_at(s, call->target);
    uint32_t sandbox = 0;

    decision->call = pool_id(&s->calls, slot);
    decision->call_user = call->user;
    decision->covers_init = call->covers_init;
    if (call->warm_left > 0)
        sandbox = target->ready != 0 ? target->ready : target->idle;
    if (sandbox != 0) {
        call->warm_left--;
        call->warm = true;
        sandbox_unstack(s, sandbox);
        sandbox_run(s, sandbox, slot);
        decision->verdict = SCHED_RUN;
        decision->warm = true;
        decision->provisioned = call->provisioned;
        decision->sandbox = pool_id(&s->sandboxes, sandbox);
        decision->user = sandbox_at(s, sandbox)->user;
        return;
    }
    call->fresh_left--;
    call->warm = false;
    call_lease(s, call, false);
    sandbox = sandbox_start(s, call->target, slot, false);
    if (sandbox != 0) {
        decision->verdict = SCHED_START;
        decision->sandbox = pool_id(&s->sandboxes, sandbox);
        return;
    }
    call_wait(s, slot);
    decision->verdict = SCHED_WAIT;
}

/* A start for who is next; there is room, and somebody waits. */
static void start_next(struct sched *s)
{
    uint32_t function_slot = s->ring.first;
    struct function *function = function_at(s, function_slot);
    uint32_t target_slot = function->waiting.first;
    uint32_t call = target_at(s, target_slot)->waiting.first;

    function_ring_rotate(s, &s->ring);
    target_ring_rotate(s, &function->waiting);
    call_at(s, call)->burst_taken = false; /* it is spent now */
    call_unwait(s, call);
    act(s, SCHED_DO_START, call, sandbox_start(s, target_slot, call, false));
}

static uint32_t other_than(uint32_t first, uint32_t next, uint32_t self)
{
    return first == self ? next : first;
}

/* Whether a sandbox of the target should go for others who wait, though its own next call does too. */
static bool yields(struct sched *s, uint32_t slot)
{
    struct target *target = target_at(s, slot);
    struct function *function = function_at(s, target->function);
    uint32_t others = s->waiting - target->queued, spent = target->handovers;

    if (others <= s->closing) { /* room for them is on its way */
        target->handovers = 0;
        return false;
    }
    uint32_t rival = other_than(s->ring.first, function->ring.next, target->function);

    if (rival != 0) {
        uint32_t theirs = function_at(s, rival)->live;

        if (function->live > theirs + 1 || (theirs == 0 && spent >= QUANTUM)) {
            if (s->ring.first == target->function)
                function_ring_rotate(s, &s->ring);
            return true;
        }
    }
    rival = other_than(function->waiting.first, target->ring.next, slot);
    if (rival != 0) {
        uint32_t theirs = target_at(s, rival)->live;

        if (target->live > theirs + 1 || (theirs == 0 && spent >= QUANTUM)) {
            if (function->waiting.first == slot)
                target_ring_rotate(s, &function->waiting);
            return true;
        }
    }
    return false;
}

void release(struct sched *s, uint32_t slot)
{
    struct sandbox *sandbox = sandbox_at(s, slot);
    struct target *target = target_at(s, sandbox->target);

    sandbox->call = 0;
    if (sandbox->provisioned && target->kept_all > target->provisioned)
        sandbox_unprovision(s, slot);
    if (target->waiting.first != 0) {
        uint32_t call = target->waiting.first;

        if (!sandbox->provisioned && yields(s, sandbox->target)) {
            target->handovers = 0;
            sandbox_close(s, slot);
            return;
        }
        target->handovers++;
        call_unwait(s, call);
        call_at(s, call)->warm = true;
        sandbox_run(s, slot, call);
        act(s, SCHED_DO_RUN, call, slot);
        return;
    }
    if (s->draining || (s->waiting + s->hungry > s->closing && !sandbox->provisioned)) {
        sandbox_close(s, slot);
        return;
    }
    sandbox_idle(s, slot);
}

void settle_now(struct sched *s)
{
    s->stir = false;
    while (s->waiting > 0 && has_room(s))
        start_next(s);
    if (s->walk || (s->hungry > 0 && has_room(s)))
        provision_walk(s);
    while (s->closing < s->waiting + s->hungry && s->oldest.first != 0)
        sandbox_close(s, s->oldest.first);
    while (s->hurried < s->waiting && s->leaving.first != 0) {
        uint32_t slot = s->leaving.first;

        age_remove(s, &s->leaving, slot);
        sandbox_at(s, slot)->hurried = true;
        s->hurried++;
        act(s, SCHED_DO_HURRY, 0, slot);
    }
    s->stir = false;
}

int sched_busy(const struct sched *s, sched_id id)
{
    uint32_t slot = pool_find(&s->sandboxes, id);
    uint8_t state = slot == 0 ? SANDBOX_GONE : sandbox_at(s, slot)->state;

    return state == SANDBOX_BUSY ? 1 : state == SANDBOX_IDLE ? 0 : -1;
}
