"""What isolation costs a cold start: each round is one start in a sandbox and one without."""

from __future__ import annotations

from typing import Any

import pytest

from bench.isolation import comparison

WARM_UP = 10


@pytest.mark.parametrize("parks", [False, True], ids=["fork", "parked"])
def test_isolation(rounds: int, isolation: list[dict[str, Any]], parks: bool) -> None:
    with comparison(1769, parks=parks) as comparing:
        for _ in range(WARM_UP):
            comparing.turn()
        comparing.forget()
        for _ in range(max(2, rounds // 2)):
            comparing.turn()
        isolation.append(comparing.row())
