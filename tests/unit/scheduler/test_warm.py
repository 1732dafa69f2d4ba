"""Idle sandboxes go when their keep-alive is over, by one timer."""

from __future__ import annotations

import asyncio

import pytest

from engine.sandbox.stub import StubPool
from engine.scheduler.api import Counts
from tests.unit.scheduler.things import Notes, scheduler, settled, work


class Clock:
    """The running loop's time, which goes on only when the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = loop.time()

    def ns(self) -> int:
        return round(self.now * 1e9)

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        await settled()

    def timers(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self.loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(asyncio.get_running_loop())
    monkeypatch.setattr(clock.loop, "time", lambda: clock.now)
    return clock


async def test_an_idle_sandbox_goes_when_its_keep_alive_is_over_and_not_before(clock: Clock) -> None:
    pool = StubPool()
    sched = scheduler(pool, keep_alive_s=10, clock=clock.ns)
    await sched.run(work(), Notes())
    await clock.advance(9.9)
    assert sched.counts().idle == 1
    await clock.advance(0.1)
    assert sched.counts() == Counts(0, 0, 0)
    assert pool.sandboxes[0].closes == 1


async def test_each_use_starts_the_keep_alive_again(clock: Clock) -> None:
    sched = scheduler(StubPool(), keep_alive_s=10, clock=clock.ns)
    await sched.run(work(), Notes())
    for _ in range(5):
        await clock.advance(8)
        await sched.run(work(), Notes())
    assert sched.counts().idle == 1
    await clock.advance(10)
    assert sched.counts().idle == 0


async def test_a_hundred_idle_sandboxes_share_one_timer_and_an_empty_engine_has_none(clock: Clock) -> None:
    pool = StubPool()
    sched = scheduler(pool, max_concurrency=100, max_sandboxes=100, keep_alive_s=10, clock=clock.ns)
    for number in range(100):
        await sched.run(work(f"f{number}"), Notes())
    assert sched.counts().idle == 100
    await settled()
    assert len(clock.timers()) == 1
    await clock.advance(10)
    assert sched.counts() == Counts(0, 0, 0)
    assert clock.timers() == []


async def test_those_idle_longest_go_first(clock: Clock) -> None:
    pool = StubPool()
    sched = scheduler(pool, keep_alive_s=10, clock=clock.ns)
    for name in "abc":
        await sched.run(work(name), Notes())
        await clock.advance(3)
    await clock.advance(1)
    assert [sandbox.spec.key[0] for sandbox in pool.alive] == ["b", "c"]
    await clock.advance(3)
    assert [sandbox.spec.key[0] for sandbox in pool.alive] == ["c"]


async def test_one_that_died_while_idle_is_noticed_at_once_without_an_event(clock: Clock) -> None:
    pool = StubPool()
    sched = scheduler(pool, keep_alive_s=600, clock=clock.ns)
    await sched.run(work("f"), Notes())
    await sched.run(work("g"), Notes())
    pool.sandboxes[0].die()
    await settled()
    assert sched.counts() == Counts(1, 1, 0)
    assert pool.sandboxes[0].closes == 1


async def test_a_reload_shortens_the_keep_alive_of_what_idles_already(clock: Clock) -> None:
    sched = scheduler(StubPool(), keep_alive_s=600, clock=clock.ns)
    await sched.run(work(), Notes())
    await clock.advance(5)
    sched.reload(keep_alive_s=6)
    await clock.advance(0.5)
    assert sched.counts().idle == 1
    await clock.advance(0.5)
    assert sched.counts().idle == 0


async def test_a_drain_leaves_no_timer(clock: Clock) -> None:
    sched = scheduler(StubPool(), keep_alive_s=600, clock=clock.ns)
    await sched.run(work(), Notes())
    await sched.drain(0)
    await settled()
    assert clock.timers() == []
