"""Deadlines by as few timers as there can be: each passes once, at its time, and none is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from engine.sandbox.deadline import Deadline


class Timer:
    """A timer of `Clock`'s."""

    def __init__(self, due: float, fire: Callable[[], None]) -> None:
        self.due = due
        self.fire = fire
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """An event loop of which only its clock is there, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, fire: Callable[[], None]) -> Timer:
        self.timers.append(Timer(due, fire))
        return self.timers[-1]

    def armed(self) -> list[float]:
        return [timer.due for timer in self.timers if not timer.cancelled]

    def until(self, now: float) -> None:
        while due := [timer for timer in self.timers if not timer.cancelled and timer.due <= now]:
            first = min(due, key=lambda timer: timer.due)
            self.timers.remove(first)
            self.now = first.due
            first.fire()
        self.now = now


class Case:
    def __init__(self) -> None:
        self.clock = Clock()
        self.passed: list[float] = []
        self.deadline = Deadline(cast(asyncio.AbstractEventLoop, self.clock), self.note)

    def note(self) -> None:
        self.passed.append(self.clock.now)


def test_it_passes_once_at_its_time() -> None:
    case = Case()
    case.deadline.set(3)
    case.clock.until(2.9)
    assert case.passed == []
    case.clock.until(20)
    assert case.passed == [3]


def test_ten_thousand_runs_in_time_make_a_timer_a_timeout_and_none_of_them_is_late() -> None:
    case = Case()
    made = 0
    for number in range(10_000):
        case.clock.until(number / 1000)
        before = len(case.clock.timers)
        case.deadline.set(3)
        made += len(case.clock.timers) - before
        case.deadline.clear()
    assert made <= 5
    case.clock.until(20)
    assert case.passed == []
    assert case.clock.armed() == []


def test_one_that_is_set_later_counts_from_then() -> None:
    case = Case()
    case.deadline.set(3)
    case.clock.until(2)
    case.deadline.set(3)
    case.clock.until(4.9)
    assert case.passed == []
    case.clock.until(6)
    assert case.passed == [5]


def test_a_shorter_one_does_not_wait_for_the_timer_of_a_longer_one() -> None:
    case = Case()
    case.deadline.set(900)
    case.deadline.clear()
    case.deadline.set(1)
    case.clock.until(2)
    assert case.passed == [1]
    assert case.clock.armed() == []


def test_what_is_called_then_may_set_the_next() -> None:
    case = Case()

    def note_and_go_on() -> None:
        case.note()
        again.set(5)

    again = Deadline(cast(asyncio.AbstractEventLoop, case.clock), note_and_go_on)
    again.set(1)
    case.clock.until(7)
    assert case.passed == [1, 6]


def test_closed_it_leaves_no_timer() -> None:
    case = Case()
    case.deadline.set(3)
    case.deadline.close()
    case.deadline.close()
    assert case.clock.armed() == []
