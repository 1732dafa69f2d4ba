"""Whatever events, endings, cancellations, deaths, retirements and drains come, in whatever order: nothing is lost,
nothing runs twice, nothing is left. The order is drawn from a seed, and a failure names it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

import pytest

from engine.errors import InvalidArgument, SandboxFault, Throttled, Unavailable
from engine.model.outcome import Outcome
from engine.sandbox.api import Ending, Event, RunSink, SandboxSpec
from engine.sandbox.lifecycle import SandboxState
from engine.sandbox.stub import StubPool, StubSandbox
from engine.scheduler.api import Counts
from engine.scheduler.dispatch import LocalScheduler
from tests.unit.scheduler.things import Notes, spec, work

MAX_SANDBOXES = 6
MAX_CONCURRENCY = 5


class Chaos(StubPool):
    """Sandboxes that take a random number of turns of the loop, end at random, and sometimes break."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(self.answer)
        self.rng = rng
        self.ran: Counter[str] = Counter()
        self.most_alive = 0
        self.starting = 0

    async def turns(self) -> None:
        for _ in range(self.rng.randrange(6)):
            await asyncio.sleep(0)

    async def answer(self, event: Event, sink: RunSink) -> Ending | bytes:
        self.ran[event.request_id] += 1
        await self.turns()
        outcome = self.rng.choice([Outcome.OK] * 6 + [Outcome.HANDLER_ERROR, Outcome.EXITED, Outcome.TIMEOUT, None])
        if outcome is None:
            raise SandboxFault("read", 104, "Connection reset")
        return Ending(outcome, reusable=outcome in (Outcome.OK, Outcome.HANDLER_ERROR))

    async def start(self, spec: SandboxSpec) -> StubSandbox:
        self.starting += 1
        try:
            self.most_alive = max(self.most_alive, len(self.alive) + self.starting)
            await self.turns()
            if self.rng.random() < 0.1:
                raise SandboxFault("clone", 11, "Resource temporarily unavailable")
            sandbox = await super().start(spec)
        finally:
            self.starting -= 1
        sandbox.refusing = self.rng.random() < 0.05
        close = sandbox.close

        async def slow_close(grace_ms: int = 0) -> None:
            await self.turns()
            await close(grace_ms)

        sandbox.close = slow_close  # type: ignore[method-assign]
        return sandbox


@pytest.mark.parametrize("seed", range(60))
async def test_nothing_is_lost_or_run_twice_or_left(seed: int) -> None:
    rng = random.Random(seed)
    pool = Chaos(rng)
    sched = LocalScheduler(
        pool,
        max_concurrency=MAX_CONCURRENCY,
        max_sandboxes=MAX_SANDBOXES,
        keep_alive_s=rng.choice([0.0, 0.001, 60.0]),
        burst=rng.choice([0, 20]),
    )
    sched._core.configure(0, min_unreserved=rng.choice([1, 5]))
    etags = dict.fromkeys("abcd", 1)
    events: dict[str, asyncio.Task[object]] = {}
    cancelled: set[str] = set()

    for _ in range(150):
        kinds = ["event", "cancel", "die", "break", "retire", "provision", "reserve", "turn"]
        match rng.choices(kinds, [60, 8, 5, 5, 4, 4, 3, 40])[0]:
            case "event":
                name = rng.choice("abcd")
                one = work(name, str(etags[name]))
                events[one.event.request_id] = asyncio.create_task(sched.run(one, Notes()))
            case "cancel" if events:
                request_id, task = rng.choice(list(events.items()))
                if not task.done():
                    cancelled.add(request_id)
                    task.cancel()
            case "die" | "break" as how if pool.alive:
                sandbox = rng.choice(pool.alive)
                if how == "break":
                    sandbox.refusing = True
                elif sandbox.lifecycle.state is SandboxState.IDLE:
                    sandbox.die()
            case "retire":
                name = rng.choice("abcd")
                etags[name] += 1
                sched.retire(name, rng.choice([None, str(etags[name])]))
            case "provision":
                name = rng.choice("abcd")
                with contextlib.suppress(InvalidArgument):
                    sched.set_provisioned(spec(name, str(etags[name])), rng.randrange(3))
            case "reserve":
                with contextlib.suppress(InvalidArgument):
                    sched.set_reserved(rng.choice("abcd"), rng.choice([None, None, 0, 2]))
            case _:
                await asyncio.sleep(0)
        counts = sched.counts()
        assert counts.sandboxes <= MAX_SANDBOXES
        assert counts.concurrency <= MAX_CONCURRENCY
        assert sched._core.check() == ""

    async with asyncio.timeout(20):
        if rng.random() < 0.5:
            await asyncio.wait(events.values())
            counts = sched.counts()
            assert counts.concurrency == 0
        await sched.drain(rng.choice([0.0, 5.0]))
        await asyncio.wait(events.values())

    assert sched.counts() == Counts(0, 0, 0)
    assert pool.most_alive <= MAX_SANDBOXES
    assert {sandbox.closes for sandbox in pool.sandboxes} <= {1}
    assert {sandbox.lifecycle.state for sandbox in pool.sandboxes} <= {SandboxState.DEAD}
    assert set(pool.ran.values()) <= {1}
    for request_id, task in events.items():
        if task.cancelled():
            assert request_id in cancelled
        elif error := task.exception():
            assert isinstance(error, Throttled | Unavailable | SandboxFault), repr(error)
            if isinstance(error, Throttled):
                assert pool.ran[request_id] == 0
        else:
            assert pool.ran[request_id] == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_thousand_events_over_few_sandboxes_all_end() -> None:
    pool = Chaos(random.Random(1))
    sched = LocalScheduler(pool, max_concurrency=4, max_sandboxes=4, keep_alive_s=60)
    room = asyncio.Semaphore(4)
    ended = Counter[str]()

    async def one(number: int) -> None:
        async with room:
            try:
                await sched.run(work(f"f{number % 7}"), Notes())
            except SandboxFault:
                ended["fault"] += 1
            else:
                ended["done"] += 1

    async with asyncio.timeout(20):
        await asyncio.gather(*(one(number) for number in range(1_000)))
    assert ended.total() == 1_000  # none was throttled: room for four is enough for four
    await sched.drain(5)
    assert sched.counts() == Counts(0, 0, 0)
