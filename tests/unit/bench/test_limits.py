"""The limits of `make bench`: their file, and when they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.ends import CLINGERS
from bench.limits import Limit, judge, lines, load
from engine.cli.benching.comparison import above, summary
from engine.cli.benching.scenarios import SCENARIOS

WARM = Limit("warm", "above_echo_us.p50", 300, "a warm call above the echo")


def row(name: str = "warm", **above: Any) -> dict[str, Any]:
    return {"name": name, "above_echo_us": above}


@pytest.mark.parametrize(("measured", "kept"), [(0, True), (299.9, True), (300, True), (300.1, False), (9_000, False)])
def test_a_limit_is_kept_up_to_and_including_its_figure(measured: float, kept: bool) -> None:
    (verdict,) = judge([WARM], [row(p50=measured)])
    assert verdict.measured_us == measured
    assert verdict.kept is kept


@pytest.mark.parametrize(
    "rows",
    [[], [row("cold", p50=1)], [row(p99=1)], [{"name": "warm"}], [row(p50=None)], [row(p50=True)], [row(p50="1")]],
)
def test_what_was_not_measured_is_not_kept(rows: list[dict[str, Any]]) -> None:
    (verdict,) = judge([WARM], rows)
    assert not verdict.kept
    assert "not measured" in lines([verdict])[0]


def test_a_line_says_what_was_asked_and_what_was_measured_with_its_resolution() -> None:
    verdicts = judge([WARM], [row(p50=352.25, resolution=12.0)])
    assert lines(verdicts) == [
        "MISSED  a warm call above the echo  asked ≤ 0.300 ms  measured 0.352 ±0.012 ms  (warm, above_echo_us.p50)"
    ]


def test_the_projects_limits_name_scenarios_that_exist_and_figures_that_a_row_has() -> None:
    limits = load()
    ends = [clinger.name for clinger in CLINGERS]
    starts = {"name": "isolation-1769", "cost_us": above([[2.0]], [[1.0]])}
    assert {limit.scenario for limit in limits} <= {scenario.name for scenario in SCENARIOS} | {*ends, starts["name"]}
    rows: list[dict[str, Any]] = [starts, *({"name": name, "late_us": summary([1.0])} for name in ends)]
    rows += [row(scenario.name, p50=1.0, p50_of_blocks=1.0, p90=1.0, p99=1.0) for scenario in SCENARIOS]
    assert all(verdict.kept for verdict in judge(limits, rows))


def test_the_projects_limits_are_those_that_were_promised() -> None:
    asked = {limit.scenario: limit.at_most_us for limit in load() if limit.figure == "above_echo_us.p50"}
    assert asked["warm-1769"] <= 300
    assert asked["cold-1769"] <= 8_000
    assert [limit.at_most_us for limit in load() if limit.figure == "cost_us.p50"] == [1_000]


def test_every_end_is_held_to_20_ms_at_p50_and_but_for_a_busy_machine_at_p99() -> None:
    asked = {(limit.scenario, limit.figure): limit.at_most_us for limit in load()}
    for clinger in CLINGERS:
        assert asked[clinger.name, "late_us.p50"] <= 20_000
        assert clinger.busy or asked[clinger.name, "late_us.p99"] <= 20_000


def test_a_limit_with_a_misspelt_field_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text('[[limit]]\nscenario = "warm"\nfigure = "x"\nat_most = 3\nwhy = "w"\n')
    with pytest.raises(TypeError, match="at_most"):
        load(file)
