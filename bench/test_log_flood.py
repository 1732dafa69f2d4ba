"""A warm call beside a sandbox that floods its log, and without it."""

from __future__ import annotations

from typing import Any

from bench.log_flood import measure
from engine.cli.benching.bed import Beds


def test_log_flood(beds: Beds, rounds: int, rows: list[dict[str, Any]]) -> None:
    rows.append(measure(beds.bed(), max(2, rounds // 10)))
