"""The table of the README, from a result: `python -m bench.figures [RESULT]` prints it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LATEST = Path(__file__).with_name("results") / "latest.json"
_WORDS = {"warm-1769": "warm invocation", "cold-1769": "cold start"}


def markdown(result: dict[str, Any]) -> str:
    """Echo, warm and cold by p50 and p99 in milliseconds, and where they were measured."""
    rows = {row["name"]: row for row in result["rows"]}
    cells = ["| | p50 | p99 |", "|---|---|---|"]
    if "warm-1769" in rows:
        cells.append(_cells("bare grpc.aio echo", rows["warm-1769"]["echo_us"]))
    cells += [_cells(f"{_WORDS[name]}, 1,769 MB", rows[name]["call_us"]) for name in _WORDS if name in rows]
    where = f"{result['cpu']}, {result['cpus_usable']} vCPUs, Linux {result['kernel']}, Python {result['python']}"
    return "\n".join([*cells, "", f"{where}, {result['date'][:10]}.", ""])


def _cells(what: str, us: dict[str, float]) -> str:
    return f"| {what} | {us['p50'] / 1000:.2f} ms | {us['p99'] / 1000:.2f} ms |"


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else LATEST).read_text())), end="")
