"""The share of CPU that a tier buys is what it gets: no more alone, no less beside neighbours.

CPU time is the cgroup's; the machine is the sandboxes' own for the time of a test, by their weight against the rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from engine.model.outcome import Outcome
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.conftest import full_counts
from tests.sandboxes import real_pool, run, spec, write_code
from tests.security.probes import handler

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

PER_VCPU_MB = 1_769


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    """Of forks alone, and the module's own: a burner has its CPU and the machine for itself."""
    async with real_pool(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


SECONDS = 3.0 if full_counts() else 2.0
SETTLED = 2.5 if full_counts() else 2.0
SHARE_TOLERANCE = 0.05
LOADED_TOLERANCE = 0.25

BURN = """
    until = time.monotonic() + event
    for _ in range(os.cpu_count() + 2):
        if os.fork() == 0:
            break
    while time.monotonic() < until:
        pass
    if os.getpid() != 2:
        os._exit(0)
"""


def used_s(pool: LinuxPool, sandbox: LinuxSandbox) -> float:
    """CPU time of all its processes so far."""
    folder = Path(pool.cgroup_directories["cpuacct"]) / sandbox.id
    if (folder / "cpuacct.usage").exists():
        return int((folder / "cpuacct.usage").read_text()) / 1e9
    return int((folder / "cpu.stat").read_text().split()[1]) / 1e6


def weigh(pool: LinuxPool) -> None:
    """Let nothing else on the host come before the sandboxes."""
    folder = Path(pool.cgroup_directories["cpu"])
    if (folder / "cpu.shares").exists():
        (folder / "cpu.shares").write_text("262144")
    else:
        (folder / "cpu.weight").write_text("10000")


def periods(pool: LinuxPool, sandbox: LinuxSandbox) -> int:
    """Periods of its quota so far."""
    text = (Path(pool.cgroup_directories["cpu"]) / sandbox.id / "cpu.stat").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("nr_periods")).split()[1])


async def at_a_period(pool: LinuxPool, sandbox: LinuxSandbox) -> tuple[float, float]:
    """The time and its CPU time, as a period begins: from anywhere else 3 s have one period more or less in them."""
    seen = periods(pool, sandbox)
    while periods(pool, sandbox) == seen:
        await asyncio.sleep(0.001)
    return time.monotonic(), used_s(pool, sandbox)


async def shares(pool: LinuxPool, folder: Path, tiers: Sequence[int]) -> list[float]:
    """What each of so many burners had, as a part of what its tier buys."""
    weigh(pool)
    code = write_code(folder / "code", handler(BURN))
    sandboxes = [await pool.start(spec(code, memory_mb=tier)) for tier in tiers]
    runs = [asyncio.ensure_future(run(one, SETTLED + SECONDS + 0.7, timeout_ms=30_000)) for one in sandboxes]
    # Past the init phase, and past the burst of each: what it had no turn to use at first it has later.
    await asyncio.sleep(SETTLED)
    began = await asyncio.gather(*(at_a_period(pool, one) for one in sandboxes))
    await asyncio.sleep(SECONDS - 0.05)
    ended = await asyncio.gather(*(at_a_period(pool, one) for one in sandboxes))
    for ending, _ in await asyncio.gather(*runs):
        assert ending.outcome is Outcome.OK
    await asyncio.gather(*(one.close() for one in sandboxes))
    return [
        (after - before) / (later - earlier) / (tier / PER_VCPU_MB)
        for tier, (earlier, before), (later, after) in zip(tiers, began, ended, strict=True)
    ]


def full_machine() -> list[int]:
    """Tiers that together buy nine tenths of the machine: the rest is for the engine and this test."""
    room = int(0.9 * len(os.sched_getaffinity(0)) * PER_VCPU_MB)
    tiers: list[int] = []
    for tier in (PER_VCPU_MB, 885, 512, 885, 256, PER_VCPU_MB, 128, 512, 885, 128):
        if sum(tiers) + tier <= room:
            tiers.append(tier)
    return tiers


async def hold(pool: LinuxPool, folder: Path, tiers: Sequence[int], tries: int) -> None:
    """A machine that others use too is given another chance. What they take of it is no fault of the engine's: with
    reduced counts a sandbox may have less than it bought, by more than the tolerance, and never more."""
    least = 1 - (SHARE_TOLERANCE if full_counts() else LOADED_TOLERANCE)
    for number in range(tries):
        found = await shares(pool, folder / str(number), tiers)
        if all(least <= share <= 1 + SHARE_TOLERANCE for share in found):
            return
    shown = ", ".join(f"{tier} MB: {share:.3f}" for tier, share in zip(tiers, found, strict=True))
    pytest.fail(f"shares of what was bought: {shown}")


@pytest.mark.time_limit(120)
@pytest.mark.parametrize("tier", [128, PER_VCPU_MB] if full_counts() else [PER_VCPU_MB])
async def test_alone_it_has_what_it_bought(pool: LinuxPool, tmp_path: Path, tier: int) -> None:
    await hold(pool, tmp_path, [tier], tries=3)


@pytest.mark.time_limit(180)
async def test_beside_neighbours_on_a_full_machine_each_has_what_it_bought(pool: LinuxPool, tmp_path: Path) -> None:
    await hold(pool, tmp_path, full_machine(), tries=3)


async def test_neither_it_nor_its_process_1_is_bound_to_one_cpu(pool: LinuxPool, tmp_path: Path) -> None:
    sandbox = await pool.start(spec(write_code(tmp_path, handler("return sorted(os.sched_getaffinity(0))"))))
    try:
        ending, _ = await run(sandbox)
        assert json.loads(ending.payload) == sorted(os.sched_getaffinity(0))
        assert os.sched_getaffinity(sandbox.pid) == os.sched_getaffinity(0)
    finally:
        await sandbox.close()


@pytest.mark.time_limit(300)
async def test_every_tier_alone(pool: LinuxPool, tmp_path: Path, counts: Mapping[str, int]) -> None:
    if counts["examples"] > 50:
        for tier in (192, 256, 512, 885, 1_024, 3_538):
            if tier <= 0.9 * len(os.sched_getaffinity(0)) * PER_VCPU_MB:
                await hold(pool, tmp_path / str(tier), [tier], tries=3)


async def test_the_init_phase_has_a_whole_vcpu_and_the_handler_what_it_bought(pool: LinuxPool, tmp_path: Path) -> None:
    """0.3 s of CPU: at 256 MB that takes the handler over 2 s, less what a burst and the init phase left it."""
    source = """
        import time
        def burn(seconds):
            until = time.process_time() + seconds
            while time.process_time() < until:
                pass
        burn(0.3)
        def handler(event, context):
            burn(0.3)
    """
    weigh(pool)
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source), memory_mb=256))
    ending, _ = await run(sandbox, timeout_ms=30_000)
    held_down = throttled(pool, sandbox)
    await sandbox.close()
    assert ending.outcome is Outcome.OK
    assert ending.handler_us / 1e6 > 1
    assert ending.init_us / 1e6 > 0.1  # the guest may be ahead of the engine's clock
    # 0.3 s are 21 periods of what 256 MB buy. An init phase held to that would have as many again.
    assert 10 <= held_down <= 30


def throttled(pool: LinuxPool, sandbox: LinuxSandbox) -> int:
    """Periods in which it had used up what it bought."""
    text = (Path(pool.cgroup_directories["cpu"]) / sandbox.id / "cpu.stat").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("nr_throttled")).split()[1])
