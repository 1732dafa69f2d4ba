"""The limits of `make bench`: their file, and when they are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import boto3_calls, decisions, listing, log_flood, url_streams, urls
from bench.ends import CLINGERS
from bench.limits import KINDS, Limit, Verdict, judge, load, table
from bench.streams import LONG_STREAMS
from bench.test_payloads import PAYLOAD
from engine.cli.benching.comparison import above, summary
from engine.cli.benching.scenarios import SCENARIOS

WARM = Limit("warm", "above_echo_us.p50", "at_most_us", 300, "a warm call above the echo")
RATIO = Limit("warm", "above_echo_us.p50", "at_least_times", 6, "against another", asked=8, aim=25)


def row(name: str = "warm", **above: Any) -> dict[str, Any]:
    return {"name": name, "above_echo_us": above}


@pytest.mark.parametrize(("measured", "kept"), [(0, True), (299.9, True), (300, True), (300.1, False), (9_000, False)])
def test_a_limit_is_kept_up_to_and_including_its_figure(measured: float, kept: bool) -> None:
    (verdict,) = judge([WARM], [row(p50=measured)])
    assert verdict.measured == measured
    assert verdict.kept is kept


@pytest.mark.parametrize(
    "rows",
    [[], [row("cold", p50=1)], [row(p99=1)], [{"name": "warm"}], [row(p50=None)], [row(p50=True)], [row(p50="1")]],
)
def test_what_was_not_measured_is_not_kept(rows: list[dict[str, Any]]) -> None:
    (verdict,) = judge([WARM], rows)
    assert not verdict.kept
    assert "not measured" in table([verdict])[0]


@pytest.mark.parametrize(
    ("measured", "kept", "reached"), [(5.9, False, False), (6, True, False), (7.9, True, False), (8, True, True)]
)
def test_a_ratio_is_held_from_below(measured: float, kept: bool, reached: bool) -> None:
    (verdict,) = judge([RATIO], [row(p50=measured)])
    assert (verdict.kept, verdict.reached) == (kept, reached)


def test_a_line_says_what_was_measured_with_its_resolution_and_the_three_bounds() -> None:
    verdicts = judge([replace(WARM, asked=150, aim=60), RATIO], [row(p50=352.25, resolution=12.0)])
    assert table(verdicts) == [
        (
            *("MISSED", "a warm call above the echo", "0.352 ±0.012 ms"),
            *("≤ 0.300", "≤ 0.150", "≤ 0.060", "warm, above_echo_us.p50"),
        ),
        ("kept", "against another", "352.25 ±12.00 times", "≥ 6.00", "≥ 8.00", "≥ 25.00", "warm, above_echo_us.p50"),
    ]


def test_what_was_missed_comes_first_then_what_is_short_of_what_is_asked() -> None:
    short = replace(WARM, asked=100)
    verdicts = [Verdict(WARM, 200, None), Verdict(short, 200, None), Verdict(WARM, 400, None), Verdict(short, 50, None)]
    assert [cells[0] for cells in table(verdicts)] == ["MISSED", "SHORT", "kept", "kept"]


def test_the_projects_limits_name_scenarios_that_exist_and_figures_that_a_row_has() -> None:
    limits = load()
    ends = [clinger.name for clinger in CLINGERS]
    starts = [
        {"name": name, "cost_us": above([[2.0]], [[1.0]])} for name in ("isolation-1769", "isolation-parked-1769")
    ]
    rivals = {"name": "rivals-1769", "times": {"bubblewrap": {"start": 100.0}}}
    flood = {"name": log_flood.NAME, "flood_times": {"p50": 1.0}}
    streams = [*(stream.name for stream in LONG_STREAMS), url_streams.URL]
    calls = [scenario.name for scenario in (*SCENARIOS, PAYLOAD)]
    density = ("idle-parked", "idle-fork", "churn", "crowd-1000")
    inside: list[dict[str, Any]] = [
        {"name": "inside-share", "above_bare_us": {"p50": 1.0, "p99": 1.0}},
        {"name": "inside-rate-64", "calls_per_s": 1e5},
        {"name": "inside-overload", "overload_times": {"p50": 1.0}},
        {"name": "inside-fairness", "fairness_times": {"p99": 1.0}},
    ]
    decision = decisions.row([1.0], [1.0])
    listed = {"name": listing.NAME, "page_us": {"p50": 1.0}}
    url = {"name": urls.NAME, "per_workerd": {"times": 2.0}}
    boto3 = {"name": boto3_calls.NAME, "above_asgi_us": {"p50": 1.0}}
    named = (rivals, flood, decision, listed, url, boto3)
    others = {
        *(row["name"] for row in inside),
        *ends,
        *density,
        *streams,
        *(start["name"] for start in starts),
        *(row["name"] for row in named),
    }
    assert {limit.scenario for limit in limits} <= {*calls, *others}
    rows: list[dict[str, Any]] = [
        *starts,
        *inside,
        *named,
        *({"name": name, "late_us": summary([1.0]), "ran_us": summary([1.0])} for name in ends),
    ]
    rows += [row(name, p50=1.0, p50_of_blocks=1.0, p90=1.0, p99=1.0) for name in calls]
    rows += [{"name": name, "ratio": 1.0} for name in streams]
    rows += [{"name": name, "idle_mb": {"p50": 1.0}, "per_s": 1e3, "answering_s": 1.0} for name in density]
    assert all(verdict.kept for verdict in judge(limits, rows))


def test_the_projects_limits_are_those_that_were_promised() -> None:
    promised: dict[tuple[str, str], tuple[float, float | None, float | None]] = {
        ("warm-1769", "above_echo_us.p50"): (300, 150, 60),
        ("parked-1769", "above_echo_us.p50"): (2_000, 1_000, 400),
        ("parked-1769", "above_echo_us.p99"): (5_000, None, 1_500),
        ("fork-1769", "above_echo_us.p50"): (6_000, 3_500, 2_500),
        ("rivals-1769", "times.bubblewrap.start"): (8, None, 25),
        ("isolation-1769", "cost_us.p50"): (1_000, None, None),
        ("isolation-parked-1769", "cost_us.p50"): (1_000, None, None),
        ("idle-parked", "idle_mb.p50"): (1.6, None, 1.1),
        ("idle-fork", "idle_mb.p50"): (1.6, None, 1.1),
        ("churn", "per_s"): (200, None, 500),
        ("crowd-1000", "answering_s"): (4.0, 2.0, 0.9),
        ("payload-1mb", "above_echo_us.p50"): (6_000, None, 3_000),
        ("out-1769", "ratio"): (0.6, None, 0.9),
        ("pipe-1769", "ratio"): (0.6, None, None),
        ("log-flood-1769", "flood_times.p50"): (1.3, None, 1.1),
        ("decision", "ratio"): (1.5, None, 1.1),
        ("list-5000", "page_us.p50"): (50_000, None, 10_000),
        ("boto3-1769", "above_asgi_us.p50"): (300, None, 120),
        ("url-1769", "per_workerd.times"): (0.6, None, 1.1),
        ("url-stream-1769", "ratio"): (0.6, None, 0.9),
        ("inside-share", "above_bare_us.p50"): (100, 80, 50),
        ("inside-share", "above_bare_us.p99"): (400, None, 200),
        ("inside-rate-64", "calls_per_s"): (10_000, 25_000, 60_000),
        ("inside-overload", "overload_times.p50"): (2, None, 1.2),
        ("inside-fairness", "fairness_times.p99"): (3, None, 1.5),
    }
    held = {(limit.scenario, limit.figure): limit for limit in load()}
    for figure, (bound, asked, aim) in promised.items():
        assert held[figure].kind == "at_least_times" or held[figure].bound <= bound
        assert held[figure].kind != "at_least_times" or held[figure].bound >= bound
        assert held[figure].asked == asked or (asked is not None and held[figure].bound <= asked)
        assert held[figure].aim == aim


def test_ends_are_held_to_20_ms_but_for_what_a_busy_machine_and_a_thousand_processes_take() -> None:
    asked = {(limit.scenario, limit.figure): limit.bound for limit in load()}
    for clinger in CLINGERS:
        if clinger.notes and not clinger.busy:
            assert asked[clinger.name, "ran_us.p99"] <= 20_000
        if clinger.children < 1_000:
            assert asked[clinger.name, "late_us.p50"] <= 20_000
            assert clinger.busy or asked[clinger.name, "late_us.p99"] <= 20_000


@pytest.mark.parametrize("bounds", ["at_most_us = 3", "at_least_times = 3\nat_most_mb = 3", "asked = 3"])
def test_a_limit_has_one_bound(tmp_path: Path, bounds: str) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(f'[[limit]]\nscenario = "warm"\nfigure = "x"\nwhy = "w"\n{bounds}\n')
    if bounds == "at_most_us = 3":
        assert load(file) == [Limit("warm", "x", "at_most_us", 3, "w")]
    else:
        with pytest.raises(TypeError, match="exactly one"):
            load(file)


@pytest.mark.parametrize("bounds", ["at_most_us = 3\nasked = 4", "at_least_times = 3\nasked = 4\naim = 2"])
def test_a_limit_that_is_stricter_than_what_is_asked_is_refused(tmp_path: Path, bounds: str) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(f'[[limit]]\nscenario = "warm"\nfigure = "x"\nwhy = "w"\n{bounds}\n')
    with pytest.raises(ValueError, match="in this order"):
        load(file)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_bound_is_kept_by_itself(kind: str) -> None:
    (verdict,) = judge([replace(WARM, kind=kind)], [row(p50=300)])
    assert verdict.kept


def test_a_limit_with_a_misspelt_field_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text('[[limit]]\nscenario = "warm"\nfigure = "x"\nat_most_us = 3\naims = 2\nwhy = "w"\n')
    with pytest.raises(TypeError, match="aims"):
        load(file)
