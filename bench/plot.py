"""Draws a result: how the times of echo, warm and cold calls are distributed.

    python -m bench.plot                              bench/results/latest.json → bench/results/cold-warm.png
    python -m bench.plot RESULT docs/images/cold-warm.png      the picture of the README

One strip a scenario on a logarithmic axis, with the median and p99 written beside it. The colours and the grey text
can be read on a light page and on a dark one, so the background is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from engine.cli.benching.comparison import percentile

RESULTS = Path(__file__).with_name("results")
_GREY = "#8b949e"
_STRIPS = (  # label, row, whose samples, colour
    ("bare gRPC echo", "warm-1769", "echo", "#8b949e"),
    ("warm call", "warm-1769", "call", "#2da44e"),
    ("cold start", "parked-1769", "call", "#3b82f6"),
)


def draw(result: dict[str, Any], target: Path) -> None:
    """Write the PNG. Raises KeyError for a result without samples."""
    rows = {row["name"]: row for row in result["rows"]}
    figure, axes = plt.subplots(figsize=(8, 2.8), dpi=110)
    labels = []
    for height, (label, name, whose, colour) in enumerate(reversed(_STRIPS)):
        times_ms = np.array(rows[name]["samples_us"][whose]) / 1000
        _strip(axes, height, times_ms, colour)
        p50, p99 = (percentile(times_ms.tolist(), percent) for percent in (50, 99))
        labels.append(f"{label}\n{p50:.2f} ms, p99 {p99:.2f} ms")
    axes.set_xscale("log")
    axes.set_xlim(0.2, 40)
    axes.set_ylim(-0.55, len(_STRIPS) - 0.45)
    ticks = (0.2, 0.5, 1, 2, 5, 10, 20, 40)
    axes.set_xticks(ticks, [f"{tick:g} ms" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(_STRIPS)), labels)
    axes.tick_params(colors=_GREY, left=False)
    for text, (*_, colour) in zip(axes.get_yticklabels(), reversed(_STRIPS), strict=True):
        text.set_color(colour)
    axes.grid(axis="x", color=_GREY, alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GREY)
    where = f"{result['cpu']}, {result['cpus_usable']} vCPUs, Python {result['python']}, {result['date'][:10]}"
    axes.set_xlabel(f"from call to answer over gRPC, logarithmic · 1,769 MB, {where}", color=_GREY, fontsize=8)
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, transparent=True, metadata={"Software": None})
    plt.close(figure)


def _strip(axes: Any, height: float, times_ms: Any, colour: str) -> None:
    """A smoothed density of the logarithm of the times, mirrored, with a tick at the median."""
    logs = np.log10(times_ms)
    counts, edges = np.histogram(logs, bins=np.arange(logs.min() - 0.1, logs.max() + 0.1, 0.002))
    density = np.convolve(counts, np.exp(-0.5 * (np.arange(-30, 31) / 9) ** 2), mode="same")
    half = 0.4 * density / density.max()
    at = 10 ** ((edges[1:] + edges[:-1]) / 2)
    axes.fill_between(at, height - half, height + half, color=colour, alpha=0.55, linewidth=0)
    axes.plot(times_ms, np.full(len(times_ms), height), "|", color=colour, alpha=0.15, markersize=4)
    axes.plot([np.median(times_ms)] * 2, [height - 0.44, height + 0.44], color=colour, linewidth=1.6)


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "latest.json"
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS / "cold-warm.png"
    draw(json.loads(source.read_text()), output)
    print(output)
