"""The limits of limits.toml and whether a result keeps them.

Guarantees that what was not measured, or cannot be found in a result, does not count as kept.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMITS = Path(__file__).with_name("limits.toml")


@dataclass(frozen=True)
class Limit:
    """One figure and what it may be."""

    scenario: str
    figure: str
    at_most_us: float
    why: str


@dataclass(frozen=True)
class Verdict:
    """A limit beside what was measured: microseconds, None where nothing was. `resolution_us` is a difference's."""

    limit: Limit
    measured_us: float | None
    resolution_us: float | None

    @property
    def kept(self) -> bool:
        """Whether it was measured and is not over the limit."""
        return self.measured_us is not None and self.measured_us <= self.limit.at_most_us


def load(path: Path = LIMITS) -> list[Limit]:
    """Raises TypeError for a limit with a field too many or too few."""
    return [Limit(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["limit"]]


def judge(limits: Sequence[Limit], rows: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """One verdict a limit, in their order."""
    by_name = {row["name"]: row for row in rows}
    return [_verdict(limit, by_name.get(limit.scenario, {})) for limit in limits]


def lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Asked and measured, a line each, in milliseconds."""
    width = max((len(verdict.limit.why) for verdict in verdicts), default=0)
    return [_line(verdict, width) for verdict in verdicts]


def _verdict(limit: Limit, row: Mapping[str, Any]) -> Verdict:
    group, _, _ = limit.figure.rpartition(".")
    resolution = _find(row, f"{group}.resolution") if group else None
    return Verdict(limit, _find(row, limit.figure), resolution)


def _find(row: Any, path: str) -> float | None:
    for key in path.split("."):
        if not isinstance(row, Mapping) or key not in row:
            return None
        row = row[key]
    return float(row) if isinstance(row, int | float) and not isinstance(row, bool) else None


def _line(verdict: Verdict, width: int) -> str:
    limit = verdict.limit
    asked = f"asked ≤ {limit.at_most_us / 1000:.3f}"
    if verdict.measured_us is None:
        measured = "not measured"
    else:
        measured = f"measured {verdict.measured_us / 1000:.3f}"
        if verdict.resolution_us is not None:
            measured += f" ±{verdict.resolution_us / 1000:.3f}"
    word = "kept  " if verdict.kept else "MISSED"
    return f"{word}  {limit.why:<{width}}  {asked} ms  {measured} ms  ({limit.scenario}, {limit.figure})"
