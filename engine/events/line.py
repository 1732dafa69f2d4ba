"""Who is next: the events that wait, in memory, without what they carry.

Pure: no clock, no thread, no I/O; times are microseconds since the epoch that the caller hands in. Leaves to others
what becomes of an event that was taken (engine.events.delivery). Guarantees: of one function the oldest event that is
due is next; functions that have one take turns, and none runs more than SHARE times what is free of the room for runs,
so that none waits for another's thousands; a function that was throttled gets no more at a time than ran beside the one
that was, then slowly more again; the queue holds at most so many events and bytes, and the last tenth of either is for
functions that have little in it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator

from engine.errors import QueueFull

RESERVE = 10
"""One part of so many is kept for functions that hold less than that part."""
SHARE = 4
"""One function alone gets four fifths of the room, two get four ninths each: the dynamic thresholds of Choudhury and
Hahne (doi.org/10.1109/90.664262)."""
BACKOFFS = 300
"""The longest backoff, in shortest ones: AWS's are 1 second and 5 minutes."""


class Waiting:
    """One event. Whoever took it from the line gives it back, or forgets it."""

    __slots__ = (
        "accepted_us",
        "backoffs",
        "due_us",
        "failed",
        "gone",
        "id",
        "last_error",
        "of",
        "qualifier",
        "request_id",
        "running",
        "size_bytes",
    )

    def __init__(
        self,
        id: int,
        of: Function,
        request_id: str,
        qualifier: str,
        accepted_us: int,
        size_bytes: int,
        *,
        due_us: int = 0,
        failed: int = 0,
        last_error: str = "",
    ) -> None:
        self.id = id
        self.of = of
        self.request_id = request_id
        self.qualifier = qualifier
        self.accepted_us = accepted_us
        self.size_bytes = size_bytes
        self.due_us = due_us
        self.failed = failed  # runs in which the function failed
        self.last_error = last_error
        self.backoffs = 0  # attempts that came to no run, one after another
        self.running = False
        self.gone = False  # done with, or its function was deleted


class Function:
    """The line of one function, as it was created at one time."""

    __slots__ = ("born_us", "bytes", "events", "limit", "listed", "name", "paused", "ready", "running", "throttles")

    def __init__(self, name: str, born_us: int) -> None:
        self.name = name
        self.born_us = born_us
        self.events: dict[int, Waiting] = {}
        self.bytes = 0
        self.ready: list[tuple[int, Waiting]] = []  # a heap by id
        self.running = 0
        self.limit = math.inf  # of what may run at a time
        self.throttles = 0  # one after another, with nothing else running
        self.paused = False
        self.listed = False


