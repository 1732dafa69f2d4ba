"""Sandboxes that hear of their end: which do, how long they get, and that no event and no stop waits for them."""

from __future__ import annotations

import asyncio

from engine.sandbox.lifecycle import SandboxState
from engine.sandbox.stub import Gate, StubPool, StubSandbox, behind
from engine.scheduler.api import Counts
from engine.scheduler.dispatch import LocalScheduler
from tests.unit.scheduler.things import Notes, scheduler, settled, work

FOR_EVER_MS = 600_000


async def idle(sched: LocalScheduler, pool: StubPool, *names: str) -> list[StubSandbox]:
    """A sandbox of each function, idle; none ends before its gate is open, or it is killed."""
    for name in names:
        await sched.run(work(name), Notes())
    for sandbox in pool.sandboxes:
        sandbox.farewell = sandbox.farewell or Gate()
    return pool.sandboxes


async def saying_goodbye(sandbox: StubSandbox) -> None:
    assert sandbox.farewell is not None
    await sandbox.farewell.reached()


async def test_one_whose_function_changed_gets_its_time_and_its_room_is_taken_until_then() -> None:
    pool = StubPool()
    sched = scheduler(pool, shutdown_grace_ms=FOR_EVER_MS)
    (sandbox,) = await idle(sched, pool, "f")
    sched.retire("f", None)
    await saying_goodbye(sandbox)
    assert sandbox.farewell_ms == FOR_EVER_MS
    assert sched.counts() == Counts(sandboxes=1, idle=0, concurrency=0)
    assert sandbox.farewell is not None
    sandbox.farewell.open()
    await settled()
    assert sandbox.lifecycle.state is SandboxState.DEAD
    assert sched.counts() == Counts(0, 0, 0)


async def test_an_event_that_needs_the_room_of_one_does_not_wait_for_it() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_sandboxes=2, shutdown_grace_ms=FOR_EVER_MS)
    f, g = await idle(sched, pool, "f", "g")
    sched.retire("f", None)
    await saying_goodbye(f)
    done = await asyncio.wait_for(sched.run(work("h"), Notes()), 30)
    assert done.ending.payload
    assert f.lifecycle.state is SandboxState.DEAD
    assert g.closes == 0, "there was room enough"


async def test_one_that_is_evicted_for_an_event_is_killed_at_once() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_sandboxes=1, shutdown_grace_ms=FOR_EVER_MS)
    (f,) = await idle(sched, pool, "f")
    await asyncio.wait_for(sched.run(work("h"), Notes()), 30)
    assert f.lifecycle.state is SandboxState.DEAD


async def test_as_many_make_room_as_events_need_it() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_sandboxes=3, shutdown_grace_ms=FOR_EVER_MS)
    leaving = list(await idle(sched, pool, "f", "g", "h"))
    for name in "fgh":
        sched.retire(name, None)
    for sandbox in leaving:
        await saying_goodbye(sandbox)
    gate = Gate()
    pool.script = behind(gate)
    events = [asyncio.create_task(sched.run(work(name), Notes())) for name in ("x", "y")]
    await asyncio.wait_for(gate.reached(2), 30)
    assert [sandbox.lifecycle.state for sandbox in leaving] == [*[SandboxState.DEAD] * 2, SandboxState.CLOSING]
    gate.open()
    await asyncio.gather(*events)
    assert leaving[2].farewell is not None
    leaving[2].farewell.open()
    await sched.drain(0)


async def test_a_drain_gives_what_idles_its_time_and_returns_with_the_last() -> None:
    pool = StubPool()
    sched = scheduler(pool, shutdown_grace_ms=FOR_EVER_MS)
    (sandbox,) = await idle(sched, pool, "f")
    drain = asyncio.create_task(sched.drain(60))
    await saying_goodbye(sandbox)
    assert not drain.done()
    assert sandbox.farewell is not None
    sandbox.farewell.open()
    await drain
    assert sched.counts() == Counts(0, 0, 0)


async def test_a_drain_that_has_run_out_of_patience_waits_for_no_farewell() -> None:
    gate = Gate()
    pool = StubPool()
    sched = scheduler(pool, shutdown_grace_ms=FOR_EVER_MS)
    (sandbox,) = await idle(sched, pool, "f")
    sandbox.script = behind(gate)
    pool.script = behind(gate)
    running = asyncio.create_task(sched.run(work("g"), Notes()))
    await gate.reached()
    await asyncio.wait_for(sched.drain(0), 30)
    assert sandbox.lifecycle.state is SandboxState.DEAD
    await asyncio.wait({running})
    assert running.exception() is not None


async def test_without_a_grace_nobody_hears_of_the_end() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    (sandbox,) = await idle(sched, pool, "f")
    sched.retire("f", None)
    await settled()
    assert sandbox.farewell_ms == 0
    assert sandbox.lifecycle.state is SandboxState.DEAD
