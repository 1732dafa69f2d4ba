"""Traces have the statistics that they are made for, and are the same for the same seed."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

import pytest

from engine.cli.benching import traces
from engine.cli.benching.traces import TRACES, Trace, azure, burst, diurnal, steady


def within(trace: Trace, begin_s: float, end_s: float) -> int:
    """How many calls come then."""
    return sum(begin_s <= time_ns / 1e9 < end_s for time_ns in trace.time_ns)


def like(count: int, expected: float) -> bool:
    """Whether a Poisson process may well have so many: six standard deviations."""
    return abs(count - expected) < 6 * math.sqrt(expected)


@pytest.mark.parametrize("name", TRACES)
def test_a_seed_gives_one_trace_and_another_seed_another(name: str) -> None:
    one, again, other = (TRACES[name](50, 20, functions=30, seed=seed) for seed in (7, 7, 8))
    assert one == again
    assert one.time_ns != other.time_ns
    assert one.function != other.function


def test_a_trace_is_the_same_on_every_machine() -> None:
    assert list(steady(2, 2, functions=3, seed=1))[:2] == [(483_913_654, 2, 10_000_000), (490_000_375, 2, 10_000_000)]


@pytest.mark.parametrize("name", TRACES)
def test_calls_come_in_order_within_the_time_and_of_functions_that_there_are(name: str) -> None:
    trace = TRACES[name](200, 10, functions=20, seed=3)
    assert list(trace.time_ns) == sorted(trace.time_ns)
    assert trace.time_ns[0] >= 0
    assert trace.time_ns[-1] < 10e9
    assert set(trace.function) <= set(range(20))
    assert (trace.functions, len(trace)) == (20, len(trace.duration_ns))
    assert min(trace.duration_ns) > 0
    assert (trace.time_ns.typecode, trace.function.typecode, trace.duration_ns.typecode) == ("q", "i", "q")


def test_steady_calls_are_a_poisson_process_of_the_rate() -> None:
    trace = steady(1_000, 20, functions=4, duration_s=0.002, seed=2)
    assert like(len(trace), 20_000)
    gaps = [after - before for before, after in zip(trace.time_ns, trace.time_ns[1:], strict=False)]
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(1, abs=0.05)
    assert all(like(count, 5_000) for count in Counter(trace.function).values())
    assert set(trace.duration_ns) == {2_000_000}


def test_bursts_come_when_they_are_due_and_are_as_large_as_asked_for() -> None:
    trace = burst(100, 40, times=20, burst_s=0.5, every_s=10, seed=4)
    for period in range(4):
        assert like(within(trace, 10 * period, 10 * period + 0.5), 1_000)
        assert like(within(trace, 10 * period + 0.5, 10 * period + 10), 950)


def test_a_day_has_half_of_its_peak_at_night() -> None:
    trace = diurnal(1_000, 40, seed=5)
    assert like(len(trace), 0.75 * 40_000)
    assert within(trace, 0, 2) / within(trace, 19, 21) == pytest.approx(0.5, abs=0.1)
    assert within(trace, 9, 11) == pytest.approx(within(trace, 29, 31), rel=0.15)


FUNCTIONS = 10_000
PER_S = 3_000.0


@pytest.fixture(scope="module")
def wild() -> Trace:
    return azure(PER_S, 60, functions=FUNCTIONS, seed=6)


def test_few_functions_of_azure_have_nearly_all_calls_and_most_less_than_one_a_minute(wild: Trace) -> None:
    assert like(len(wild), PER_S * 60)
    calls = sorted(Counter(wild.function).values(), reverse=True)
    popular = round(0.186 * FUNCTIONS)
    assert sum(calls[:popular]) / len(wild) >= 0.99
    assert wild.lasting_s == 60
    assert sum(count > 1 for count in calls) < 0.25 * FUNCTIONS


def test_rates_of_azure_are_those_published_but_for_what_is_cut_off_the_most_popular() -> None:
    rates = sorted(math.exp(traces.RATE_LOG_MEAN + traces.RATE_SIGMA * z) for z in normal_steps(FUNCTIONS))
    assert share(rates, 1 / 3_600) == pytest.approx(0.45, abs=0.01)
    assert share(rates, 1 / 60) == pytest.approx(0.814, abs=0.01)
    assert sum(rates[-1_860:]) / sum(rates) == pytest.approx(0.996, abs=0.004)
    capped = sorted(traces._capped(rates, PER_S))
    assert sum(capped) == pytest.approx(PER_S)
    kept = sum(one == other for one, other in zip(rates, capped, strict=True))
    assert kept > 0.85 * FUNCTIONS
    assert len({round(rate, 9) for rate in capped[kept:]}) == 1
    assert sum(traces._capped(rates, 10 * sum(rates))) == pytest.approx(10 * sum(rates))


def test_execution_times_of_azure_are_log_normal_as_published(wild: Trace) -> None:
    mean_s = {number: duration / 1e9 for _, number, duration in azure(PER_S, 60, functions=FUNCTIONS, seed=6)}
    logs = [math.log(seconds) for seconds in mean_s.values() if seconds < traces.LONGEST_S]
    assert statistics.mean(logs) == pytest.approx(-0.38, abs=0.2)
    assert statistics.stdev(logs) == pytest.approx(2.36, abs=0.2)
    assert max(wild.duration_ns) <= traces.LONGEST_S * 1e9
    assert max(azure(50, 5, functions=50, longest_s=0.2).duration_ns) <= 200_000_000


def test_memory_of_azure_has_the_published_burr_distribution(wild: Trace) -> None:
    assert min(wild.memory_mb) == 128
    for share_, mb in ((0.5, 139.6), (0.75, 182.9), (0.9, 261.6)):
        assert statistics.quantiles(wild.memory_mb, n=100)[round(100 * share_) - 1] == pytest.approx(mb, rel=0.05)


def share(values: Sequence[float], most: float) -> float:
    return sum(value <= most for value in values) / len(values)


def normal_steps(count: int) -> list[float]:
    normal = statistics.NormalDist()
    return [normal.inv_cdf((step + 0.5) / count) for step in range(count)]
