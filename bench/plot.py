"""Draws a result: how times are distributed.

    python -m bench.plot                          bench/results/latest.json → bench/results/*.png
    python -m bench.plot RESULT docs/images       the pictures of the README and of docs/benchmarks.md

    cold-warm.png   echo, warm calls and each kind of start, and other ways to start the same handler
    weights.png     parked starts of functions of three weights, beside the same ones started otherwise
    loads.png       open loops: how slow calls are at each percentile, beside the echo under the same load

The first two have a strip for each on a logarithmic axis, with the median, and from a hundred values on p99, written
beside it. The colours and the grey text can be read on a light page and on a dark one, so the background is left out.
What a result has no samples of is left out of its picture, and a picture without anything is not drawn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from bench.rivals import RIVALS
from engine.cli.benching.comparison import percentile

RESULTS = Path(__file__).with_name("results")
_GREY, _GREEN, _BLUE, _VIOLET, _ORANGE = "#8b949e", "#2da44e", "#3b82f6", "#a371f7", "#d9822b"
_STARTS = (  # label, row, whose samples, colour
    ("bare gRPC echo", "warm-1769", "echo", _GREY),
    ("warm call", "warm-1769", "call", _GREEN),
    ("cold start, parked", "parked-1769", "call", _BLUE),
    ("cold start, forked", "fork-1769", "call", _BLUE),
    ("cold start, exec'ed", "exec-1769", "call", _BLUE),
    *((f"{rival.words}, no gRPC", "rivals-1769", rival.name, _ORANGE) for rival in RIVALS),
)
_WEIGHTS = tuple(
    (f"{words}, {what}", row, whose, colour)
    for words, row in (("boto3", "rivals-boto3-1769"), ("NumPy", "rivals-numpy-1769"))
    for what, whose, colour in (
        ("parked", "parked", _BLUE),
        *((rival.words, rival.name, _ORANGE) for rival in RIVALS),
    )
)
_LOADS = {
    "open-100": _GREEN,
    "open-400": _BLUE,
    "open-1000": _VIOLET,
    "cold-open-20": _ORANGE,
    "cold-open-80": "#cf222e",
}


class Strip(NamedTuple):
    """One of a picture."""

    label: str
    times_ms: Any
    colour: str


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """Write what can be drawn of it; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {row["name"]: row for row in result["rows"] if "samples_us" in row}
    drawn = []
    for name, strips in (("cold-warm.png", _STARTS), ("weights.png", _WEIGHTS)):
        found = list(_found(rows, strips))
        if found:
            _strips(found, result, folder / name)
            drawn.append(folder / name)
    loads = {name: rows[name]["samples_us"] for name in _LOADS if name in rows}
    if loads:
        _curves(loads, result, folder / "loads.png")
        drawn.append(folder / "loads.png")
    return drawn


def _found(rows: Mapping[str, Any], strips: tuple[tuple[str, str, str, str], ...]) -> Iterator[Strip]:
    for label, name, whose, colour in strips:
        samples_us = rows.get(name, {"samples_us": {}})["samples_us"].get(whose)
        if samples_us:
            yield Strip(label, np.array(samples_us) / 1000, colour)


def _strips(strips: list[Strip], result: dict[str, Any], target: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.66 * len(strips)), dpi=110)
    labels = []
    for height, strip in enumerate(reversed(strips)):
        _strip(axes, height, strip.times_ms, strip.colour)
        p50, p99 = (_short(percentile(strip.times_ms.tolist(), percent)) for percent in (50, 99))
        labels.append(f"{strip.label}\n{p50} ms" + (f", p99 {p99} ms" if len(strip.times_ms) >= 100 else ""))
    least, most = min(strip.times_ms.min() for strip in strips), max(strip.times_ms.max() for strip in strips)
    axes.set_xscale("log")
    axes.set_xlim(least * 0.85, most * 1.15)
    axes.set_ylim(-0.55, len(strips) - 0.45)
    _ticks(axes.xaxis, least, most)
    axes.set_yticks(range(len(strips)), labels)
    axes.tick_params(colors=_GREY, left=False)
    for text, strip in zip(axes.get_yticklabels(), reversed(strips), strict=True):
        text.set_color(strip.colour)
    axes.set_xlabel(f"from call to answer, logarithmic · 1,769 MB, {_where(result)}", color=_GREY, fontsize=8)
    _finish(figure, axes, "x", target)


