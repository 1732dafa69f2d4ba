"""Warm calls by boto3, beside the same client on a bare ASGI server."""

from __future__ import annotations

from typing import Any

from bench.boto3_calls import measure
from engine.cli.benching.bed import Beds


def test_boto3_calls(beds: Beds, rounds: int, rows: list[dict[str, Any]]) -> None:
    rows.append(measure(beds.bed(), max(2, rounds // 2)))
