"""Decisions with ten thousand functions, timed by pytest-benchmark; those with ten lie between."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.decisions import BLOCK, FEW, MANY, Decisions, row
from engine.cli.benching.scenarios import DEFAULT_ROUNDS

TURNS = 200


@pytest.mark.benchmark(disable_gc=True, group="decision")
def test_decisions(benchmark: BenchmarkFixture, rounds: int, rows: list[dict[str, Any]]) -> None:
    few, many = Decisions.with_functions(FEW), Decisions.with_functions(MANY)
    few_ns: list[float] = []
    many_ns: list[float] = []

    def between() -> None:
        few_ns.append(few.block())

    def turn() -> None:
        many_ns.append(many.block())

    pedantic: Any = benchmark.pedantic  # published without types
    pedantic(turn, setup=between, rounds=max(10, round(TURNS * rounds / DEFAULT_ROUNDS)))
    assert many.core.counts()["warm"] == BLOCK * len(many_ns)
    found = row(few_ns, many_ns)
    benchmark.extra_info.update(found)
    rows.append(found)
