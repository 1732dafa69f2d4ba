"""No descriptor is free, at any step of a start, a run or an end: it fails by name or goes on, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import EngineError, SandboxFault
from engine.model.outcome import Outcome
from engine.sandbox.counts import Resource
from engine.sandbox.pool import LinuxPool
from tests.descriptors import left_open, opened
from tests.sandboxes import ALL_CPU, Collected, event, real_pool, run, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(240)]

MOST = 40
"""More than one sandbox needs at any moment."""
HELLO = "def handler(event, context):\n    print('hello')\n    return 1\n"
OUT_OF_MEMORY = "def handler(event, context):\n    bytearray(600 << 20)\n    bytes(600 << 20)\n"


@contextlib.contextmanager
def only(free: int) -> Iterator[None]:
    """So many descriptors are free for this process, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    taken = []
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                break
        for _ in range(free):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def assert_nothing_left(pool: LinuxPool, before: Counter[str], free: int) -> None:
    for kind in (Resource.SANDBOXES, Resource.LEAVES, Resource.NETWORKS, Resource.TMP_MOUNTS):
        assert pool.counts.alive(kind) == 0, (free, kind)
    assert left_open(before) == [], free
    leaves = [entry for entry in Path(pool.cgroup_directories["memory"]).iterdir() if entry.is_dir()]
    assert leaves == [], free
    children = {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}
    assert children == {str(pid) for pid in pool.zygote_pids.values()}, free


async def test_a_start_with_too_few_descriptors_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", HELLO)
    async with real_pool(tmp_path) as pool:
        first = await pool.start(spec(code))
        assert (await run(first))[0].outcome is Outcome.OK
        await first.close()
        before = opened()
        outcomes = []
        for free in range(MOST):
            with only(free):
                try:
                    sandbox = await pool.start(spec(code))
                except SandboxFault as fault:
                    outcomes.append(fault.stage)
                else:
                    outcomes.append("")
                    ending, _ = await run(sandbox)
                    assert ending.outcome is Outcome.OK, free
                    await sandbox.close()
            assert_nothing_left(pool, before, free)
        assert outcomes[-1] == "", "never were there enough"
        assert len(set(outcomes)) > 4, f"the same step failed each time: {outcomes}"


@pytest.mark.parametrize("source", [HELLO, OUT_OF_MEMORY, "import os\ndef handler(event, context):\n    os._exit(3)\n"])
async def test_a_run_without_a_free_descriptor_ends_and_so_does_its_sandbox(tmp_path: Path, source: str) -> None:
    code = write_code(tmp_path / "code", source)
    async with real_pool(tmp_path, cpu=ALL_CPU) as pool:
        warm_up = await pool.start(spec(code, memory_mb=512))
        expected = (await run(warm_up))[0].outcome
        await warm_up.close()
        before = opened()
        for free in range(4):
            sandbox = await pool.start(spec(code, memory_mb=512))
            with only(free):
                outcome: Outcome | None
                try:
                    outcome = (await sandbox.run(event(), Collected())).outcome
                except EngineError:
                    outcome = None  # what cannot be enforced or found out is not made up
                assert outcome is expected or (outcome is None and free == 0), free
                assert sandbox.dead == (outcome is not Outcome.OK), free
                await sandbox.close()
            assert_nothing_left(pool, before, free)


@pytest.mark.parametrize("source", [HELLO, "import os\nos._exit(3)\n"])
async def test_an_init_phase_ahead_of_any_event_without_a_free_descriptor_ends_too(tmp_path: Path, source: str) -> None:
    code = write_code(tmp_path / "code", source)
    async with real_pool(tmp_path) as pool:
        warm_up = await pool.start(spec(code, memory_mb=512))
        expected = (await warm_up.prepare(Collected())).outcome
        await warm_up.close()
        before = opened()
        for free in range(4):
            sandbox = await pool.start(spec(code, memory_mb=512))
            with only(free):
                outcome: Outcome | None
                try:
                    outcome = (await sandbox.prepare(Collected())).outcome
                except EngineError:
                    outcome = None
                assert outcome is expected or (outcome is None and free == 0), free
                assert sandbox.dead == (outcome is not Outcome.OK), free
                await sandbox.close()
            assert_nothing_left(pool, before, free)


async def test_a_timeout_without_a_free_descriptor_kills_all_the_same(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", "def handler(event, context):\n    while True: pass\n")
    async with real_pool(tmp_path) as pool:
        sandbox = await pool.start(spec(code))
        with only(0):
            ending = await sandbox.run(event(timeout_ms=200), Collected())
        assert ending.outcome is Outcome.TIMEOUT
        await sandbox.close()
        assert pool.counts.alive(Resource.SANDBOXES) == 0
