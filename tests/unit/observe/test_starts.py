"""Counts and times by kind of start: nothing is lost, and a percentile is near what it stands for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from engine.model.invocation import Report
from engine.model.outcome import Outcome, StartKind
from engine.observe.starts import Starts, Times, bucket_of, most_of
from tests.unit.invoke.things import function


def report(kind: StartKind, outcome: Outcome = Outcome.OK, **times: int) -> Report:
    return replace(Report("r", outcome, kind, 128), **times)


@given(some.integers(0, 2**40))
def test_a_time_is_in_a_bucket_that_ends_at_most_a_quarter_above_it(us: int) -> None:
    bucket = bucket_of(us)
    assert us <= most_of(bucket) <= us + us // 4
    assert bucket == 0 or most_of(bucket - 1) < us


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


def test_each_kind_of_start_is_counted_apart_with_how_it_ended() -> None:
    starts = Starts()
    assert starts.stats() == ()
    starts(function(), report(StartKind.PARKED, start_us=300, init_us=400, handler_us=100, total_us=900))
    starts(function(), report(StartKind.PARKED, Outcome.TIMEOUT, start_us=500, handler_us=3_000, total_us=4_000))
    for _ in range(3):
        starts(function(), report(StartKind.WARM, queue_us=7, handler_us=50, total_us=90))
    warm, parked = starts.stats()
    assert (warm.kind, warm.outcomes) == (StartKind.WARM, ((Outcome.OK, 3),))
    assert (parked.kind, parked.outcomes) == (StartKind.PARKED, ((Outcome.OK, 1), (Outcome.TIMEOUT, 1)))
    assert (warm.start.count, warm.init.count, warm.queue.sum_us, warm.total.sum_us) == (0, 0, 21, 270)
    assert (parked.start.sum_us, parked.init.sum_us, parked.handler.max_us) == (800, 400, 3_000)


def test_times_that_cannot_be_do_no_harm() -> None:
    taken = Times()
    taken.add(2**70)
    taken.add(-5)
    assert taken.distribution().count == 2
