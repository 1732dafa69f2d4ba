"""The pool of leaves: limited ahead of need, never used twice, bounded, and gone with the engine."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from engine.errors import SandboxFault
from engine.model.outcome import Outcome
from engine.sandbox import box
from engine.sandbox.counts import Counts, Resource
from engine.sandbox.cpu import AS_LAMBDA
from engine.sandbox.leaves import LeafPool
from engine.sandbox.parts import limited_leaf
from tests.sandboxes import ALL_CPU, Collected, event, real_pool, spec, write_code

pytestmark = pytest.mark.privileged

Jobs = list[Callable[[], None]]


@pytest.fixture
def host() -> Iterator[box.Host]:
    host = box.Host(f"cleave-test-{os.getpid()}-ahead")
    host.open()
    yield host
    host.sweep(True)


@pytest.fixture
def counts_of() -> Counts:
    return Counts()


@pytest.fixture
def jobs() -> Jobs:
    return []


@pytest.fixture
def pool(host: box.Host, counts_of: Counts, jobs: Jobs) -> Iterator[LeafPool]:
    names = itertools.count(1)
    pool = LeafPool(
        lambda memory_mb: limited_leaf(host, f"{next(names)}", memory_mb, AS_LAMBDA),
        target=2,
        submit=jobs.append,
        counts=counts_of,
    )
    yield pool
    pool.close()
    assert leaves(host) == set()


def leaves(host: box.Host) -> set[str]:
    return {path.name for path in Path(host.directories["memory"]).iterdir() if path.is_dir()}


def limit(host: box.Host, leaf: box.Leaf) -> int:
    folder = Path(host.directories["memory"]) / leaf.name
    return int((folder / ("memory.limit_in_bytes" if host.kind == "v1" else "memory.max")).read_text())


def test_it_hands_out_what_it_made_ahead_with_the_limits_of_its_tier(
    host: box.Host, pool: LeafPool, jobs: Jobs
) -> None:
    first = pool.take(128)
    assert (limit(host, first), len(jobs)) == (128 << 20, 1)
    jobs.pop()()
    assert (pool.ready, leaves(host)) == (2, {"1", "2", "3"})
    second = pool.take(128)
    assert (second.name, limit(host, second), jobs) == ("2", 128 << 20, []), "one was ready, and one is left"
    other = pool.take(256)
    assert (other.name, limit(host, other)) == ("4", 256 << 20), "one of another tier was handed out"
    pool.remove(first, 128)
    pool.remove(second, 128)
    pool.remove(other, 256)


def test_one_that_is_removed_is_replaced_by_another_and_never_handed_out_again(
    host: box.Host, pool: LeafPool, jobs: Jobs, counts_of: Counts
) -> None:
    names = set()
    for _ in range(5):
        leaf = pool.take(128)
        assert leaf.name not in names
        names.add(leaf.name)
        pool.remove(leaf, 128)
        assert leaf.name not in leaves(host)
        assert pool.ready <= 2
    assert counts_of.alive(Resource.LEAVES) == pool.ready == len(leaves(host))


def test_it_keeps_no_more_than_four_times_as_many_as_of_one_tier(host: box.Host, pool: LeafPool, jobs: Jobs) -> None:
    for memory_mb in range(128, 138):
        leaf = pool.take(memory_mb)
        while jobs:
            jobs.pop()()
        pool.remove(leaf, memory_mb)
    assert pool.ready == len(leaves(host)) == 8


def test_one_that_cannot_be_made_ahead_is_made_when_it_is_needed_or_says_why(counts_of: Counts, jobs: Jobs) -> None:
    def refuse(memory_mb: int) -> box.Leaf:
        raise SandboxFault("cgroup memory", 28, f"no room for {memory_mb}")

    pool = LeafPool(refuse, target=2, submit=jobs.append, counts=counts_of)
    for _ in range(2):
        with pytest.raises(SandboxFault, match="no room for 128"):
            pool.take(128)
        while jobs:
            jobs.pop()()
    assert (pool.ready, counts_of.alive(Resource.LEAVES)) == (0, 0)


async def test_a_sandbox_in_a_leaf_that_waited_is_limited_and_leaves_nothing(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", "def handler(event, context):\n    return len(bytearray(event['mb'] << 20))\n")
    async with real_pool(tmp_path, leaf_pool_size=2, cpu=ALL_CPU) as pool:
        folder = Path(pool.cgroup_directories["memory"])
        seen = set()
        for _ in range(4):
            sandbox = await pool.start(spec(code, memory_mb=128))
            seen.add(sandbox.id)
            assert (folder / sandbox.id).is_dir()
            run = partial(sandbox.run, sink=Collected())
            assert (await run(event({"mb": 8}))).outcome is Outcome.OK
            assert (await run(event({"mb": 256}))).outcome is Outcome.OUT_OF_MEMORY
            await sandbox.close()
            assert not (folder / sandbox.id).exists()
        assert len(seen) == 4
        assert pool.counts.alive(Resource.LEAVES) <= 2
    assert not folder.exists()
