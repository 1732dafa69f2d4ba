"""Warm sandboxes that are lent for one event each, beside `run`: the same leases, the same room, the same end."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import Throttled, Unavailable
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending
from engine.sandbox.stub import StubPool
from engine.scheduler import core as native
from engine.scheduler.api import Counts
from engine.scheduler.dispatch import LocalScheduler
from engine.scheduler.lending import Lent
from tests.unit.scheduler.things import Notes, scheduler, settled, spec, work

KEPT = Ending(Outcome.OK, True)
SPENT = Ending(Outcome.EXITED, False)


def borrow(sched: LocalScheduler) -> Lent | None:
    """As the lane does."""
    target = sched.target_of(spec().key)
    if target is None or sched._core.submit_claimed(target, sched._now()) != native.RUN:
        return None
    return sched.lend(sched._core.call, sched._core.sandbox)


async def test_what_is_lent_has_its_sandbox_for_itself_and_one_that_is_spent_closes() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=2)
    assert borrow(sched) is None, "none is warm"
    await sched.run(work(), Notes())
    lent = borrow(sched)
    assert lent is not None
    assert lent.sandbox is pool.sandboxes[0]
    assert borrow(sched) is None, "it is lent"
    assert (await sched.run(work(), Notes())).start_kind is StartKind.FORK
    assert sched.counts() == Counts(sandboxes=2, idle=1, concurrency=1)
    sched.give_back(lent, SPENT)
    await settled()
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1, 0]
    await sched.drain(0)


@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
async def test_what_comes_back_fit_is_lent_again(used: bool) -> None:
    sched = scheduler(StubPool())
    await sched.run(work(), Notes())
    for _ in range(3):
        lent = borrow(sched)
        assert lent is not None
        if used:
            sched.give_back(lent, KEPT)
        else:
            sched.give_back_unused(lent)
        assert sched.counts() == Counts(sandboxes=1, idle=1, concurrency=0)
    await sched.drain(0)


async def test_what_failed_is_closed_and_what_died_is_not_lent() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    await sched.run(work(), Notes())
    lent = borrow(sched)
    assert lent is not None
    sched.give_back(lent, None)
    await settled()
    assert pool.sandboxes[0].closes == 1
    await sched.run(work(), Notes())
    pool.sandboxes[1].kill()
    assert borrow(sched) is None
    await settled()
    assert pool.sandboxes[1].closes == 1
    assert sched.counts() == Counts(0, 0, 0)
    await sched.drain(0)


async def test_it_counts_for_the_limit_and_a_drain_waits_for_it() -> None:
    sched = scheduler(StubPool(), max_concurrency=1)
    await sched.run(work(), Notes())
    lent = borrow(sched)
    assert lent is not None
    with pytest.raises(Throttled):
        await sched.run(work(), Notes())
    drain = asyncio.create_task(sched.drain(60))
    await settled()
    assert not drain.done()
    assert borrow(sched) is None
    sched.give_back(lent, KEPT)
    await drain
    assert sched.counts() == Counts(0, 0, 0)


async def test_a_drain_without_patience_kills_what_is_lent_and_says_so() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    await sched.run(work(), Notes())
    lent = borrow(sched)
    assert lent is not None
    drain = asyncio.create_task(sched.drain(0))
    await settled()
    with pytest.raises(Unavailable):
        sched.give_back(lent, SPENT)
    await drain
    assert sched.counts() == Counts(0, 0, 0)


async def test_a_function_that_is_stopped_by_its_reservation_lends_nothing() -> None:
    sched = scheduler(StubPool(), max_concurrency=1_000, max_sandboxes=1_000)
    await sched.run(work(), Notes())
    sched.set_reserved(spec().key[0], 0)
    assert borrow(sched) is None
    with pytest.raises(Throttled):
        await sched.run(work(), Notes())
    await sched.drain(0)


async def test_an_event_that_waits_gets_the_room_that_is_given_back() -> None:
    pool = StubPool()
    sched = scheduler(pool, max_sandboxes=2, max_concurrency=2)
    await sched.run(work(), Notes())
    sched._core.configure(sched._now(), room=1)
    lent = borrow(sched)
    assert lent is not None
    waits = asyncio.create_task(sched.run(work("g"), Notes()))
    await settled()
    assert not waits.done()
    sched.give_back(lent, KEPT)
    assert (await waits).start_kind is StartKind.FORK
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1, 0]
    await sched.drain(0)
