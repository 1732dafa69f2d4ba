"""What the operator's rules for CPU put into a sandbox's cgroup files, read back from the kernel in each phase."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.model.outcome import Outcome
from engine.sandbox.cpu import CpuRules, cpu_shares
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from engine.sandbox.ready import provisioned
from tests.remains import until
from tests.sandboxes import Collected, event, real_pool, spec, write_code

pytestmark = pytest.mark.privileged

WAITS = """
    import os, time
    print("in the init phase", flush=True)
    while not os.path.exists("/tmp/go"):
        time.sleep(0.01)
    def handler(event, context):
        pass
"""
NONE = -1
FULL_US = 100_000
BOUGHT_US = 7_235  # by 128 MB of 1,769


class Quota(NamedTuple):
    """Microseconds in each period; NONE for no limit. A kernel without bursts has none to show."""

    quota_us: int
    period_us: int
    burst_us: int | None


def quota(pool: LinuxPool, sandbox: LinuxSandbox) -> Quota:
    """What the kernel holds the sandbox to."""
    leaf = Path(pool.cgroup_directories["cpu"]) / sandbox.id

    def number(name: str) -> int | None:
        path = leaf / name
        return int(path.read_text()) if path.exists() else None

    if (leaf / "cpu.max").exists():
        limit, period = (leaf / "cpu.max").read_text().split()
        return Quota(NONE if limit == "max" else int(limit), int(period), number("cpu.max.burst"))
    return Quota(
        int((leaf / "cpu.cfs_quota_us").read_text()),
        int((leaf / "cpu.cfs_period_us").read_text()),
        number("cpu.cfs_burst_us"),
    )


def weight(pool: LinuxPool, sandbox: LinuxSandbox) -> int:
    """Its weight against neighbours, in the unit of the cgroup version."""
    leaf = Path(pool.cgroup_directories["cpu"]) / sandbox.id
    return int(next(leaf / name for name in ("cpu.shares", "cpu.weight") if (leaf / name).exists()).read_text())


def limited(quota_us: int, like: Quota) -> Quota:
    """A quota with a burst of its own size, where this kernel has bursts."""
    return Quota(quota_us, 100_000, None if like.burst_us is None else quota_us)


async def in_each_phase(pool: LinuxPool, folder: Path, memory_mb: int, *, covers_init: bool = False) -> list[Quota]:
    """The quota in the init phase, and when the sandbox has served."""
    sandbox = await pool.start(spec(write_code(folder / "code", WAITS), memory_mb=memory_mb, init_timeout_ms=60_000))
    sink = Collected()
    first = event(timeout_ms=60_000, covers_init=covers_init)
    running = asyncio.ensure_future(sandbox.run(first, sink))
    await until(lambda: sink.written, within_s=30, what="the init phase")
    found = [quota(pool, sandbox)]
    Path(f"/proc/{sandbox.pid}/root/tmp/go").touch()
    assert (await running).outcome is Outcome.OK
    found.append(quota(pool, sandbox))
    await sandbox.close()
    return found


async def test_init_has_one_vcpu_and_the_handler_what_it_bought_with_a_burst_of_as_much(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        init, serving = await in_each_phase(pool, tmp_path, 128)
    assert init == limited(FULL_US, init)
    assert serving == limited(BOUGHT_US, serving)


async def test_a_tier_above_one_vcpu_has_its_own_share_in_the_init_phase_too(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        init, serving = await in_each_phase(pool, tmp_path, 3_538)
    assert init == serving == limited(2 * FULL_US, init)


async def test_without_init_cpu_the_init_phase_has_what_was_bought(tmp_path: Path) -> None:
    async with real_pool(tmp_path, cpu=CpuRules(init_cpu=False)) as pool:
        init, serving = await in_each_phase(pool, tmp_path, 128)
    assert init == serving == limited(BOUGHT_US, init)


async def test_an_init_phase_on_the_handlers_clock_has_what_the_handler_has(tmp_path: Path) -> None:
    """Else module code would have a whole vCPU for up to 15 minutes at the price of the smallest tier."""
    async with real_pool(tmp_path) as pool:
        init, serving = await in_each_phase(pool, tmp_path, 128, covers_init=True)
    assert init == serving == limited(BOUGHT_US, init)


async def test_an_init_phase_ahead_of_any_event_has_one_vcpu_for_as_long_as_one_on_demand_may_take(
    tmp_path: Path,
) -> None:
    async with real_pool(tmp_path) as pool:
        made = spec(write_code(tmp_path / "code", WAITS), memory_mb=128, init_timeout_ms=2_000)
        sandbox = await pool.start(provisioned(made, 60_000))
        sink = Collected()
        preparing = asyncio.ensure_future(sandbox.prepare(sink))
        init = quota(pool, sandbox)
        assert init == limited(FULL_US, init)
        await until(lambda: quota(pool, sandbox) == limited(BOUGHT_US, init), within_s=30, what="the quota it bought")
        await until(lambda: sink.written, within_s=30, what="the init phase")
        assert not preparing.done()
        Path(f"/proc/{sandbox.pid}/root/tmp/go").touch()
        assert (await preparing).outcome is Outcome.OK
        await sandbox.close()


@pytest.mark.parametrize("init_cpu", [True, False])
async def test_with_cpu_burst_there_is_no_quota_and_the_weight_is_the_tiers(tmp_path: Path, init_cpu: bool) -> None:
    async with real_pool(tmp_path, cpu=CpuRules(init_cpu=init_cpu, cpu_burst=True)) as pool:
        init, serving = await in_each_phase(pool, tmp_path, 128)
        assert (init.quota_us, serving.quota_us) == (NONE, NONE)
        small, large = [
            await pool.start(spec(write_code(tmp_path / "code", WAITS), memory_mb=memory_mb))
            for memory_mb in (128, 1_769)
        ]
        weights = weight(pool, small), weight(pool, large)
        assert weights[1] / weights[0] == pytest.approx(cpu_shares(1_769) / cpu_shares(128), rel=0.02)
        await asyncio.gather(small.close(), large.close())


async def test_the_weight_is_the_tiers_without_cpu_burst_too(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        small, large = [
            await pool.start(spec(write_code(tmp_path / "code", WAITS), memory_mb=memory_mb))
            for memory_mb in (128, 1_769)
        ]
        weights = weight(pool, small), weight(pool, large)
        assert weights[1] / weights[0] == pytest.approx(cpu_shares(1_769) / cpu_shares(128), rel=0.02)
        await asyncio.gather(small.close(), large.close())
