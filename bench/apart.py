"""A measurement in a process of its own, so that nothing of those before is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from engine.cli.benching.facts import ROOT


def measured_apart(module: str, name: str, amount: int, within_s: float) -> dict[str, Any]:
    """The row that `python -m module name amount` prints as JSON. Raises RuntimeError with what it said instead."""
    command = [sys.executable, "-m", module, name, str(amount)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=within_s, check=False)
    if ran.returncode != 0:
        raise RuntimeError(f"{name} was not measured: {ran.stderr[-2_000:]}")
    row: dict[str, Any] = json.loads(ran.stdout)
    return row
