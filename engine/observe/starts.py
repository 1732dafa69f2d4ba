"""How many invocations there were of each kind of start, how they ended, and how long their parts and the steps of
their starts took.

A listener of the pipeline (engine.invoke.pipeline.Record), on its thread; about a microsecond for a warm invocation,
some five for a cold one. Leaves to others who shows it. Guarantees: the counts only grow; a step is one of the engine's
own, whatever a guest has told.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.model.function import Function
from engine.model.host import StartStats, StepTimes
from engine.model.invocation import Moments, Report
from engine.model.outcome import Outcome, StartKind
from engine.observe.times import Times

_OTHERS = ("box_", "guest_")
"""How the moments begin that are not the engine's: they come between its own, where somebody asked for them."""
_LAST_STEPS = frozenset({"initialized", "answered"})


class _Step:
    """One step."""

    __slots__ = ("count", "most_us", "sum_us")

    def __init__(self) -> None:
        self.count = self.sum_us = self.most_us = 0

    def add(self, us: int) -> None:
        self.count += 1
        self.sum_us += us
        if us > self.most_us:
            self.most_us = us


class _Kind:
    """All of one kind of start."""

    __slots__ = ("handler", "init", "outcomes", "queue", "start", "steps", "total")

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = {}
        self.queue, self.start, self.init, self.handler, self.total = (Times() for _ in range(5))
        self.steps: dict[str, _Step] = {}

    def took(self, moments: Moments) -> None:
        """The steps of one start, each from the one before: the first is that it was decided on."""
        last_ns = 0
        for phase, at_ns in sorted(moments.marks, key=lambda mark: mark[1]):
            if phase.startswith(_OTHERS):
                continue
            if last_ns and phase != "answered":
                step = self.steps.get(phase)
                if step is None:
                    step = self.steps[phase] = _Step()
                step.add((at_ns - last_ns) // 1000)
            if phase in _LAST_STEPS:
                return
            last_ns = at_ns


class Starts:
    """Of one engine, from its start on."""

    def __init__(self) -> None:
        self._kinds: dict[StartKind, _Kind] = {}

    def __call__(self, function: Function, report: Report, moments: Moments) -> None:
        """An invocation ran to its end."""
        kind = self._kinds.get(report.start_kind)
        if kind is None:
            kind = self._kinds[report.start_kind] = _Kind()
        kind.outcomes[report.outcome] = kind.outcomes.get(report.outcome, 0) + 1
        if report.start_kind is not StartKind.WARM:
            kind.start.add(report.start_us)
            kind.init.add(report.init_us)
            kind.took(moments)
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
                steps=tuple(
                    StepTimes(name, step.count, step.sum_us, step.most_us) for name, step in found[kind].steps.items()
                ),
            )
            for kind in StartKind
            if kind in found
        )
