"""What isolation costs a cold start: each round is one start in a sandbox and one without."""

from __future__ import annotations

from typing import Any

from bench.isolation import comparison

WARM_UP = 10


def test_isolation(rounds: int, isolation: list[dict[str, Any]]) -> None:
    with comparison(1769) as comparing:
        for _ in range(WARM_UP):
            comparing.turn()
        comparing.forget()
        for _ in range(rounds):
            comparing.turn()
        isolation.append(comparing.row())
