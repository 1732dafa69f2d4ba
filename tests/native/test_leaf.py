"""Cgroup leaves: what is written is in force, what is removed is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import SandboxFault
from engine.sandbox import box

pytestmark = pytest.mark.privileged

MEMORY = 128 << 20
_WAIT = "print('in', flush=True); import sys; sys.stdin.read()"


@pytest.fixture
def host() -> Iterator[box.Host]:
    host = box.Host(f"cleave-test-{os.getpid()}")
    host.open()
    yield host
    host.sweep(True)


def knob(host: box.Host, leaf: box.Leaf, hierarchy: str, name: str) -> str:
    return (Path(host.directories[hierarchy]) / leaf.name / name).read_text().strip()


def join(host: box.Host, leaf: box.Leaf, program: str) -> subprocess.Popen[bytes]:
    """A process that enters the leaf and then runs `program`."""
    files = [str(Path(folder) / leaf.name / "cgroup.procs") for folder in host.directories.values() if folder]
    enter = f"import pathlib; [pathlib.Path(path).write_text('0') for path in {files!r}]\n"
    return subprocess.Popen([sys.executable, "-c", enter + program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def make(host: box.Host, name: str = "one", **limits: int) -> box.Leaf:
    wanted = {"memory_bytes": MEMORY, "cpu_quota_us": 7_235, "cpu_shares": 74, "pids": 20} | limits
    return host.leaf(name, **wanted)


def test_limits_are_in_force_once_a_leaf_is_there(host: box.Host) -> None:
    leaf = make(host)
    if host.kind == "v1":
        assert knob(host, leaf, "memory", "memory.limit_in_bytes") == str(MEMORY)
        assert knob(host, leaf, "memory", "memory.memsw.limit_in_bytes") == str(MEMORY), "swap is not off"
        assert knob(host, leaf, "cpu", "cpu.cfs_quota_us") == "7235"
        assert knob(host, leaf, "cpu", "cpu.cfs_period_us") == "100000"
        assert knob(host, leaf, "cpu", "cpu.shares") == "74"
    assert knob(host, leaf, "pids", "pids.max") == "20"
    leaf.remove()


def test_a_limit_the_kernel_does_not_take_as_written_is_refused(host: box.Host) -> None:
    with pytest.raises(SandboxFault, match="reads back") as caught:
        make(host, memory_bytes=MEMORY + 1)  # the kernel rounds to pages
    assert caught.value.stage == "cgroup memory"
    assert not any((Path(folder) / "one").exists() for folder in host.directories.values()), "half a leaf was left"


def test_a_name_that_is_taken_is_refused_and_the_other_leaf_is_left_alone(host: box.Host) -> None:
    leaf = make(host)
    with pytest.raises(SandboxFault, match="File exists"):
        make(host)
    leaf.remove()


def test_a_process_over_its_memory_is_killed_and_counted(host: box.Host) -> None:
    leaf = make(host, cpu_quota_us=0)
    with join(host, leaf, "x = [bytearray(1 << 20) for _ in range(200)]") as process:
        assert process.wait(30) == -9
    assert leaf.oom_kills() == 1
    assert leaf.usage()[0] == MEMORY
    leaf.remove()


def test_cpu_time_is_counted_and_the_quota_holds_it_down(host: box.Host) -> None:
    leaf = make(host, cpu_quota_us=20_000)
    spin = "import os, time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nos._exit(0)"
    with join(host, leaf, spin) as process:
        assert process.wait(30) == 0
    cpu_us = leaf.usage()[1]
    # A fifth of a second in one second, and what the burst adds.
    assert 100_000 < cpu_us < 420_000
    leaf.remove()


def test_lifting_the_quota_is_read_back_too(host: box.Host) -> None:
    leaf = make(host)
    leaf.set_cpu(0)
    if host.kind == "v1":
        assert knob(host, leaf, "cpu", "cpu.cfs_quota_us") == "-1"
    leaf.set_cpu(50_000)
    if host.kind == "v1":
        assert knob(host, leaf, "cpu", "cpu.cfs_quota_us") == "50000"
    leaf.remove()


def test_removing_a_leaf_twice_is_fine_and_one_in_use_is_an_error(host: box.Host) -> None:
    leaf = make(host)
    with join(host, leaf, _WAIT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        with pytest.raises(SandboxFault, match="cannot remove"):
            leaf.remove()
        process.communicate()
    leaf.remove()
    leaf.remove()


def test_a_sweep_kills_what_a_dead_engine_left_and_leaves_others_alone(host: box.Host) -> None:
    other = box.Host(f"cleave-other-{os.getpid()}")
    other.open()
    try:
        theirs = make(other)
        left = make(host, cpu_quota_us=1_000)
        spin = "import os\nos.fork() and print('in', flush=True)\nwhile True: pass"
        with join(host, left, spin) as process, join(other, theirs, _WAIT) as bystander:
            for started in (process, bystander):
                assert started.stdout is not None
                assert started.stdout.readline() == b"in\n"
            assert host.sweep() == 1
            assert process.wait(30) == -9
            assert bystander.poll() is None
            bystander.communicate()
        assert host.sweep() == 0
    finally:
        other.sweep(True)
    assert not any(Path(folder).exists() for folder in other.directories.values() if folder)
