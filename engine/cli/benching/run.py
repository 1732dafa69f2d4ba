"""Runs scenarios one after the other and makes their document, for `cleave bench`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from typing import Any

from engine.cli.benching.bed import Bed
from engine.cli.benching.facts import facts
from engine.cli.benching.scenarios import Scenario, trial

FORMAT = 1
"""Of the document; another number for another meaning of a field."""


def measure(scenario: Scenario, bed: Bed, rounds: int, on_round: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """One scenario's row. `on_round` is called after each round, outside of what is timed."""
    took_us: list[float] = []
    with trial(scenario, bed) as running:
        collecting = gc.isenabled()
        gc.disable()
        try:
            for _ in range(rounds):
                for _ in range(scenario.calls):
                    running.before()
                    begun = time.perf_counter_ns()
                    running.call()
                    took_us.append((time.perf_counter_ns() - begun) / 1000)
                on_round()
        finally:
            if collecting:
                gc.enable()
        return running.row(took_us)


def document(rows: Iterable[dict[str, Any]], began: dict[str, Any] | None = None) -> dict[str, Any]:
    """The whole result: what and where, then one row a scenario. `began` are the facts when it began."""
    return {"format": FORMAT, **(facts() if began is None else began), "rows": list(rows)}
