"""The statistics of a comparison: percentiles, and how far one thing stands above another measured beside it.

Guarantees that a percentile is a value that was measured, never one between two, and that a difference comes with the
resolution below which it says nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
"""By their keys in results."""
_DIGITS = 1  # of a microsecond


def percentile(values: Sequence[float], percent: float) -> float:
    """By the nearest rank: the smallest value that at least `percent` of the values do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(round(len(ranked) * percent / 100, 6)) - 1)]


def summary(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99, p99.9, max and mean, in the unit of the values, to a tenth."""
    ranked = sorted(values)
    found = {name: percentile(ranked, percent) for name, percent in PERCENTILES.items()}
    return {name: round(value, _DIGITS) for name, value in {**found, "max": ranked[-1], "mean": _mean(ranked)}.items()}


def above(subject: Sequence[Sequence[float]], reference: Sequence[Sequence[float]]) -> dict[str, Any]:
    """How far `subject` stands above `reference`, both as blocks that were measured in turns.

    `p50`, `p90`, `p99`: percentile over all of the one minus that over all of the other. `p50_of_blocks`: the median
    of the differences of the medians of neighbouring blocks, which a drift of the machine does not move. `resolution`:
    half the width of the 95 % confidence interval of that median; a difference between two runs below it is noise.
    """
    mine, others = [v for block in subject for v in block], [v for block in reference for v in block]
    found = {name: percentile(mine, PERCENTILES[name]) - percentile(others, PERCENTILES[name]) for name in _COMPARED}
    differences = [statistics.median(a) - statistics.median(b) for a, b in zip(subject, reference, strict=True)]
    found["p50_of_blocks"] = statistics.median(differences)
    found["resolution"] = resolution(differences)
    return {name: round(value, _DIGITS) for name, value in found.items()}


def times(subject: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """How many times the reference the subject is, both measured in turns: the ratio of their medians, and half the
    width of the 95 % confidence interval of the median of the turns' own ratios."""
    ratios = [one / max(other, 1e-9) for one, other in zip(subject, reference, strict=True)]
    ratio = statistics.median(subject) / statistics.median(reference)
    return {"times": round(ratio, 3), "resolution": round(resolution(ratios), 3)}


_COMPARED = ("p50", "p90", "p99")


def resolution(values: Sequence[float]) -> float:
    """Half the width of the interval around the median."""
    low, high = interval(values)
    return (high - low) / 2


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, by order statistics: no assumption about how the values are
    distributed (Hollander & Wolfe, Nonparametric Statistical Methods, 3.6, in its normal approximation). With fewer
    than six values there is none, and their range stands for it."""
    ranked, count = sorted(values), len(values)
    below = math.floor(count / 2 - 1.96 * math.sqrt(count) / 2)
    low, high = (0, count - 1) if count < 6 else (max(below, 1) - 1, min(count - below, count - 1))
    return ranked[low], ranked[high]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
