"""Sandboxes that are made ahead of need: what a function gets of them is what a fork would have given it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from engine.errors import SandboxFault
from engine.model.function import Egress
from engine.model.outcome import Outcome, StartKind
from engine.sandbox import box
from engine.sandbox.counts import Happening, Resource
from engine.sandbox.demand import ParkSettings
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.parts import Parts
from engine.sandbox.pool import LinuxPool
from tests.descriptors import left_open, opened
from tests.remains import until
from tests.sandboxes import Collected, event, real_pool, run, spec, write_code

pytestmark = pytest.mark.privileged

HELLO = "def handler(event, context):\n    return 'hello'\n"


@contextlib.asynccontextmanager
async def parking(folder: Path, *, floor: int = 2, own_process: bool = False) -> AsyncIterator[LinuxPool]:
    """A pool that has parked as many as it is to."""
    park = ParkSettings(floor=floor, ceiling=floor, rate_per_s=1_000)
    async with real_pool(folder, park=park, own_process=own_process) as pool:
        await parked(pool, floor)
        yield pool


async def parked(pool: LinuxPool, count: int) -> None:
    """Wait until so many wait."""
    await until(lambda: pool.counts.alive(Resource.PARKED) == count, what=f"{count} are parked")


def happened(pool: LinuxPool, what: Happening) -> int:
    """How often."""
    return {one.kind: one.count for one in pool.counts.events()}[what.value]


def parked_pids(pool: LinuxPool) -> list[int]:
    """Process 1 of each that waits."""
    folder = Path(pool.cgroup_directories["memory"])
    found = []
    for leaf in folder.iterdir():
        if leaf.is_dir():
            pids = [int(pid) for pid in (leaf / "cgroup.procs").read_text().split()]
            found += pids[:1]
    return found


async def one_of(pool: LinuxPool, folder: Path, source: str, **changes: Any) -> tuple[LinuxSandbox, Any, StartKind]:
    """Start one for a function of `source` and run it once: the sandbox, what it answered, how it was started."""
    sandbox = await pool.start(spec(write_code(folder, source), **changes))
    ending, seen = await run(sandbox)
    assert ending.outcome is Outcome.OK, ending
    assert seen.kind is not None
    return sandbox, json.loads(ending.payload), seen.kind


@pytest_asyncio.fixture(params=[False, True], ids=["embedded", "own process"])
async def pool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LinuxPool]:
    async with parking(tmp_path / "pool", own_process=request.param) as pool:
        yield pool


async def test_a_start_takes_a_parked_one_and_another_is_parked_in_its_place(pool: LinuxPool, tmp_path: Path) -> None:
    sandbox, answer, kind = await one_of(pool, tmp_path / "code", HELLO)
    assert (answer, kind) == ("hello", StartKind.PARKED)
    again, seen = await run(sandbox)
    assert (again.outcome, seen.kind) == (Outcome.OK, StartKind.WARM)
    await parked(pool, 2)
    await sandbox.close()


async def test_with_none_left_a_start_forks(pool: LinuxPool, tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    sandboxes = await asyncio.gather(*(pool.start(spec(code)) for _ in range(6)))
    kinds = []
    for sandbox in sandboxes:
        ending, seen = await run(sandbox)
        assert ending.outcome is Outcome.OK
        kinds.append(seen.kind)
    assert kinds.count(StartKind.PARKED) >= 2
    assert StartKind.FORK in kinds
    await asyncio.gather(*(sandbox.close() for sandbox in sandboxes))


async def test_a_specification_larger_than_the_pipe_arrives_whole(pool: LinuxPool, tmp_path: Path) -> None:
    environment = {f"VARIABLE_{number}": "x" * 1_000 for number in range(200)}
    source = "import os\ndef handler(event, context):\n    return [os.environ[name] for name in event]\n"
    small = spec(write_code(tmp_path / "code", source))
    sandbox = await pool.start(replace(small, environment={**small.environment, **environment}))
    ending, seen = await run(sandbox, list(environment))
    assert (ending.outcome, seen.kind) == (Outcome.OK, StartKind.PARKED), ending
    assert json.loads(ending.payload) == list(environment.values())
    await sandbox.close()


@pytest.mark.parametrize("memory_mb", [128, 129, 512, 3_008])
async def test_its_limits_are_those_that_the_function_bought(pool: LinuxPool, tmp_path: Path, memory_mb: int) -> None:
    sandbox, _, kind = await one_of(pool, tmp_path / "code", HELLO, memory_mb=memory_mb)
    assert kind is StartKind.PARKED
    forked = await pool.start(spec(tmp_path / "code", memory_mb=memory_mb, egress=Egress.NONE, tmp_mb=513))
    ending, seen = await run(forked)
    assert (ending.outcome, seen.kind) == (Outcome.OK, StartKind.FORK)
    assert limits_of(pool, sandbox) == limits_of(pool, forked)
    await sandbox.close()
    await forked.close()


def limits_of(pool: LinuxPool, sandbox: LinuxSandbox) -> dict[str, str]:
    """What the kernel says of them."""
    files = {
        "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max"),
        "cpu": ("cpu.cfs_quota_us", "cpu.cfs_burst_us", "cpu.shares", "cpu.max", "cpu.max.burst", "cpu.weight"),
        "pids": ("pids.max",),
    }
    found = {}
    for controller, names in files.items():
        for name in names:
            file = Path(pool.cgroup_directories[controller]) / sandbox.id / name
            if file.exists():
                found[name] = file.read_text().strip()
    assert len(found) >= 5, found
    return found


async def test_memory_over_the_tier_that_it_was_assigned_is_out_of_memory(pool: LinuxPool, tmp_path: Path) -> None:
    source = "def handler(event, context):\n    return len(bytearray(200 << 20))\n"
    for memory_mb, outcome in ((1_769, Outcome.OK), (128, Outcome.OUT_OF_MEMORY), (1_769, Outcome.OK)):
        await parked(pool, 2)
        sandbox = await pool.start(spec(write_code(tmp_path / "code", source), memory_mb=memory_mb))
        ending, seen = await run(sandbox)
        assert (ending.outcome, seen.kind) == (outcome, StartKind.PARKED), memory_mb
        await sandbox.close()


async def test_what_it_sees_is_what_a_fork_sees(pool: LinuxPool, tmp_path: Path) -> None:
    source = """
        import os, sys
        def mounts():
            return sorted(line.split()[4] for line in open("/proc/self/mountinfo"))
        def handler(event, context):
            status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
            return {
                "status": {name: status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
                "mounts": mounts(),
                "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
                "fds": sorted(os.listdir("/proc/self/fd"))[:-1],
                "cwd": os.getcwd(),
                "task": os.listdir("/var/task"),
                "path": sys.path,
                "modules": sorted(sys.modules),
                "environment": sorted(os.environ),
                "argv": sys.argv,
                "threads": len(os.listdir("/proc/self/task")),
                "cgroup": open("/proc/self/cgroup").read(),
                "writes": os.access("/var/task", os.W_OK),
            }
    """
    sandbox, found, kind = await one_of(pool, tmp_path / "code", source)
    forked, expected, other = await one_of(pool, tmp_path / "code", source, tmp_mb=513)
    assert (kind, other) == (StartKind.PARKED, StartKind.FORK)
    assert found == expected
    assert found["task"] == ["app.py"]
    await sandbox.close()
    await forked.close()


async def test_two_of_them_draw_different_values(pool: LinuxPool, tmp_path: Path) -> None:
    source = """
        import random, secrets, uuid
        def handler(event, context):
            return [random.random(), secrets.token_hex(8), str(uuid.uuid4())]
    """
    first, drawn, kind = await one_of(pool, tmp_path / "code", source)
    second, others, other = await one_of(pool, tmp_path / "code", source)
    assert (kind, other) == (StartKind.PARKED, StartKind.PARKED)
    assert not set(drawn) & set(others)
    await first.close()
    await second.close()


async def test_whoever_assigns_one_stays_in_its_own_folder_and_mounts(
    pool: LinuxPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = [os.readlink(f"/proc/thread-self/{name}") for name in ("cwd", "root", "ns/mnt")]
    sandbox, _, kind = await one_of(pool, tmp_path / "code", HELLO)
    assert kind is StartKind.PARKED
    assert [os.readlink(f"/proc/thread-self/{name}") for name in ("cwd", "root", "ns/mnt")] == before
    await sandbox.close()


async def test_one_that_dies_unused_is_counted_and_replaced(pool: LinuxPool, tmp_path: Path) -> None:
    victims = parked_pids(pool)
    assert len(victims) == 2
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: happened(pool, Happening.PARKED_LOST) == 2)
    await parked(pool, 2)
    assert not set(victims) & set(parked_pids(pool))
    sandbox, _, kind = await one_of(pool, tmp_path / "code", HELLO)
    assert kind is StartKind.PARKED
    await sandbox.close()


async def test_one_that_cannot_be_assigned_costs_its_function_nothing_but_a_fork(
    pool: LinuxPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = box.mount_into

    def dies_meanwhile(pidfd: int, mount_fd: int, path: bytes, opt: int) -> None:
        box.kill(pidfd)
        gone = select.poll()
        gone.register(pidfd, select.POLLIN)
        gone.poll(10_000)
        real(pidfd, mount_fd, path, opt)

    monkeypatch.setattr(box, "mount_into", dies_meanwhile)
    sandbox, answer, kind = await one_of(pool, tmp_path / "code", HELLO)
    assert (answer, kind) == ("hello", StartKind.FORK)
    await sandbox.close()
    monkeypatch.undo()
    await parked(pool, 2)
    await until(lambda: pool.counts.alive(Resource.LEAVES) == 2)
    assert pool.counts.alive(Resource.TMP_MOUNTS) == 2


@pytest.mark.parametrize("pool", [False], indirect=True)
async def test_after_a_thread_was_lost_to_a_sandbox_the_next_is_assigned_by_another(
    pool: LinuxPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stranded(pidfd: int, mount_fd: int, path: bytes, opt: int) -> None:
        raise SandboxFault(box.STRANDED, 1, "this thread cannot go back to its own mounts")

    monkeypatch.setattr(box, "mount_into", stranded)
    first, _, kind = await one_of(pool, tmp_path / "code", HELLO)
    assert kind is StartKind.FORK
    monkeypatch.undo()
    await parked(pool, 2)
    second, _, kind = await one_of(pool, tmp_path / "code", HELLO)
    assert kind is StartKind.PARKED
    await first.close()
    await second.close()


async def test_code_that_is_not_there_fails_as_a_fork_does(pool: LinuxPool, tmp_path: Path) -> None:
    with pytest.raises(SandboxFault) as caught:
        await pool.start(spec(tmp_path / "nowhere"))
    assert caught.value.stage == "code mount"
    assert pool.alive == 0
    await parked(pool, 2)


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    async with parking(tmp_path / "pool", floor=8) as pool:
        for _ in range(3):
            starts = [asyncio.ensure_future(pool.start(spec(code))) for _ in range(4)]
            await asyncio.sleep(0)
            for start in starts:
                start.cancel()
            assert all(
                isinstance(found, asyncio.CancelledError)
                for found in await asyncio.gather(*starts, return_exceptions=True)
            )
            await until(lambda: pool.alive == 0)
            await parked(pool, 8)
        await until(lambda: pool.counts.alive(Resource.LEAVES) == 8)


async def test_what_is_parked_goes_with_the_pool(tmp_path: Path) -> None:
    before = opened()
    async with parking(tmp_path / "pool", floor=4) as pool:
        directory = Path(pool.cgroup_directories["memory"])
        pids = parked_pids(pool)
        counts = pool.counts
    for kind in Resource:
        assert counts.alive(kind) == 0, kind
    assert not directory.exists()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert left_open(before) == []


async def test_what_it_used_before_it_was_assigned_is_not_the_functions(pool: LinuxPool, tmp_path: Path) -> None:
    sandbox = await pool.start(spec(write_code(tmp_path / "code", HELLO)))
    used_before = sandbox_cpu_us(sandbox)
    ending = await sandbox.run(event(), Collected())
    assert 0 < ending.cpu_us < sandbox_cpu_us(sandbox)
    assert used_before > 0
    await sandbox.close()


def sandbox_cpu_us(sandbox: LinuxSandbox) -> int:
    """All that its cgroup counts."""
    parts: Parts = sandbox._parts
    return parts.leaf.usage()[1]


async def test_one_that_dies_before_it_has_read_its_event_is_no_failure_of_its_function(
    pool: LinuxPool, tmp_path: Path
) -> None:
    sandbox = await pool.start(spec(write_code(tmp_path / "code", HELLO)))
    assert sandbox.kind is StartKind.PARKED
    (guest,) = psutil.Process(sandbox.pid).children()
    guest.suspend()
    await until(lambda: guest.status() == psutil.STATUS_STOPPED, what="its guest stands still")
    running = asyncio.ensure_future(run(sandbox))
    await asyncio.sleep(0)
    os.kill(sandbox.pid, signal.SIGKILL)
    with pytest.raises(SandboxFault, match="before its guest had the event"):
        await running
    await sandbox.close()


async def test_one_that_dies_in_its_init_phase_has_exited(pool: LinuxPool, tmp_path: Path) -> None:
    source = "import os\nprint('begun', flush=True)\nos.kill(os.getpid(), 9)\n"
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
    ending, seen = await run(sandbox)
    assert (ending.outcome, seen.kind) == (Outcome.EXITED, StartKind.PARKED)
    await sandbox.close()
