"""kill -9 of an engine, at rest and in the middle of things: what was in its sandboxes dies with it."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from engine.v1 import reports_pb2 as pb
from tests.doors import Refused, zip_of
from tests.engines import Served, end, ready, served, spawn
from tests.remains import HOLD, held, leaves_of, loops_of, members_of, mounts_of, nothing_left, until

pytestmark = pytest.mark.privileged

HELD = b'{"hold": true}'
DAEMONS = HOLD.replace(
    "    def handler",
    "    os.fork() or (os.setsid(), os.fork())\n    if os.getpid() != 2:\n        time.sleep(1_000)\n\n    def handler",
)


async def quietly(call: object) -> None:
    """Wait for a call that may end in any way."""
    try:
        await call  # type: ignore[misc]
    except (Refused, grpc.aio.AioRpcError, asyncio.CancelledError):
        pass


async def test_the_sandboxes_of_a_killed_engine_die_with_it_and_those_of_another_do_not(tmp_path: Path) -> None:
    data = tmp_path / "killed"
    async with served(data) as killed, served(tmp_path / "other") as other:
        await other.grpc.create("held", zip_of(HOLD), timeout_ms=60_000)
        me = (await other.grpc.invoke("held")).json()["me"]
        bystander = asyncio.ensure_future(other.grpc.invoke("held", HELD))
        await held(other.instance, 1)

        await killed.grpc.create("held", zip_of(HOLD), timeout_ms=60_000)
        await killed.grpc.create("daemons", zip_of(DAEMONS), timeout_ms=60_000)
        await killed.grpc.create("spins", zip_of("def handler(event, context):\n    while True: pass\n"))
        calls = [
            asyncio.ensure_future(quietly(killed.grpc.call(name, HELD)))
            for name in ("held", "held", "daemons", "spins")
        ]
        await held(killed.instance, 3)
        pids = await until(lambda: (found := members_of(killed.instance)) and len(found) >= 10 and found)
        zygotes = [child for child in children_of(killed.process.pid) if child not in pids]
        assert zygotes

        killed.signal(signal.SIGKILL)
        await killed.ended()
        await until(
            lambda: not [pid for pid in (*pids, *zygotes) if alive(pid)], within_s=20, what="its sandboxes have died"
        )
        assert members_of(killed.instance) == []
        await until(lambda: not loops_of(data), within_s=20, what="its loop devices are gone")
        assert mounts_of(data) == []
        await asyncio.gather(*calls)
        left = leaves_of(killed.instance)
        assert left, "empty directories are what a killed engine cannot take along"

        again = spawn(data)
        try:
            await ready(again)
            assert leaves_of(killed.instance) == []
            assert '"removed_leftovers"' in again.said()
            assert (await again.grpc.invoke("held")).json()["calls"] == 1
            await again.stopped()
        finally:
            end(again)
        await nothing_left(data)

        for file in (await held(other.instance, 1)).values():
            file.unlink()
        answer = await bystander
        assert answer.json() == {"me": me, "calls": 2}
        assert answer.report is not None
        assert answer.report.start_kind == pb.START_KIND_WARM
        await other.stopped()
    await nothing_left(tmp_path / "other")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be waited for is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.mark.time_limit(900)
async def test_a_kill_at_any_instant_loses_no_function_and_leaves_nothing_for_long(
    tmp_path: Path, counts: Mapping[str, int]
) -> None:
    data = tmp_path / "data"
    chance = random.Random(9)
    async with served(data) as first:
        await first.grpc.create("first", zip_of(HOLD), timeout_ms=60_000)
        await first.stopped()
    acknowledged = {"first"}
    for round_ in range(counts["kills"]):
        running = spawn(data)
        try:
            if chance.random() < 0.2:
                # While it starts.
                await asyncio.sleep(chance.random() * 0.8)
            else:
                await ready(running)
                assert acknowledged <= set(await running.grpc.names())
                busy = asyncio.ensure_future(keep_busy(running, round_, acknowledged))
                await asyncio.sleep(chance.random() * 0.2)
                running.signal(signal.SIGKILL)
                await running.ended()
                await running.close_doors()
                await asyncio.wait_for(busy, 20)
        finally:
            running.process.kill()
            running.process.wait()
        pids = members_of(running.instance)
        await until(lambda found=pids: not [pid for pid in found if alive(pid)], within_s=20)  # type: ignore[misc]
    async with served(data) as last:
        assert acknowledged <= set(await last.grpc.names())
        assert leaves_of(last.instance) == []
        for name in sorted(acknowledged):
            assert (await last.grpc.invoke(name)).json()["calls"] == 1
        assert {path.name for path in (data / "scratch").iterdir()} == {"512.ext4", "code"}
        assert list((data / "code" / "tmp").iterdir()) == []
        await last.stopped()
    await nothing_left(data)


async def keep_busy(running: Served, round_: int, acknowledged: set[str]) -> None:
    """Invoke, create and delete until the engine is gone."""

    async def invoke() -> None:
        while True:
            await running.grpc.invoke("first")

    async def change() -> None:
        for n in range(1_000):
            name = f"f-{round_}-{n}"
            await running.grpc.create(name, zip_of(HOLD + f"    # {name}\n"))
            acknowledged.add(name)
            if n % 2:
                acknowledged.discard(name)
                await running.grpc.delete(name)

    await asyncio.gather(*(quietly(work()) for work in (invoke, invoke, change)))
