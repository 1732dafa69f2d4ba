"""How density is shown and judged; the measurements themselves are `make bench`'s."""

from __future__ import annotations

from typing import Any

import pytest

from bench import density, limits

ROWS: list[dict[str, Any]] = [
    {"name": "warm-1769", "call_us": {"p50": 1.0}},
    {
        "name": "idle-parked",
        "sandboxes": 50,
        "private_mb": {"p50": 1.5, "max": 1.6},
        "kernel_mb": {"p50": 0.07, "max": 0.1},
        "idle_mb": {"p50": 1.57, "max": 1.7},
    },
    {
        "name": "churn",
        "seconds": 10,
        "callers": 4,
        "kinds": {"parked": 400, "fork": 2_600},
        "per_s": 300.0,
        "engine_cpus": 0.9,
    },
    {
        "name": "crowd-1000",
        "sandboxes": 1_000,
        "kinds": {"fork": 996, "parked": 4},
        "answering_s": 2.25,
        "closing_s": 1.3,
        "engine_cpu_s": 2.9,
        "machine_mb": 1.9,
    },
]


def test_each_row_of_density_is_a_line_and_others_are_not() -> None:
    assert [line[:3] for line in density.table(ROWS)] == [
        ("idle-parked", "50", "1.57 MB"),
        ("churn", "10 s", "300 /s"),
        ("crowd-1000", "1000", "2.25 s"),
    ]
    assert all(len(line) == len(density.HEAD) for line in density.table(ROWS))
    assert density.table(ROWS)[1][3] == "the engine on 0.90 CPUs; 2600 fork, 400 parked"


def test_every_limit_of_density_names_a_row_and_a_figure_that_there_is() -> None:
    of_density = [limit for limit in limits.load() if limit.scenario in ("idle-parked", "churn", "crowd-1000")]
    verdicts = limits.judge(of_density, ROWS)
    assert len(verdicts) == 3
    assert all(verdict.measured is not None and verdict.kept for verdict in verdicts)


def test_what_could_not_be_measured_is_an_error_with_its_reason() -> None:
    with pytest.raises(RuntimeError, match=r"no-such was not measured: [\s\S]*KeyError"):
        density.measure("no-such", 1)
