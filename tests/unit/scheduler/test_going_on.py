"""Calls that waited in the lane and are gone on with here: they keep their place, and give it back once."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import Unavailable
from engine.model.outcome import StartKind
from engine.sandbox import box
from engine.sandbox.stub import StubPool
from engine.scheduler import core as native
from engine.scheduler.api import Counts, Granted
from engine.scheduler.dispatch import LocalScheduler
from engine.scheduler.lending import Lent
from tests.unit.scheduler.things import Notes, scheduler, settled, spec, work

STANDS = {native.DO_RUN: box.CHOSEN, native.DO_START: box.STARTS, native.DO_REFUSE: box.REFUSED}


async def full(pool: StubPool) -> tuple[LocalScheduler, Lent]:
    """A scheduler with room for one sandbox, which is lent."""
    sched = scheduler(pool, max_sandboxes=3, max_concurrency=3)
    await sched.run(work(), Notes())
    sched._core.configure(sched._now(), room=1)
    call = wait(sched)
    return sched, sched.chosen(call, sched._core.sandbox)


def wait(sched: LocalScheduler) -> int:
    """As the lane submits one."""
    target = sched.target_of(spec().key)
    assert target is not None
    assert sched._core.submit_claimed(target, sched._now(), 1) in (native.RUN, native.WAIT)
    return sched._core.call


def granted(sched: LocalScheduler) -> Granted:
    """As the lane hands one over."""
    action = sched._core.next_claimed()
    assert action is not None
    return Granted(action[1], action[2], STANDS[action[0]], 700)


async def test_one_that_was_given_a_sandbox_runs_in_it_and_says_how_long_it_waited() -> None:
    pool = StubPool()
    sched, lent = await full(pool)
    wait(sched)
    sched.give_back_unused(lent)
    done = await sched.go_on(granted(sched), work(), Notes())
    assert (done.start_kind, done.queue_us, len(pool.sandboxes)) == (StartKind.WARM, 700, 1)
    assert sched.counts() == Counts(sandboxes=1, idle=1, concurrency=0)
    await sched.drain(0)


async def test_one_whose_sandbox_died_in_between_keeps_its_place_and_gets_another() -> None:
    pool = StubPool()
    sched, lent = await full(pool)
    wait(sched)
    sched.give_back_unused(lent)
    grant = granted(sched)
    pool.sandboxes[0].kill()
    done = await sched.go_on(grant, work(), Notes())
    assert (done.start_kind, len(pool.sandboxes)) == (StartKind.FORK, 2)
    assert done.queue_us >= 700
    await sched.drain(0)


async def test_one_for_which_a_sandbox_is_to_be_started_is_a_cold_start_that_has_waited() -> None:
    pool = StubPool()
    sched, lent = await full(pool)
    wait(sched)
    sched._core.configure(sched._now(), room=2)
    done = await sched.go_on(granted(sched), work(), Notes())
    assert (done.start_kind, done.queue_us, len(pool.sandboxes)) == (StartKind.FORK, 700, 2)
    sched.give_back_unused(lent)
    await sched.drain(0)


@pytest.mark.parametrize("how", ["given one", "a start"])
async def test_one_that_nobody_wants_any_longer_gives_back_what_it_got_once(how: str) -> None:
    pool = StubPool()
    sched, lent = await full(pool)
    wait(sched)
    if how == "given one":
        sched.give_back_unused(lent)
    else:
        sched._core.configure(sched._now(), room=2)
    grant = granted(sched)
    for _ in range(2):
        sched.give_up(grant)
    if how == "a start":
        sched.give_back_unused(lent)
    await settled()
    assert sched.counts() == Counts(sandboxes=1, idle=1, concurrency=0)
    assert sched._core.check() == ""
    await sched.drain(0)


async def test_one_that_a_drain_refuses_says_so_and_the_drain_ends() -> None:
    sched, lent = await full(StubPool())
    wait(sched)
    drain = asyncio.create_task(sched.drain(0))
    await settled()
    with pytest.raises(Unavailable):
        sched.give_back(lent, None)
    grant = granted(sched)
    assert grant.stands == box.REFUSED
    with pytest.raises(Unavailable):
        await sched.go_on(grant, work(), Notes())
    await drain
    assert sched.counts() == Counts(0, 0, 0)


async def test_what_waits_there_is_seen() -> None:
    sched, lent = await full(StubPool())
    call = wait(sched)
    assert sorted(one.place.value for one in sched.placed()) == ["busy", "waiting"]
    sched._core.cancel(call, sched._now())
    assert [one.place.value for one in sched.placed()] == ["busy"]
    sched.give_back_unused(lent)
    await sched.drain(0)
