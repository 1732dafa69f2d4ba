"""Loads on the engine, in turns with the echo server."""

from __future__ import annotations

from typing import Any

import pytest

from bench.loops import LOOPS, SLICES, Loop, measure
from engine.cli.benching.bed import Beds
from engine.cli.benching.scenarios import DEFAULT_ROUNDS


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_loops(loop: Loop, beds: Beds, rounds: int, rows: list[dict[str, Any]]) -> None:
    row = measure(loop, beds.bed(), max(1, round(SLICES * rounds / DEFAULT_ROUNDS)))
    rows.append(row)
    assert not row["failures"]
