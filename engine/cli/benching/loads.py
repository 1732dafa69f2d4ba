"""What a load came to: the row of a result, and the table that people read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

from engine.cli.benching.comparison import above, summary
from engine.cli.benching.load import Load, Tally
from engine.cli.benching.show import ms, percentiles

HEAD = (
    *("LOAD", "MB", "CALLS", "FAILED", "CALLS/S", "START", "ECHO P50"),
    *("P50", "P90", "P99", "P99.9", "MAX", "ABOVE ECHO, P50", "P99", "SENT LATE, P99"),
)


def row(
    name: str,
    memory_mb: int,
    load: Load,
    tallies: Sequence[Tally],
    echoes: Sequence[Tally] = (),
    *,
    samples: bool = False,
) -> dict[str, Any]:
    """The result of slices of a load, each beside the same load on the echo server if `echoes`. `load` is a slice's."""
    took_us = [took for tally in tallies for took in tally.took_us]
    reports = [report for tally in tallies for report in tally.reports]
    found: dict[str, Any] = {
        "name": name,
        "memory_mb": memory_mb,
        "load": {
            "loop": "open" if load.rate else "closed",
            "rate_per_s": load.rate or None,
            "trace": load.trace or None,
            "concurrency": None if load.rate else load.concurrency,
            "slice_s": load.duration_s,
            "slices": len(tallies),
        },
        "calls": len(took_us),
        "due": sum(tally.due for tally in tallies),
        "unsent": sum(tally.unsent for tally in tallies),
        "failures": dict(sum((tally.failures for tally in tallies), Counter())),
        "kinds": dict(sum((Counter(tally.kinds) for tally in tallies), Counter())),
        "calls_per_s": _rate(tallies),
    }
    if took_us:
        found["call_us"] = summary(took_us)
        found["sent_late_us"] = summary([late for tally in tallies for late in tally.sent_late_us])
        found["engine_us"] = {
            part: summary([getattr(report, f"{part}_us") for report in reports])
            for part in ("queue", "start", "init", "handler", "total")
        }
    if samples:
        found["samples_us"] = {"call": _rounded(tallies), "echo": _rounded(echoes)}
    if echoes and took_us:
        found["echo_us"] = summary([took for echo in echoes for took in echo.took_us])
        found["echo_calls_per_s"] = _rate(echoes)
        answered = [
            (tally.took_us, echo.took_us)
            for tally, echo in zip(tallies, echoes, strict=True)
            if tally.took_us and echo.took_us
        ]
        found["above_echo_us"] = above(*zip(*answered, strict=True))
    return found


def table(result: dict[str, Any]) -> list[Sequence[str]]:
    """A line a load; what failed or was not sent is in FAILED."""
    return [_line(found) for found in result["rows"] if "load" in found]


def failures(result: dict[str, Any]) -> list[str]:
    """What failed, a line each, the commonest first."""
    counts = sum((Counter(found["failures"]) for found in result["rows"] if "load" in found), Counter[str]())
    lines = [f"{count} × {what}" for what, count in counts.most_common()]
    unsent = sum(found["unsent"] for found in result["rows"] if "load" in found)
    return [*lines, *([f"{unsent} × not sent: the engine did not keep up"] if unsent else [])]


def _line(found: dict[str, Any]) -> Sequence[str]:
    failed = str(sum(found["failures"].values()) + found["unsent"])
    head = (found["name"], str(found["memory_mb"]), str(found["calls"]), failed, f"{found['calls_per_s']:.0f}")
    kinds = "+".join(sorted(found["kinds"], key=lambda kind: -found["kinds"][kind]))
    if "call_us" not in found:
        return (*head, kinds, *[""] * 9)
    times = percentiles(found["call_us"], found["calls"], ("p50", "p90", "p99", "p99_9", "max"))
    difference = ["", ""]
    if "above_echo_us" in found:
        beyond = found["above_echo_us"]
        difference = [f"{ms(beyond['p50'])} ±{ms(beyond['resolution'])}", ms(beyond["p99"])]
    echo = ms(found["echo_us"]["p50"]) if "echo_us" in found else ""
    return (*head, kinds, echo, *times, *difference, ms(found["sent_late_us"]["p99"]))


def _rate(tallies: Sequence[Tally]) -> float:
    lasted_s = sum(tally.lasted_s for tally in tallies)
    return round(sum(len(tally.took_us) for tally in tallies) / lasted_s, 1) if lasted_s else 0.0


def _rounded(tallies: Sequence[Tally]) -> list[float]:
    return [round(took, 1) for took in chain.from_iterable(tally.took_us for tally in tallies)]
