"""Parked sandboxes one after another leave nothing, whether they were used, given up or died."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from engine.v1 import reports_pb2 as pb
from tests.doors import zip_of
from tests.engines import Served, end, ready, served, spawn
from tests.leaks.test_sandboxes import Held, assert_no_growth, held
from tests.remains import leaves_of, loops_of, members_of, networks_of, nothing_left, until, zombies_of

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(3_600)]

PARKED = 2
FLAGS = {
    "parked_floor": PARKED,
    "parked_ceiling": PARKED,
    "parked_rate": 1_000,
    "tmp_pool_size": 1,
    "network_pool_size": 1,
    "max_sandboxes": 1,
    "max_concurrency": 1,
}
HELLO = zip_of("def handler(event, context):\n    return 1\n")


async def settled(running: Served) -> Held:
    """What it holds once it is at rest: the parked ones, and one /tmp and one network ready for the next."""

    def rests() -> bool:
        alive = len([pid for pid in members_of(running.instance) if psutil.pid_exists(pid)])
        return (
            len({Path(leaf).name for leaf in leaves_of(running.instance)}) == PARKED
            and alive == 2 * PARKED
            and len(loops_of(running.data_dir)) == PARKED + 1
            and networks_of(running.process.pid) <= PARKED + 1  # fewer where a clone made its own
            and not zombies_of(running.process.pid)
        )

    await until(rests, within_s=20, what="only the parked ones are left")
    return held(running)


async def test_parked_sandboxes_one_after_another_leave_nothing(tmp_path: Path, counts: Mapping[str, int]) -> None:
    data = tmp_path / "data"
    # With room for one sandbox, two functions in turn evict each other: every call starts one and ends another.
    async with served(data, flags=FLAGS) as running:
        for name in ("even", "odd"):
            await running.grpc.create(name, HELLO, memory_mb=1_769)
        count = counts["sandboxes"]
        first: Held | None = None
        kinds = set()
        for n in range(count):
            if n == count // 3:
                await end_idle(running, "even", "odd")
                first = await settled(running)
            report = (await running.grpc.invoke(("even", "odd")[n % 2])).report
            assert report is not None
            kinds.add(report.start_kind)
            if n % 10 == 5:
                kill_one(running)
        await end_idle(running, "even", "odd")
        await settled(running)
        assert first is not None
        assert pb.START_KIND_PARKED in kinds
        await assert_no_growth(first, running)
        await running.stopped()
    await nothing_left(data)


async def end_idle(running: Served, *names: str) -> None:
    """Have no sandbox of these functions."""
    for name in names:
        await running.grpc.delete(name)
        await running.grpc.create(name, HELLO, memory_mb=1_769)


def kill_one(running: Served) -> None:
    """Kill -9 the first process of some sandbox, parked or idle."""
    for pid in members_of(running.instance)[:1]:
        os.kill(pid, signal.SIGKILL)


async def test_what_is_parked_dies_with_its_engine_and_the_next_removes_the_rest(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with served(data, flags=FLAGS) as running:
        await until(lambda: len(members_of(running.instance)) == 2 * PARKED, what="some are parked")
        running.signal(signal.SIGKILL)
        await running.ended()
        await until(lambda: not members_of(running.instance), what="they died with it")
        again = spawn(data, FLAGS)
        try:
            await ready(again)
            await until(lambda: len(members_of(again.instance)) == 2 * PARKED, what="others are parked")
            await again.stopped()
        finally:
            end(again)
    await nothing_left(data)
