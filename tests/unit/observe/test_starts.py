"""Counts and times by kind of start: nothing is lost."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from engine.model.host import StepTimes
from engine.model.invocation import Moments, Report
from engine.model.outcome import Outcome, StartKind
from engine.observe.starts import Starts
from tests.unit.invoke.things import function


def report(kind: StartKind, outcome: Outcome = Outcome.OK, **times: Any) -> Report:
    return replace(Report("r", outcome, kind, 128), **times)


def told(starts: Starts, ended: Report, *marks: tuple[str, int]) -> None:
    """`marks` are in microseconds."""
    starts(function(), ended, Moments(0, 0, 0, 0, tuple((phase, us * 1_000) for phase, us in marks)))


def test_each_kind_of_start_is_counted_apart_with_how_it_ended() -> None:
    starts = Starts()
    assert starts.stats() == ()
    told(starts, report(StartKind.PARKED, start_us=300, init_us=400, handler_us=100, total_us=900))
    told(starts, report(StartKind.PARKED, Outcome.TIMEOUT, start_us=500, handler_us=3_000, total_us=4_000))
    for _ in range(3):
        told(starts, report(StartKind.WARM, queue_us=7, handler_us=50, total_us=90))
    warm, parked = starts.stats()
    assert (warm.kind, warm.outcomes) == (StartKind.WARM, ((Outcome.OK, 3),))
    assert (parked.kind, parked.outcomes) == (StartKind.PARKED, ((Outcome.OK, 1), (Outcome.TIMEOUT, 1)))
    assert (warm.start.count, warm.init.count, warm.queue.sum_us, warm.total.sum_us) == (0, 0, 21, 270)
    assert (parked.start.sum_us, parked.init.sum_us, parked.handler.max_us) == (800, 400, 3_000)


def test_each_step_of_a_start_is_timed_from_the_one_before_up_to_the_end_of_the_init_phase() -> None:
    starts = Starts()
    for extra in (0, 10):
        told(
            starts,
            report(StartKind.FORK),
            ("answered", 9_000),
            ("leased", 100),
            ("forked", 400 + extra),
            ("initialized", 700 + extra),
        )
    told(starts, report(StartKind.WARM), ("answered", 50))
    warm, fork = starts.stats()
    assert warm.steps == ()
    assert fork.steps == (StepTimes("forked", 2, 610, 310), StepTimes("initialized", 2, 600, 300))


def test_what_others_than_the_engine_tell_of_a_start_is_no_step() -> None:
    starts = Starts()
    forged = [(f"guest_{number}", 150 + number) for number in range(50)]
    told(starts, report(StartKind.FORK), ("leased", 100), ("box_mounts", 120), *forged, ("booted", 400))
    (fork,) = starts.stats()
    assert fork.steps == (StepTimes("booted", 1, 300, 300),)


def test_an_init_phase_that_failed_has_the_steps_before_it() -> None:
    starts = Starts()
    told(starts, report(StartKind.FORK, Outcome.INIT_ERROR), ("leased", 100), ("booted", 400), ("answered", 900))
    (fork,) = starts.stats()
    assert [step.step for step in fork.steps] == ["booted"]
