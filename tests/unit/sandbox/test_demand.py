"""How many sandboxes are parked, by what was started lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from engine.sandbox.demand import WINDOW_S, Demand, ParkSettings
from engine.sandbox.parking import Shape

DEFAULT = Shape("python3.11", 512)
OTHER = Shape("python3.12", 1_024)


def demand(**settings: int) -> Demand:
    return Demand(ParkSettings(**({"floor": 2, "ceiling": 100, "memory_mb": 4_096} | settings)), DEFAULT)


def test_the_default_shape_has_its_floor_before_anything_was_started() -> None:
    assert demand().targets(0) == {DEFAULT: 2}


def test_a_shape_gets_what_its_busiest_second_took_and_half_as_many_again() -> None:
    lately = demand()
    for second, starts in ((0, 3), (1, 10), (2, 1)):
        for n in range(starts):
            lately.started(OTHER, 128, second + n / 100)
    assert lately.targets(3) == {OTHER: 15, DEFAULT: 2}


def test_what_nobody_asked_for_in_a_minute_is_not_kept() -> None:
    lately = demand()
    lately.started(OTHER, 128, 0)
    assert OTHER in lately.targets(WINDOW_S - 1)
    assert lately.targets(WINDOW_S + 1) == {DEFAULT: 2}


def test_the_busiest_shape_comes_first_where_the_ceiling_is_short() -> None:
    lately = demand(ceiling=7, floor=4)
    for _ in range(4):
        lately.started(OTHER, 128, 0)
    assert lately.targets(0) == {OTHER: 6, DEFAULT: 1}


def test_together_they_stay_within_the_memory_budget_as_measured() -> None:
    lately = demand(memory_mb=10, floor=50)
    lately.measured(3 << 20)
    assert lately.targets(0) == {DEFAULT: 3}


def test_a_ceiling_of_none_parks_none() -> None:
    lately = demand(ceiling=0)
    lately.started(OTHER, 128, 0)
    assert set(lately.targets(0).values()) == {0}


def test_the_next_is_guessed_to_want_the_memory_of_the_last() -> None:
    lately = demand()
    assert lately.memory_mb(OTHER) == 128
    lately.started(OTHER, 1_769, 0)
    assert lately.memory_mb(OTHER) == 1_769


@given(
    some.lists(some.tuples(some.sampled_from([DEFAULT, OTHER, Shape("p", 512)]), some.floats(0, 200)), max_size=200),
    some.integers(0, 50),
    some.integers(0, 50),
    some.integers(1, 64 << 20),
)
def test_whatever_is_started_neither_ceiling_nor_budget_is_passed(
    starts: list[tuple[Shape, float]], floor: int, ceiling: int, used: int
) -> None:
    lately = demand(floor=floor, ceiling=ceiling, memory_mb=64)
    lately.measured(used)
    now = 0.0
    for shape, at in sorted(starts, key=lambda one: one[1]):
        lately.started(shape, 128, at)
        now = at
    targets = lately.targets(now)
    assert sum(targets.values()) <= ceiling
    assert sum(targets.values()) * used <= 64 << 20
    assert all(target >= 0 for target in targets.values())
