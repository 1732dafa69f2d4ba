"""The last invocations, with where their time went, for who asks afterwards.

Each is kept, in one of two rings: those that are worth a look (a failure, a cold start, one in the slowest hundredth
of its function, one whose timeline was asked for) and the others, so that a flood of quick warm calls pushes none of
the former out. Leaves to others what is counted (engine.observe.invocations, which also says what is slow).
Guarantees: a quarter of a microsecond for a warm invocation, no matter how many are kept; the rings take no more than
they may, oldest first out; nothing of what a function got or said is in them.
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
USUAL_BYTES = CALL_BYTES + 2 * MARK_BYTES
"""What one takes that is not worth a look."""

_USUAL = frozenset({Outcome.OK, Outcome.THROTTLED, Outcome.REFUSED})
"""What nothing ran for is no more worth a look than what went well: a flood of it comes soon."""

_Kept = tuple[str, Report, Moments]
"""The function's name, and what is known."""


class Recent(msgspec.Struct, frozen=True):
    """One of them."""

    function: str  # its name
    ended_ns: int  # since the epoch, as the clock is set when somebody asks
    report: Report  # its start_kind says nothing where no sandbox had the event (moments.started_ns)
    moments: Moments
    notable: bool

    def detailed(self) -> Report:
        """The report with its timeline; that which was asked for has more in it."""
        if self.report.timeline:
            return self.report
        return msgspec.structs.replace(self.report, timeline=self.moments.timeline())


class RecentInvocations:
    """Of one engine."""

    def __init__(
        self,
        limit_bytes: int,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`limit_bytes` of memory, half of them for those that are worth a look; 0: none are kept. The clocks are those
        of Moments and of the host."""
        self._settle: Callable[[], object] = int  # nothing
        self._notable_limit_bytes = limit_bytes // 2
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._notable: deque[_Kept] = deque()
        self._notable_bytes = 0
        self._usual: deque[_Kept] = deque(maxlen=(limit_bytes - limit_bytes // 2) // USUAL_BYTES)

    def listen(self, settle: Callable[[], object]) -> None:
        """Call `settle` ahead of each look: it adds what has ended and is not here yet."""
        self._settle = settle

    def add(self, function: str, report: Report, moments: Moments, slow: bool = False) -> None:
        """One is over; `slow` for its function."""
        if slow or report.start_kind is not StartKind.WARM or report.timeline or report.outcome not in _USUAL:
            self._notable.append((function, report, moments))
            self._notable_bytes += _size(report, moments)
            while self._notable_bytes > self._notable_limit_bytes:
                _, oldest, its_moments = self._notable.popleft()
                self._notable_bytes -= _size(oldest, its_moments)
        else:
            self._usual.append((function, report, moments))

    def get(self, request_id: str) -> Recent | None:
        """The last with this id, None where it is not kept (any more)."""
        found = (one for one in self.newest_first() if one.report.request_id == request_id)
        return next(found, None)

    def newest_first(self, function: str = "") -> Iterator[Recent]:
        """Those of a function, or all."""
        self._settle()
        epoch_ns = self._wall_ns() - self._monotonic_ns()
        both = [(one, True) for one in self._notable] + [(one, False) for one in self._usual]
        both.sort(key=lambda found: found[0][2].recorded_ns, reverse=True)
        for (name, report, moments), notable in both:
            if function in ("", name):
                yield Recent(name, epoch_ns + moments.recorded_ns, report, moments, notable)


def _size(report: Report, moments: Moments) -> int:
    return CALL_BYTES + MARK_BYTES * (len(moments.marks) + len(report.timeline))
