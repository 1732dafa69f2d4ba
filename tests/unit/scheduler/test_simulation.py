"""A load over virtual sandboxes meets what it would meet over real ones."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from engine.scheduler.core import Rejected
from engine.scheduler.simulation import Alias, Arrival, Arrivals, World, simulate

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


def test_an_alias_sends_its_share_to_a_second_version_whose_sandboxes_are_its_own() -> None:
    rows = load(*[(100 * number, 0, 10) for number in range(1_000)])
    outcome = simulate(World(1, aliases={0: Alias(0.2)}), rows)
    second = sum(outcome.seconds)
    assert second == pytest.approx(200, abs=90), "seven standard deviations"
    assert outcome.counts["cold"] == 2, "one of each version, since they never come at once"
    assert [simulate(World(1, aliases={0: Alias(share)}), rows).seconds.count(1) for share in (0.0, 1.0)] == [0, 1_000]
    assert simulate(World(1, aliases={0: Alias(0.2)}), rows).seconds == outcome.seconds, "the same again"
    assert sum(simulate(World(1), rows).seconds) == 0


def test_provisioned_sandboxes_are_of_the_version_that_they_are_asked_for_and_calls_spill_over() -> None:
    rows = load(*[(1_000, 0, 100)] * 5)
    only_second = World(1, aliases={0: Alias(1.0, second_provisioned=3)})
    outcome = simulate(only_second, rows)
    assert (outcome.counts["provisioned_runs"], outcome.counts["cold"]) == (3, 2)
    assert sorted(outcome.waits_ns) == [0, 0, 0, 10 * MS, 10 * MS]
    other = simulate(World(1, aliases={0: Alias(0.0, second_provisioned=3)}), rows)
    assert (other.counts["provisioned_runs"], other.counts["cold"]) == (0, 5)
    both = simulate(World(1, provisioned={0: 5}, aliases={0: Alias(0.0, second_provisioned=3)}), rows)
    assert (both.counts["provisioned_runs"], both.counts["cold"]) == (5, 0)
    assert both.counts["provisioned"] == 8


def test_a_provisioned_sandbox_that_a_call_takes_along_is_replaced() -> None:
    rows = load(*[(1_000 * number, 0, 10) for number in range(1, 11)])
    outcome = simulate(World(1, provisioned={0: 1}, crash_every=1), rows)
    assert (outcome.counts["provisioned_runs"], outcome.counts["cold"]) == (10, 0)


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
    with pytest.raises(IndexError):
        simulate(World(1, aliases={1: Alias(0.5)}), Arrivals())
    with pytest.raises(ValueError, match="no share"):
        simulate(World(1, aliases={0: Alias(1.5)}), Arrivals())
    with pytest.raises(Rejected):
        simulate(World(1, aliases={0: Alias(0.5, second_provisioned=901)}), Arrivals())


def test_every_call_of_ten_thousand_functions_runs_or_is_throttled_and_the_sums_add_up(
    counts: Mapping[str, int],
) -> None:
    functions, calls = 10_000, counts["simulated"]
    rows = Arrivals.of((number * 20_000, number * number % functions, 50 * MS) for number in range(calls))
    outcome = simulate(World(functions, room=600, crash_every=100), rows)
    assert outcome.ran + sum(outcome.throttled.values()) == calls == outcome.counts["submitted"]
    assert sum(wait >= 0 for wait in outcome.waits_ns) == outcome.ran
    assert outcome.counts["concurrency"] == outcome.counts["waiting"] == 0
    assert outcome.counts["peak_sandboxes"] <= 600
    assert simulate(World(functions, room=600, crash_every=100), rows).waits_ns == outcome.waits_ns, "the same again"
