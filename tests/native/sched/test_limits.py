"""Lambda's concurrency rules, one by one: who may run, who is throttled with which reason, and when to come again."""

from __future__ import annotations

from typing import Any

import pytest

from engine.scheduler import core as native
from tests.native.sched.state import SECOND

MS = SECOND // 1_000


class Owner:
    """A scheduler with AWS's values and one function, and an owner whose sandboxes start at once."""

    def __init__(self, **settings: Any) -> None:
        self.core = native.Core(**({"room": 5_000, "rate_factor": 0, "burst": 0} | settings))
        self.now = 0
        self.function = self.core.function_add()
        self.target = self.core.target_add(self.function)

    def call(self, target: int | None = None) -> int:
        """A call that runs; 0 if it is throttled."""
        core = self.core
        verdict = core.submit(target or self.target, self.now)
        call = core.call
        if verdict == native.START:
            core.started(core.sandbox, self.now)
        return call

    def calls(self, number: int, target: int | None = None) -> list[int]:
        return [call for _ in range(number) if (call := self.call(target))]

    def end(self, *calls: int, keep: bool = True) -> None:
        for call in calls:
            self.core.finished(call, keep, self.now)
        self.obey()

    def obey(self) -> None:
        """Start and close as told; closed at once."""
        while (action := self.core.next()) is not None:
            what, _, sandbox, _ = action
            if what == native.DO_START:
                self.core.started(sandbox, self.now)
            if what == native.DO_CLOSE:
                self.core.closed(sandbox, self.now)
        assert self.core.check() == ""

    @property
    def reason(self) -> str:
        return native.REASON_NAMES[self.core.reason]

    def another(self, tag: int = 0) -> tuple[int, int]:
        function = self.core.function_add()
        return function, self.core.target_add(function, tag)


def rejected(code: int) -> Any:
    return pytest.raises(native.Rejected, check=lambda error: error.code == code)


def test_the_account_has_a_thousand_at_once_and_the_next_is_throttled_by_name() -> None:
    owner = Owner()
    calls = owner.calls(1_000)
    assert len(calls) == 1_000
    assert owner.call() == 0
    assert owner.reason == "ConcurrentInvocationLimitExceeded"
    assert owner.core.retry_after_ms == 1_000
    owner.end(calls[0])
    assert owner.call() != 0


def test_an_account_limit_that_is_lowered_lets_what_runs_end() -> None:
    owner = Owner()
    calls = owner.calls(10)
    owner.core.configure(0, account_limit=5)
    owner.end(*calls[:5])
    assert owner.call() == 0
    owner.end(calls[5])
    assert owner.call() != 0


def test_a_reservation_is_the_functions_own_and_taken_from_all_others() -> None:
    owner = Owner()
    core = owner.core
    core.set_reserved(owner.function, 300, 0)
    _, others = owner.another()
    assert len(owner.calls(1_000, others)) == 700
    assert owner.call(others) == 0
    assert owner.reason == "ConcurrentInvocationLimitExceeded"
    assert len(owner.calls(1_000)) == 300
    assert owner.call() == 0
    assert owner.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_a_reservation_of_nothing_stops_the_function_by_name() -> None:
    owner = Owner()
    owner.core.set_reserved(owner.function, 0, 0)
    assert owner.call() == 0
    assert owner.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    owner.core.set_reserved(owner.function, -1, 0)
    assert owner.call() != 0


def test_a_hundred_stay_unreserved() -> None:
    owner = Owner()
    function, _ = owner.another()
    owner.core.set_reserved(owner.function, 500, 0)
    with rejected(native.UNRESERVED):
        owner.core.set_reserved(function, 401, 0)
    owner.core.set_reserved(function, 400, 0)
    with rejected(native.UNRESERVED):
        owner.core.set_reserved(owner.function, 501, 0)
    owner.core.set_reserved(owner.function, 499, 0)
    assert owner.core.function_counts(function)["reserved"] == 400


