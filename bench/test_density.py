"""Memory of an idle sandbox, sandboxes made and taken away in a second, and a thousand at once."""

from __future__ import annotations

from typing import Any

import pytest

from bench.density import measure


@pytest.mark.parametrize("kind", ["parked", "fork"])
def test_idle(kind: str, rounds: int, rows: list[dict[str, Any]]) -> None:
    rows.append(measure(f"idle-{kind}", max(1, rounds // 4)))


def test_churn(rounds: int, rows: list[dict[str, Any]]) -> None:
    rows.append(measure("churn", max(1, rounds // 20)))


def test_crowd(rows: list[dict[str, Any]]) -> None:
    rows.append(measure("crowd", 1_000))
