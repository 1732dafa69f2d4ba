"""Pages of many functions."""

from __future__ import annotations

from typing import Any

from bench.listing import measure


def test_listing(rounds: int, rows: list[dict[str, Any]]) -> None:
    rows.append(measure(max(2, rounds // 10)))
