"""How fast long streams are, beside a bare server's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench.streams import LONG_STREAMS, LongStream, measure
from engine.cli.benching.bed import Beds


@pytest.mark.parametrize("stream", LONG_STREAMS, ids=lambda stream: stream.name)
def test_streams(stream: LongStream, beds: Beds, rows: list[dict[str, Any]]) -> None:
    rows.append(asyncio.run(measure(stream, beds.bed())))
