"""The last invocations: those that are worth a look outlast the others, and neither take more than they may."""

from __future__ import annotations

from typing import Any

from engine.model.invocation import Moments
from engine.model.outcome import Outcome, StartKind
from engine.observe.recent import USUAL_BYTES, RecentInvocations
from tests.unit.observe.test_starts import report

ROOM = 10 * USUAL_BYTES
"""For ten of them."""
WALL_NS = 10**18


class Keeping:
    """Those of an engine whose clock began at 0 and counts."""

    def __init__(self, limit_bytes: int = 2 * ROOM) -> None:
        self.clock_ns = 90_000
        self.recent = RecentInvocations(
            limit_bytes, monotonic_ns=lambda: self.clock_ns, wall_ns=lambda: WALL_NS + self.clock_ns
        )

    def add(self, request_id: str, *, function: str = "f", slow: bool = False, **changes: Any) -> None:
        kind = changes.pop("kind", StartKind.WARM)
        self.clock_ns += 1
        moments = Moments(1_000, 3_000, 5_000, self.clock_ns, (("answered", 80_000), ("other", 85_000)))
        self.recent.add(function, report(kind, request_id=request_id, **changes), moments, slow)

    def ids(self, function: str = "") -> list[str]:
        return [one.report.request_id for one in self.recent.newest_first(function)]


def test_the_newest_comes_first_and_each_is_found_by_its_id() -> None:
    keeping = Keeping()
    for request_id in ("a", "b", "c"):
        keeping.add(request_id, kind=StartKind.FORK if request_id == "b" else StartKind.WARM)
    keeping.add("d", function="g")
    assert keeping.ids() == ["d", "c", "b", "a"]
    assert keeping.ids("f") == ["c", "b", "a"]
    found = keeping.recent.get("b")
    assert found is not None
    assert (found.function, found.ended_ns, found.notable) == ("f", WALL_NS + 90_002, True)
    assert keeping.recent.get("e") is None


def test_of_two_with_the_same_id_the_last_is_found() -> None:
    keeping = Keeping()
    keeping.add("a", outcome=Outcome.TIMEOUT)
    keeping.add("a")
    found = keeping.recent.get("a")
    assert found is not None
    assert found.report.outcome is Outcome.OK


def test_a_flood_of_quick_warm_calls_pushes_out_none_that_is_worth_a_look() -> None:
    keeping = Keeping()
    keeping.add("failed", outcome=Outcome.HANDLER_ERROR)
    keeping.add("cold", kind=StartKind.PARKED)
    keeping.add("slow", slow=True)
    for number in range(1_000):
        keeping.add(f"quick {number}")
    assert keeping.ids() == [f"quick {number}" for number in range(999, 989, -1)] + ["slow", "cold", "failed"]


def test_a_flood_of_throttles_pushes_out_none_that_is_worth_a_look() -> None:
    keeping = Keeping()
    keeping.add("failed", outcome=Outcome.ENGINE_FAULT)
    for number in range(1_000):
        keeping.add(f"throttled {number}", outcome=Outcome.THROTTLED)
    assert len(keeping.ids()) == 11
    assert keeping.ids()[-1] == "failed"


def test_those_worth_a_look_are_bounded_too_and_one_with_many_moments_takes_more_room() -> None:
    keeping = Keeping()
    for number in range(100):
        keeping.add(str(number), slow=True)
    assert len(keeping.ids()) == 10
    timeline = tuple((f"phase {number}", number) for number in range(50))
    keeping.add("long", slow=True, timeline=timeline)
    assert keeping.ids()[0] == "long"
    assert len(keeping.ids()) < 10


def test_none_is_kept_where_there_is_no_room() -> None:
    keeping = Keeping(0)
    keeping.add("a", slow=True)
    assert keeping.ids() == []


def test_the_timeline_is_worked_out_for_who_asks_unless_a_fuller_one_is_there() -> None:
    keeping = Keeping()
    keeping.add("a")
    keeping.add("b", timeline=(("guest_read", 7),))
    a, b = keeping.recent.get("a"), keeping.recent.get("b")
    assert a is not None
    assert b is not None
    assert a.report.timeline == ()
    phases = (("checked", 2), ("started", 4), ("answered", 79), ("other", 84), ("recorded", 89))
    assert a.detailed().timeline == phases
    assert b.detailed().timeline == (("guest_read", 7),)
    assert (a.notable, b.notable) == (False, True)


def test_what_no_sandbox_had_has_no_moment_of_a_start() -> None:
    assert Moments(1_000, 3_000, 0, 9_000).timeline() == (("checked", 2), ("recorded", 8))
