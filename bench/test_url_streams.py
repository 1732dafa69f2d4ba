"""Long answers over HTTP, beside uvicorn's: a gigabyte, or with fewer rounds a quarter of it."""

from __future__ import annotations

from typing import Any

from bench.url_streams import ENGINE, measure
from engine.cli.benching.bed import Beds
from engine.cli.benching.scenarios import DEFAULT_ROUNDS


def test_url_streams(beds: Beds, rounds: int, rows: list[dict[str, Any]]) -> None:
    rows += measure(beds.bed(ENGINE), 1_024 if rounds >= DEFAULT_ROUNDS else 256)
