"""Where no cgroups are mounted nothing could hold a limit: nothing starts, and what is missing is named and its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import HostUnfit, SandboxFault
from engine.sandbox import box
from engine.sandbox.probe import probe_host
from tests.engines import end, spawn
from tests.sandboxes import interpreters, real_pool

LIMITS = ("memory", "cpu", "pids")
FIX = "mount cgroup2 on /sys/fs/cgroup"


def test_no_cgroup_is_mounted() -> None:
    kinds = {line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    assert not kinds & {"cgroup", "cgroup2"}
    assert box.Host("cleave-none").kind == "none"


async def test_a_pool_does_not_open_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(HostUnfit) as caught:
        async with real_pool(tmp_path):
            pass
    assert all(limit in caught.value.message for limit in LIMITS), caught.value.message
    assert FIX in caught.value.fix


def test_the_box_itself_makes_neither_a_directory_nor_a_leaf() -> None:
    host = box.Host("cleave-none")
    with pytest.raises(SandboxFault, match="no cgroups for memory, cpu, cpuacct, pids are mounted"):
        host.open()
    with pytest.raises(SandboxFault):
        host.leaf("one", memory_bytes=64 << 20, cpu_quota_us=0, cpu_shares=1_024, pids=20)
    assert host.sweep(True) == 0
    assert not list(Path("/sys/fs/cgroup").iterdir())


async def test_an_engine_does_not_start_and_says_what_to_do(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    refused = spawn(data_dir)
    try:
        status = await refused.ended(300)
    finally:
        end(refused)
    said = " ".join(refused.said().split())
    assert status == 1, said
    assert "cannot serve" in said
    assert all(limit in said for limit in LIMITS), said
    assert FIX in said
    assert not (data_dir / "ports.json").exists()


def test_doctor_shows_each_limit_as_not_enforced_with_the_fix(tmp_path: Path) -> None:
    checks = {check.limit: check for check in probe_host(interpreters(tmp_path), tmp_path)}
    for limit in LIMITS:
        assert not checks[limit].enforced
        assert FIX in checks[limit].fix
