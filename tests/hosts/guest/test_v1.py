"""Limits on pure cgroup v1, as systemd's legacy mode lays it out: a directory for each controller, cpu and cpuacct
together, and no v2 tree in which a sandbox could be born or killed as a whole.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.model.outcome import Outcome
from engine.sandbox import box
from tests.hosts.guest.cgroups import Make
from tests.sandboxes import real_pool, run, run_once, spec, write_code

TREE = Path("/sys/fs/cgroup")
V1 = ("memory", "cpu", "cpuacct", "pids")


def knobs(host: box.Host, leaf: box.Leaf, names: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {
        name: (Path(host.directories[hierarchy]) / leaf.name / name).read_text().strip()
        for hierarchy, files in names.items()
        for name in files
    }


def test_there_is_no_v2_tree_and_each_controller_has_a_directory_of_the_engines(host: box.Host) -> None:
    assert "cgroup2" not in {line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    assert host.kind == "v1"
    assert host.directories["unified"] == ""
    parents = {name: Path(host.directories[name]).parent for name in V1}
    together = TREE / "cpu,cpuacct"
    assert parents == {"memory": TREE / "memory", "cpu": together, "cpuacct": together, "pids": TREE / "pids"}
    assert all(Path(host.directories[name]).is_dir() for name in V1)


def test_every_limit_is_there_in_the_words_of_v1(host: box.Host, leaf: Make) -> None:
    one = leaf()
    assert knobs(
        host,
        one,
        {
            "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness"),
            "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.shares"),
            "pids": ("pids.max",),
        },
    ) == {
        "memory.limit_in_bytes": str(128 << 20),
        "memory.memsw.limit_in_bytes": str(128 << 20),
        "memory.swappiness": "0",
        "cpu.cfs_quota_us": "7235",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_burst_us": "7235",
        "cpu.shares": "74",
        "pids.max": "20",
    }
    one.remove()


def test_the_quota_is_lifted_and_set_again_with_its_burst(host: box.Host, leaf: Make) -> None:
    one = leaf()
    for quota_us, told in ((0, "-1"), (50_000, "50000"), (578_858, "578858"), (1_000, "1000")):
        one.set_cpu(quota_us)
        assert knobs(host, one, {"cpu": ("cpu.cfs_quota_us", "cpu.cfs_burst_us")}) == {
            "cpu.cfs_quota_us": told,
            "cpu.cfs_burst_us": str(quota_us),
        }
    one.remove()


def test_nothing_kills_a_leaf_as_a_whole(leaf: Make) -> None:
    one = leaf()
    assert not one.kill()
    one.remove()


async def test_a_sandbox_is_in_each_of_its_leaves_and_its_zygote_in_none(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", "def handler(event, context): pass\n")))
        ending, _ = await run(sandbox)
        assert ending.reusable
        leaves = {Path(folder) / sandbox.id for folder in pool.cgroup_directories.values() if folder}
        assert len(leaves) == 3
        (zygote,) = pool.zygote_pids.values()
        for leaf in leaves:
            members = [int(pid) for pid in (leaf / "cgroup.procs").read_text().split()]
            assert len(members) == 2
            assert sandbox.pid in members
            assert zygote not in members
        await sandbox.close()
        assert not [leaf for leaf in leaves if leaf.exists()]


async def test_memory_over_the_tier_is_told_from_every_other_death(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        # While it is imported, with a whole CPU; tests/integration has the same at the tier's own share.
        bomb = "x = [bytearray(1 << 20) for _ in range(300)]\n"
        ending, _ = await run_once(pool, tmp_path, bomb, memory_mb=256)
        assert (ending.outcome, ending.exit_status) == (Outcome.OUT_OF_MEMORY, "signal: killed")
        assert 250 << 20 < ending.peak_memory_bytes <= 256 << 20


async def test_a_sandbox_that_is_out_of_cpu_dies_with_all_it_started_at_its_timeout(tmp_path: Path) -> None:
    """Nothing kills a leaf as a whole here: the kernel kills the namespace, once the quota is lifted."""
    body = """
        import os
        def handler(event, context):
            for _ in range(4):
                os.fork()
            while True: pass
    """
    async with real_pool(tmp_path) as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", body), memory_mb=128))
        members = Path(pool.cgroup_directories["pids"]) / sandbox.id / "cgroup.procs"
        ending, _ = await run(sandbox, timeout_ms=1_000)
        assert ending.outcome is Outcome.TIMEOUT
        assert members.read_text() == ""
        await sandbox.close()
        assert not members.parent.exists()


def test_one_hierarchy_that_is_not_mounted_is_named_and_nothing_is_made() -> None:
    program = """
from engine.errors import SandboxFault
from engine.sandbox import box
host = box.Host("cleave-partly")
try:
    host.open()
except SandboxFault as fault:
    print(host.kind, "-", fault.message)
"""
    hide = 'umount /sys/fs/cgroup/pids && exec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", hide, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.stdout, done.stderr) == ("none - cgroup probe: no cgroups for pids are mounted\n", "")
    assert not list(TREE.glob("*/cleave-partly"))
