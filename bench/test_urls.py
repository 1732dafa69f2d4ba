"""A function URL under load, beside workerd."""

from __future__ import annotations

from typing import Any

import pytest

from bench.urls import measure
from engine.cli.benching.bed import Beds
from engine.cli.problems import Problem


def test_urls(beds: Beds, rounds: int, rows: list[dict[str, Any]]) -> None:
    try:
        rows.append(measure(beds.bed(), max(2, rounds // 20)))
    except Problem as problem:  # what is missing, and what installs it
        pytest.fail(problem.text(), pytrace=False)
