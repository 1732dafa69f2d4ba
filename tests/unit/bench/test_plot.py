"""The pictures of a result: what is in them, and what is left out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from bench import loops, plot, weights
from engine.cli.benching.facts import facts
from engine.cli.benching.scenarios import SCENARIOS


def row(name: str, *whose: str, count: int = 200) -> dict[str, Any]:
    chance = random.Random(name)
    return {
        "name": name,
        "samples_us": {who: [1_000 * chance.lognormvariate(0, 1) for _ in range(count)] for who in whose},
    }


@pytest.fixture
def result() -> dict[str, Any]:
    names = {name for _, name, _, _ in (*plot._STARTS, *plot._WEIGHTS)}
    rows = [row(name, *{whose for _, at, whose, _ in (*plot._STARTS, *plot._WEIGHTS) if at == name}) for name in names]
    return {**facts(), "rows": [*rows, *(row(name, "call", "echo") for name in plot._LOADS), {"name": "another"}]}


def test_all_pictures_are_drawn_of_a_whole_result(result: dict[str, Any], tmp_path: Path) -> None:
    drawn = plot.draw(result, tmp_path / "images")
    assert [path.name for path in drawn] == ["cold-warm.png", "weights.png", "loads.png"]
    for path in drawn:
        picture = matplotlib.image.imread(path)
        assert picture.shape[1] == 880
        assert picture[..., 3].max() > 0 == picture[0, 0, 3]  # something is drawn, on nothing


def test_what_a_result_has_no_samples_of_is_left_out(result: dict[str, Any], tmp_path: Path) -> None:
    whole = matplotlib.image.imread(plot.draw(result, tmp_path)[0]).shape[0]
    result["rows"] = [found for found in result["rows"] if found["name"] in ("warm-1769", "parked-1769")]
    (path,) = plot.draw(result, tmp_path / "fewer")
    assert path.name == "cold-warm.png"
    assert matplotlib.image.imread(path).shape[0] < whole
    assert plot.draw({**result, "rows": []}, tmp_path / "none") == []


def test_a_few_values_are_drawn_too(result: dict[str, Any], tmp_path: Path) -> None:
    result["rows"] = [row("warm-1769", "call", "echo", count=1), row("open-100", "call", "echo", count=2)]
    assert len(plot.draw(result, tmp_path)) == 2


def test_pictures_are_of_rows_that_the_bench_has() -> None:
    calls = {scenario.name for scenario in (*SCENARIOS, *weights.SCENARIOS)} | {"exec-1769"}
    rivals = {"rivals-1769", *(f"rivals-{module}-1769" for module in weights.CODES)}
    assert {name for _, name, _, _ in (*plot._STARTS, *plot._WEIGHTS)} <= calls | rivals
    assert set(plot._LOADS) <= {loop.name for loop in loops.LOOPS}
