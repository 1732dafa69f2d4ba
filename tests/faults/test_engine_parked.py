"""The parked pool when things go wrong: no invocation is lost, the pool recovers, and doctor's counts say what was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from engine.sandbox import host_memory
from engine.v1 import reports_pb2 as pb
from tests.doors import GrpcDoor, zip_of
from tests.engines import Engine, engine
from tests.remains import members_of, nothing_left

pytestmark = pytest.mark.privileged

PARKS: dict[str, Any] = {
    "parked_floor": 2,
    "parked_ceiling": 6,
    "parked_rate": 1_000.0,
    "parked_free_mb": 0,
    "tmp_pool_size": 2,
}
SAYS_WHO = "import os\ndef handler(event, context):\n    return os.environ['WHO']\n"
FUNCTIONS = 100


async def parked(door: GrpcDoor) -> int:
    """How many wait."""
    return next(one.made - one.removed for one in (await door.counts()).resources if one.kind == "parked")


async def events(door: GrpcDoor) -> dict[str, int]:
    """What befell the engine, as doctor shows it."""
    return {one.kind: one.count for one in (await door.counts()).events}


async def wait(running: Engine, count: int) -> None:
    """Until so many wait."""
    while await parked(running.grpc) != count:
        await asyncio.sleep(0.01)


async def test_those_that_die_unused_are_counted_replaced_and_cost_nobody_an_answer(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, **PARKS) as running:
        await running.grpc.create("hello", zip_of(SAYS_WHO), environment={"WHO": "me"})
        for round_ in range(1, 4):
            await wait(running, 2)
            victims = members_of(running.instance)
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):  # it went with its process 1
                    os.kill(pid, signal.SIGKILL)
            while (await events(running.grpc))["lost_parked"] < 2 * round_:
                await asyncio.sleep(0.01)
            await wait(running, 2)
            assert not set(victims) & set(members_of(running.instance))
        answer = await running.grpc.invoke("hello")
        assert answer.json() == "me"
        assert answer.report is not None
        assert answer.report.start_kind == pb.START_KIND_PARKED
    await nothing_left(data)


async def test_a_burst_of_a_hundred_functions_empties_the_pool_and_every_one_answers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, **PARKS) as running:
        names = [f"f{number}" for number in range(FUNCTIONS)]
        code = zip_of(SAYS_WHO)
        for name in names:
            await running.grpc.create(name, code, memory_mb=1_769, environment={"WHO": name}, timeout_ms=60_000)
        await wait(running, 2)
        answers = await asyncio.gather(*(running.grpc.invoke(name) for name in names))
        assert [answer.json() for answer in answers] == names
        kinds = [answer.report.start_kind for answer in answers if answer.report is not None]
        assert set(kinds) == {pb.START_KIND_PARKED, pb.START_KIND_FORK}
        assert kinds.count(pb.START_KIND_PARKED) >= 2
        host = await running.grpc.counts()
        assert (await events(running.grpc))["missed_parked"] == kinds.count(pb.START_KIND_FORK)
        assert {one.kind: one.start.count for one in host.starts} == {kind: kinds.count(kind) for kind in set(kinds)}
        # What the burst took is what the next one finds, up to the ceiling.
        await wait(running, 6)
        assert (await events(running.grpc))["lost_parked"] == 0
    await nothing_left(data)


async def test_waiting_sandboxes_stay_within_their_memory_budget(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, **PARKS | {"parked_memory_mb": 8, "parked_floor": 50, "parked_ceiling": 50}) as running:
        # A first guess, then as it was measured: some 2 MB each.
        await until_steady(running)
        waiting = await parked(running.grpc)
        assert 1 <= waiting <= 8
    await nothing_left(data)


async def until_steady(running: Engine) -> None:
    """Until the number of those that wait has not changed for a while."""
    last, same = -1, 0
    while same < 20:
        now = await parked(running.grpc)
        same = same + 1 if now == last and now > 0 else 0
        last = now
        await asyncio.sleep(0.02)


async def test_a_host_short_of_memory_gets_back_what_waits_and_functions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, left_mb = tmp_path / "data", [10_000]
    monkeypatch.setattr(host_memory, "_ASK_EVERY_S", 0.0)
    monkeypatch.setattr(host_memory.HostMemory.__init__, "__defaults__", (lambda: left_mb[0],))
    async with engine(data, **PARKS | {"parked_free_mb": 500, "parked_memory_mb": 100}) as running:
        await running.grpc.create("hello", zip_of(SAYS_WHO), environment={"WHO": "me"})
        await wait(running, 2)
        left_mb[0] = 499
        # Whoever starts finds out; without a start the pool looks by itself every ten seconds.
        assert (await running.grpc.invoke("hello")).json() == "me"
        await wait(running, 0)
        assert (await events(running.grpc))["short_memory"] == 1
        await running.grpc.update("hello", description="retires the warm one")
        answer = await running.grpc.invoke("hello")
        assert answer.json() == "me"
        assert answer.report is not None
        assert answer.report.start_kind == pb.START_KIND_FORK
        left_mb[0] = 600
        await running.grpc.update("hello", description="again")
        assert (await running.grpc.invoke("hello")).json() == "me"
        while await parked(running.grpc) < 2:
            await asyncio.sleep(0.01)
        assert (await events(running.grpc))["lost_parked"] == 0
    await nothing_left(data)
