"""Limits on cgroup v2, in its own words, and on its older kernels: what is written is in force."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from engine.model.outcome import Outcome
from engine.sandbox import box
from engine.sandbox.cpu import CpuRules
from tests.hosts.guest.cgroups import Make, of_process
from tests.integration.test_cpu_rules import NONE, in_each_phase
from tests.sandboxes import real_pool, run, run_once, spec, write_code

ABSENT = Path(__file__).with_name("absent.so")


def knobs(host: box.Host, leaf: box.Leaf, *names: str) -> dict[str, str]:
    folder = Path(host.directories["memory"]) / leaf.name
    return {name: (folder / name).read_text().strip() for name in names}


def join(host: box.Host, leaf: box.Leaf, program: str) -> subprocess.Popen[bytes]:
    procs = Path(host.directories["memory"]) / leaf.name / "cgroup.procs"
    enter = f"import pathlib; pathlib.Path({str(procs)!r}).write_text('0')\n"
    return subprocess.Popen(
        [sys.executable, "-c", enter + textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_the_kernel_has_v2_alone_with_every_controller() -> None:
    kinds = {line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    assert kinds & {"cgroup", "cgroup2"} == {"cgroup2"}
    assert {"memory", "cpu", "pids"} <= set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())


def test_every_limit_is_there_in_the_words_of_v2(host: box.Host, leaf: Make) -> None:
    one = leaf()
    assert host.kind == "v2"
    assert knobs(host, one, "memory.max", "memory.swap.max", "cpu.max", "cpu.max.burst", "cpu.weight", "pids.max") == {
        "memory.max": str(128 << 20),
        "memory.swap.max": "0",
        "cpu.max": "7235 100000",
        "cpu.max.burst": "7235",
        "cpu.weight": "72",
        "pids.max": "20",
    }
    one.remove()


def test_the_quota_is_lifted_and_set_again_with_its_burst(host: box.Host, leaf: Make) -> None:
    one = leaf()
    for quota_us, told in (
        (0, "max 100000"),
        (50_000, "50000 100000"),
        (578_858, "578858 100000"),
        (1_000, "1000 100000"),
    ):
        one.set_cpu(quota_us)
        assert knobs(host, one, "cpu.max", "cpu.max.burst") == {"cpu.max": told, "cpu.max.burst": str(quota_us)}
    one.remove()


@pytest.mark.parametrize(
    ("rules", "covers_init", "in_init", "serving"),
    [
        (CpuRules(), False, (100_000, 100_000, 100_000), (7_235, 100_000, 7_235)),
        (CpuRules(), True, (7_235, 100_000, 7_235), (7_235, 100_000, 7_235)),
        (CpuRules(init_cpu=False), False, (7_235, 100_000, 7_235), (7_235, 100_000, 7_235)),
        (CpuRules(cpu_burst=True), False, (NONE, 100_000, 0), (NONE, 100_000, 0)),
    ],
)
async def test_each_phase_has_the_quota_that_the_operator_decided(
    tmp_path: Path, rules: CpuRules, covers_init: bool, in_init: tuple[int, ...], serving: tuple[int, ...]
) -> None:
    async with real_pool(tmp_path, cpu=rules) as pool:
        assert await in_each_phase(pool, tmp_path, 128, covers_init=covers_init) == [in_init, serving]


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, "2"), (74, "72"), (1_024, "1000"), (5_927, "5788"), (262_144, "10000")]
)
def test_weights_keep_the_proportions_of_the_tiers(host: box.Host, leaf: Make, shares: int, weight: str) -> None:
    one = leaf(cpu_shares=shares)
    assert knobs(host, one, "cpu.weight") == {"cpu.weight": weight}
    one.remove()


def test_two_on_one_cpu_share_it_by_their_weights(host: box.Host, leaf: Make) -> None:
    """While both spin, however much of this machine its own host lets it have."""
    small, large = leaf("small", cpu_shares=256, cpu_quota_us=0), leaf("large", cpu_shares=1_024, cpu_quota_us=0)
    spin = """
        import os
        os.sched_setaffinity(0, {0})
        print("in", flush=True)
        while True: pass
    """
    with join(host, small, spin) as one, join(host, large, spin) as other:
        try:
            for process in (one, other):
                assert process.stdout is not None
                assert process.stdout.readline() == b"in\n"
            before = used = small.usage()[1], large.usage()[1]
            while sum(used) - sum(before) < 3_000_000:
                time.sleep(0.05)
                used = small.usage()[1], large.usage()[1]
        finally:
            one.kill()
            other.kill()
    assert 3 < (used[1] - before[1]) / (used[0] - before[0]) < 5.5
    small.remove()
    large.remove()


def test_a_file_larger_than_the_tier_is_written_to_tmp_without_a_kill(
    host: box.Host, leaf: Make, tmp_path: Path
) -> None:
    one = leaf(memory_bytes=64 << 20, cpu_quota_us=0)
    program = f"""
        block = bytes(1 << 20)
        with open({str(tmp_path / "large")!r}, "wb", buffering=0) as file:
            for _ in range(128): file.write(block)
    """
    with join(host, one, program) as process:
        assert process.wait() == 0
    assert one.oom_kills() == 0
    assert one.usage()[0] <= 64 << 20
    assert one.reclaimable() > 16 << 20
    one.remove()
    (tmp_path / "large").unlink()


async def test_a_sandbox_is_born_in_its_leaf_and_its_zygote_is_not_in_it(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", "def handler(event, context): pass\n")))
        leaf = Path(pool.cgroup_directories["memory"]) / sandbox.id
        (zygote,) = pool.zygote_pids.values()
        assert of_process(sandbox.pid) == leaf
        assert of_process(zygote) == of_process()
        ending, _ = await run(sandbox)
        assert ending.reusable
        # Process 1 and the guest, both from birth: nothing has to be moved.
        assert len((leaf / "cgroup.procs").read_text().split()) == 2
        await sandbox.close()
        assert not leaf.exists()


async def test_memory_over_the_tier_is_told_from_every_other_death(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        # While it is imported, with a whole CPU; tests/integration has the same at the tier's own share.
        bomb = "x = [bytearray(1 << 20) for _ in range(300)]\n"
        ending, _ = await run_once(pool, tmp_path, bomb, memory_mb=256)
        assert (ending.outcome, ending.exit_status) == (Outcome.OUT_OF_MEMORY, "signal: killed")
        assert 250 << 20 < ending.peak_memory_bytes <= 256 << 20


def test_a_leaf_is_removed_right_after_its_last_process(host: box.Host, leaf: Make) -> None:
    for turn in range(5):
        one = leaf(f"turn-{turn}", cpu_quota_us=0)
        with join(host, one, "import os, sys\nos.fork()\nprint('in', flush=True)\nsys.stdin.read()") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"in\n"
            (Path(host.directories["memory"]) / one.name / "cgroup.kill").write_text("1")
            process.wait()
            one.remove()


# What older kernels lack: memory.peak before 5.19, cpu.max.burst and cgroup.kill before 5.14; and memory.swap.max where
# swap is not accounted.


def on_an_older_kernel(absent: str, program: str) -> str:
    """What a program prints that makes a leaf where some files are absent."""
    setup = """
        import os, pathlib, subprocess, sys, time
        from engine.sandbox import box
        host = box.Host(f"cleave-older-{os.getpid()}")
        host.open()
        def make(**limits):
            wanted = {"memory_bytes": 64 << 20, "cpu_quota_us": 0, "cpu_shares": 1024, "pids": 20} | limits
            leaf = host.leaf("one", **wanted)
            assert not any(can_open(folder / name) for name in os.environ["CLEAVE_TEST_ABSENT"].split(":"))
            return leaf
        folder = pathlib.Path(host.directories["memory"]) / "one"
        def can_open(path):
            try:
                return bool(open(path))
            except FileNotFoundError:
                return False
        def join(program):
            enter = f"import pathlib; pathlib.Path({str(folder / 'cgroup.procs')!r}).write_text('0')\\n"
            return subprocess.Popen([sys.executable, "-c", enter + program], stdout=subprocess.PIPE)
    """
    source = textwrap.dedent(setup) + textwrap.dedent(program) + "\nhost.sweep(True)\n"
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "LD_PRELOAD": str(ABSENT), "CLEAVE_TEST_ABSENT": absent},
        cwd="/cleave",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_kept_peak_the_memory_in_use_is_reported() -> None:
    program = """
        leaf = make()
        child = join("x = bytearray(20 << 20); print('in', flush=True); import time; time.sleep(600)")
        child.stdout.readline()
        in_use = leaf.usage()[0]
        child.kill()
        child.wait()
        print(20 << 20 < in_use < 40 << 20, leaf.usage()[0] < in_use)
    """
    assert on_an_older_kernel("memory.peak", program) == "True True"


def test_without_a_kept_peak_one_that_was_at_its_limit_has_peaked_there() -> None:
    program = """
        leaf = make()
        print(join("x = [bytearray(1 << 20) for _ in range(200)]").wait(), leaf.oom_kills(), leaf.usage()[0] >> 20)
    """
    assert on_an_older_kernel("memory.peak", program) == "-9 1 64"


def test_without_a_burst_the_quota_holds_all_the_same() -> None:
    program = "leaf = make(cpu_quota_us=7_235)\nprint((folder / 'cpu.max').read_text().strip())"
    assert on_an_older_kernel("cpu.max.burst", program) == "7235 100000"


def test_without_swap_accounting_a_leaf_is_made() -> None:
    assert on_an_older_kernel("memory.swap.max", "make()\nprint((folder / 'memory.max').read_text().strip())") == str(
        64 << 20
    )


def test_without_cgroup_kill_a_sweep_kills_one_by_one() -> None:
    program = """
        make()
        child = join("import os; os.fork(); os.fork(); print('in', flush=True); import time; time.sleep(600)")
        child.stdout.readline()
        print(host.sweep(), child.wait())
    """
    assert on_an_older_kernel("cgroup.kill", program) == "1 -9"


def test_without_its_own_limit_file_a_leaf_is_refused() -> None:
    program = """
        try:
            make()
        except Exception as error:
            print(error.stage, error.errno, folder.exists())
    """
    assert on_an_older_kernel("pids.max", program) == "cgroup pids 2 False"
