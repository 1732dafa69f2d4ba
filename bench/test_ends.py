"""How late the last process is gone after the deadline, a round each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench.ends import CLINGERS, Clinger, measure


@pytest.mark.parametrize("clinger", CLINGERS, ids=lambda clinger: clinger.name)
def test_ends(clinger: Clinger, rounds: int, rows: list[dict[str, Any]]) -> None:
    rows.append(asyncio.run(measure(clinger, max(2, round(rounds * clinger.share)))))
