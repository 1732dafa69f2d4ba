"""Network namespaces ahead of need: how many, how fast, and what becomes of each. With descriptors of nothing much."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable

from engine.errors import SandboxFault
from engine.sandbox.counts import Counts
from engine.sandbox.network_pool import Made, NamespacePool
from tests.descriptors import left_open, opened


class Maker:
    """Makes descriptors, and remembers when and what was freed."""

    def __init__(self, *, fails: int = 0) -> None:
        self.fails = fails
        self.times: list[float] = []
        self.freed: list[tuple[int, float]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def make(self) -> Made:
        with self._lock:
            if self.fails:
                self.fails -= 1
                raise SandboxFault("network namespace", 1, "not today")
            self.times.append(time.monotonic())
            return Made(os.open("/dev/null", os.O_RDONLY), number=next(self._numbers))

    def forget(self, made: Made) -> None:
        with self._lock:
            self.freed.append((made.number, time.monotonic()))


def until(condition: Callable[[], bool]) -> None:
    """The pool's thread tells nobody."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_it_keeps_its_target_ready_and_makes_up_for_what_is_taken() -> None:
    maker = Maker()
    pool = NamespacePool(maker.make, counts=Counts(), target=3, forget=maker.forget, rate_per_s=1_000)
    pool.start()
    until(lambda: pool.counts.ready == 3)
    taken = [pool.take() for _ in range(2)]
    until(lambda: pool.counts.ready == 3)
    assert len({made.number for made in taken if made is not None}) == 2
    for made in taken:
        assert made is not None
        pool.give_back(made)
    until(lambda: pool.counts.removed == 2)
    pool.close()
    assert (pool.counts.made, pool.counts.removed) == (5, 5)
    assert sorted(number for number, _ in maker.freed) == [0, 1, 2, 3, 4]


def test_it_makes_and_frees_no_faster_than_its_rate() -> None:
    maker = Maker()
    pool = NamespacePool(maker.make, counts=Counts(), target=5, forget=maker.forget, rate_per_s=100)
    pool.start()
    until(lambda: pool.counts.ready == 5)
    for made in [pool.take() for _ in range(5)]:
        assert made is not None
        pool.give_back(made)
    until(lambda: pool.counts.removed == 5)
    pool.close()
    for times in (maker.times[:5], [at for _, at in maker.freed[:5]]):
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.009


def test_while_many_starts_are_under_way_it_makes_none_and_goes_on_freeing() -> None:
    maker, under_way = Maker(), [5]
    pool = NamespacePool(
        maker.make,
        counts=Counts(),
        target=2,
        forget=maker.forget,
        rate_per_s=1_000,
        forking=lambda: under_way[0],
    )
    pool.start()
    for _ in range(10):
        pool.give_back(maker.make())
    until(lambda: pool.counts.removed == 10)
    assert (pool.counts.made, len(maker.times)) == (0, 10)
    under_way[0] = 4
    until(lambda: pool.counts.ready == 2)
    pool.close()


def test_what_is_more_than_the_backlog_is_freed_at_once() -> None:
    maker = Maker()
    pool = NamespacePool(maker.make, counts=Counts(), target=0, forget=maker.forget, rate_per_s=0.1, backlog=3)
    pool.start()
    pool.give_back(maker.make())
    until(lambda: pool.counts.removed == 1)  # the thread sleeps for ten seconds from here on
    for _ in range(5):
        pool.give_back(maker.make())
    assert pool.counts.backlog == 3
    assert pool.counts.removed == 3
    pool.close()
    assert pool.counts.removed == 6


def test_an_empty_pool_says_so_at_once() -> None:
    pool = NamespacePool(Maker().make, counts=Counts(), target=0)
    pool.start()
    assert pool.take() is None
    pool.made_inline(Made(-1))
    pool.give_back(Made(-1))
    assert (pool.counts.made_inline, pool.counts.removed) == (1, 1)
    pool.close()


def test_what_cannot_be_made_is_tried_again_when_it_is_needed_and_not_before() -> None:
    maker = Maker(fails=1)
    pool = NamespacePool(maker.make, counts=Counts(), target=1, forget=maker.forget, rate_per_s=1_000)
    pool.start()
    until(lambda: maker.fails == 0)
    assert pool.take() is None
    until(lambda: pool.counts.ready == 1)
    pool.close()


def test_a_closed_pool_leaves_no_descriptor_open() -> None:
    before = opened()
    maker = Maker()
    pool = NamespacePool(maker.make, counts=Counts(), target=4, forget=maker.forget, rate_per_s=1_000)
    pool.start()
    until(lambda: pool.counts.ready == 4)
    made = pool.take()
    assert made is not None
    pool.close()
    pool.give_back(made)
    assert left_open(before) == []
