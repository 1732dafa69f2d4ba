"""There are never more sandboxes than there may be, and nobody waits for room that does not come."""

from __future__ import annotations

import asyncio

import pytest

from engine.model.outcome import Outcome, StartKind
from engine.sandbox.stub import Gate, StubPool, behind, ends
from engine.scheduler.api import Counts, Place
from engine.scheduler.dispatch import LocalScheduler
from tests.unit.scheduler.things import Notes, scheduler, settled, work


async def test_with_no_room_the_one_that_idled_longest_makes_way_whatever_its_function() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=2, max_sandboxes=2)
    await sched.run(work("old"), Notes())
    await sched.run(work("young"), Notes())
    done = await sched.run(work("other"), Notes())
    assert done.start_kind is StartKind.FORK
    assert [sandbox.spec.key[0] for sandbox in pool.alive] == ["young", "other"]
    assert sched.counts() == Counts(2, 2, 0)


async def test_no_sandbox_is_started_before_the_one_that_makes_way_is_gone() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=1, max_sandboxes=1)
    await sched.run(work("old"), Notes())
    gate = pool.sandboxes[0].close_gate = Gate()
    run = asyncio.create_task(sched.run(work("other"), Notes()))
    await gate.reached()
    await settled()
    assert len(pool.sandboxes) == 1
    gate.open()
    done = await run
    assert done.queue_us > 0
    assert [sandbox.spec.key[0] for sandbox in pool.alive] == ["other"]


async def test_every_event_that_waits_for_room_gets_some() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=4, max_sandboxes=4)
    for name in "abcd":
        await sched.run(work(name), Notes())
    done = await asyncio.gather(*(sched.run(work(name), Notes()) for name in "efgh"))
    assert {one.start_kind for one in done} == {StartKind.FORK}
    assert sorted(sandbox.spec.key[0] for sandbox in pool.alive) == ["e", "f", "g", "h"]


async def test_an_event_evicts_nothing_while_room_is_coming_anyway() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=2, max_sandboxes=2)
    await sched.run(work("stays"), Notes())
    await sched.run(work("goes"), Notes())
    gate = pool.sandboxes[1].close_gate = Gate()
    sched.retire("goes", None)
    run = asyncio.create_task(sched.run(work("other"), Notes()))
    await gate.reached()
    gate.open()
    await run
    assert [sandbox.spec.key[0] for sandbox in pool.alive] == ["stays", "other"]


async def test_room_that_has_just_been_taken_is_not_waited_for() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=2, max_sandboxes=2)
    await sched.run(work("a"), Notes())
    await sched.run(work("b"), Notes())
    sched.retire("a", None)
    while sched.counts().sandboxes == 2:
        await settled(1)
    async with asyncio.timeout(5):
        await sched.run(work("c"), Notes())  # in the same turn of the loop in which the room came back
        await sched.run(work("d"), Notes())
    assert [sandbox.spec.key[0] for sandbox in pool.alive] == ["c", "d"]


async def test_cancelling_an_event_that_waits_for_room_loses_no_room() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=1, max_sandboxes=1)
    await sched.run(work("old"), Notes())
    gate = pool.sandboxes[0].close_gate = Gate()
    run = asyncio.create_task(sched.run(work("other"), Notes()))
    await gate.reached()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    gate.open()
    await settled()
    assert sched.counts() == Counts(0, 0, 0)
    await sched.run(work("third"), Notes())


async def test_room_that_comes_at_the_moment_of_the_cancellation_is_not_lost() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=1, max_sandboxes=1)
    await sched.run(work("old"), Notes())
    gate = pool.sandboxes[0].close_gate = Gate()
    run = asyncio.create_task(sched.run(work("other"), Notes()))
    await gate.reached()
    gate.open()
    while sched._waiting:
        await settled(1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await settled()
    assert sched.counts() == Counts(0, 0, 0)


async def test_a_close_that_fails_does_not_take_the_room_with_it() -> None:
    class Stuck(StubPool):
        async def start(self, spec):  # type: ignore[no-untyped-def]
            sandbox = await super().start(spec)

            async def close(grace_ms: int = 0) -> None:
                raise OSError("busy")

            sandbox.close = close  # type: ignore[method-assign]
            return sandbox

    sched = scheduler(Stuck(ends(Outcome.EXITED)), max_concurrency=1, max_sandboxes=1)
    for _ in range(3):
        await sched.run(work(), Notes())
    await sched.drain(0)
    assert sched.counts() == Counts(0, 0, 0)


async def test_each_sandbox_and_each_event_that_waits_for_room_is_told_with_its_function_and_what_it_does() -> None:
    gate = Gate()
    pool = StubPool(behind(gate))
    sched = scheduler(pool, max_concurrency=4, max_sandboxes=2)
    busy = asyncio.create_task(sched.run(work("busy"), Notes()))
    await gate.reached()
    pool.start_gate = Gate()
    starts = asyncio.create_task(sched.run(work("starts"), Notes()))
    await pool.start_gate.reached()
    assert _places(sched) == [("busy", Place.BUSY, True), ("starts", Place.STARTING, False)]
    assert sched.max_concurrency == 2
    gate.open()
    await busy
    pool.start_gate.open()
    await starts
    assert _places(sched) == [("busy", Place.IDLE, True), ("starts", Place.IDLE, True)]
    close = next(one for one in pool.sandboxes if one.spec.key[0] == "busy").close_gate = Gate()
    waiting = asyncio.create_task(sched.run(work("waits"), Notes()))
    await close.reached()
    assert _places(sched) == [("starts", Place.IDLE, True), ("waits", Place.WAITING, False)]
    close.open()
    await waiting
    assert _places(sched) == [("starts", Place.IDLE, True), ("waits", Place.IDLE, True)]


def _places(sched: LocalScheduler) -> list[tuple[str, Place, bool]]:
    return sorted(
        ((one.function, one.place, bool(one.sandbox_id)) for one in sched.placed()), key=lambda found: found[0]
    )
