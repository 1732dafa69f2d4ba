"""A result as people read it: what was measured where, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.cli.benching.comparison import PERCENTILES
from engine.cli.render import print_table

HEAD = (
    *("SCENARIO", "MB", "CLIENT", "START", "CALLS", "ECHO P50", "P50", "P99", "P99.9", "MAX"),
    *("ABOVE ECHO, P50", "IN ENGINE, P50"),
)
PARTS_HEAD = ("IN ENGINE, P50", "QUEUE", "START", "INIT", "HANDLER", "TOTAL", "OUTSIDE")
ENDS_HEAD = ("AFTER ITS DEADLINE", "MB", "PROCESSES", "ENDS", "CODE RAN, P99", "GONE, P50", "P99", "MAX")


def print_text(result: dict[str, Any]) -> None:
    """On standard output."""
    for line in lines(result):
        print(line)
    print()
    print_table(HEAD, table(result))
    print()
    print_table(PARTS_HEAD, parts(result))


def lines(result: dict[str, Any]) -> list[str]:
    """What and where."""
    commit = "" if result["commit"] is None else f", commit {result['commit'][:12]}"
    changed = ", with uncommitted changes" if result["uncommitted_changes"] else ""
    memory = f"{result['memory_bytes'] / (1 << 30):.1f} GiB"
    return [
        f"Cleave {result['engine_version']}{commit}{changed}, {result['date']}",
        f"{result['cpu']}, {result['cpus_usable']} of {result['cpus']} CPUs, {memory}, Linux {result['kernel']},"
        f" load {result['load_1m']:.2f}",
        f"Python {result['python']}, grpcio {result['grpcio']}, protobuf {result['protobuf']}; times in milliseconds",
    ]


def table(result: dict[str, Any]) -> list[Sequence[str]]:
    """One line a scenario; ± is the resolution of the difference."""
    return [
        (
            row["name"],
            str(row["memory_mb"]),
            row["client"],
            "+".join(row["kinds"]),
            str(row["calls"]),
            ms(row["echo_us"]["p50"]),
            *percentiles(row["call_us"], row["calls"], ("p50", "p99", "p99_9", "max")),
            f"{ms(row['above_echo_us']['p50'])} ±{ms(row['above_echo_us']['resolution'])}",
            ms(row["engine_us"]["total"]["p50"]),
        )
        for row in result["rows"]
        if "call_us" in row and "load" not in row
    ]


def parts(result: dict[str, Any]) -> list[Sequence[str]]:
    """Where the time went, by the engine's own report; outside is the rest of what the client saw."""
    names = ("queue", "start", "init", "handler", "total", "outside")
    rows = (row for row in result["rows"] if "outside" in row.get("engine_us", {}))
    return [(row["name"], *(ms(row["engine_us"][name]["p50"]) for name in names)) for row in rows]


def ends(result: dict[str, Any]) -> list[Sequence[str]]:
    """How long after its deadline a function's code ran, and how late the last process of its sandbox was gone."""
    return [
        (
            row["name"],
            *(str(row[name]) for name in ("memory_mb", "processes", "ends")),
            ms(row["ran_us"]["p99"]) if "ran_us" in row else "",
            *(ms(row["late_us"][name]) for name in ("p50", "p99", "max")),
        )
        for row in result["rows"]
        if "late_us" in row
    ]


def percentiles(us: dict[str, float], count: int, names: Sequence[str]) -> list[str]:
    """Those of so many values, in milliseconds. One that fewer than one value can be beyond is left out: it is the
    largest."""
    return [
        "" if name in PERCENTILES and count * (100 - PERCENTILES[name]) < 100 - 1e-6 else ms(us[name]) for name in names
    ]


def ms(microseconds: float) -> str:
    """To a hundredth of a millisecond from one on, to a thousandth below."""
    return f"{microseconds / 1000:.3f}" if abs(microseconds) < 1000 else f"{microseconds / 1000:.2f}"
