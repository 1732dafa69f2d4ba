"""What a function may have for itself, how fast it may grow and be called, and what its callers are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.errors import InvalidArgument, Throttled
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, RunSink, SandboxSpec
from engine.sandbox.stub import Gate, Init, StubPool, behind, fails_init
from engine.scheduler import core
from engine.scheduler.api import Allocated, Counts
from engine.scheduler.dispatch import LocalScheduler
from tests.unit.scheduler.things import Notes, scheduler, settled, spec, work

LARGE: dict[str, Any] = {"max_concurrency": 1_000, "max_sandboxes": 1_000}


def waits_at(gate: Gate) -> Init:
    """An init phase that ends well, once the gate is open."""

    async def init(event: Event, sink: RunSink) -> Ending | None:
        await gate.passed()
        return None

    return init


async def throttle(sched: LocalScheduler, name: str = "f") -> Throttled:
    """Of an event that is refused."""
    with pytest.raises(Throttled) as caught:
        await sched.run(work(name), Notes())
    assert caught.value.message == "Rate Exceeded."
    assert caught.value.fix
    return caught.value


async def test_a_function_that_is_reserved_nothing_is_stopped_by_name_until_that_is_taken_back() -> None:
    sched = scheduler(StubPool())
    sched.set_reserved("f", 0)
    assert (await throttle(sched)).throttle_reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    await sched.run(work("g"), Notes())
    sched.set_reserved("f", None)
    await sched.run(work("f"), Notes())


async def test_a_reservation_is_a_limit_too_and_outlives_an_update() -> None:
    gate = Gate()
    sched = scheduler(StubPool(behind(gate)), **LARGE)
    sched.set_reserved("f", 2)
    runs = [asyncio.create_task(sched.run(work(), Notes())) for _ in range(2)]
    await gate.reached(2)
    assert (await throttle(sched)).throttle_reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    gate.open()
    await asyncio.gather(*runs)
    for keep in ("2", None):
        sched.retire("f", keep)
    await settled()
    assert sched._core.counts()["reserved"] == 2


async def test_a_hundred_stay_unreserved_and_the_refusal_says_so() -> None:
    sched = scheduler(StubPool(), **LARGE)
    sched.set_reserved("f", 900)
    with pytest.raises(InvalidArgument, match="less than 100 of the account's 1000") as caught:
        sched.set_reserved("g", 1)
    assert "reserved_concurrency" in caught.value.fields
    assert caught.value.fix
    with pytest.raises(InvalidArgument):
        sched.set_provisioned(spec("g"), 1)
    for number in (-1, -5, -(2**40), 2**40):
        with pytest.raises(InvalidArgument):
            sched.set_reserved("f", number)
        with pytest.raises(InvalidArgument):
            sched.set_provisioned(spec("f"), number)


async def test_events_beyond_ten_times_the_concurrency_in_a_second_are_throttled_until_time_has_passed() -> None:
    now = 0
    sched = scheduler(StubPool(), requests_per_concurrency=10, clock=lambda: now)
    for _ in range(100):
        await sched.run(work(), Notes())
    refusal = await throttle(sched)
    assert refusal.throttle_reason == "FunctionInvocationRateLimitExceeded"
    assert refusal.retry_after_ms == 10
    now = 10_000_000
    await sched.run(work(), Notes())
    sched.reload(requests_per_concurrency=0)
    for _ in range(200):
        await sched.run(work(), Notes())
    await sched.drain(0)


async def test_a_function_starts_no_more_sandboxes_at_once_than_the_burst_allows_and_runs_warm_ones_all_the_same() -> (
    None
):
    now = 0
    gate = Gate()
    sched = scheduler(StubPool(behind(gate)), burst=3, clock=lambda: now)
    runs = [asyncio.create_task(sched.run(work(), Notes())) for _ in range(3)]
    await gate.reached(3)
    refusal = await throttle(sched)
    assert refusal.throttle_reason == "ConcurrentInvocationLimitExceeded"
    assert refusal.retry_after_ms == 3_334, "three in ten seconds"
    gate.open()
    await asyncio.gather(*runs)
    assert (await sched.run(work(), Notes())).start_kind is StartKind.WARM
    now = 3_400_000_000
    assert (await sched.run(work("g"), Notes())).start_kind is StartKind.FORK
    sched.reload(burst=100)
    await sched.drain(0)


async def test_provisioned_sandboxes_are_ready_before_the_first_event_and_run_it_warm() -> None:
    pool = StubPool()
    sched = scheduler(pool, **LARGE)
    sched.set_provisioned(spec(), 3)
    assert sched.allocation(spec().key) == Allocated(requested=3, starting=3)
    await settled()
    assert sched.allocation(spec().key) == Allocated(requested=3, allocated=3, available=3)
    assert [sandbox.prepared for sandbox in pool.sandboxes] == [True] * 3
    assert (await sched.run(work(), Notes())).start_kind is StartKind.WARM
    assert len(pool.sandboxes) == 3
    await sched.drain(0)
    assert sched.counts() == Counts(0, 0, 0)
    assert pool.alive == []


async def test_events_beyond_the_provisioned_ones_spill_over_to_demand() -> None:
    pool = StubPool()
    sched = scheduler(pool, **LARGE)
    sched.set_provisioned(spec(), 1)
    await settled()
    gate = Gate()
    pool.script = behind(gate)
    pool.sandboxes[0].script = behind(gate)
    runs = [asyncio.create_task(sched.run(work(), Notes())) for _ in range(2)]
    await gate.reached(2)
    assert sched.allocation(spec().key) == Allocated(requested=1, allocated=1)
    gate.open()
    assert [(await run).start_kind for run in runs] == [StartKind.WARM, StartKind.FORK]
    sched.set_provisioned(spec(), 0)
    assert sched.allocation(spec().key) == Allocated()
    await sched.drain(0)


async def test_a_provisioned_sandbox_whose_init_phase_fails_is_closed_counted_and_tried_again_later() -> None:
    now = 0
    pool = StubPool()
    pool.inits = [fails_init(Outcome.EXITED, exit_status="exit status 1")]
    sched = scheduler(pool, clock=lambda: now, **LARGE)
    sched.set_provisioned(spec(), 1)
    await settled()
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1]
    trouble = "FUNCTION_ERROR_INIT_FAILURE: Runtime.ExitError (exit status 1)"
    assert sched.allocation(spec().key) == Allocated(requested=1, failures=1, trouble=trouble)
    now = 1_100_000_000
    sched._timer.fire()
    await settled()
    assert sched.allocation(spec().key) == Allocated(requested=1, allocated=1, available=1)
    await sched.drain(0)


async def test_a_provisioned_sandbox_that_ends_while_it_idles_is_replaced_without_an_event() -> None:
    now = 0
    pool = StubPool()
    sched = scheduler(pool, clock=lambda: now, **LARGE)
    sched.set_provisioned(spec(), 1)
    await settled()
    pool.sandboxes[0].die()
    await settled()
    assert pool.sandboxes[0].closes == 1
    assert sched.allocation(spec().key) == Allocated(requested=1), "one that always ends so is not started at once"
    now = 1_100_000_000
    sched._timer.fire()
    await settled()
    assert sched.allocation(spec().key) == Allocated(requested=1, allocated=1, available=1)
    await sched.drain(0)


async def test_only_those_whose_init_phase_is_over_are_allocated() -> None:
    pool, gate = StubPool(), Gate()
    pool.inits = [None, waits_at(gate)]
    sched = scheduler(pool, **LARGE)
    sched.set_provisioned(spec(), 2)
    await gate.reached()
    assert sched.allocation(spec().key) == Allocated(requested=2, allocated=1, available=1, starting=1)
    gate.open()
    await settled()
    assert sched.allocation(spec().key) == Allocated(requested=2, allocated=2, available=2)
    await sched.drain(0)


@pytest.mark.parametrize("what", ["nothing is provisioned", "the version is retired", "the engine drains"])
async def test_an_init_phase_that_nobody_waits_for_any_longer_is_ended(what: str) -> None:
    pool, gate = StubPool(), Gate()
    pool.inits = [waits_at(gate)]
    sched = scheduler(pool, **LARGE)
    sched.set_provisioned(spec(), 1)
    await gate.reached()
    if what == "nothing is provisioned":
        sched.set_provisioned(spec(), 0)
    elif what == "the version is retired":
        sched.retire("f", None)
    else:
        draining = asyncio.create_task(sched.drain(0))
        await settled()
        del draining
    assert [sandbox.dead for sandbox in pool.sandboxes] == [True]
    gate.open()
    await sched.drain(0)
    assert pool.alive == []
    assert sched.counts() == Counts(0, 0, 0)


async def test_a_provisioned_sandbox_that_crashes_is_replaced() -> None:
    pool = StubPool()
    sched = scheduler(pool, **LARGE)
    sched.set_provisioned(spec(), 1)
    await settled()
    pool.sandboxes[0].refusing = True
    assert (await sched.run(work(), Notes())).start_kind is StartKind.FORK
    await settled()
    assert sched.allocation(spec().key).available == 1
    assert sched.counts() == Counts(sandboxes=2, idle=2, concurrency=0)
    await sched.drain(0)


async def test_a_drain_waits_for_provisioned_sandboxes_that_are_starting_and_keeps_none() -> None:
    pool = StubPool()
    pool.start_gate = Gate()
    sched = scheduler(pool, **LARGE)
    sched.set_provisioned(spec(), 2)
    await pool.start_gate.reached(2)
    drain = asyncio.create_task(sched.drain(0))
    await settled()
    assert not drain.done()
    pool.start_gate.open()
    await drain
    assert [sandbox.prepared for sandbox in pool.sandboxes] == [False, False]
    assert pool.alive == []
    assert sched.counts() == Counts(0, 0, 0)


async def test_functions_come_and_go_without_end() -> None:
    sched = scheduler(StubPool())
    for number in range(300):
        await sched.run(work(f"f{number}"), Notes())
        sched.retire(f"f{number}", None)
        await settled(3)
        sched.set_reserved("reserved", 0)
        sched.set_reserved("reserved", None)
        sched.set_reserved(f"g{number}", None)
        sched.set_provisioned(spec(f"h{number}"), 0)
    assert sched._targets._functions == {}
    assert sched._target_ids == {}
    await sched.drain(0)


async def test_a_full_table_lets_go_of_functions_that_nobody_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    real = core.Core

    def small(**settings: int) -> core.Core:
        return real(functions=3, targets=3, **settings)

    monkeypatch.setattr(core, "Core", small)
    sched = scheduler(StubPool(), max_sandboxes=1, max_concurrency=1)
    for number in range(20):
        await sched.run(work(f"f{number}"), Notes())
    await sched.drain(0)
    assert sched.counts() == Counts(0, 0, 0)


async def test_one_version_is_retired_and_the_others_stay() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    for version in ("1", "2"):
        one = work()
        key = ("f", version, "e")
        state = SandboxSpec(key, "python3.11", "app.handler", "/nowhere", 128, 512, {})
        await sched.run(type(one)(state, one.event), Notes())
    sched.retire("f", None, "1")
    await settled()
    assert [sandbox.spec.key[1] for sandbox in pool.alive] == ["2"]
    await sched.drain(0)
