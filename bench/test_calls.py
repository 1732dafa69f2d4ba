"""Every scenario, timed by pytest-benchmark, a call a round; the echo server's turns lie between, in the set-up."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import weights
from engine.cli.benching.bed import Beds
from engine.cli.benching.scenarios import SCENARIOS, Scenario, trial


@pytest.mark.benchmark(disable_gc=True)
@pytest.mark.parametrize("scenario", [*SCENARIOS, *weights.SCENARIOS], ids=lambda scenario: scenario.name)
def test_calls(
    benchmark: BenchmarkFixture, scenario: Scenario, beds: Beds, rounds: int, rows: list[dict[str, Any]]
) -> None:
    benchmark.group = scenario.start
    with trial(scenario, beds.bed(scenario.engine)) as running:
        pedantic: Any = benchmark.pedantic  # published without types
        pedantic(running.call, setup=running.before, rounds=scenario.rounds(rounds) * scenario.calls)
        assert benchmark.stats is not None, "run it without --benchmark-disable"
        row = running.row([took_s * 1e6 for took_s in benchmark.stats.stats.data], samples=True)
    benchmark.extra_info.update({name: value for name, value in row.items() if name != "samples_us"})
    rows.append(row)
