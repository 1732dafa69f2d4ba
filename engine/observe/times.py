"""Times counted in buckets, from which percentiles are taken.

A bucket's bound is at most a quarter above the one before, and every 1, 2.5 and 5 of a power of ten is a bound: those
are what other systems want to be told (EXPORTED_US). Leaves to others what the times are of. Guarantees: the counts
only grow; a percentile is at most a quarter above the time that it stands for, and never more than the largest.
"""

from __future__ import annotations

from bisect import bisect_left

from engine.model.host import Distribution

_DECADE = (10, 12, 15, 18, 20, 25, 30, 35, 40, 50, 60, 70, 80)
BOUNDS_US: tuple[int, ...] = (*range(10), *(bound * 10**decade for decade in range(12) for bound in _DECADE), 10**13)
"""The longest time of each bucket but the last, which has no end."""
EXPORTED_US = tuple(bound * 10**decade for decade in range(1, 8) for bound in (10, 25, 50))[:-1]
"""0.1 ms to 250 s, beyond which is AWS Lambda's longest, 900 s."""


class Times:
    """The times of one part, in microseconds."""

    __slots__ = ("_counts", "_most_us", "_sum_us")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}  # by bucket, those that have any
        self._sum_us = self._most_us = 0

    def add(self, us: int) -> None:
        """One more."""
        bucket = bisect_left(BOUNDS_US, us)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._sum_us += us
        if us > self._most_us:
            self._most_us = us

    def distribution(self) -> Distribution:
        """As they are now; a microsecond for each few buckets that have any."""
        counts = sorted(self._counts.items())
        count = sum(self._counts.values())
        return Distribution(
            count=count,
            sum_us=self._sum_us,
            p50_us=self._at(0.5, count, counts),
            p99_us=self._at(0.99, count, counts),
            max_us=self._most_us,
            buckets=tuple((self._most_of(bucket), found) for bucket, found in counts),
        )

    def _at(self, share: float, count: int, counts: list[tuple[int, int]]) -> int:
        left = share * count
        for bucket, found in counts:
            left -= found
            if left <= 0:
                return min(self._most_of(bucket), self._most_us)
        return 0

    def _most_of(self, bucket: int) -> int:
        return BOUNDS_US[bucket] if bucket < len(BOUNDS_US) else max(self._most_us, BOUNDS_US[-1])
