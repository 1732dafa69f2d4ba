"""What became of asynchronous events, counted by function: AWS's AsyncEventsReceived, AsyncEventAge and
AsyncEventsDropped (docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html), and how the rest ended.

Guarantees: at most `limit` functions are told apart; what a deleted function had is dropped with it.
"""

from __future__ import annotations

from engine.events.line import Line
from engine.model.events import AsyncEventCounts, Dropped
from engine.model.metrics import OTHERS
from engine.observe.times import Times


class _Of:
    """One function."""

    __slots__ = ("age", "dropped", "received", "retried", "succeeded")

    def __init__(self) -> None:
        self.received = self.succeeded = self.retried = 0
        self.dropped: dict[str, int] = {}
        self.age = Times()


class Counts:
    """Of one engine, from its start on."""

    def __init__(self, line: Line, *, limit: int) -> None:
        self._line = line
        self._limit = limit
        self._functions: dict[str, _Of] = {}
        self._others = _Of()

    def received(self, function: str) -> None:
        """An event was accepted."""
        self._of(function).received += 1

    def attempted(self, function: str, age_us: int) -> None:
        """The function is about to get an event of this age."""
        self._of(function).age.add(max(0, age_us))

    def succeeded(self, function: str) -> None:
        """It returned."""
        self._of(function).succeeded += 1

    def retried(self, function: str) -> None:
        """It failed, and gets the event again."""
        self._of(function).retried += 1

    def dropped(self, function: str, why: Dropped, events: int = 1) -> None:
        """Events were given up."""
        # One that is deleted has no series any more.
        found = self._others if why is Dropped.FUNCTION_DELETED else self._of(function)
        found.dropped[why.value] = found.dropped.get(why.value, 0) + events

    def forget(self, function: str) -> None:
        """It was deleted."""
        self._functions.pop(function, None)

    def now(self) -> tuple[AsyncEventCounts, ...]:
        """As they are, by function; those that are not told apart come last, if they had any."""
        for line in self._line.functions():  # what waits from before the engine's start
            self._of(line.name)
        found = [self._one(name, of) for name, of in sorted(self._functions.items())]
        others = self._others
        if others.received or others.dropped or others.retried or others.succeeded:
            found.append(self._one(OTHERS, others))
        return tuple(found)

    def _one(self, name: str, of: _Of) -> AsyncEventCounts:
        line = self._line.of(name)
        return AsyncEventCounts(
            function_name=name,
            received=of.received,
            succeeded=of.succeeded,
            retried=of.retried,
            dropped=tuple(of.dropped.items()),
            age=of.age.distribution(),
            waiting=0 if line is None else len(line.events),
            waiting_bytes=0 if line is None else line.bytes,
        )

    def _of(self, name: str) -> _Of:
        found = self._functions.get(name)
        if found is None:
            if len(self._functions) >= self._limit:
                return self._others
            found = self._functions[name] = _Of()
        return found
