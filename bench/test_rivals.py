"""Parked starts beside other ways to start the same handler, for each weight of function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.rivals import contest
from bench.weights import CODES
from engine.cli.benching.bed import Beds, trivial_code
from engine.cli.benching.scenarios import SCENARIOS, trial

PARKED = next(scenario for scenario in SCENARIOS if scenario.name == "parked-1769-rested")


@pytest.mark.parametrize(
    ("weight", "share"), [("", 0.3), ("boto3", 0.06), ("numpy", 0.06)], ids=lambda value: str(value)
)
def test_rivals(weight: str, share: float, beds: Beds, rounds: int, rows: list[dict[str, Any]]) -> None:
    scenario = replace(PARKED, name="-".join(filter(None, ("rivals", weight, "1769"))), code=weight, share=share)
    code = CODES[weight]() if weight else trivial_code()
    with trial(scenario, beds.bed()) as running, contest(running, code) as contesting:
        for _ in range(scenario.rounds(rounds)):
            contesting.turn()
        rows.append(contesting.row(scenario.name))
