"""What is under way is told by function, and no more functions are told apart than there may be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from engine.model.host import ZygoteFound
from engine.model.invocation import Moments
from engine.model.metrics import OTHERS, FunctionMetrics, LogCounts, SandboxCounts
from engine.model.outcome import StartKind
from engine.observe.invocations import Invocations
from engine.observe.metrics import AT_A_TIME, Observer
from engine.observe.recent import RecentInvocations
from engine.observe.starts import Starts
from engine.sandbox.counts import Counts, Resource
from engine.sandbox.stub import Gate, StubPool, behind
from tests.unit.invoke.things import Functions, function
from tests.unit.observe.test_starts import report
from tests.unit.scheduler.things import Notes, scheduler, work

ZYGOTE = ZygoteFound("python3.11", ())


class Pool:
    """A pool's counts, and cgroups that are files."""

    def __init__(self, folder: Path) -> None:
        self.counts = Counts()
        self.cgroup_directories = {"unified": str(folder)}

    def zygote_reports(self) -> tuple[ZygoteFound, ...]:
        return (ZYGOTE,)


def counting(*names: str, limit: int) -> Invocations:
    """Of these functions, each of which was invoked once."""
    registry = Functions()
    invocations = Invocations(registry, Starts(), RecentInvocations(0), limit=limit)
    for name in names:
        registry.put(function(name))
        invocations(function(name), report(StartKind.WARM), Moments(0, 0, 0, 0))
    return invocations


def now(found: FunctionMetrics) -> tuple[str, int, int, int]:
    return found.name, found.busy, found.idle, found.memory_bytes


async def test_what_is_under_way_is_told_by_function_as_far_as_functions_are_told_apart(tmp_path: Path) -> None:
    gate, stub = Gate(), StubPool()
    sched = scheduler(stub, max_concurrency=7, max_sandboxes=9)
    for name in ("a", "first", "more"):
        await sched.run(work(name), Notes())
    stub.script = behind(gate)
    names = ("b", "even more")
    runs = [asyncio.create_task(sched.run(work(name), Notes())) for name in names]
    await gate.reached(2)
    for number, sandbox in enumerate(stub.sandboxes, 1):
        (tmp_path / sandbox.id).mkdir()
        (tmp_path / sandbox.id / "memory.current").write_text(str(number))
    (tmp_path / "memory.current").write_text("100")
    pool = Pool(tmp_path)
    pool.counts.made(Resource.PARKED)
    observe = Observer(Starts(), counting("a", "b", limit=3), sched, pool, LogCounts)
    found = await observe()
    assert [now(one) for one in found.functions] == [
        ("a", 0, 1, 1),
        ("b", 1, 0, 4),
        ("even more", 1, 0, 5),
        (OTHERS, 0, 2, 5),
    ]
    assert found.sandboxes == SandboxCounts(busy=2, idle=3, parked=1)
    assert (found.concurrency, found.max_concurrency, found.waiting) == (2, 7, 0)
    assert (found.all_sandboxes.memory_bytes, found.zygotes) == (100, (ZYGOTE,))
    gate.open()
    await asyncio.gather(*runs)


class Turns(Invocations):
    """Notes at which turn of the event loop each function was asked for."""

    turn = 0
    asked: ClassVar[list[int]] = []

    def functions(self) -> Iterator[FunctionMetrics]:
        for one in super().functions():
            self.asked.append(self.turn)
            yield one


async def test_others_have_their_turn_while_many_functions_are_put_together(tmp_path: Path) -> None:
    names = [f"f{number:03}" for number in range(5 * AT_A_TIME)]
    registry = Functions()
    invocations = Turns(registry, Starts(), RecentInvocations(0), limit=1_000)
    for name in names:
        registry.put(function(name))
        invocations(function(name), report(StartKind.WARM), Moments(0, 0, 0, 0))
    observe = Observer(Starts(), invocations, scheduler(StubPool()), Pool(tmp_path), LogCounts)
    asking = asyncio.create_task(observe())
    while not asking.done():
        await asyncio.sleep(0)
        invocations.turn += 1
    assert [one.name for one in asking.result().functions] == names
    assert len(set(invocations.asked)) == 5
