"""When sandboxes that nobody asked for may have memory, by what the host has left."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.sandbox.counts import Counts, Happening
from engine.sandbox.host_memory import HostMemory, available_mb


@dataclass
class Host:
    """One with so much left, at a time that a test sets."""

    available_mb: int | None = 1_000
    now_s: float = 0.0
    asked: int = 0
    counts: Counts = field(default_factory=Counts)

    def memory(self, free_mb: int = 256, waiting_mb: int = 128) -> HostMemory:
        return HostMemory(free_mb, waiting_mb, self.counts, lambda: self.now_s, self.left)

    def left(self) -> int | None:
        self.asked += 1
        return self.available_mb

    def later(self, available_mb: int | None) -> None:
        self.now_s += 1
        self.available_mb = available_mb

    @property
    def happened(self) -> int:
        return {one.kind: one.count for one in self.counts.events()}[Happening.MEMORY_SHORT.value]


def test_it_is_short_below_what_has_to_stay_free_and_counted_once_each_time() -> None:
    host = Host()
    memory = host.memory()
    found = []
    for left_mb in (256, 255, 100, 1_000, 255):
        host.later(left_mb)
        found.append(memory.short)
    assert found == [False, True, True, False, True]
    assert host.happened == 2


def test_what_is_given_up_does_not_make_room_for_making_it_again() -> None:
    host = Host()
    memory = host.memory(free_mb=256, waiting_mb=128)
    found = []
    for left_mb in (255, 383, 384, 300):
        host.later(left_mb)
        found.append(memory.short)
    assert found == [True, True, False, False]


def test_the_host_is_asked_at_most_once_a_second() -> None:
    host = Host()
    memory = host.memory()
    for _ in range(10):
        host.now_s += 0.25
        assert not memory.short
    assert host.asked == 3


def test_a_host_that_does_not_tell_is_as_it_was() -> None:
    host = Host(available_mb=None)
    memory = host.memory()
    assert not memory.short
    host.later(1)
    assert memory.short
    host.later(None)
    assert memory.short


def test_nothing_has_to_stay_free_where_nothing_was_asked_for() -> None:
    assert not Host(available_mb=0).memory(free_mb=0).short


def test_the_kernel_tells_what_is_available() -> None:
    found = available_mb()
    assert found is not None
    assert found > 0
