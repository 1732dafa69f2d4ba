"""What a start touches, counted: page faults decide what it costs, and having its pages ahead keeps them few."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.model.outcome import Outcome, StartKind
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.integration.test_parked import parking
from tests.sandboxes import real_pool, run, spec, write_code

pytestmark = pytest.mark.privileged

PARKED_MOST = 110
"""Of a trivial function, from its assignment until its handler has looked, for which it opens a file: some 75. Without
the pages that it has ahead some 210."""
FORK_MOST = 900
"""The same from the clone on: some 350."""
FAULTS = """
    def handler(event, context):
        with open("/proc/self/stat") as file:
            return int(file.read().rpartition(")")[2].split()[7])
"""


async def faults(sandbox: LinuxSandbox, kind: StartKind) -> int:
    """How many its guest had when its handler was called."""
    ending, seen = await run(sandbox)
    assert (ending.outcome, seen.kind) == (Outcome.OK, kind), ending
    found: int = json.loads(ending.payload)
    return found


def faults_so_far(pool: LinuxPool, sandbox: LinuxSandbox) -> int:
    """How many the guest of a sandbox that has not run yet had."""
    leaf = Path(pool.cgroup_directories["memory"]) / sandbox.id / "cgroup.procs"
    guest = max(int(pid) for pid in leaf.read_text().split())  # process 1 came before it
    return int(Path(f"/proc/{guest}/stat").read_text().rpartition(")")[2].split()[7])


async def test_a_parked_start_copies_few_pages(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", FAULTS)
    async with parking(tmp_path / "pool") as pool:
        sandbox = await pool.start(spec(code))
        before = faults_so_far(pool, sandbox)
        assert await faults(sandbox, StartKind.PARKED) - before <= PARKED_MOST
        await sandbox.close()


async def test_a_fork_copies_no_more_pages_than_it_must(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", FAULTS)
    async with real_pool(tmp_path / "pool") as pool:
        sandbox = await pool.start(spec(code))
        assert await faults(sandbox, StartKind.FORK) <= FORK_MOST
        await sandbox.close()
