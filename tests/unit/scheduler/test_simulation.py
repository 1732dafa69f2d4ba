"""A load over virtual sandboxes meets what it would meet over real ones."""

from __future__ import annotations

import pytest

from engine.scheduler.core import Rejected
from engine.scheduler.simulation import Arrival, Arrivals, World, simulate

MS = 1_000_000
SECOND = 1_000 * MS


def load(*rows: tuple[float, int, float]) -> Arrivals:
    """From milliseconds."""
    return Arrivals.of((round(at * MS), function, round(duration * MS)) for at, function, duration in rows)


def test_calls_that_overlap_start_a_sandbox_each_and_later_ones_find_them_warm() -> None:
    outcome = simulate(World(1, start_ms=10), load((0, 0, 100), (50, 0, 100), (200, 0, 100), (210, 0, 100)))
    assert (outcome.counts["cold"], outcome.counts["warm"]) == (2, 2)
    assert list(outcome.waits_ns) == [10 * MS, 10 * MS, 0, 0]
    assert outcome.cold_share == 0.5
    assert (outcome.counts["peak_sandboxes"], outcome.counts["peak_concurrency"]) == (2, 2)


def test_a_call_after_the_keep_alive_is_cold_again() -> None:
    rows = load((0, 0, 1), (60_000, 0, 1), (120_500, 0, 1))
    assert simulate(World(1, keep_alive_s=60), rows).counts["cold"] == 2


def test_without_room_calls_wait_for_the_sandbox_of_another_to_close() -> None:
    world = World(2, room=1, start_ms=10, close_ms=5)
    outcome = simulate(world, load((0, 0, 100), (20, 1, 100)))
    # Until the first has ended, its sandbox is closed and another is there.
    assert list(outcome.waits_ns) == [10 * MS, (110 - 20 + 5 + 10) * MS]
    assert outcome.counts["waited"] == 1


def test_calls_beyond_a_limit_are_throttled_by_reason() -> None:
    rows = load(*[(0, 0, 100)] * 5, *[(0, 1, 100)] * 5)
    outcome = simulate(World(2, account_limit=102, reserved={0: 2}), rows)
    assert outcome.throttled == {"ReservedFunctionConcurrentInvocationLimitExceeded": 3}
    assert [wait >= 0 for wait in outcome.waits_ns] == [True] * 2 + [False] * 3 + [True] * 5
    assert outcome.ran == 7
    by_burst = simulate(World(2, burst=3), rows)
    assert (by_burst.bursts, by_burst.throttled) == (4, {"ConcurrentInvocationLimitExceeded": 4})


def test_provisioned_sandboxes_spare_the_cold_start() -> None:
    rows = load(*[(1_000, 0, 100)] * 3)
    assert simulate(World(1, provisioned={0: 2}), rows).counts["cold"] == 1


def test_a_call_that_takes_its_sandbox_along_leaves_none_to_the_next() -> None:
    rows = load(*[(100 * number, 0, 10) for number in range(10)])
    assert simulate(World(1, crash_every=2), rows).counts["cold"] == 5


def test_no_load_is_no_calls() -> None:
    outcome = simulate(World(1), Arrivals())
    assert (outcome.ran, outcome.cold_share, outcome.percentiles_ms(0.5)) == (0, 0.0, [0.0])


@pytest.mark.parametrize("row", [(5, 1, 1), (5, -1, 1), (5, 0, -1), (-5, 0, 1), (1, 0, 1)])
def test_a_row_that_cannot_be_is_refused(row: Arrival) -> None:
    with pytest.raises(ValueError, match="arrival 1"):
        simulate(World(1), Arrivals.of([(2, 0, 1), row]))


def test_what_cannot_be_reserved_is_refused() -> None:
    with pytest.raises(Rejected):
        simulate(World(1, reserved={0: 901}), Arrivals())
    with pytest.raises(IndexError):
        simulate(World(1, provisioned={1: 1}), Arrivals())


def test_every_call_of_ten_thousand_functions_runs_or_is_throttled_and_the_sums_add_up() -> None:
    functions, calls = 10_000, 50_000
    rows = Arrivals.of((number * 20_000, number * number % functions, 50 * MS) for number in range(calls))
    outcome = simulate(World(functions, room=600, crash_every=100), rows)
    assert outcome.ran + sum(outcome.throttled.values()) == calls == outcome.counts["submitted"]
    assert sum(wait >= 0 for wait in outcome.waits_ns) == outcome.ran
    assert outcome.counts["concurrency"] == outcome.counts["waiting"] == 0
    assert outcome.counts["peak_sandboxes"] <= 600
    assert simulate(World(functions, room=600, crash_every=100), rows).waits_ns == outcome.waits_ns, "the same again"
