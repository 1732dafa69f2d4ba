"""Percentiles and differences."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli.benching.comparison import PERCENTILES, above, percentile, resolution, summary

TIMES = st.lists(st.floats(0.1, 1e7), min_size=1, max_size=300)


@given(TIMES, st.sampled_from(sorted(PERCENTILES.values())))
def test_a_percentile_is_the_smallest_measured_value_that_enough_values_do_not_exceed(
    values: list[float], percent: float
) -> None:
    found = percentile(values, percent)

    def share(value: float) -> float:
        return 100 * sum(other <= value for other in values) / len(values)

    assert found in values
    assert share(found) >= percent - 1e-6
    assert all(share(value) < percent for value in values if value < found)


def test_percentiles_of_a_thousand_are_at_their_ranks() -> None:
    assert summary(range(1, 1001)) == {
        "p50": 500,
        "p90": 900,
        "p99": 990,
        "p99_9": 999,
        "max": 1000,
        "mean": 500.5,
    }


def test_a_difference_is_that_of_the_percentiles_and_that_of_neighbouring_blocks() -> None:
    echo = [[100.0, 101.0, 102.0]] * 9 + [[900.0, 901.0, 902.0]]
    calls = [[value + 50 for value in block] for block in echo]
    found = above(calls, echo)
    assert found["p50"] == found["p50_of_blocks"] == 50
    assert found["resolution"] == 0


def test_a_machine_that_slows_down_moves_the_percentiles_and_not_the_difference_of_blocks() -> None:
    chance = random.Random(1)
    echo = [[100.0 + 10 * turn + chance.random()] * 5 for turn in range(50)]
    calls = [[block[0] + 30] * 5 for block in echo]
    assert above(calls, echo)["p50_of_blocks"] == pytest.approx(30, abs=0.1)


def test_blocks_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        above([[1.0], [2.0]], [[1.0]])


@pytest.mark.parametrize("count", [20, 100, 201])
def test_the_interval_around_a_median_holds_the_true_one_95_times_in_100(count: int) -> None:
    chance = random.Random(count)
    held = 0
    for _ in range(400):
        drawn = sorted(chance.expovariate(1) for _ in range(count))
        # Half the width around the middle of the interval; the exponential is skewed, so compare with a wide berth.
        held += abs(statistics.median(drawn) - 0.6931) <= 1.25 * resolution(drawn)
    assert held >= 360


@pytest.mark.parametrize("values", [[5.0], [5.0, 7.0], [1.0, 2.0, 3.0, 4.0, 9.0]])
def test_few_values_have_half_their_range_as_resolution(values: list[float]) -> None:
    assert resolution(values) == (max(values) - min(values)) / 2
