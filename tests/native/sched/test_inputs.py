"""Inputs at the wrong time, in masses, or about nothing: each has its answer, and nothing is disturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.scheduler import core as native
from tests.native.sched.state import SECOND
from tests.native.sched.test_limits import Owner, rejected

MANY = 100_000


def in_state(state: str) -> tuple[Owner, int, int]:
    """An owner, a sandbox in the state, and its call or the last that it had."""
    owner = Owner()
    core = owner.core
    core.submit(owner.target, 0)
    sandbox, call = core.sandbox, core.call
    if state != "starting":
        core.started(sandbox, 0)
    if state == "idle":
        core.finished(call, True, 0)
    if state in ("closing", "gone"):
        core.finished(call, False, 0)
        assert core.next() == (native.DO_CLOSE, 0, sandbox, owner.target)
    if state == "gone":
        core.closed(sandbox, 0)
    return owner, sandbox, call


SANDBOX_INPUTS: dict[str, Callable[[native.Core, int], object]] = {
    "started": lambda core, sandbox: core.started(sandbox, 0),
    "start_failed": lambda core, sandbox: core.start_failed(sandbox, 0),
    "died": lambda core, sandbox: core.died(sandbox, 0),
    "closed": lambda core, sandbox: core.closed(sandbox, 0),
}
TAKEN = {
    "starting": {"started", "start_failed"},
    "busy": {"died"},
    "idle": {"died"},
    "closing": {"died", "closed"},
    "gone": set[str](),
}


@pytest.mark.parametrize("name", SANDBOX_INPUTS)
@pytest.mark.parametrize("state", TAKEN)
def test_a_sandbox_takes_the_inputs_of_its_state_and_no_other(state: str, name: str) -> None:
    owner, sandbox, _ = in_state(state)
    before = owner.core.counts()
    if name in TAKEN[state]:
        SANDBOX_INPUTS[name](owner.core, sandbox)
    else:
        with rejected(native.STALE if state == "gone" else native.STATE):
            SANDBOX_INPUTS[name](owner.core, sandbox)
        assert owner.core.counts() == before
    assert owner.core.check() == ""


CALL_INPUTS: dict[str, Callable[[native.Core, int], object]] = {
    "finished": lambda core, call: core.finished(call, True, 0),
    "again": lambda core, call: core.again(call, native.WHY_REFUSED, 0),
    "cancel": lambda core, call: core.cancel(call, 0),
    "set_deadline": lambda core, call: core.set_deadline(call, 1, 0),
}


@pytest.mark.parametrize("name", CALL_INPUTS)
@pytest.mark.parametrize("state", ["waiting", "starting", "running", "ended"])
def test_a_call_takes_the_inputs_of_its_state_and_no_other(state: str, name: str) -> None:
    owner, _, call = in_state({"starting": "starting", "ended": "idle"}.get(state, "busy"))
    core = owner.core
    if state == "waiting":
        core.configure(0, room=1)
        assert core.submit(owner.target, 0) == native.WAIT
        call = core.call
    before = core.counts()
    if state == "running" or (state != "ended" and name in ("cancel", "set_deadline")):
        CALL_INPUTS[name](core, call)
    else:
        with rejected(native.STALE if state == "ended" else native.STATE):
            CALL_INPUTS[name](core, call)
        assert core.counts() == before
    assert core.check() == ""


def test_a_lease_comes_back_once_however_often_the_call_ends() -> None:
    owner = Owner()
    first, second = owner.calls(2)
    owner.core.finished(first, True, 0)
    for end in (owner.core.cancel, lambda call, now: owner.core.finished(call, True, now)):
        with rejected(native.STALE):
            end(first, 0)
    assert owner.core.counts()["concurrency"] == 1
    assert owner.call() != first, "the slot has another call"
    with rejected(native.STALE):
        owner.core.cancel(first, 0)
    owner.end(second)


def test_a_hundred_thousand_waiting_calls_that_are_cancelled_at_once_leave_nothing() -> None:
    owner = Owner(account_limit=MANY, room=1, calls=MANY, burst=MANY)
    core = owner.core
    others = [owner.another()[1] for _ in range(100)]
    running = owner.call()
    waiting = []
    for number in range(MANY - 1):
        assert core.submit(others[number % 100], 0) == native.WAIT
        waiting.append(core.call)
    assert core.submit(owner.target, 0) == native.THROTTLED
    for call in waiting:
        core.cancel(call, 0)
    assert not core.pending
    counts = core.counts()
    assert (counts["waiting"], counts["concurrency"], counts["sandboxes"]) == (0, 1, 1)
    owner.end(running)
    assert core.submit(owner.target, 0) == native.RUN, "its room and its sandbox are still there"


def test_a_hundred_thousand_deadlines_come_when_they_are_due_and_those_that_were_taken_back_do_not() -> None:
    owner = Owner(account_limit=MANY, room=1, calls=MANY)
    core = owner.core
    calls = []
    for number in range(MANY):
        core.submit(owner.target, 0)
        calls.append(core.call)
        core.set_deadline(core.call, number * SECOND // 100, 0)
    for call in calls[::2]:
        core.set_deadline(call, -1, 0)
    late = []
    for second in range(0, MANY // 100 + 2, 50):
        core.tick(second * SECOND)
        while (action := core.next()) is not None:
            assert action[0] == native.DO_DEADLINE
            late.append(action[1])
        assert len(late) == pytest.approx(min(second * 50, MANY // 2), abs=1)
    assert sorted(late) == sorted(calls[1::2])
    assert core.due == -1


@pytest.mark.parametrize("after_s", [0.001, 0.5, 63.0, 4_000.0, 86_400.0, 31_536_000.0])
def test_a_deadline_is_never_early_and_at_most_two_ticks_late(after_s: float) -> None:
    owner = Owner()
    call = owner.call()
    after = int(after_s * SECOND)
    owner.core.set_deadline(call, after, 0)
    owner.core.tick(after - 1)
    assert owner.core.next() is None
    owner.core.tick(after + (2 << 20))
    action = owner.core.next()
    assert action is not None
    assert action[:2] == (native.DO_DEADLINE, call)
    assert owner.core.due == -1


def test_a_deadline_of_nothing_comes_with_the_next_tick_of_the_clock() -> None:
    owner = Owner()
    owner.core.set_deadline(owner.call(), 0, 0)
    owner.core.tick(0)
    assert not owner.core.pending
    owner.core.tick(1 << 20)
    assert owner.core.pending


def test_the_owner_is_told_when_to_come_and_never_too_late() -> None:
    owner = Owner()
    core = owner.core
    core.set_deadline(owner.call(), 5 * 3_600 * SECOND, 0)
    now = wakes = 0
    while core.due >= 0:
        now += core.due
        core.tick(now)
        wakes += 1
    assert 5 * 3_600 * SECOND <= now <= 5 * 3_600 * SECOND + (2 << 20)
    assert wakes < 10
    assert core.next() is not None


def test_a_clock_that_steps_back_stood_still_and_one_that_steps_forward_brings_all_that_is_due() -> None:
    owner = Owner(keep_alive_ns=60 * SECOND)
    core = owner.core
    start = 1_000_000 * SECOND
    owner.now = start
    core.tick(start)
    idle = owner.call()
    core.set_deadline(owner.call(), 100 * SECOND, start)
    core.finished(idle, True, start)
    back = start - 500_000 * SECOND
    core.tick(back)
    core.tick(back + 59 * SECOND)
    assert core.next() is None
    core.tick(back + 61 * SECOND)
    action = core.next()
    assert action is not None
    assert action[0] == native.DO_CLOSE
    core.tick(2**62)
    action = core.next()
    assert action is not None
    assert action[0] == native.DO_DEADLINE
    for now in (-(2**63), 2**63 - 1, 0, -1, 2**63 - 1):
        core.tick(now)
    assert core.check() == ""


def test_a_clock_that_is_read_early_again_and_again_does_not_run_fast() -> None:
    owner = Owner(keep_alive_ns=SECOND)
    core = owner.core
    owner.end(owner.call())
    for now in range(0, SECOND - 2_000_000, 1_000_000):
        core.tick(now + 1_000_000)
        core.tick(now)
    assert not core.pending
    assert core.due <= 2_000_000
    core.tick(SECOND)
    assert core.pending


def test_a_warm_sandbox_that_was_dead_costs_no_try_and_refusals_are_counted() -> None:
    owner = Owner()
    core = owner.core
    owner.end(*owner.calls(10))
    core.submit(owner.target, 0)
    call = core.call
    for _ in range(4):
        assert core.again(call, native.WHY_DEAD, 0) == native.RUN
        assert core.warm
    assert core.again(call, native.WHY_REFUSED, 0) == native.RUN
    assert core.again(call, native.WHY_REFUSED, 0) == native.RUN
    for _ in range(2):
        assert core.again(call, native.WHY_REFUSED, 0) == native.START, "after three warm ones"
        assert core.started(core.sandbox, 0) == native.RUN
        assert not core.warm
    assert core.again(call, native.WHY_REFUSED, 0) == native.FAILED, "after two fresh ones"
    assert core.counts()["concurrency"] == 0
    owner.obey()
    assert core.counts()["sandboxes"] == 3


def test_an_init_phase_that_failed_is_tried_again_once_with_the_timeout_over_it_under_the_same_lease() -> None:
    owner = Owner(account_limit=1, room=1)
    core = owner.core
    call = owner.call()
    assert core.again(call, native.WHY_INIT, 0) == native.WAIT
    assert core.submit(owner.target, 0) == native.THROTTLED
    actions = [core.next(), core.next()]
    assert [action and action[0] for action in actions] == [native.DO_CLOSE, native.DO_HURRY]
    assert actions[0] is not None
    core.closed(actions[0][2], 0)
    action = core.next()
    assert action is not None
    assert action[:2] == (native.DO_START, call)
    assert core.started(action[2], 0) == native.RUN
    assert core.covers_init
    assert core.again(call, native.WHY_INIT, 0) == native.FAILED
    owner.obey()
    assert core.counts()["sandboxes"] == core.counts()["concurrency"] == 0


def test_tables_have_an_end_and_what_is_given_back_is_used_again() -> None:
    core = native.Core(functions=2, targets=3, aliases=1, calls=1, sandboxes=1, account_limit=1, room=1)
    functions = [core.function_add(), core.function_add()]
    with rejected(native.FULL):
        core.function_add()
    targets = [core.target_add(functions[0]) for _ in range(3)]
    with rejected(native.FULL):
        core.target_add(functions[1])
    core.alias_set(0, [(targets[0], native.WEIGHT)])
    with rejected(native.FULL):
        core.alias_set(0, [(targets[0], native.WEIGHT)])
    for _ in range(1_000):
        core.target_retire(targets.pop(), 0)
        targets.append(core.target_add(functions[0]))
        core.function_remove(functions.pop(), 0)
        functions.append(core.function_add())
    assert (len(set(functions)), len(set(targets))) == (2, 3)
    assert max(one & 0xFFFFFFFF for one in (*functions, *targets)) <= 3


@pytest.mark.parametrize("name", ["functions", "targets", "aliases", "calls", "sandboxes"])
@pytest.mark.parametrize("capacity", [0, 2**24 + 1])
def test_a_capacity_out_of_range_is_refused(name: str, capacity: int) -> None:
    settings: dict[str, Any] = {name: capacity}
    with rejected(native.VALUE):
        native.Core(account_limit=0, room=1, **settings)


def test_what_stays_of_a_removed_function_ends_with_its_call() -> None:
    owner = Owner()
    core = owner.core
    core.set_reserved(owner.function, 100, 0)
    call = owner.call()
    core.function_remove(owner.function, 0)
    assert core.counts()["reserved"] == 0
    for refused in (
        lambda: core.submit(owner.target, 0),
        lambda: core.target_add(owner.function),
        lambda: core.set_reserved(owner.function, 1, 0),
        lambda: core.set_provisioned(owner.target, 1, 0),
        lambda: core.function_remove(owner.function, 0),
    ):
        with rejected(native.STALE):
            refused()
    owner.end(call)
    assert core.counts()["sandboxes"] == 0
    with rejected(native.STALE):
        core.function_counts(owner.function)
