"""The tier is what can be used, to 2 MB: what fits lives, what does not dies, however it is asked for.

What the kernel keeps for a process counts too: an interpreter's own pages (under 2 MB), and 8 bytes of page table for
each 4 KB.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.model.outcome import Outcome
from engine.sandbox.pool import LinuxPool
from tests.conftest import full_counts
from tests.sandboxes import ALL_CPU, real_pool, run_once
from tests.security.probes import ending_of

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    """Of forks alone: what a parked sandbox's rehearsal takes of the tier is beside the point here."""
    async with real_pool(tmp_path_factory.mktemp("pool"), cpu=ALL_CPU) as pool:
        yield pool


MB = 1 << 20
USE = """
    import mmap  # and nothing more: modules are memory too
    def handler(event, context):
        kept = mmap.mmap(-1, event, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        kept.madvise(15)  # no huge pages: every page is asked for
        for at in range(0, event, 4096):
            kept[at] = 1
"""
TIERS = [128, 512, 1_769, 3_008] if full_counts() else [512]


def most(tier_mb: int) -> int:
    """What may be used of a tier, in bytes: all of it but for 2 MB, page tables counted as use."""
    return int((tier_mb - 2) * MB * 512 / 513) & -4096


@pytest.mark.parametrize("tier_mb", TIERS)
async def test_all_of_the_tier_can_be_used(pool: LinuxPool, tmp_path: Path, tier_mb: int) -> None:
    ending, _ = await run_once(pool, tmp_path, USE, most(tier_mb), memory_mb=tier_mb, timeout_ms=50_000)
    assert ending.outcome is Outcome.OK
    assert tier_mb - 2 <= ending.peak_memory_bytes / MB <= tier_mb


@pytest.mark.parametrize("tier_mb", TIERS)
async def test_no_more_than_the_tier_can_be_used(pool: LinuxPool, tmp_path: Path, tier_mb: int) -> None:
    ending, _ = await run_once(pool, tmp_path, USE, most(tier_mb) + 2 * MB, memory_mb=tier_mb, timeout_ms=50_000)
    assert ending.outcome is Outcome.OUT_OF_MEMORY
    assert tier_mb - 0.1 <= ending.peak_memory_bytes / MB <= tier_mb


@pytest.mark.parametrize("tier_mb", TIERS[:2])
async def test_one_large_allocation_fails_like_many_small_ones(pool: LinuxPool, tmp_path: Path, tier_mb: int) -> None:
    ways = {
        "steps": "kept = [b'x' * 65_536 for _ in range(event // 65_536)]",
        "at once": "kept = b'x' * event",
        "at once, by the kernel": "kept = mmap.mmap(-1, event, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)",
    }
    endings = []
    for name, body in ways.items():
        ending, _ = await ending_of(
            pool, tmp_path / name.replace(" ", ""), body, (tier_mb + 8) * MB, memory_mb=tier_mb, timeout_ms=50_000
        )
        endings.append((ending.outcome, ending.exit_status, ending.reusable))
        assert tier_mb - 1 <= ending.peak_memory_bytes / MB <= tier_mb
    assert endings == [(Outcome.OUT_OF_MEMORY, "signal: killed", False)] * 3


async def test_address_space_that_is_not_used_costs_nothing(pool: LinuxPool, tmp_path: Path) -> None:
    """What compilers and garbage collectors reserve: 64 GB in a tier of 128 MB."""
    body = "kept = mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)"
    ending, _ = await ending_of(pool, tmp_path, body, memory_mb=128)
    assert ending.outcome is Outcome.OK
    assert ending.peak_memory_bytes < 16 * MB


async def test_files_in_tmp_are_neither_memory_nor_peak(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        with open("/tmp/large", "wb") as file:
            for _ in range(136):
                file.write(bytes(1 << 20))
        with open("/tmp/large", "rb") as file:
            while file.read(1 << 20):
                pass
    """
    ending, _ = await ending_of(pool, tmp_path, body, memory_mb=128, timeout_ms=50_000)
    assert ending.outcome is Outcome.OK
    assert ending.tmp_written_bytes >= 136 * MB
    assert ending.peak_memory_bytes < 32 * MB