class Line:
    """All events."""

    def __init__(self, *, most_events: int, most_bytes: int, backoff_us: int) -> None:
        """`backoff_us`: how long what came to no run waits at first; twice as long each time after it."""
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._backoff_us = backoff_us
        self._functions: dict[str, Function] = {}
        self._turns: deque[Function] = deque()
        self._held: list[Function] = []  # would have a turn, and have their share
        self._later: list[tuple[int, int, Waiting | Function]] = []  # a heap by time
        self._number = 0
        self.events = 0
        self.bytes = 0
        self.running = 0
        self._arriving: dict[str, tuple[int, int]] = {}  # admitted and not added yet: events, bytes

    def admit(self, function: str, size_bytes: int) -> None:
        """Keep room for an event until it is added or given up. Raises QueueFull."""
        of = self._functions.get(function)
        events, held = self._arriving.get(function, (0, 0))
        own_events, own_bytes = events, held
        if of is not None:
            own_events, own_bytes = own_events + len(of.events), own_bytes + of.bytes
        for all_of_them, own, most, what, setting in (
            (self.events + 1, own_events + 1, self._most_events, "events", "async_queue_events"),
            (self.bytes + size_bytes, own_bytes + size_bytes, self._most_bytes, "bytes", "async_queue_mb"),
        ):
            part = most // RESERVE
            if all_of_them > most or (all_of_them > most - part and own > part):
                raise QueueFull(
                    f"The queue of asynchronous events is full: it may hold {most:,} {what}, the last tenth of them of "
                    "functions with few events",
                    throttle_reason="CallerRateLimitExceeded",
                    retry_after_ms=1_000,
                    fix=f"send the event again later, or raise the engine's {setting}",
                    metadata={f"limit_{what}": str(most)},
                )
        self._arriving[function] = (events + 1, held + size_bytes)
        self.events += 1
        self.bytes += size_bytes

    def arrived(self, function: str, size_bytes: int) -> None:
        """What was admitted was added, or is given up: the room that was kept for it is free."""
        events, held = self._arriving.pop(function)
        if events > 1:
            self._arriving[function] = (events - 1, held - size_bytes)
        self.events -= 1
        self.bytes -= size_bytes

    def function(self, name: str, born_us: int) -> Function:
        """The line of a function; one of an earlier function of its name is left."""
        of = self._functions.get(name)
        if of is None or of.born_us != born_us:
            of = self._functions[name] = Function(name, born_us)
        return of

    def add(self, event: Waiting, now_us: int) -> None:
        """Put one in, whatever the bounds: it is on the disk."""
        event.of.events[event.id] = event
        event.of.bytes += event.size_bytes
        self.events += 1
        self.bytes += event.size_bytes
        self._place(event, now_us)

    def take(self, most_running: int) -> Waiting | None:
        """The next one, which runs from here on; None where none may beside those that do."""
        while self._turns and self.running < most_running:
            of = self._turns.popleft()
            if of.running >= SHARE * (most_running - self.running):
                self._held.append(of)
                continue
            of.listed = False
            if not _may_run(of):
                continue
            _, event = heapq.heappop(of.ready)
            event.running = True
            of.running += 1
            self.running += 1
            self._list(of)
            return event
        return None

    def forget(self, event: Waiting) -> None:
        """It is done with."""
        if event.running:
            self._ended(event)
        if not event.gone:
            self._drop(event)
        if not event.of.events and not event.of.running and self._functions.get(event.of.name) is event.of:
            del self._functions[event.of.name]

    def again(self, event: Waiting, due_us: int, now_us: int) -> None:
        """Give it back, not to be taken before then."""
        self._ended(event)
        event.due_us = due_us
        self._place(event, now_us)

    def later(self, event: Waiting, now_us: int) -> None:
        """Give it back: something of the engine's kept it from running, this time."""
        event.backoffs += 1
        self.again(event, now_us + self._wait_us(event.backoffs), now_us)

    def throttled(self, event: Waiting, now_us: int) -> None:
        """Give it back: no concurrency was free for its function."""
        of = event.of
        of.limit = float(max(1, of.running - 1))
        self._ended(event)
        self._ready(event)
        if of.running == 0 and not of.paused:
            of.throttles += 1
            of.paused = True
            self._push(now_us + self._wait_us(of.throttles), of)

    def ran(self, event: Waiting) -> None:
        """Its function had it: there was concurrency for it."""
        of = event.of
        event.backoffs = of.throttles = 0
        of.limit += 1 / of.limit

    def wake(self, now_us: int) -> int:
        """Make ready what is due. Returns when to come again, 0: never."""
        while self._later:
            when, _, item = self._later[0]
            if isinstance(item, Waiting) and item.gone:
                heapq.heappop(self._later)
                continue
            if when > now_us:
                return when
            heapq.heappop(self._later)
            if isinstance(item, Waiting):
                self._ready(item)
            else:
                item.paused = False
                self._list(item)
        return 0

    def delete(self, name: str) -> tuple[int, list[Waiting]]:
        """Take out all events of a function; returns when it was created, and them."""
        of = self._functions.pop(name, None)
        if of is None:
            return 0, []
        events = list(of.events.values())
        for event in events:
            self._drop(event)
        of.ready.clear()
        return of.born_us, events

    def of(self, name: str) -> Function | None:
        """One function that has events."""
        return self._functions.get(name)

    def functions(self) -> Iterator[Function]:
        """All that have events."""
        return iter(self._functions.values())

    def _place(self, event: Waiting, now_us: int) -> None:
        if event.gone:
            return
        if event.due_us > now_us:
            self._push(event.due_us, event)
        else:
            self._ready(event)

    def _ready(self, event: Waiting) -> None:
        if not event.gone:
            heapq.heappush(event.of.ready, (event.id, event))
            self._list(event.of)

    def _list(self, of: Function) -> None:
        if not of.listed and _may_run(of):
            of.listed = True
            self._turns.append(of)

    def _ended(self, event: Waiting) -> None:
        event.running = False
        event.of.running -= 1
        self.running -= 1
        self._turns.extend(self._held)
        self._held.clear()
        self._list(event.of)

    def _drop(self, event: Waiting) -> None:
        event.gone = True
        del event.of.events[event.id]
        event.of.bytes -= event.size_bytes
        self.events -= 1
        self.bytes -= event.size_bytes

    def _push(self, when_us: int, item: Waiting | Function) -> None:
        self._number += 1
        heapq.heappush(self._later, (when_us, self._number, item))

    def _wait_us(self, times: int) -> int:
        return min(self._backoff_us << min(times - 1, 32), self._backoff_us * BACKOFFS)


def _may_run(of: Function) -> bool:
    return bool(of.ready) and not of.paused and of.running + 1 <= of.limit
