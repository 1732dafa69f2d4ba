"""Moments and costs as three tell them: what a guest says of itself is held within its run."""

from __future__ import annotations

import struct

import pytest

from engine.guest import wire
from engine.model.invocation import Cost
from engine.sandbox import box
from engine.sandbox.timeline import Timeline


def told(timeline: Timeline, *moments: int, counts: tuple[int, ...] = (0,) * 6) -> None:
    timeline.told(wire.MOMENTS.pack(*moments, *counts))


def phases(timeline: Timeline) -> list[str]:
    return [phase for phase, _ in sorted(timeline.moments(True), key=lambda mark: mark[1])]


def test_a_guests_moments_within_its_run_are_told_among_the_engines() -> None:
    timeline = Timeline()
    framed = timeline.add("framed")
    told(timeline, *range(framed + 1, framed + 6))
    while timeline.add("answered") <= framed + 5:
        timeline.marks.pop()
    expected = ["leased", "framed", "guest_read", "guest_prepared", "guest_imported", "guest_ready", "guest_answered"]
    assert phases(timeline) == [*expected, "answered"]


@pytest.mark.parametrize("forged", [0, 1, 2**64 - 1])
def test_moments_that_cannot_be_are_not_told(forged: int) -> None:
    timeline = Timeline()
    timeline.add("framed")
    told(timeline, *[forged] * 5)
    assert phases(timeline) == ["leased", "framed"]


@pytest.mark.parametrize("body", [b"", b"x" * 8, b"x" * (wire.MOMENTS.size + 1)])
def test_what_is_no_timeline_counts_as_none(body: bytes) -> None:
    timeline = Timeline()
    timeline.add("framed")
    timeline.told(body)
    assert phases(timeline) == ["leased", "framed"]
    assert timeline.cost() == Cost()


def test_counts_are_differences_and_bounded_whatever_the_guest_says() -> None:
    timeline = Timeline()
    told(timeline, 1, 1, 1, 1, 1, counts=(10, 1, 30, 2, 35, 2))
    assert timeline.cost() == Cost(10, 1, 20, 1, 5, 0)
    told(timeline, 1, 1, 1, 1, 1, counts=(2**64 - 1, 0, 0, 2**64 - 1, 5, 0))
    cost = timeline.cost()
    assert 0 < cost.boot_minor_faults < 2**63
    assert (cost.init_minor_faults, cost.handler_minor_faults, cost.handler_major_faults) == (0, 5, 0)


def test_a_warm_run_has_page_faults_in_its_handler_alone() -> None:
    timeline = Timeline()
    timeline.again()
    told(timeline, 1, 0, 0, 0, 2, counts=(500, 3, 0, 0, 507, 4))
    assert timeline.cost() == Cost(handler_minor_faults=7, handler_major_faults=1)


def test_each_run_has_its_own() -> None:
    timeline = Timeline()
    timeline.booted(struct.pack(f"={len(box.BOOT_MARKS)}Q", *range(len(box.BOOT_MARKS))))
    assert phases(timeline)[:2] == ["box_cloned", "box_network_made"]
    told(timeline, *[1] * 5, counts=(1,) * 6)
    timeline.again()
    timeline.add("framed")
    assert phases(timeline) == ["framed"]
    assert timeline.cost() == Cost()


def test_who_does_not_ask_gets_the_engines_moments_alone() -> None:
    timeline = Timeline()
    timeline.booted(struct.pack(f"={len(box.BOOT_MARKS)}Q", *range(len(box.BOOT_MARKS))))
    assert [phase for phase, _ in timeline.moments(False)] == ["leased", "booted"]
