"""Native code may decide warm calls on the same scheduler, beside `run`."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import Throttled
from engine.model.outcome import StartKind
from engine.sandbox.stub import StubPool
from engine.scheduler import core as native
from engine.scheduler.api import Counts
from engine.scheduler.dispatch import LocalScheduler
from tests.unit.scheduler.things import Notes, scheduler, settled, spec, work


def end(sched: LocalScheduler, call: int, *, keep: bool = True) -> None:
    """As native code ends a call."""
    sched.core.finished(call, keep, sched._now())
    if sched.core.pending or sched.noticing:
        sched.noticed()


async def test_a_warm_call_that_is_decided_natively_has_its_sandbox_for_itself() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=2)
    assert sched.core.submit_warm(sched.target(spec().key), 0) == native.NOTHING, "none is warm"
    await sched.run(work(), Notes())
    assert sched.core.submit_warm(sched.target(spec().key), sched._now()) == native.RUN
    call, sandbox = sched.core.call, sched.sandbox_of(sched.core.sandbox)
    assert sandbox is pool.sandboxes[0]
    assert (await sched.run(work(), Notes())).start_kind is StartKind.FORK
    assert sched.counts() == Counts(sandboxes=2, idle=1, concurrency=1)
    end(sched, call, keep=False)
    await settled()
    assert sandbox.closes == 1
    assert sched.sandbox_of(call) is None
    await sched.drain(0)


async def test_native_calls_count_for_the_limit_and_a_drain_waits_for_them() -> None:
    sched = scheduler(StubPool(), max_concurrency=1)
    await sched.run(work(), Notes())
    sched.core.submit_warm(sched.target(spec().key), sched._now())
    call = sched.core.call
    with pytest.raises(Throttled):
        await sched.run(work(), Notes())
    drain = asyncio.create_task(sched.drain(60))
    await settled()
    assert not drain.done()
    end(sched, call)
    await drain
    assert sched.counts() == Counts(0, 0, 0)


async def test_an_event_that_waits_gets_the_room_that_native_code_gives_back() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_sandboxes=2, max_concurrency=2)
    await sched.run(work(), Notes())
    sched.core.configure(sched._now(), room=1)
    sched.core.submit_warm(sched.target(spec().key), sched._now())
    call = sched.core.call
    waits = asyncio.create_task(sched.run(work("g"), Notes()))
    await settled()
    assert not waits.done()
    end(sched, call)
    assert (await waits).start_kind is StartKind.FORK
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1, 0]
    await sched.drain(0)
