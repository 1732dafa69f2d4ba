"""A megabyte in and out, beside the echo server with the same: as test_calls.py times small events."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from engine.cli.benching.bed import Beds
from engine.cli.benching.scenarios import Scenario, trial

LARGE = b'{"key1": "' + b"x" * 999_988 + b'"}'
"""1 MB of JSON."""
PAYLOAD = Scenario("payload-1mb", "warm", 1769, "sync", calls=5, echoes=5, share=0.125)


@pytest.mark.benchmark(disable_gc=True)
def test_payloads(benchmark: BenchmarkFixture, beds: Beds, rounds: int, rows: list[dict[str, Any]]) -> None:
    benchmark.group = PAYLOAD.start
    with trial(PAYLOAD, beds.bed(PAYLOAD.engine), LARGE) as running:
        pedantic: Any = benchmark.pedantic  # published without types
        pedantic(running.call, setup=running.before, rounds=PAYLOAD.rounds(rounds) * PAYLOAD.calls)
        assert benchmark.stats is not None, "run it without --benchmark-disable"
        row = running.row([took_s * 1e6 for took_s in benchmark.stats.stats.data])
    rows.append(row)
