"""Sandboxes start, run and are taken away by an engine's threads while its event loop serves others of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from engine.errors import SandboxFault
from engine.model.outcome import Outcome
from engine.sandbox.counts import Resource
from engine.sandbox.demand import ParkSettings
from engine.sandbox.pool import LinuxPool
from tests.descriptors import left_open, opened
from tests.sandboxes import Collected, event, real_pool, spec, write_code

TOGETHER = 4


async def one_after_another(pool: LinuxPool, code: Path, count: int) -> None:
    """Sandboxes of one function. Each third is closed while its timeline is asked for, in a thread: what it is made of
    is read there and removed in another."""
    for number in range(count):
        sandbox = await pool.start(spec(code, memory_mb=128 << number % 2, tmp_mb=16))
        try:
            for _ in range(3):
                ending = await sandbox.run(event({"a": number}), Collected())
                assert (ending.outcome, ending.payload) == (Outcome.OK, b'{"a": %d}' % number)
            last = asyncio.ensure_future(sandbox.run(msgspec.structs.replace(event(), timeline=True), Collected()))
            if number % 3 == 0:
                await asyncio.sleep(0)
            else:
                assert (await last).outcome is Outcome.OK
        finally:
            await sandbox.close()
        with contextlib.suppress(SandboxFault):
            assert (await last).outcome in (Outcome.OK, Outcome.CANCELLED)


@pytest.mark.privileged
async def test_sandboxes_come_and_go_beside_calls_and_nothing_of_them_stays(
    tmp_path: Path, counts: Mapping[str, int]
) -> None:
    code = write_code(tmp_path / "code", "def handler(event, context):\n    return event\n")
    park = ParkSettings(floor=1, ceiling=2, rate_per_s=1_000)
    before = opened()
    async with real_pool(tmp_path / "pool", tmp_pool_size=2, leaf_pool_size=2, park=park) as pool:
        each = counts["threads"] // 50
        await asyncio.gather(*(one_after_another(pool, code, each) for _ in range(TOGETHER)))
        assert pool.counts.alive(Resource.SANDBOXES) == 0
    assert {made.kind: made.made - made.removed for made in pool.counts.resources() if made.made != made.removed} == {}
    assert left_open(before) == []
