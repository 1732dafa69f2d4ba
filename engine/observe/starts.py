"""How many invocations there were of each kind of start, how they ended, and how long their parts took.

A listener of the pipeline (engine.invoke.pipeline.Record), on its thread; about a microsecond for each invocation.
Leaves to others who shows it. Guarantees: the counts only grow; a percentile is at most a quarter above the time that
it stands for, and never more than the largest.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.model.function import Function
from engine.model.host import Distribution, StartStats
from engine.model.invocation import Report
from engine.model.outcome import Outcome, StartKind

_BUCKETS = 160  # up to 2^41 microseconds, some 25 days


def bucket_of(us: int) -> int:
    """The bucket of a time: four for each power of two."""
    if us < 8:
        return max(0, us)
    shift = us.bit_length() - 3
    return min(_BUCKETS - 1, 4 * shift + (us >> shift))


def most_of(bucket: int) -> int:
    """The longest time of a bucket."""
    if bucket < 8:
        return bucket
    shift = (bucket - 4) // 4
    return ((bucket - 4 * shift + 1) << shift) - 1


class Times:
    """The times of one part."""

    __slots__ = ("_counts", "_most_us", "_sum_us")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._sum_us = self._most_us = 0

    def add(self, us: int) -> None:
        """One more."""
        self._counts[bucket_of(us)] += 1
        self._sum_us += us
        if us > self._most_us:
            self._most_us = us

    def distribution(self) -> Distribution:
        """As they are now."""
        count = sum(self._counts)
        buckets = tuple((most_of(bucket), found) for bucket, found in enumerate(self._counts) if found)
        return Distribution(
            count=count,
            sum_us=self._sum_us,
            p50_us=self._at(0.5, count),
            p99_us=self._at(0.99, count),
            max_us=self._most_us,
            buckets=buckets,
        )

    def _at(self, share: float, count: int) -> int:
        left = share * count
        for bucket, found in enumerate(self._counts):
            left -= found
            if found and left <= 0:
                return min(most_of(bucket), self._most_us)
        return 0


class _Kind:
    """All of one kind of start."""

    __slots__ = ("handler", "init", "outcomes", "queue", "start", "total")

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = {}
        self.queue, self.start, self.init, self.handler, self.total = (Times() for _ in range(5))


class Starts:
    """Of one engine, from its start on."""

    def __init__(self) -> None:
        self._kinds: dict[StartKind, _Kind] = {}

    def __call__(self, function: Function, report: Report) -> None:
        """An invocation ran to its end."""
        kind = self._kinds.get(report.start_kind)
        if kind is None:
            kind = self._kinds[report.start_kind] = _Kind()
        kind.outcomes[report.outcome] = kind.outcomes.get(report.outcome, 0) + 1
        if report.start_kind is not StartKind.WARM:
            kind.start.add(report.start_us)
            kind.init.add(report.init_us)
        kind.queue.add(report.queue_us)
        kind.handler.add(report.handler_us)
        kind.total.add(report.total_us)

    def stats(self) -> tuple[StartStats, ...]:
        """One entry for each kind that there was, in the order of StartKind."""
        found: Mapping[StartKind, _Kind] = self._kinds
        return tuple(
            StartStats(
                kind=kind,
                outcomes=tuple(found[kind].outcomes.items()),
                queue=found[kind].queue.distribution(),
                start=found[kind].start.distribution(),
                init=found[kind].init.distribution(),
                handler=found[kind].handler.distribution(),
                total=found[kind].total.distribution(),
            )
            for kind in StartKind
            if kind in found
        )
