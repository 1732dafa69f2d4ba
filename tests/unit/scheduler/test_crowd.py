"""All who wait leave at once: each gives back what it had, and those of other functions notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from engine.model.outcome import StartKind
from engine.sandbox.stub import Gate, StubPool, behind
from engine.scheduler.dispatch import LocalScheduler
from tests.unit.scheduler.things import Notes, scheduler, settled, work

pytestmark = pytest.mark.time_limit(300)


async def beside(of: LocalScheduler) -> None:
    """Another function's call, by the sandbox that it has had all the while."""
    done = await of.run(work("beside", payload=b"1"), Notes())
    assert (done.ending.payload, done.start_kind) == (b"1", StartKind.WARM)


async def leave(calls: list[asyncio.Task[object]]) -> None:
    """Cancel them all, the first first: asyncio's own queues take as long as they are for each of another order."""
    for call in calls:
        call.cancel()
    left = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in left)


def crowd(of: LocalScheduler, count: int, name: str) -> list[asyncio.Task[object]]:
    return [asyncio.ensure_future(of.run(work(name), Notes())) for _ in range(count)]


async def test_calls_that_wait_for_their_start_leave_at_once(counts: Mapping[str, int]) -> None:
    count, pool = counts["waiting"], StubPool()
    of = scheduler(pool, max_concurrency=count + 1, max_sandboxes=count + 1)
    await of.run(work("beside"), Notes())
    pool.start_gate = Gate()
    calls = crowd(of, count, "late")
    await pool.start_gate.reached(count)
    await beside(of)
    await leave(calls)
    await beside(of)
    now = of.counts()
    assert (now.concurrency, now.sandboxes, now.idle) == (0, 1, 1)
    assert len(pool.sandboxes) == 1


async def test_calls_that_wait_for_room_leave_at_once(counts: Mapping[str, int]) -> None:
    count, pool = counts["waiting"], StubPool()
    of = scheduler(pool, max_concurrency=count + 1, max_sandboxes=count + 1)
    gate, close_gate = Gate(), Gate()
    pool.script = behind(gate)
    old = crowd(of, count, "old")
    await gate.reached(count)
    gate.open()
    await asyncio.gather(*old)
    for sandbox in pool.sandboxes:
        sandbox.close_gate = close_gate
    await of.run(work("beside"), Notes())
    calls = crowd(of, count, "late")
    await close_gate.reached(count)
    await beside(of)
    await leave(calls)
    await beside(of)
    assert of.counts().concurrency == 0
    close_gate.open()
    while of.counts().sandboxes > 1:
        await settled(1)
    assert len(pool.sandboxes) == count + 1
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1] * count + [0]
    await of.run(work("late"), Notes())
