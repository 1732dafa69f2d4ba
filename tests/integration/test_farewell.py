"""Real sandboxes that hear of their end: SIGTERM and exit handlers, for a bounded time, and nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.sandbox.counts import Happening
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.doors import zip_of
from tests.engines import engine
from tests.remains import until
from tests.sandboxes import real_pool, run, spec, write_code

pytestmark = pytest.mark.privileged

FOR_EVER_MS = 60_000
SIGTERM = """
    import signal, sys
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    def handler(event, context):
        return "served"
"""
AT_EXIT = """
    import atexit
    atexit.register(print, "at exit")
    def handler(event, context):
        return "served"
"""
NEITHER = """
    import logging
    def handler(event, context):
        return "served"
"""
STAYS = """
    import signal, time
    signal.signal(signal.SIGTERM, lambda number, frame: time.sleep(600))
    def handler(event, context):
        return "served"
"""


def farewells(pool: LinuxPool) -> tuple[int, int]:
    """Those that ended by themselves, and those that were killed."""
    counted: Mapping[str, Any] = {event.kind: event.count for event in pool.counts.events()}
    return counted[Happening.FAREWELL.value], counted[Happening.FAREWELL_LATE.value]


async def served(pool: LinuxPool, folder: Path, source: str) -> LinuxSandbox:
    sandbox = await pool.start(spec(write_code(folder / "code", source)))
    await run(sandbox)
    return sandbox


@pytest.mark.parametrize("source", [SIGTERM, AT_EXIT], ids=["SIGTERM", "atexit"])
async def test_a_function_that_registered_ends_by_itself_in_its_time(tmp_path: Path, source: str) -> None:
    async with real_pool(tmp_path) as pool:
        await (await served(pool, tmp_path, source)).close(FOR_EVER_MS)
        assert farewells(pool) == (1, 0)


async def test_one_that_registered_nothing_is_killed_where_it_idles(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        await (await served(pool, tmp_path, NEITHER)).close(FOR_EVER_MS)
        assert farewells(pool) == (0, 0)


async def test_one_that_does_not_end_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        await (await served(pool, tmp_path, STAYS)).close(50)
        assert farewells(pool) == (0, 1)


async def test_a_kill_ends_a_farewell_at_once(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        sandbox = await served(pool, tmp_path, STAYS)
        closing = asyncio.create_task(sandbox.close(FOR_EVER_MS))
        await asyncio.sleep(0)
        assert sandbox.dead
        sandbox.kill()
        await asyncio.wait_for(closing, 30)


async def test_without_a_grace_and_after_a_failure_of_the_process_nobody_is_told(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        await (await served(pool, tmp_path, SIGTERM)).close()
        source = SIGTERM.replace('return "served"', "sys.exit(3)")
        await (await served(pool, tmp_path / "exits", source)).close(FOR_EVER_MS)
        assert farewells(pool) == (0, 0)


async def test_an_update_a_delete_and_a_stop_tell_what_idles_and_an_event_for_its_room_does_not_wait(
    tmp_path: Path,
) -> None:
    async with engine(tmp_path / "data", max_sandboxes=2, max_concurrency=2, shutdown_grace_ms=2_000) as running:
        pool = running.service._pool
        assert pool is not None
        for name in ("updated", "deleted", "stopped"):
            await running.grpc.create(name, zip_of(SIGTERM))
        await running.grpc.invoke("updated")
        await running.grpc.update("updated", description="another")
        await until(lambda: farewells(pool) == (1, 0), what="a farewell after an update")
        await running.grpc.invoke("deleted")
        await running.grpc.delete("deleted")
        await until(lambda: farewells(pool) == (2, 0), what="a farewell after a delete")
        await running.grpc.create("stays", zip_of(STAYS))
        await running.grpc.invoke("stays")
        await running.grpc.delete("stays")
        for name in ("updated", "stopped"):
            assert (await running.grpc.invoke(name)).json() == "served"
    assert farewells(pool)[0] == 4
