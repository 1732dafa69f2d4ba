"""`python -m bench.simulate` says what became of a load."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from bench import simulate
from engine.cli.benching.traces import TRACES
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


@pytest.mark.parametrize("name", TRACES)
def test_every_trace_is_a_load_of_its_simulations(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--functions", "30", "--calls", "2000", "--over-s", "20", "--trace", name]) == 0
    said = capsys.readouterr().out
    calls = len(TRACES[name](100, 20, functions=30, seed=1))
    assert f"calls          {calls:,} of 30" in said


def test_aliases_send_their_share_to_second_versions_and_provisioned_sandboxes_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--functions", "10", "--calls", "10000", "--over-s", "60", "--trace", "steady"]
    simulate.main([*given, "--aliases", "10", "--second-share", "0.25", "--provisioned", "3"])
    said = capsys.readouterr().out
    share = re.search(r"versions .* \(([\d.]+) %\) went", said)
    assert share is not None
    assert float(share[1]) == pytest.approx(25, abs=3), "10,000 throws: seven standard deviations"
    kept = re.search(r"provisioned +([\d,]+) calls", said)
    assert kept is not None
    assert int(kept[1].replace(",", "")) > 9_000
    simulate.main(given)
    said = capsys.readouterr().out
    assert "versions" not in said
    assert "provisioned" not in said


def steady(functions: int, calls: int, over_s: float, seed: int) -> Iterator[Arrival]:
    """A load of another module."""
    return ((round(number * over_s * 1e9 / calls), number % functions, 0) for number in range(calls))


def test_any_modules_load_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    simulate.main(["--functions", "3", "--calls", "30", "--over-s", "30", "--trace", f"{__name__}:steady"])
    assert "10.00 % of 30 calls" in capsys.readouterr().out
