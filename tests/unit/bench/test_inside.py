"""How what was measured without gRPC is shown and judged, and the shortest measurements themselves."""

from __future__ import annotations

from typing import Any

import pytest

from bench import inside, limits

PERCENTILES = {"p50": 100.0, "p90": 150.0, "p99": 300.0, "p99_9": 400.0, "max": 500.0, "mean": 120.0}
ROWS: list[dict[str, Any]] = [
    {"name": "warm-1769", "call_us": {"p50": 1.0}},
    {
        "name": "inside-share",
        "calls": 5_000,
        "inside_us": PERCENTILES,
        "bare_us": PERCENTILES,
        "above_bare_us": {"p50": 75.0, "p90": 90.0, "p99": 200.0, "p50_of_blocks": 75.0, "resolution": 1.0},
    },
    {"name": "inside-rate-64", "callers": 64, "calls": 90_000, "calls_per_s": 30_000.0, "engine_cpus": 0.9},
    {"name": "inside-callers-64", "callers": 64, "calls": 30_000, "calls_per_s": 10_000.0, "engine_cpus": 0.9},
    {
        "name": "inside-overload",
        "admitted": 1_500,
        "throttled": 14_000,
        "unloaded_us": PERCENTILES,
        "admitted_us": PERCENTILES,
        "overload_times": {"p50": 1.0, "p99": 1.0},
    },
    {
        "name": "inside-fairness",
        "calls": 80,
        "flood_per_s": 9_000.0,
        "alone_us": PERCENTILES,
        "beside_us": PERCENTILES,
        "fairness_times": {"p50": 1.0, "p99": 1.0},
    },
]


def test_each_row_from_inside_is_a_line_and_others_are_not() -> None:
    assert [line[:3] for line in inside.table(ROWS)] == [
        ("inside-share", "5000", "0.075 ±0.001, p99 0.200"),
        ("inside-rate-64", "90000", "30000 /s"),
        ("inside-callers-64", "30000", "10000 /s"),
        ("inside-overload", "1500", "1.00 times, p99 1.00"),
        ("inside-fairness", "80", "p99 1.00 times, p50 1.00"),
    ]
    assert all(len(line) == len(inside.HEAD) for line in inside.table(ROWS))


def test_every_limit_from_inside_names_a_row_and_a_figure_that_there_is() -> None:
    from_inside = [limit for limit in limits.load() if limit.scenario.startswith("inside-")]
    verdicts = limits.judge(from_inside, ROWS)
    assert len(verdicts) == 5
    assert all(verdict.measured is not None and verdict.kept and verdict.reached for verdict in verdicts)


@pytest.mark.privileged
def test_a_measurement_from_inside_is_a_row_of_the_table() -> None:
    row = inside.measure("share", 1)
    assert row["calls"] > 0
    assert len(inside.table([row])) == 1


def test_what_could_not_be_measured_from_inside_is_an_error_with_its_reason() -> None:
    with pytest.raises(RuntimeError, match=r"no-such was not measured: [\s\S]*KeyError"):
        inside.measure("no-such", 1)
