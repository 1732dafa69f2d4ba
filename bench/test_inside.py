"""The engine without gRPC: its share of a call, its rate, overload and fairness."""

from __future__ import annotations

from typing import Any

import pytest

from bench.inside import measure


@pytest.mark.parametrize(
    ("name", "share"),
    [("share", 1.0), ("rate", 0.02), ("callers", 0.02), ("overload", 0.02), ("fairness", 0.03)],
)
def test_inside(name: str, share: float, rounds: int, rows: list[dict[str, Any]]) -> None:
    rows.append(measure(name, max(1, round(rounds * share))))
