"""What `cleave top` can sort functions by. Loads quickly, since every command knows its options."""

from __future__ import annotations

import enum


class Order(enum.Enum):
    """What functions can be sorted by."""

    CALLS = "calls"
    CONCURRENCY = "concurrency"
    P50 = "p50"
    P99 = "p99"
    ERRORS = "errors"
    THROTTLED = "throttled"
    CPU = "cpu"
    MEMORY = "memory"
    NAME = "name"
