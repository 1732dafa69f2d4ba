"""Counts and times by kind of start: nothing is lost."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from engine.model.invocation import Report
from engine.model.outcome import Outcome, StartKind
from engine.observe.starts import Starts
from tests.unit.invoke.things import function


def report(kind: StartKind, outcome: Outcome = Outcome.OK, **times: Any) -> Report:
    return replace(Report("r", outcome, kind, 128), **times)


def test_each_kind_of_start_is_counted_apart_with_how_it_ended() -> None:
    starts = Starts()
    assert starts.stats() == ()
    starts(function(), report(StartKind.PARKED, start_us=300, init_us=400, handler_us=100, total_us=900))
    starts(function(), report(StartKind.PARKED, Outcome.TIMEOUT, start_us=500, handler_us=3_000, total_us=4_000))
    for _ in range(3):
        starts(function(), report(StartKind.WARM, queue_us=7, handler_us=50, total_us=90))
    warm, parked = starts.stats()
    assert (warm.kind, warm.outcomes) == (StartKind.WARM, ((Outcome.OK, 3),))
    assert (parked.kind, parked.outcomes) == (StartKind.PARKED, ((Outcome.OK, 1), (Outcome.TIMEOUT, 1)))
    assert (warm.start.count, warm.init.count, warm.queue.sum_us, warm.total.sum_us) == (0, 0, 21, 270)
    assert (parked.start.sum_us, parked.init.sum_us, parked.handler.max_us) == (800, 400, 3_000)
