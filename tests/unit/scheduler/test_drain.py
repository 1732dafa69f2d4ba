"""What is retired or drained ends in order, and nothing is left of it."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import Unavailable
from engine.model.outcome import Outcome
from engine.sandbox.stub import Gate, StubPool, behind
from engine.scheduler.api import Counts
from tests.unit.scheduler.things import Notes, scheduler, settled, work


async def test_what_is_retired_while_it_idles_is_closed_and_the_kept_state_stays() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    for name, etag in (("f", "1"), ("f", "2"), ("g", "1")):
        await sched.run(work(name, etag), Notes())
    sched.retire("f", "2")
    await settled()
    assert [sandbox.spec.key for sandbox in pool.alive] == [("f", "$LATEST", "2"), ("g", "$LATEST", "1")]
    sched.retire("f", None)
    await settled()
    assert [sandbox.spec.key[0] for sandbox in pool.alive] == ["g"]


async def test_what_is_retired_while_it_runs_ends_its_event_first_and_serves_no_other() -> None:
    gate = Gate()
    pool = StubPool(behind(gate))
    sched = scheduler(pool)
    run = asyncio.create_task(sched.run(work(payload=b"9"), Notes()))
    await gate.reached()
    sched.retire("f", "2")
    gate.open()
    assert (await run).ending.payload == b"9"
    await settled()
    assert pool.sandboxes[0].closes == 1


async def test_what_is_retired_while_it_starts_serves_its_one_event() -> None:
    pool = StubPool()
    pool.start_gate = Gate()
    sched = scheduler(pool)
    run = asyncio.create_task(sched.run(work(), Notes()))
    await pool.start_gate.reached()
    sched.retire("f", None)
    pool.start_gate.open()
    assert (await run).ending.outcome is Outcome.OK
    await settled()
    assert pool.alive == []


async def test_a_drain_lets_what_runs_end_and_refuses_what_is_new() -> None:
    gate = Gate()
    pool = StubPool(behind(gate))
    sched = scheduler(pool)
    run = asyncio.create_task(sched.run(work(payload=b"5"), Notes()))
    await gate.reached()
    drain = asyncio.create_task(sched.drain(60))
    await settled()
    with pytest.raises(Unavailable):
        await sched.run(work(), Notes())
    gate.open()
    assert (await run).ending.payload == b"5"
    await drain
    assert pool.alive == []
    assert sched.counts() == Counts(0, 0, 0)


async def test_a_drain_kills_what_takes_longer_and_calls_it_the_engines_doing() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    await sched.run(work("idle"), Notes())
    gate = Gate()
    pool.script = behind(gate)
    run = asyncio.create_task(sched.run(work(), Notes()))
    await gate.reached()
    await sched.drain(0)
    with pytest.raises(Unavailable):
        await run
    assert pool.alive == []
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1, 1]


async def test_a_drain_reaches_what_waits_for_room_and_what_starts() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=2, max_sandboxes=2)
    await sched.run(work("old"), Notes())
    closing = pool.sandboxes[0].close_gate = Gate()
    pool.start_gate = Gate()
    starting = asyncio.create_task(sched.run(work("a"), Notes()))
    await pool.start_gate.reached()
    waiting = asyncio.create_task(sched.run(work("b"), Notes()))
    await closing.reached()
    drain = asyncio.create_task(sched.drain(0))
    with pytest.raises(Unavailable):
        await waiting
    pool.start_gate.open()
    with pytest.raises(Unavailable):
        await starting
    assert not drain.done()
    closing.open()
    await drain
    assert pool.alive == []
    assert sched.counts() == Counts(0, 0, 0)


async def test_two_drains_wait_for_the_same_end() -> None:
    sched = scheduler(StubPool())
    await sched.run(work(), Notes())
    await asyncio.gather(sched.drain(1), sched.drain(1))
    await sched.drain(0)
    assert sched.counts() == Counts(0, 0, 0)
