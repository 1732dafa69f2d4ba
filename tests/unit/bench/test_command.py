"""`cleave bench` as its user runs it, with an engine of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli.benching.scenarios import SCENARIOS


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine.cli.main", "bench", "--output", "json", *arguments],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.privileged
def test_it_measures_every_scenario_and_leaves_nothing(tmp_path: Path) -> None:
    ran = bench(tmp_path, "--rounds", "2")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = json.loads(ran.stdout)["rows"]
    assert [row["name"] for row in rows] == [scenario.name for scenario in SCENARIOS]
    for row, scenario in zip(rows, SCENARIOS, strict=True):
        assert row["calls"] + row["left_out"] == scenario.rounds(2) * scenario.calls
        assert row["kinds"][scenario.start] == row["calls"] > 0
        assert row["left_out"] == 0 or scenario.start == "parked"
    assert not list(tmp_path.iterdir())


def test_an_engine_that_does_not_answer_is_said_in_json(tmp_path: Path) -> None:
    ran = bench(tmp_path, "--address", "127.0.0.1:1")
    assert ran.returncode == 4
    assert json.loads(ran.stdout)["error"]["reason"] == "ENGINE_UNREACHABLE"
