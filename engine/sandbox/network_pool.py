"""Network namespaces made ahead of need and let go in peace, both at a bounded rate, by one thread.

Making one costs 0.3 to 0.5 ms, and freeing a thousand at once stalls every other maker of namespaces on the host: so a
tick makes at most one and frees at most one. While many starts are under way it makes none: their processes make their
own, side by side, and quicker than one thread that takes a CPU from them. What waits to be freed is bounded; what comes
beyond is freed at once. A namespace is never used twice: what a function left in it (a bound port, a connection, an
abstract socket) would be met by the next one.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import EngineError
from engine.sandbox.counts import Counts, Resource

RATE_PER_S = 200.0
BACKLOG = 256
_A_BURST = 4
"""Starts that are under way at a time, from which on none is made ahead."""


@dataclass(frozen=True, slots=True)
class Made:
    """A namespace, held by its descriptor: -1 where a clone makes it and its processes alone hold it. `counters` and
    `number` are -1 where it has no link."""

    ns: int
    counters: int = -1
    number: int = -1


@dataclass(frozen=True, slots=True)
class NetworkCounts:
    """Since the engine's start, but for the last two."""

    made: int  # ahead of need
    made_inline: int  # because none was ready
    removed: int
    ready: int
    backlog: int  # waiting to be freed


def at_once(work: Callable[[], None]) -> None:
    """Put nothing off."""
    work()


class NamespacePool:
    """Keeps `target` namespaces ready. Thread-safe."""

    def __init__(
        self,
        make: Callable[[], Made],
        *,
        counts: Counts,
        target: int,
        forget: Callable[[Made], None] = lambda made: None,
        rate_per_s: float = RATE_PER_S,
        backlog: int = BACKLOG,
        put_off: Callable[[Callable[[], None]], None] = at_once,
        forking: Callable[[], int] = lambda: 0,
    ) -> None:
        """`forget` is told of each that was freed. `put_off` calls what would hold a start up, when that is over.
        `forking` tells how many starts are under way."""
        self._put_off = put_off
        self._forking = forking
        self._make = make
        self._counts = counts
        self._forget = forget
        self._target = target
        self._tick_s = 1 / rate_per_s
        self._room = backlog
        self._wake = threading.Condition()
        self._ready: deque[Made] = deque()
        self._leaving: deque[Made] = deque()
        self._made = self._inline = self._removed = 0
        self._failed = False
        self._filling = True  # until there are as many as wanted
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start filling. Without it, what is given back is freed at once."""
        self._thread = threading.Thread(target=self._work, name="cleave-network", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> NetworkCounts:
        """How many were made and removed."""
        with self._wake:
            return NetworkCounts(self._made, self._inline, self._removed, len(self._ready), len(self._leaving))

    def take(self) -> Made | None:
        """One that is ready, or None. The caller gives it back."""
        with self._wake:
            made = self._ready.popleft() if self._ready else None
            low = len(self._ready) <= self._target // 2
        # Not for each one: the thread that wakes up takes the interpreter from the start that is under way.
        if low:
            self._put_off(self._fill)
        return made

    def _fill(self) -> None:
        with self._wake:
            self._failed = False  # what failed ahead of need is tried again when there is need
            self._filling = True
            self._wake.notify()

    def made_inline(self, made: Made) -> None:
        """It was made outside of the pool, and is given back here all the same."""
        if made.ns >= 0:
            self._counts.made(Resource.NETWORKS)
        with self._wake:
            self._inline += 1

    def give_back(self, made: Made) -> None:
        """Nobody is in it any more: free it when its turn comes."""
        with self._wake:
            waits = made.ns >= 0 and self._thread is not None and not self._closed
            if waits and len(self._leaving) < self._room:
                self._leaving.append(made)
                self._wake.notify()
                return
        self._free(made)

    def close(self) -> None:
        """Free what is ready and what waits."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        for made in (*self._ready, *self._leaving):
            self._free(made)
        self._ready.clear()
        self._leaving.clear()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._leaving or self._short)
                if self._closed:
                    return
                short, leaving = self._short, self._leaving.popleft() if self._leaving else None
            if leaving is not None:
                self._free(leaving)
            if short and self._forking() <= _A_BURST:
                self._add()
            with self._wake:
                self._wake.wait_for(lambda: self._closed, timeout=self._tick_s)

    @property
    def _short(self) -> bool:
        return self._filling and not self._failed and len(self._ready) < self._target

    def _add(self) -> None:
        try:
            made = self._make()
        except EngineError:
            with self._wake:
                self._failed = True  # the next start makes its own, and says why it cannot
            return
        self._counts.made(Resource.NETWORKS)
        with self._wake:
            self._made += 1
            self._ready.append(made)
            self._filling = len(self._ready) < self._target

    def _free(self, made: Made) -> None:
        for fd in (made.counters, made.ns):
            if fd >= 0:
                os.close(fd)
        self._forget(made)
        if made.ns >= 0:
            self._counts.removed(Resource.NETWORKS)
        with self._wake:
            self._removed += 1
