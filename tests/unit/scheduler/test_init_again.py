"""An init phase that failed is tried again once, for the same event, and nothing is left of it whoever leaves."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import SandboxFault, Throttled, Unavailable
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, RunSink, SandboxSpec
from engine.sandbox.stub import INIT_US, Gate, Init, StubPool, StubSandbox, behind, fails_init
from engine.scheduler.api import Counts
from tests.unit.scheduler.things import Notes, scheduler, settled, work

FAILURES = [Outcome.TIMEOUT, Outcome.EXITED, Outcome.OUT_OF_MEMORY, Outcome.INIT_ERROR]


def held_init(gate: Gate) -> Init:
    """An init phase that waits at the gate."""

    async def init(event: Event, sink: RunSink) -> Ending | None:
        await gate.passed()
        return None

    return init


@pytest.mark.parametrize("outcome", FAILURES)
async def test_it_is_tried_again_in_another_sandbox_where_the_timeout_covers_it(outcome: Outcome) -> None:
    seen: list[Event] = []

    async def script(event: Event, sink: RunSink) -> bytes:
        seen.append(event)
        return b"2"

    pool, notes, wanted = StubPool(script), Notes(), work()
    pool.inits = [fails_init(outcome)]
    sched = scheduler(pool)
    done = await sched.run(wanted, notes)
    assert (done.ending.outcome, done.ending.payload, done.start_kind) == (Outcome.OK, b"2", StartKind.FORK)
    assert done.ending.init_us == 0
    assert done.ending.handler_us > INIT_US, "the second init phase is on the handler's clock"
    assert [failure and failure.outcome for failure in notes.inits] == [outcome, None]
    assert [(event.request_id, event.covers_init) for event in seen] == [(wanted.event.request_id, True)]
    await settled()
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1, 0]
    assert sched.counts() == Counts(sandboxes=1, idle=1, concurrency=0)


@pytest.mark.parametrize("outcome", FAILURES)
async def test_it_is_tried_again_once(outcome: Outcome) -> None:
    pool, notes = StubPool(), Notes()
    pool.inits = [fails_init(Outcome.TIMEOUT), fails_init(outcome)]
    sched = scheduler(pool)
    done = await sched.run(work(), notes)
    assert (done.ending.outcome, done.ending.init_failed) == (outcome, True)
    assert [failure and failure.outcome for failure in notes.inits] == [Outcome.TIMEOUT, outcome]
    assert len(pool.sandboxes) == 2
    await settled()
    assert sched.counts() == Counts(0, 0, 0)


@pytest.mark.parametrize("outcome", FAILURES)
async def test_a_handler_that_fails_is_not_called_again(outcome: Outcome) -> None:
    calls = 0

    async def script(event: Event, sink: RunSink) -> Ending:
        nonlocal calls
        calls += 1
        return Ending(outcome, False)

    pool = StubPool(script)
    pool.inits = [fails_init(Outcome.TIMEOUT)]
    assert (await scheduler(pool).run(work(), Notes())).ending.outcome is outcome
    assert (await scheduler(pool).run(work(), Notes())).ending.outcome is outcome
    assert calls == 2


async def test_the_event_keeps_its_place_while_it_is_tried_again() -> None:
    pool, gate = StubPool(), Gate()
    pool.inits = [fails_init(Outcome.EXITED), held_init(gate)]
    sched = scheduler(pool, max_concurrency=1)
    run = asyncio.create_task(sched.run(work(), Notes()))
    await gate.reached()
    with pytest.raises(Throttled):
        await sched.run(work(), Notes())
    gate.open()
    assert (await run).ending.outcome is Outcome.OK


async def test_the_room_of_the_first_sandbox_is_enough() -> None:
    pool = StubPool()
    pool.inits = [fails_init(Outcome.EXITED)]
    sched = scheduler(pool, max_sandboxes=1)
    done = await sched.run(work(), Notes())
    assert done.ending.outcome is Outcome.OK
    assert done.queue_us >= 0
    assert sched.counts() == Counts(sandboxes=1, idle=1, concurrency=0)


async def test_a_second_start_that_fails_is_the_engines_fault_and_leaves_nothing() -> None:
    class Fails(StubPool):
        async def start(self, spec: SandboxSpec) -> StubSandbox:
            if self.sandboxes:
                raise SandboxFault("clone", 11, "no room")
            return await super().start(spec)

    pool = Fails()
    pool.inits = [fails_init(Outcome.EXITED)]
    sched = scheduler(pool)
    with pytest.raises(SandboxFault, match="no room"):
        await sched.run(work(), Notes())
    await settled()
    assert sched.counts() == Counts(0, 0, 0)


@pytest.mark.parametrize("where", ["start", "init", "handler"])
async def test_a_caller_who_leaves_in_the_second_try_leaves_nothing(where: str) -> None:
    gate = Gate()
    pool = StubPool(behind(gate))

    async def init(event: Event, sink: RunSink) -> Ending:
        if where == "start":
            pool.start_gate = gate
        return Ending(Outcome.TIMEOUT, False, init_us=INIT_US, init_failed=True)

    pool.inits = [init, held_init(gate) if where == "init" else None]
    sched = scheduler(pool)
    run = asyncio.create_task(sched.run(work(), Notes()))
    await gate.reached()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    gate.open()
    await settled()
    assert sched.counts() == Counts(0, 0, 0)
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1] * len(pool.sandboxes)


async def test_a_drain_that_kills_the_first_try_makes_no_second_one() -> None:
    """Its own clock ended it in the moment of the kill."""
    gate = Gate()

    async def init(event: Event, sink: RunSink) -> Ending | None:
        await gate.passed()
        return Ending(Outcome.TIMEOUT, False, init_us=INIT_US, init_failed=True)

    pool = StubPool()
    pool.inits = [init]
    sched = scheduler(pool)
    run = asyncio.create_task(sched.run(work(), Notes()))
    await gate.reached()
    (sandbox,) = pool.sandboxes
    sandbox.kill = gate.open  # type: ignore[method-assign]
    draining = asyncio.create_task(sched.drain(0))
    with pytest.raises(Unavailable):
        await run
    await draining
    assert len(pool.sandboxes) == 1
    assert sched.counts() == Counts(0, 0, 0)


async def test_a_drain_that_waits_lets_the_second_try_end_and_one_that_does_not_kills_it() -> None:
    for grace_s in (60, 0):
        gate = Gate()
        pool = StubPool()
        pool.inits = [fails_init(Outcome.EXITED), held_init(gate)]
        sched = scheduler(pool)
        run = asyncio.create_task(sched.run(work(), Notes()))
        await gate.reached()
        draining = asyncio.create_task(sched.drain(grace_s))
        await settled()
        if grace_s:
            gate.open()
            assert (await run).ending.outcome is Outcome.OK
        else:
            with pytest.raises(Unavailable):
                await run
        await draining
        assert sched.counts() == Counts(0, 0, 0)


async def test_a_function_that_changed_meanwhile_keeps_no_sandbox_of_its_former_state() -> None:
    gate = Gate()
    pool = StubPool()

    async def init(event: Event, sink: RunSink) -> Ending | None:
        await gate.passed()
        return Ending(Outcome.TIMEOUT, False, init_us=INIT_US, init_failed=True)

    pool.inits = [init]
    sched = scheduler(pool)
    run = asyncio.create_task(sched.run(work(etag="1"), Notes()))
    await gate.reached()
    sched.retire("f", "2")
    gate.open()
    assert (await run).ending.outcome is Outcome.OK
    await settled()
    assert sched.counts() == Counts(0, 0, 0)