def test_less_may_be_reserved_though_the_account_has_become_too_small_for_any() -> None:
    owner = Owner()
    owner.core.set_reserved(owner.function, 500, 0)
    owner.core.configure(0, account_limit=200)
    owner.core.set_reserved(owner.function, 400, 0)
    with rejected(native.UNRESERVED):
        owner.core.set_reserved(owner.function, 401, 0)
    owner.core.set_reserved(owner.function, 0, 0)


def test_calls_move_with_the_reservation_that_their_function_gets_and_loses() -> None:
    owner = Owner(account_limit=200, min_unreserved=0)
    _, others = owner.another()
    calls = owner.calls(150)
    owner.core.set_reserved(owner.function, 100, 0)
    assert owner.call() == 0, "150 run and 100 are reserved"
    assert len(owner.calls(100, others)) == 50, "never more than the account has"
    owner.end(*calls)
    assert len(owner.calls(200)) == 100
    owner.core.set_reserved(owner.function, -1, 0)
    assert owner.core.counts()["unreserved_in_use"] == 150


def test_a_function_may_start_a_thousand_sandboxes_at_once_and_a_thousand_more_in_ten_seconds() -> None:
    owner = Owner(account_limit=10_000, room=10_000, burst=1_000)
    assert len(owner.calls(1_500)) == 1_000
    assert owner.reason == "ConcurrentInvocationLimitExceeded"
    assert owner.core.reason == native.BURST
    assert owner.core.retry_after_ms == 10, "one comes back each 10 ms"
    _, others = owner.another()
    assert len(owner.calls(500, others)) == 500, "each function has its own"
    owner.now = 5 * SECOND
    assert len(owner.calls(1_500)) == 500, "refilled continuously"
    owner.now = 3_600 * SECOND
    assert len(owner.calls(1_500)) == 1_000, "and never accumulated"


def test_warm_calls_take_nothing_of_the_burst() -> None:
    owner = Owner(burst=5)
    for _ in range(100):
        owner.end(owner.call())
    assert len(owner.calls(10)) == 5


def test_a_call_that_waited_and_found_a_warm_sandbox_gives_its_start_back() -> None:
    owner = Owner(burst=2, room=1)
    first = owner.call()
    assert owner.core.submit(owner.target, 0) == native.WAIT
    waiting = owner.core.call
    assert owner.core.submit(owner.target, 0) == native.THROTTLED
    owner.core.finished(first, True, 0)
    assert owner.core.next() == (native.DO_RUN, waiting, 1 << 32 | 1, owner.target)
    assert owner.core.submit(owner.target, 0) == native.WAIT


def test_ten_requests_a_second_for_each_unit_of_concurrency() -> None:
    owner = Owner(rate_factor=10, account_limit=20)
    for _ in range(200):
        owner.end(owner.call())
    assert owner.call() == 0
    assert owner.reason == "FunctionInvocationRateLimitExceeded"
    assert owner.core.retry_after_ms == 5
    owner.now = 5 * MS
    assert owner.call() != 0
    assert owner.call() == 0


def test_a_function_with_a_reservation_has_a_rate_of_its_own_that_no_other_uses_up() -> None:
    owner = Owner(rate_factor=10, account_limit=103)
    owner.core.set_reserved(owner.function, 3, 0)
    _, others = owner.another()
    for _ in range(1_000):
        owner.end(owner.call(others))
    assert owner.call(others) == 0
    for _ in range(30):
        owner.end(owner.call())
    assert owner.call() == 0
    assert owner.reason == "FunctionInvocationRateLimitExceeded"


def test_a_throttled_call_costs_nothing() -> None:
    owner = Owner(rate_factor=10, account_limit=1, burst=2)
    running = owner.call()
    for _ in range(100):
        assert owner.call() == 0
        assert owner.core.reason == native.CONCURRENCY
    owner.end(running, keep=False)
    assert owner.call() != 0


def test_the_quick_way_takes_a_warm_call_and_leaves_every_other_untouched() -> None:
    owner = Owner(rate_factor=1, account_limit=2, burst=5)
    core = owner.core
    before = core.counts()
    assert core.submit_claimed(owner.target, 0) == native.NOTHING, "none is warm"
    assert core.counts() == before
    owner.end(owner.call())
    assert core.submit_claimed(owner.target, 0, 77) == native.RUN
    assert core.warm
    owner.end(core.call)
    before = core.counts()
    assert core.submit_claimed(owner.target, 0) == native.NOTHING, "two a second are all"
    assert core.counts() == before
    assert owner.call() == 0
    assert core.reason == native.RATE


