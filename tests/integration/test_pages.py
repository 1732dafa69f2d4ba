"""What memory a start makes its own: one that was parked has that before it has a function, and little else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.model.outcome import Outcome, StartKind
from engine.sandbox.counts import Resource
from engine.sandbox.demand import ParkSettings
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from tests.remains import until
from tests.sandboxes import real_pool, run, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="no pagemap")]

HELLO = "def handler(event, context):\n    return event\n"
PAGE = 4_096
PRESENT, OF_A_FILE, NOBODY_ELSES = 1 << 63, 1 << 61, 1 << 56


def mappings(pid: int) -> Iterator[tuple[int, int, str, str]]:
    """Start, end, mode and name."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        place, mode, *rest = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in place.split("-"))
        yield start, end, mode, rest[3] if len(rest) > 3 else ""


def entries(pid: int, start: int, end: int) -> list[int]:
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(start // PAGE * 8)
        return list(struct.unpack(f"={(end - start) // PAGE}Q", pagemap.read((end - start) // PAGE * 8)))


def own(pid: int) -> set[int]:
    """The writable pages that no other process has."""
    return {
        start + which * PAGE
        for start, end, mode, _ in mappings(pid)
        if mode == "rw-p"
        for which, entry in enumerate(entries(pid, start, end))
        if entry & (PRESENT | OF_A_FILE | NOBODY_ELSES) == PRESENT | NOBODY_ELSES
    }


def guest_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def faults(pid: int) -> int:
    """How many times it had to have a page, so far: proc_pid_stat(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def parked_guest(pool: LinuxPool) -> int:
    """Of the one that waits."""
    folder = Path(pool.cgroup_directories["memory"])
    (leaf,) = [leaf for leaf in folder.iterdir() if leaf.is_dir() and (leaf / "cgroup.procs").read_text()]
    return guest_of(int((leaf / "cgroup.procs").read_text().split()[0]))


async def served(pool: LinuxPool, code: Path, *, forked: bool) -> tuple[LinuxSandbox, set[int]]:
    """One that has served an event, and its own pages."""
    sandbox = await pool.start(replace(spec(code), forked=forked))
    ending, seen = await run(sandbox)
    assert (ending.outcome, seen.kind) == (Outcome.OK, StartKind.FORK if forked else StartKind.PARKED)
    return sandbox, own(guest_of(sandbox.pid))


async def test_what_a_start_writes_a_parked_sandbox_has_before_it_has_a_function(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    async with real_pool(tmp_path / "pool", park=ParkSettings(floor=1, ceiling=1)) as pool:
        await until(lambda: pool.counts.alive(Resource.PARKED) == 1, what="one is parked")
        before = own(parked_guest(pool))
        parked, after = await served(pool, code, forked=False)
        forked, written = await served(pool, code, forked=True)
        assert len(written & before) > 0.8 * len(written)
        assert before <= after
        assert len(after) < 1.2 * len(written)
        await parked.close()
        await forked.close()
