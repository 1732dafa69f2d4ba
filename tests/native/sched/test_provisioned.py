"""Provisioned concurrency: sandboxes that are there before the call, and what they take from others."""

from __future__ import annotations

import itertools

from engine.scheduler import core as native
from tests.native.sched.state import SECOND
from tests.native.sched.test_limits import Owner, rejected


def test_they_are_started_before_any_call_a_few_at_a_time_and_the_allocation_can_be_watched() -> None:
    owner = Owner(provisioned_starts=2)
    core = owner.core
    core.set_provisioned(owner.target, 3, 0)
    first, second = core.next(), core.next()
    assert first is not None
    assert second is not None
    assert core.next() is None
    assert core.allocation(owner.target) == {
        "requested": 3,
        "allocated": 0,
        "available": 0,
        "starting": 2,
        "failures": 0,
    }
    core.started(first[2], 0)
    third = core.next()
    assert third is not None
    assert third[:2] == (native.DO_START, 0), "for no call"
    for action in (second, third):
        core.started(action[2], 0)
    assert core.allocation(owner.target)["available"] == 3


def test_calls_run_on_them_first_and_spill_over_to_demand() -> None:
    owner = Owner()
    core = owner.core
    core.set_provisioned(owner.target, 2, 0)
    owner.obey()
    for _ in range(2):
        assert core.submit(owner.target, 0) == native.RUN
        assert core.provisioned
    assert core.submit(owner.target, 0) == native.START
    assert core.function_counts(owner.function)["on_demand"] == 1
    assert core.counts()["provisioned_runs"] == 2


def test_they_are_claimed_from_the_account_whether_they_run_or_not() -> None:
    owner = Owner(account_limit=110)
    _, others = owner.another()
    owner.core.set_provisioned(owner.target, 10, 0)
    owner.obey()
    assert len(owner.calls(200, others)) == 100
    assert owner.core.reason == native.CONCURRENCY
    assert len(owner.calls(200)) == 10, "theirs are still there, and no more"


def test_they_are_part_of_their_functions_reservation() -> None:
    owner = Owner()
    core = owner.core
    core.set_reserved(owner.function, 5, 0)
    with rejected(native.PROVISIONED):
        core.set_provisioned(owner.target, 6, 0)
    core.set_provisioned(owner.target, 5, 0)
    owner.obey()
    with rejected(native.PROVISIONED):
        core.set_reserved(owner.function, 4, 0)
    latest = core.target_add(owner.function)
    assert owner.call(latest) == 0, "all that is reserved is provisioned for another version"
    assert core.reason == native.RESERVED_CONCURRENCY
    assert len(owner.calls(10)) == 5


def test_a_hundred_stay_for_functions_without_any() -> None:
    owner = Owner(account_limit=150)
    with rejected(native.UNRESERVED):
        owner.core.set_provisioned(owner.target, 51, 0)
    owner.core.set_provisioned(owner.target, 50, 0)
    function, _ = owner.another()
    with rejected(native.UNRESERVED):
        owner.core.set_reserved(function, 1, 0)


def test_one_that_crashes_in_a_call_is_replaced_at_once() -> None:
    owner = Owner()
    owner.core.set_provisioned(owner.target, 1, 0)
    owner.obey()
    owner.end(owner.call(), keep=False)
    assert owner.core.allocation(owner.target)["available"] == 1
    assert owner.core.counts()["sandboxes"] == 1


def test_one_that_dies_while_it_idles_is_replaced_after_a_pause() -> None:
    owner = Owner()
    core = owner.core
    core.set_provisioned(owner.target, 1, 0)
    action = core.next()
    assert action is not None
    core.started(action[2], 0)
    core.died(action[2], 0)
    owner.obey()
    assert core.allocation(owner.target)["allocated"] == 0
    assert 0 < core.due <= SECOND + 2_000_000
    core.tick(2 * SECOND)
    owner.obey()
    assert core.allocation(owner.target)["allocated"] == 1


def test_one_that_fails_to_start_is_tried_again_after_ever_longer_pauses() -> None:
    owner = Owner()
    core = owner.core
    core.set_provisioned(owner.target, 1, 0)
    now, failed_at = 0, [0]
    for _ in range(8):
        action = core.next()
        assert action is not None
        assert action[0] == native.DO_START
        core.start_failed(action[2], now)
        while not core.pending:
            now += core.due
            core.tick(now)
        failed_at.append(now)
    pauses = [round((after - before) / SECOND) for before, after in itertools.pairwise(failed_at)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert core.allocation(owner.target)["failures"] == 8
    owner.now = now
    owner.obey()
    assert core.allocation(owner.target)["failures"] == 0


def test_they_are_neither_evicted_nor_ended_by_the_keep_alive() -> None:
    owner = Owner(room=2, keep_alive_ns=SECOND)
    core = owner.core
    core.set_provisioned(owner.target, 1, 0)
    owner.obey()
    _, others = owner.another()
    _, more = owner.another()
    owner.end(owner.call(others))
    assert core.submit(more, 0) == native.WAIT
    owner.obey()
    core.tick(100 * SECOND)
    owner.obey()
    assert core.allocation(owner.target)["available"] == 1


def test_what_idles_on_demand_makes_room_for_them() -> None:
    owner = Owner(room=2)
    _, others = owner.another()
    owner.end(*owner.calls(2, others))
    owner.core.set_provisioned(owner.target, 2, 0)
    owner.obey()
    assert owner.core.allocation(owner.target)["available"] == 2


def test_fewer_of_them_leave_the_others_on_demand() -> None:
    owner = Owner(keep_alive_ns=SECOND)
    core = owner.core
    core.set_provisioned(owner.target, 3, 0)
    owner.obey()
    running = owner.calls(2)
    core.set_provisioned(owner.target, 1, 0)
    assert core.counts()["idle"] == 1
    owner.end(*running)
    assert core.counts()["idle"] == 3
    core.tick(2 * SECOND)
    owner.obey()
    assert core.counts()["idle"] == 1
    assert core.allocation(owner.target)["available"] == 1


def test_a_retired_target_keeps_none() -> None:
    owner = Owner()
    core = owner.core
    core.set_provisioned(owner.target, 2, 0)
    owner.obey()
    core.target_retire(owner.target, 0)
    owner.obey()
    assert core.counts()["sandboxes"] == core.counts()["provisioned"] == 0
    with rejected(native.STALE):
        core.allocation(owner.target)