def test_a_sandbox_carries_the_value_that_its_owner_gave_it_last() -> None:
    owner = Owner()
    core = owner.core
    core.submit(owner.target, 0)
    sandbox, call = core.sandbox, core.call
    core.started(sandbox, 0, 2**64 - 1)
    assert core.user == 2**64 - 1
    core.finished(call, True, 0)
    core.set_user(sandbox, 5)
    core.submit(owner.target, 0)
    assert (core.user, core.sandbox) == (5, sandbox)
    with rejected(native.STALE):
        core.set_user(0, 1)


def test_what_is_throttled_is_counted_by_reason() -> None:
    owner = Owner(account_limit=101, burst=1)
    owner.core.set_reserved(owner.function, 0, 0)
    owner.call()
    _, others = owner.another()
    owner.calls(3, others)
    throttled = owner.core.counts()["throttled"]
    assert (throttled[native.RESERVED_CONCURRENCY], throttled[native.BURST]) == (1, 2)
    assert owner.core.function_counts(owner.function)["throttled"] == 1


def test_weights_of_an_alias_have_to_add_up() -> None:
    core = Owner().core
    function = core.function_add()
    first, second, third = (core.target_add(function) for _ in range(3))
    for routes in (
        [],
        [(first, 999_999)],
        [(first, 500_000), (second, 500_001)],
        [(first, 2**32 - 1), (second, native.WEIGHT + 1)],
        [(first, 400_000), (second, 300_000), (third, 300_000)],
    ):
        with rejected(native.WEIGHTS):
            core.alias_set(0, routes)
    with rejected(native.STALE):
        core.alias_set(0, [(first, 500_000), (first + 100, 500_000)])
    core.target_retire(third, 0)
    with rejected(native.STALE):
        core.alias_set(0, [(third, native.WEIGHT)])
    assert core.alias_set(0, [(first, native.WEIGHT)])


def test_an_alias_sends_calls_by_its_weights_and_can_be_pointed_elsewhere() -> None:
    core = Owner().core
    function = core.function_add()
    old, new = core.target_add(function, 1), core.target_add(function, 2)
    alias = core.alias_set(0, [(old, 900_000), (new, 100_000)])
    step = 2**32 // 10_000
    routes = [core.route(alias, number * step) for number in range(10_000)]
    assert routes.count(new) == pytest.approx(1_000, abs=2)
    assert routes.count(old) + routes.count(new) == 10_000
    assert core.alias_set(alias, [(new, native.WEIGHT)]) == alias
    assert {core.route(alias, number) for number in (0, 2**32 - 1)} == {new}
    core.alias_remove(alias)
    assert core.route(alias, 0) == 0
    with rejected(native.STALE):
        core.alias_set(alias, [(new, native.WEIGHT)])


def test_a_number_out_of_its_range_is_refused_and_changes_nothing() -> None:
    owner = Owner()
    before = owner.core.settings
    bad: list[dict[str, Any]] = [
        {"room": 0},
        {"room": 65_537},
        {"account_limit": 65_537},
        {"rate_factor": 101},
        {"burst": 2**24 + 1},
        {"burst_ns": 0},
        {"keep_alive_ns": -1},
        {"provisioned_starts": 0},
        {"provisioned_retry_ns": 2 * SECOND, "provisioned_retry_most_ns": SECOND},
    ]
    for settings in bad:
        with rejected(native.VALUE):
            owner.core.configure(0, **settings)
        with rejected(native.VALUE):
            native.Core(**settings)
    with rejected(native.VALUE):
        owner.core.set_reserved(owner.function, -2, 0)
    with rejected(native.VALUE):
        owner.core.set_provisioned(owner.target, 2**24 + 1, 0)
    with pytest.raises(TypeError):
        owner.core.configure(0, rooms=1)
    assert owner.core.settings == before
