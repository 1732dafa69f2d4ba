"""`python -m bench.simulate` says what became of a load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import simulate
from engine.scheduler.simulation import Arrival


def test_the_load_that_is_built_in_is_as_long_and_as_spread_as_it_is_asked_for() -> None:
    rows = list(simulate.arrivals(100, 5_000, 60.0, 1))
    assert len(rows) == 5_000
    assert [at for at, _, _ in rows] == sorted(at for at, _, _ in rows)
    assert rows[-1][0] == pytest.approx(60e9, rel=0.1)
    assert {function for _, function, _ in rows} == set(range(100))
    assert rows == list(simulate.arrivals(100, 5_000, 60.0, 1))
    assert rows != list(simulate.arrivals(100, 5_000, 60.0, 2))


def test_it_prints_cold_starts_throttles_waits_and_sandboxes(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--functions", "50", "--calls", "2000", "--over-s", "2", "--account-limit", "20"]) == 0
    said = capsys.readouterr().out
    for word in (
        "calls          2,000 of 50",
        "cold starts",
        "ConcurrentInvocationLimitExceeded",
        "p99",
        "at the most",
    ):
        assert word in said


def steady(functions: int, calls: int, over_s: float, seed: int) -> Iterator[Arrival]:
    """A load of another module."""
    return ((round(number * over_s * 1e9 / calls), number % functions, 0) for number in range(calls))


def test_any_modules_load_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    simulate.main(["--functions", "3", "--calls", "30", "--over-s", "30", "--trace", f"{__name__}:steady"])
    assert "10.00 % of 30 calls" in capsys.readouterr().out
