"""One test bed for the whole run; at its end the result goes to bench/results and is judged by limits.toml.

    bench/results/<date>-<commit>.json   the result with every time that was measured
    bench/results/latest.json            the same of the last run
    bench/results/figures.md             the README's table from it

A missed limit fails the run. `--rounds N` says how many turns each scenario and the echo server get.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import boto3_calls, density, inside, limits, listing, log_flood, rivals, url_streams, urls, web, weights
from bench import isolation as isolation_bench
from bench.figures import markdown
from engine.cli.benching import loads, show
from engine.cli.benching.bed import Beds, test_beds
from engine.cli.benching.facts import facts
from engine.cli.benching.run import document
from engine.cli.benching.scenarios import DEFAULT_ROUNDS
from engine.cli.problems import Problem

Table = tuple[Sequence[str], Callable[[dict[str, Any]], list[Sequence[str]]]]
TABLES: list[Table] = [
    (show.HEAD, show.table),
    (show.PARTS_HEAD, show.parts),
    (loads.HEAD, loads.table),
    (rivals.HEAD, rivals.table),
    (log_flood.HEAD, lambda result: log_flood.table(result["rows"])),
    (listing.HEAD, lambda result: listing.table(result["rows"])),
    (boto3_calls.HEAD, lambda result: boto3_calls.table(result["rows"])),
    (urls.HEAD, lambda result: urls.table(result["rows"])),
    (url_streams.HEAD, lambda result: url_streams.table(result["rows"])),
    (show.ENDS_HEAD, show.ends),
    (isolation_bench.HEAD, lambda result: isolation_bench.table(result["isolation"])),
    (density.HEAD, lambda result: density.table(result["rows"])),
    (inside.HEAD, lambda result: inside.table(result["rows"])),
]
"""What is printed of a result: a head, and what picks its lines from it. One without lines is left out."""
RESULTS = Path(__file__).with_name("results")

ROWS = pytest.StashKey[list[dict[str, Any]]]()
ISOLATION = pytest.StashKey[list[dict[str, Any]]]()
BEGAN = pytest.StashKey[dict[str, Any]]()
VERDICTS = pytest.StashKey[list[limits.Verdict]]()
RESULT = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=DEFAULT_ROUNDS, help="turns that each scenario gets")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []
    config.stash[ISOLATION] = []
    config.stash[BEGAN] = facts()


@pytest.fixture(scope="session")
def beds() -> Iterator[Beds]:
    """Engines, each started when a scenario first asks for it, and an echo server."""
    try:
        with test_beds({**weights.CODES, log_flood.CODE: log_flood.code, web.CODE: web.code}) as beds:
            yield beds
    except Problem as problem:
        pytest.fail(problem.text(), pytrace=False)


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    """How many turns a scenario gets."""
    return int(pytestconfig.getoption("--rounds"))


@pytest.fixture
def rows(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    """Where a scenario's row goes."""
    return pytestconfig.stash[ROWS]


@pytest.fixture
def isolation(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    """Where a comparison of starts with and without isolation goes."""
    return pytestconfig.stash[ISOLATION]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.option.collectonly or not session.testscollected:
        return
    stash = session.config.stash
    rows = stash[ROWS]
    isolation: list[dict[str, Any]] = stash[ISOLATION]
    result = {**document(rows, stash[BEGAN]), "isolation": isolation}
    verdicts = limits.judge(limits.load(), [*rows, *isolation])
    _write(result)
    stash[RESULT], stash[VERDICTS] = result, verdicts
    if exitstatus == pytest.ExitCode.OK and any(verdict.failed for verdict in verdicts):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    result = config.stash.get(RESULT, None)
    if result is None:
        return
    terminalreporter.section("measured")
    for line in show.lines(result):
        terminalreporter.line(line)
    for head, lines_of in TABLES:
        cells = lines_of(result)
        for line in ["", *_aligned([head, *cells])] if cells else []:
            terminalreporter.line(line)
    verdicts = config.stash[VERDICTS]
    missed = any(verdict.failed for verdict in verdicts)
    terminalreporter.section("limits", red=missed, green=not missed)
    for line in _aligned([limits.HEAD, *limits.table(verdicts)]):
        terminalreporter.line(line)


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _write(result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    name = f"{re.sub(r'[^0-9T]', '', result['date'][:19])}-{(result['commit'] or 'unknown')[:12]}.json"
    text = json.dumps(result)
    (RESULTS / name).write_text(text)
    (RESULTS / "latest.json").write_text(text)
    (RESULTS / "figures.md").write_text(markdown(result))
