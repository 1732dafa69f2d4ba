"""Times in buckets: nothing is lost, a percentile is near what it stands for, and others know the bounds."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as some

from engine.observe.times import BOUNDS_US, EXPORTED_US, Times


@given(some.integers(0, 2**40))
def test_a_time_is_in_a_bucket_that_ends_at_most_a_quarter_above_it(us: int) -> None:
    taken = Times()
    taken.add(us)
    ((most_us, count),) = taken.distribution().buckets
    assert (us <= most_us <= us + us // 4, count) == (True, 1)


@given(some.lists(some.integers(0, 10**9), min_size=1, max_size=300))
def test_a_distribution_has_all_of_its_times_and_percentiles_by_the_nearest_rank(times: list[int]) -> None:
    taken = Times()
    for us in times:
        taken.add(us)
    found = taken.distribution()
    assert (found.count, found.sum_us, found.max_us) == (len(times), sum(times), max(times))
    assert sum(count for _, count in found.buckets) == len(times)
    assert [most for most, _ in found.buckets] == sorted(most for most, _ in found.buckets)
    ranked = sorted(times)
    for share, percentile in ((0.5, found.p50_us), (0.99, found.p99_us)):
        exact = ranked[max(0, -(-int(share * 100) * len(times) // 100) - 1)]
        assert exact <= percentile <= min(max(times), exact + exact // 4)


def test_no_times_are_a_distribution_of_none() -> None:
    found = Times().distribution()
    assert (found.count, found.sum_us, found.p50_us, found.p99_us, found.max_us, found.buckets) == (0, 0, 0, 0, 0, ())


def test_times_that_cannot_be_do_no_harm() -> None:
    taken = Times()
    taken.add(2**70)
    taken.add(-5)
    assert taken.distribution().count == 2


def test_each_time_is_in_the_first_bucket_that_has_room_for_it() -> None:
    for below, bound in pairwise(BOUNDS_US):
        taken = Times()
        taken.add(below + 1)
        taken.add(bound)
        assert taken.distribution().buckets == ((bound, 2),)


def test_what_is_exported_begins_at_a_tenth_of_a_millisecond_and_has_buckets_that_end_there() -> None:
    assert EXPORTED_US[:4] == (100, 250, 500, 1_000)
    assert EXPORTED_US[-1] == 250_000_000
    assert set(EXPORTED_US) < set(BOUNDS_US)
