"""The limits of limits.toml and whether a result keeps them.

A figure can have three values: the limit, whose miss fails the run; what is asked of it; and the aim. One that does not
reach what is asked yet is held at its limit all the same, and is printed ahead of those that do.

Guarantees that what was not measured, or cannot be found in a result, does not count as kept, and that no limit is
stricter than what is asked. Only what a row itself says to be absent from this host, with the reason, does not fail.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMITS = Path(__file__).with_name("limits.toml")


@dataclass(frozen=True)
class Kind:
    """What a bound means and how it is shown."""

    sign: str  # ≤ or ≥
    unit: str
    scale: float = 1.0  # of the number in the result, to that unit
    digits: int = 2

    def allows(self, bound: float, value: float) -> bool:
        """Whether the value is on the right side of the bound, or on it."""
        return value <= bound if self.sign == "≤" else value >= bound

    def text(self, value: float) -> str:
        """Scaled and rounded, without the unit."""
        return f"{value * self.scale:.{self.digits}f}"


KINDS = {
    "at_most_us": Kind("≤", "ms", 0.001, 3),
    "at_most_s": Kind("≤", "s"),
    "at_most_mb": Kind("≤", "MB"),
    "at_least_per_s": Kind("≥", "/s", digits=0),
    "at_most_times": Kind("≤", "times"),
    "at_least_times": Kind("≥", "times"),
}
"""By the field that holds the bound; its name has the unit of the number in the result."""


@dataclass(frozen=True)
class Limit:
    """One figure and what it may be. `asked` and `aim` are in the unit of `bound`."""

    scenario: str
    figure: str
    kind: str  # of KINDS
    bound: float
    why: str
    asked: float | None = None
    aim: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A limit beside what was measured, in the limit's unit: None where nothing was. `resolution` is a difference's."""

    limit: Limit
    measured: float | None
    resolution: float | None
    absent: str = ""  # why it cannot be measured here, where the row says so

    @property
    def failed(self) -> bool:
        """Whether the run fails by it: not where this host has not what it takes to measure it."""
        return not self.kept and not self.absent

    @property
    def kept(self) -> bool:
        """Whether it was measured and is within the limit."""
        return self._within(self.limit.bound)

    @property
    def reached(self) -> bool:
        """Whether it is what is asked, too."""
        return self.kept and (self.limit.asked is None or self._within(self.limit.asked))

    @property
    def word(self) -> str:
        """How it went."""
        if not self.kept:
            return "ABSENT" if self.absent else "MISSED"
        return "kept" if self.reached else "SHORT"

    def _within(self, bound: float) -> bool:
        return self.measured is not None and KINDS[self.limit.kind].allows(bound, self.measured)


def load(path: Path = LIMITS) -> list[Limit]:
    """Raises TypeError for a limit with a field too many or too few, ValueError for one stricter than what is asked."""
    return [_limit(dict(entry)) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["limit"]]


def judge(limits: Sequence[Limit], rows: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """One verdict a limit, in their order."""
    by_name = {row["name"]: row for row in rows}
    return [_verdict(limit, by_name.get(limit.scenario, {})) for limit in limits]


HEAD = ("", "WHAT", "MEASURED", "LIMIT", "ASKED", "AIM", "FIGURE")


def table(verdicts: Sequence[Verdict]) -> list[Sequence[str]]:
    """A line each: limits that were missed, what is short of what is asked, what is absent, then the others."""
    ranks = {"MISSED": 0, "SHORT": 1, "ABSENT": 2, "kept": 3}
    return [_cells(verdict) for verdict in sorted(verdicts, key=lambda verdict: ranks[verdict.word])]


def _limit(entry: dict[str, Any]) -> Limit:
    kinds = entry.keys() & KINDS.keys()
    if len(kinds) != 1:
        raise TypeError(f"a limit has exactly one of {', '.join(KINDS)}: {entry}")
    kind = kinds.pop()
    limit = Limit(kind=kind, bound=entry.pop(kind), **entry)
    for nearer, farther in ((limit.bound, limit.asked), (limit.asked, limit.aim)):
        if nearer is not None and farther is not None and not KINDS[kind].allows(nearer, farther):
            raise ValueError(f"limit, asked and aim have to be in this order, each stricter: {limit}")
    return limit


def _verdict(limit: Limit, row: Mapping[str, Any]) -> Verdict:
    group, _, name = limit.figure.rpartition(".")
    # A resolution is that of the median.
    resolution = _find(row, f"{group}.resolution") if group and name in ("p50", "start") else None
    return Verdict(limit, _find(row, limit.figure), resolution, row.get("absent", {}).get(group, ""))


def _find(row: Any, path: str) -> float | None:
    for key in path.split("."):
        if not isinstance(row, Mapping) or key not in row:
            return None
        row = row[key]
    return float(row) if isinstance(row, int | float) and not isinstance(row, bool) else None


def _cells(verdict: Verdict) -> Sequence[str]:
    limit, kind = verdict.limit, KINDS[verdict.limit.kind]
    measured = f"not measured: {verdict.absent}" if verdict.absent else "not measured"
    if verdict.measured is not None:
        within = "" if verdict.resolution is None else f" ±{kind.text(verdict.resolution)}"
        measured = f"{kind.text(verdict.measured)}{within} {kind.unit}"
    bounds = (
        "" if bound is None else f"{kind.sign} {kind.text(bound)}" for bound in (limit.bound, limit.asked, limit.aim)
    )
    return (verdict.word, limit.why, measured, *bounds, f"{limit.scenario}, {limit.figure}")
