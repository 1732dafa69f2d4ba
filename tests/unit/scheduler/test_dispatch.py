"""An event gets a sandbox of its own, and everything is given back, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import HostUnfit, SandboxFault, Throttled
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import Ending, Event, ExpressSink, RunSink
from engine.sandbox.ready import nobody
from engine.sandbox.stub import Gate, StubPool, behind, echo, ends
from engine.scheduler.api import Counts
from tests.unit.scheduler.things import Notes, scheduler, settled, work


async def test_the_first_event_starts_a_sandbox_and_the_next_finds_it_warm() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    first, second = Notes(), Notes()
    cold = await sched.run(work(payload=b"1"), first)
    warm = await sched.run(work(payload=b"2"), second)
    assert (cold.start_kind, cold.ending.payload) == (StartKind.FORK, b"1")
    assert (warm.start_kind, warm.ending.payload) == (StartKind.WARM, b"2")
    assert first.kinds == [StartKind.FORK]
    assert second.kinds == [StartKind.WARM]
    assert len(pool.sandboxes) == 1
    assert sched.counts() == Counts(sandboxes=1, idle=1, concurrency=0)


async def test_output_and_chunks_reach_the_sink() -> None:
    async def script(event: Event, sink: RunSink) -> bytes:
        sink.output(b"log")
        sink.chunk(b"part")
        return b"null"

    notes = Notes()
    await scheduler(StubPool(script)).run(work(), notes)
    assert notes.written == b"log"
    assert notes.chunks == [b"part"]


async def test_the_sandbox_that_served_last_serves_next() -> None:
    gate = Gate()
    pool = StubPool(behind(gate))
    sched = scheduler(pool)
    runs = [asyncio.create_task(sched.run(work(), Notes())) for _ in range(3)]
    await gate.reached(3)
    gate.open()
    await asyncio.gather(*runs)
    last = pool.sandboxes[2]
    await sched.run(work(), Notes())
    await sched.run(work(), Notes())
    assert len(last.runs) == 3
    assert [len(sandbox.runs) for sandbox in pool.sandboxes[:2]] == [1, 1]


async def test_sandboxes_of_other_functions_and_other_states_are_never_used() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    for name, etag in (("f", "1"), ("g", "1"), ("f", "2")):
        await sched.run(work(name, etag), Notes())
    assert [sandbox.spec.key for sandbox in pool.sandboxes] == [
        ("f", "$LATEST", "1"),
        ("g", "$LATEST", "1"),
        ("f", "$LATEST", "2"),
    ]


async def test_events_over_the_cap_are_throttled_with_lambdas_reason_and_a_time_to_wait() -> None:
    gate = Gate()
    sched = scheduler(StubPool(behind(gate)), max_concurrency=2)
    runs = [asyncio.create_task(sched.run(work(), Notes())) for _ in range(2)]
    await gate.reached(2)
    with pytest.raises(Throttled) as caught:
        await sched.run(work(), Notes())
    assert caught.value.throttle_reason == "ConcurrentInvocationLimitExceeded"
    assert caught.value.retry_after_ms > 0
    assert caught.value.fix
    gate.open()
    await asyncio.gather(*runs)
    assert (await sched.run(work(), Notes())).ending.outcome is Outcome.OK


async def test_a_reload_changes_the_cap() -> None:
    sched = scheduler(StubPool(), max_concurrency=5)
    sched.reload(max_concurrency=0)
    with pytest.raises(Throttled):
        await sched.run(work(), Notes())
    sched.reload(max_concurrency=1)
    await sched.run(work(), Notes())


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.EXITED, Outcome.OUT_OF_MEMORY, Outcome.INIT_ERROR])
async def test_a_sandbox_that_cannot_be_reused_is_closed(outcome: Outcome) -> None:
    pool = StubPool(ends(outcome))
    sched = scheduler(pool)
    done = await sched.run(work(), Notes())
    assert done.ending.outcome is outcome
    await settled()
    assert pool.sandboxes[0].closes == 1
    assert sched.counts() == Counts(0, 0, 0)


@pytest.mark.parametrize("error", [SandboxFault("clone", 11, "no room"), HostUnfit("no cgroup"), RuntimeError("bug")])
async def test_a_start_that_fails_gives_everything_back(error: Exception) -> None:
    pool = StubPool()
    pool.start_errors = [error]
    sched = scheduler(pool, max_concurrency=1, max_sandboxes=1)
    with pytest.raises(type(error)):
        await sched.run(work(), Notes())
    assert sched.counts() == Counts(0, 0, 0)
    assert (await sched.run(work(), Notes())).start_kind is StartKind.FORK


async def test_a_run_that_fails_after_it_had_the_event_is_not_tried_again() -> None:
    async def script(event: Event, sink: RunSink) -> bytes:
        raise SandboxFault("read", 104, "Connection reset")

    pool = StubPool(script)
    sched = scheduler(pool)
    with pytest.raises(SandboxFault):
        await sched.run(work(), Notes())
    await settled()
    assert [(len(sandbox.runs), sandbox.closes) for sandbox in pool.sandboxes] == [(1, 1)]
    assert sched.counts() == Counts(0, 0, 0)


async def test_a_warm_sandbox_that_died_while_idle_is_passed_over_and_closed() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    await sched.run(work(), Notes())
    pool.sandboxes[0].die()
    done = await sched.run(work(), Notes())
    assert done.start_kind is StartKind.FORK
    await settled()
    assert pool.sandboxes[0].closes == 1
    assert sched.counts() == Counts(1, 1, 0)


async def test_however_many_died_while_idle_all_are_passed_over() -> None:
    gate = Gate()
    pool = StubPool(behind(gate))
    sched = scheduler(pool)
    runs = [asyncio.create_task(sched.run(work(), Notes())) for _ in range(8)]
    await gate.reached(8)
    gate.open()
    await asyncio.gather(*runs)
    for sandbox in pool.sandboxes:
        sandbox.die()
    await sched.run(work(), Notes())
    await settled()
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1] * 8 + [0]


async def test_a_sandbox_that_dies_as_its_event_ends_is_not_kept() -> None:
    async def script(event: Event, sink: RunSink) -> bytes:
        pool.sandboxes[0].die()
        return b"1"

    pool = StubPool(script)
    sched = scheduler(pool)
    assert (await sched.run(work(), Notes())).ending.payload == b"1"
    assert sched.counts().idle == 0
    await settled()
    assert pool.sandboxes[0].closes == 1


async def test_an_event_that_a_warm_sandbox_never_had_runs_once_in_another() -> None:
    pool = StubPool()
    sched = scheduler(pool)
    await sched.run(work(), Notes())
    pool.sandboxes[0].refusing = True
    notes = Notes()
    done = await sched.run(work(payload=b"7"), notes)
    assert done.ending.payload == b"7"
    assert notes.kinds == [StartKind.FORK]
    assert done.start_kind is StartKind.FORK
    await settled()
    assert [(len(sandbox.runs), sandbox.closes) for sandbox in pool.sandboxes] == [(1, 1), (1, 0)]


async def test_the_tries_for_one_event_are_bounded() -> None:
    gate = Gate()
    pool = StubPool(behind(gate))
    sched = scheduler(pool)
    runs = [asyncio.create_task(sched.run(work(), Notes())) for _ in range(6)]
    await gate.reached(6)
    gate.open()
    await asyncio.gather(*runs)
    for sandbox in pool.sandboxes:
        sandbox.refusing = True
    done = await sched.run(work(), Notes())
    assert done.start_kind is StartKind.FORK
    await settled()
    assert sum(sandbox.closes for sandbox in pool.sandboxes) == 3  # the other three were not tried


async def test_fresh_sandboxes_that_refuse_an_event_are_the_engines_fault() -> None:
    class Broken(StubPool):
        async def start(self, spec):  # type: ignore[no-untyped-def]
            sandbox = await super().start(spec)
            sandbox.refusing = True
            return sandbox

    pool = Broken()
    sched = scheduler(pool)
    with pytest.raises(SandboxFault):
        await sched.run(work(), Notes())
    await settled()
    assert [sandbox.closes for sandbox in pool.sandboxes] == [1, 1]
    assert sched.counts() == Counts(0, 0, 0)


async def test_cancelling_while_the_sandbox_starts_gives_everything_back() -> None:
    pool = StubPool()
    pool.start_gate = Gate()
    sched = scheduler(pool)
    run = asyncio.create_task(sched.run(work(), Notes()))
    await pool.start_gate.reached()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert sched.counts() == Counts(0, 0, 0)


async def test_cancelling_while_the_function_runs_closes_its_sandbox() -> None:
    gate = Gate()
    pool = StubPool(behind(gate))
    sched = scheduler(pool)
    run = asyncio.create_task(sched.run(work(), Notes()))
    await gate.reached()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await settled()
    assert pool.sandboxes[0].closes == 1
    assert sched.counts() == Counts(0, 0, 0)


async def test_the_warm_path_makes_no_tasks_and_no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = StubPool(echo)
    sched = scheduler(pool)
    notes = Notes()
    await sched.run(work(), notes)
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def count_task(loop: asyncio.AbstractEventLoop, coro, **kwargs):  # type: ignore[no-untyped-def]
        made.append("task")
        return asyncio.Task(coro, loop=loop, **kwargs)

    class Bare:
        """A sandbox of which nothing but the scheduler's own work is left."""

        id, kind, dead = "bare", StartKind.FORK, False
        spec = pool.sandboxes[0].spec
        on_end: Callable[[], None] = nobody

        async def prepare(self, sink: RunSink) -> Ending:
            raise AssertionError

        async def run(self, event: Event, sink: RunSink) -> Ending:
            sink.started(StartKind.WARM)
            return Ending(Outcome.OK, True)

        def express(self, head: bytes, payload: bytes, event: Event, sink: ExpressSink) -> bool:
            return False

        def kill(self) -> None: ...

        async def close(self, grace_ms: int = 0) -> None: ...

    (held,) = sched._held.values()
    await pool.sandboxes[0].close()
    held.sandbox = Bare()
    call_at = loop.call_at

    def count_timer(when: float, callback: Callable[..., object], *args: object, **kwargs: Any) -> asyncio.TimerHandle:
        made.append("timer")
        return call_at(when, callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_at", count_timer)
    loop.set_task_factory(count_task)
    try:
        for _ in range(1_000):
            await sched.run(work(), notes)
    finally:
        loop.set_task_factory(None)
    assert made == []
    assert len(notes.kinds) == 1_001
    await sched.drain(0)