def _strip(axes: Any, height: float, times_ms: Any, colour: str) -> None:
    """A smoothed density of the logarithm of the times, mirrored, with a tick at the median."""
    logs = np.log10(times_ms)
    counts, edges = np.histogram(logs, bins=np.arange(logs.min() - 0.1, logs.max() + 0.1, 0.002))
    density = np.convolve(counts, np.exp(-0.5 * (np.arange(-30, 31) / 9) ** 2), mode="same")
    half = 0.4 * density / density.max()
    at = 10 ** ((edges[1:] + edges[:-1]) / 2)
    axes.fill_between(at, height - half, height + half, color=colour, alpha=0.55, linewidth=0)
    axes.plot(times_ms, np.full(len(times_ms), height), "|", color=colour, alpha=0.15, markersize=4)
    axes.plot([percentile(times_ms.tolist(), 50)] * 2, [height - 0.44, height + 0.44], color=colour, linewidth=1.6)


def _curves(loads: Mapping[str, Mapping[str, list[float]]], result: dict[str, Any], target: Path) -> None:
    """Times by percentile, on an axis where each further nine takes the same room."""
    figure, axes = plt.subplots(figsize=(8, 3.6), dpi=110)
    least, most, tail = float("inf"), 0.0, 100.0
    for name, samples in loads.items():
        for whose, style in (("call", "-"), ("echo", ":")):
            times_ms = np.sort(np.array(samples[whose])) / 1000
            beyond = (len(times_ms) - np.arange(len(times_ms))) / len(times_ms)  # the share that is at least as slow
            words = name.replace("-", " ").replace("open", "open loop,") + " /s"
            label = words if whose == "call" else None
            axes.plot(1 / beyond, times_ms, style, color=_LOADS[name], linewidth=1.4, label=label)
            least, most, tail = min(least, times_ms[0]), max(most, times_ms[-1]), max(tail, len(times_ms))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(1, tail)
    nines = [(1, "0"), (2, "p50"), (10, "p90"), (100, "p99"), (1_000, "p99.9"), (10_000, "p99.99")]
    shown = [(at, label) for at, label in nines if at <= tail]
    axes.set_xticks([at for at, _ in shown], [label for _, label in shown])
    _ticks(axes.yaxis, least, most)
    axes.minorticks_off()
    axes.tick_params(colors=_GREY)
    legend = axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for text in legend.get_texts():
        text.set_color(_GREY)
    axes.set_xlabel(f"dotted: the echo under the same load · 1,769 MB, {_where(result)}", color=_GREY, fontsize=8)
    _finish(figure, axes, "both", target)


def _finish(figure: Any, axes: Any, grid: str, target: Path) -> None:
    axes.grid(axis=grid, color=_GREY, alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GREY)
    figure.tight_layout()
    figure.savefig(target, transparent=True, metadata={"Software": None})
    plt.close(figure)


def _ticks(axis: Any, least: float, most: float) -> None:
    digits = (1, 2, 5) if most > 10 * least else (1, 1.5, 2, 3, 5, 7)
    ticks = [digit * 10.0**power for power in range(-2, 6) for digit in digits]
    ticks = [tick for tick in ticks if least * 0.85 <= tick <= most * 1.15]
    axis.set_ticks(ticks, [f"{tick:g} ms" for tick in ticks])
    axis.set_minor_locator(mpl.ticker.NullLocator())


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def _where(result: dict[str, Any]) -> str:
    return f"{result['cpu']}, {result['cpus_usable']} vCPUs, Python {result['python']}, {result['date'][:10]}"


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "latest.json"
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS
    for picture in draw(json.loads(source.read_text()), output):
        print(picture)
