"""The parked pool's own bookkeeping, where what it asks for fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.errors import SandboxFault
from engine.sandbox.counts import Counts, Happening, Resource
from engine.sandbox.demand import ParkSettings
from engine.sandbox.parked_pool import ParkedPool
from engine.sandbox.parking import Parked, Shape
from tests.remains import until

SHAPE = Shape("python3.11", 512)


@pytest.fixture
def pidfd() -> Iterator[int]:
    pidfd = os.pidfd_open(os.getpid())
    yield pidfd
    os.close(pidfd)


def one(pidfd: int, usage: Any) -> Parked:
    parts = SimpleNamespace(pidfd=pidfd, leaf=SimpleNamespace(usage=usage))
    return Parked(0, SHAPE, 128, cast(Any, parts))


def lost(counts: Counts) -> int:
    return {event.kind: event.count for event in counts.events()}[Happening.PARKED_LOST.value]


@pytest.mark.parametrize("error", [SandboxFault("fork", 11, "none"), TypeError("a bug"), OSError(24, "no descriptor")])
async def test_whatever_making_one_raises_it_is_tried_again_and_the_pool_closes(error: Exception, pidfd: int) -> None:
    failures, counts = iter([error, error]), Counts()
    buried: list[Parked] = []

    async def make(shape: Shape, memory_mb: int) -> Parked:
        if (failure := next(failures, None)) is not None:
            raise failure
        return one(pidfd, lambda: (1, 0))

    pool = ParkedPool(ParkSettings(floor=1, ceiling=1), SHAPE, make=make, bury=buried.append, counts=counts)
    pool.start()
    await until(lambda: pool.waiting(SHAPE) == 1, what="one is parked")
    assert lost(counts) == 2
    await pool.close()
    assert len(buried) == 1
    assert counts.alive(Resource.PARKED) == 0


async def test_one_that_cannot_wait_is_buried(pidfd: int) -> None:
    def fails() -> tuple[int, int]:
        raise SandboxFault("cgroup memory", 24, "no descriptor is free")

    usages, counts = iter([fails, lambda: (1, 0)]), Counts()
    buried: list[Parked] = []

    async def make(shape: Shape, memory_mb: int) -> Parked:
        return one(pidfd, next(usages))

    pool = ParkedPool(ParkSettings(floor=1, ceiling=1), SHAPE, make=make, bury=buried.append, counts=counts)
    pool.start()
    await until(lambda: pool.waiting(SHAPE) == 1, what="one is parked")
    assert (lost(counts), len(buried)) == (1, 1)
    await pool.close()
    assert len(buried) == 2
