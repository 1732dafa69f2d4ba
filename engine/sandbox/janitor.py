"""Threads that take sandboxes away: unmounts that take their time, directories that the kernel still holds.

Theory of operation: a removal is a list of steps. A step that fails is tried again after a pause that doubles, for as
long as the engine lives, while other removals go on; the steps after it wait for it. An unmount has to write back what
was in the file system's cache and can hold its thread for seconds: there are several, and starts use none of them.

Guarantees: every removal that is handed in is carried out in order, or is still there to be counted; `close` returns in
a bounded time. The threads are daemons: one that the kernel holds does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from engine.sandbox.counts import Counts, Happening

Step = Callable[[], object]
"""Safe to call again after it raised."""

_THREADS = 4
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 5.0


@dataclass(order=True, slots=True)
class _Removal:
    due: float  # on the monotonic clock
    number: int
    steps: list[Step] = field(compare=False)  # the next one last
    done: Step = field(compare=False)
    pause_s: float = field(default=_FIRST_PAUSE_S, compare=False)


class Janitor:
    """Thread-safe. Threads are started as they are needed."""

    def __init__(
        self, counts: Counts, *, threads: int = _THREADS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts = counts
        self._max_threads = threads
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._waiting: list[_Removal] = []
        self._numbers = itertools.count()
        self._threads = 0
        self._idle = 0
        self._pending = 0  # removals that are not done
        self._closed = False

    @property
    def pending(self) -> int:
        """Removals that are not done yet."""
        with self._changed:
            return self._pending

    def take_away(self, steps: Iterable[Step], done: Step) -> None:
        """Carry out `steps` in order, in a thread; then call `done` there, which must not raise. After `close` it is
        done at once, in the calling thread, without a second try."""
        removal = _Removal(self._monotonic(), next(self._numbers), list(steps)[::-1], done)
        with self._changed:
            if not self._closed:
                self._pending += 1
                heapq.heappush(self._waiting, removal)
                if len(self._waiting) > self._idle and self._threads < self._max_threads:
                    self._threads += 1
                    threading.Thread(target=self._work, name="cleave-janitor", daemon=True).start()
                else:
                    self._changed.notify_all()
                return
        if self._advance(removal):
            removal.done()

    def close(self, within_s: float) -> int:
        """Wait until everything is taken away, at most so long; returns how many removals are left undone."""
        until = self._monotonic() + within_s
        with self._changed:
            # What waits for another try gets one now.
            for removal in self._waiting:
                removal.due = 0.0
                removal.pause_s = min(removal.pause_s, _FIRST_PAUSE_S)
            self._changed.notify_all()
            while self._pending and (left_s := until - self._monotonic()) > 0:
                self._changed.wait(left_s)
            self._closed = True
            self._changed.notify_all()
            return self._pending

    def _work(self) -> None:
        while (removal := self._next()) is not None:
            if self._advance(removal):
                removal.done()
                with self._changed:
                    self._pending -= 1
                    self._changed.notify_all()
                continue
            self._counts.happened(Happening.REMOVAL_RETRIED)
            with self._changed:
                removal.due = self._monotonic() + removal.pause_s
                removal.pause_s = min(2 * removal.pause_s, _LONGEST_PAUSE_S)
                heapq.heappush(self._waiting, removal)
                self._changed.notify_all()

    def _next(self) -> _Removal | None:
        """The next that is due; None at the end."""
        with self._changed:
            while not self._closed:
                wait_s = self._waiting[0].due - self._monotonic() if self._waiting else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._waiting)
                self._idle += 1
                self._changed.wait(wait_s)
                self._idle -= 1
            self._threads -= 1
            return None

    @staticmethod
    def _advance(removal: _Removal) -> bool:
        """Carry out what is left of it; False where a step failed."""
        while removal.steps:
            try:
                removal.steps[-1]()
            except Exception:  # whatever it is, the others' removals go on
                return False
            removal.steps.pop()
        return True


def tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Set `future`, from another thread; nobody hears it once the loop is closed."""

    def set_it() -> None:
        if not future.done():
            future.set_result(None)

    try:
        loop.call_soon_threadsafe(set_it)
    except RuntimeError:
        pass
