"""The last invocations, with where their time went, for who asks afterwards.

Each is kept, in one of two rings: those that are worth a look (a failure, a cold start, one in the slowest hundredth of
its function) and the others, so that a flood of quick warm calls pushes none of the former out. Leaves to others what
is counted (engine.observe.invocations, which also says what is slow). Guarantees: about half a microsecond for an
invocation, no matter how many are kept; the rings take no more than they may, oldest first out; nothing of what a
function got or said is in them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from engine.model.invocation import Moments, Report
from engine.model.outcome import Outcome, StartKind

CALL_BYTES = 900
MARK_BYTES = 100
"""What one takes in memory, and each moment of it."""


_USUAL = frozenset({Outcome.OK, Outcome.THROTTLED, Outcome.REFUSED})
"""What nothing ran for is no more worth a look than what went well: a flood of it comes soon."""


class Recent(msgspec.Struct, frozen=True):
    """One of them."""

    function: str  # its name
    ended_ns: int  # since the epoch
    report: Report  # its start_kind says nothing where no sandbox had the event (moments.started_ns)
    moments: Moments
    notable: bool

    def detailed(self) -> Report:
        """The report with its timeline; that which was asked for has more in it."""
        if self.report.timeline:
            return self.report
        return msgspec.structs.replace(self.report, timeline=self.moments.timeline())


class _Ring:
    """Some, within so many bytes."""

    __slots__ = ("_bytes", "_limit_bytes", "kept")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self.kept: deque[Recent] = deque()

    def add(self, one: Recent) -> None:
        self.kept.append(one)
        self._bytes += _size(one)
        while self._bytes > self._limit_bytes:
            self._bytes -= _size(self.kept.popleft())


class RecentInvocations:
    """Of one engine."""

    def __init__(self, limit_bytes: int, *, wall_ns: Callable[[], int] = time.time_ns) -> None:
        """`limit_bytes` of memory, half of them for those that are worth a look; 0: none are kept."""
        self._limit_bytes = limit_bytes
        self._wall_ns = wall_ns
        self._notable = _Ring(limit_bytes // 2)
        self._usual = _Ring(limit_bytes - limit_bytes // 2)

    def add(self, function: str, report: Report, moments: Moments, *, slow: bool) -> None:
        """One ran to its end; `slow` for its function."""
        if not self._limit_bytes:
            return
        notable = slow or report.start_kind is not StartKind.WARM or report.outcome not in _USUAL
        one = Recent(function, self._wall_ns(), report, moments, notable)
        (self._notable if notable else self._usual).add(one)

    def get(self, request_id: str) -> Recent | None:
        """The last with this id, None where it is not kept (any more)."""
        found = [one for one in (*self._usual.kept, *self._notable.kept) if one.report.request_id == request_id]
        return max(found, key=lambda one: one.ended_ns, default=None)

    def newest_first(self, function: str = "") -> Iterator[Recent]:
        """Those of a function, or all."""
        both = sorted((*self._usual.kept, *self._notable.kept), key=lambda one: one.ended_ns, reverse=True)
        return (one for one in both if function in ("", one.function))


def _size(one: Recent) -> int:
    return CALL_BYTES + MARK_BYTES * (len(one.moments.marks) + len(one.report.timeline))
