"""How many invocations there were of each kind of start, how they ended, and how long their parts took.

A listener of the pipeline (engine.invoke.pipeline.Record), on its thread; about a microsecond for each invocation.
Leaves to others who shows it. Guarantees: the counts only grow.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.model.function import Function
from engine.model.host import StartStats
from engine.model.invocation import Report
from engine.model.outcome import Outcome, StartKind
from engine.observe.times import Times


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
