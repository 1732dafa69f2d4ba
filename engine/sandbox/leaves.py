"""Leaves made ahead of need, by memory tier: the directories in each hierarchy, their limits written and read back, and
the files by which a process joins.

A leaf is never used twice: its counters are its sandbox's. Guarantees: what is handed out has its limits in force and
has had no process; `target` of a tier are ready at most, and four times as many of all tiers. One that was removed is
replaced by the janitor's thread that removed it; where starts are quicker than that, another thread fills up.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from engine.errors import EngineError
from engine.sandbox import box
from engine.sandbox.counts import Counts, Resource

_TIERS = 4
"""Of how many tiers as many as wanted may wait."""


class LeafPool:
    """Makes and keeps them. Thread-safe."""

    def __init__(
        self,
        make: Callable[[int], box.Leaf],
        *,
        target: int,
        submit: Callable[[Callable[[], None]], object],
        counts: Counts,
    ) -> None:
        """`make` is given a memory tier; `submit` runs something later, in another thread."""
        self._make_one = make
        self._target = target
        # What is removed is replaced: half of them are left for that.
        self._low = (target + 1) // 2
        self._submit = submit
        self._counts = counts
        self._lock = threading.Lock()
        self._ready: OrderedDict[int, deque[box.Leaf]] = OrderedDict()  # the tier taken last is the last
        self._filling: set[int] = set()
        self._closed = False

    @property
    def ready(self) -> int:
        """How many wait."""
        with self._lock:
            return self._count()

    def take(self, memory_mb: int) -> box.Leaf:
        """One with the limits of this tier; 0.5 ms where none is ready. Raises SandboxFault. Given back by `remove`."""
        with self._lock:
            waiting = self._ready.setdefault(memory_mb, deque())
            self._ready.move_to_end(memory_mb)
            leaf = waiting.popleft() if waiting else None
            fill = len(waiting) < self._low and memory_mb not in self._filling and not self._closed
            if fill:
                self._filling.add(memory_mb)
        if fill:
            try:
                self._submit(lambda: self._fill(memory_mb))
            except RuntimeError:  # the thread has ended with the engine
                pass
        return leaf or self._make(memory_mb)

    def remove(self, leaf: box.Leaf, memory_mb: int) -> None:
        """Remove one that was taken and is empty, and make another in its place. Raises SandboxFault where the kernel
        still holds it; to be called again then."""
        leaf.remove()
        self._counts.removed(Resource.LEAVES)
        self._add(memory_mb)

    def close(self) -> None:
        """Remove those that wait; what is taken is removed by who has it."""
        with self._lock:
            self._closed = True
            waiting = [leaf for ready in self._ready.values() for leaf in ready]
            self._ready.clear()
        for leaf in waiting:
            self._drop(leaf)

    def _fill(self, memory_mb: int) -> None:
        try:
            while self._add(memory_mb):
                pass
        finally:
            with self._lock:
                self._filling.discard(memory_mb)

    def _add(self, memory_mb: int) -> bool:
        """One more of a tier that is in use; False where it has enough. What cannot be made is left for `take` to
        complain of."""
        with self._lock:
            if self._closed or len(self._ready.get(memory_mb, range(self._target))) >= self._target:
                return False
        try:
            leaf = self._make(memory_mb)
        except EngineError:
            return False
        for surplus in self._put(leaf, memory_mb):
            self._drop(surplus)
        return True

    def _put(self, leaf: box.Leaf, memory_mb: int) -> list[box.Leaf]:
        """Let it wait; returns those that are too many."""
        with self._lock:
            waiting = self._ready.get(memory_mb)
            if self._closed or waiting is None or len(waiting) >= self._target:
                return [leaf]
            waiting.append(leaf)
            return [self._take_oldest() for _ in range(self._count() - _TIERS * self._target)]

    def _make(self, memory_mb: int) -> box.Leaf:
        leaf = self._make_one(memory_mb)
        self._counts.made(Resource.LEAVES)
        return leaf

    def _drop(self, leaf: box.Leaf) -> None:
        try:
            leaf.remove()
        except EngineError:  # swept at the engine's end
            return
        self._counts.removed(Resource.LEAVES)

    def _count(self) -> int:
        return sum(len(waiting) for waiting in self._ready.values())

    def _take_oldest(self) -> box.Leaf:
        """One of the tier that was asked for the longest ago."""
        for memory_mb, waiting in list(self._ready.items()):
            if waiting:
                return waiting.popleft()
            del self._ready[memory_mb]
        raise AssertionError("unreachable: there are too many")
