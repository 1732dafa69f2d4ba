"""The pool of /tmp: made ahead of need, handed out, and emptied for the next when a sandbox is gone.

What they are made of is a backend's (engine.sandbox.scratch_backends). Guarantees: taking one that is ready costs
nothing; what is handed out is empty and no living sandbox has it; `target` of a size are ready at most, and four times
as many of all sizes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from engine.errors import EngineError
from engine.sandbox import box
from engine.sandbox.counts import Counts, Resource
from engine.sandbox.scratch_backends import Backend
from engine.sandbox.scratch_resting import REST_S, Resting

_SIZES = 4
"""Of how many sizes as many as wanted may wait."""

Submit = Callable[[Callable[[], None]], object]
"""Run something later, in another thread."""
GiveBack = Callable[[box.Scratch, int, bool], None]
"""Told of one that was handed out, its size, and whether it may be used again."""


class Tmp:
    """One sandbox's /tmp. Ended by `close` once every process of the sandbox is reaped, or by `discard` where that is
    not certain. Both take up to some milliseconds; a second call does nothing."""

    __slots__ = ("_backend", "_give_back", "_scratch", "size_mb")

    def __init__(self, scratch: box.Scratch, size_mb: int, backend: Backend, give_back: GiveBack) -> None:
        self._scratch = scratch
        self._backend = backend
        self._give_back: GiveBack | None = give_back
        self.size_mb = size_mb

    def fileno(self) -> int:
        """The detached mount, for one sandbox."""
        return self._scratch.fileno()

    @property
    def device(self) -> str:
        """What it lies on: a loop device, or the name of a folder."""
        return self._scratch.device

    @property
    def scratch(self) -> box.Scratch:
        """What the box knows of it."""
        return self._scratch

    def used(self) -> int:
        """Bytes stored in it. Raises SandboxFault."""
        return self._scratch.used()

    def disk_full(self) -> bool:
        """Whether the disk under it is: what is stored fails, or is lost when it is written out."""
        try:
            self._backend.admit(self.size_mb)
        except EngineError:
            return True
        return False

    def close(self) -> None:
        """Empty it for the next, or take it away."""
        self._end(use_again=True)

    def discard(self) -> None:
        """Take it away."""
        self._end(use_again=False)

    def _end(self, *, use_again: bool) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self._scratch, self.size_mb, use_again)


class ScratchPool:
    """Makes and keeps them. Thread-safe."""

    def __init__(self, backend: Backend, *, target: int, submit: Submit, counts: Counts | None = None) -> None:
        self._backend = backend
        self._counts = counts or Counts()
        self._target = target  # kept ready of each size in use
        # What is given back is cheaper than what is made: half of them are left for that.
        self._low = (target + 1) // 2
        self._submit = submit
        self._lock = threading.Lock()
        self._ready: OrderedDict[int, deque[box.Scratch]] = OrderedDict()  # the size taken last is the last
        self._resting = Resting(_SIZES * target)
        self._alarm: threading.Timer | None = None  # for those that rest while nobody takes or gives back any
        self._closed = False

    @property
    def backend(self) -> Backend:
        """What makes them."""
        return self._backend

    @property
    def ready(self) -> int:
        """How many wait."""
        with self._lock:
            return self._count()

    def take(self, size_mb: int) -> Tmp:
        """A fresh, empty /tmp. Raises SandboxFault, such as for a full disk."""
        self._backend.admit(size_mb)
        with self._lock:
            waiting = self._ready.setdefault(size_mb, deque())
            self._ready.move_to_end(size_mb)
            scratch = waiting.pop() if waiting else None  # the one used last: the kernel has it at hand
            short = len(waiting) < self._low
            resting = len(self._resting)
        if scratch is None and resting:
            self._wake()
            with self._lock:
                waiting = self._ready.setdefault(size_mb, deque())
                scratch = waiting.pop() if waiting else None
        if short and self._backend.costs:
            self._submit(lambda: self.fill(size_mb, 1))
        return Tmp(scratch or self._make(size_mb), size_mb, self._backend, self._give_back)

    def expect(self, size_mb: int) -> None:
        """A function wants this size: do what its first sandbox would wait for, and have one ready where that sends
        none of another size away. What fails is left for `take` to complain of."""
        try:
            self._backend.prepare(size_mb)
        except EngineError:
            return
        with self._lock:
            fill = not self._ready.get(size_mb) and self._count() < _SIZES * self._target
        if fill and self._backend.costs:
            self.fill(size_mb, 1)

    def fill(self, size_mb: int, count: int) -> None:
        """Make up to `count` more ahead of need; what cannot be made is left for `take` to complain of."""
        self._wake()
        for _ in range(count):
            with self._lock:
                if self._closed or len(self._ready.get(size_mb, ())) >= self._target:
                    return
            try:
                scratch = self._make(size_mb)
            except EngineError:
                return
            self._put(scratch, size_mb)

    def close(self) -> None:
        """Take away what is ready; what is given back later is taken away then."""
        with self._lock:
            self._closed = True
            waiting = [scratch for ready in self._ready.values() for scratch in ready]
            self._ready.clear()
            if self._alarm is not None:
                self._alarm.cancel()
        for scratch in [*waiting, *self._resting.clear()]:
            self._remove(scratch)

    def _make(self, size_mb: int) -> box.Scratch:
        scratch = self._backend.make(size_mb)
        self._counts.made(Resource.TMP_MOUNTS)
        return scratch

    def _remove(self, scratch: box.Scratch) -> None:
        scratch.close()
        self._counts.removed(Resource.TMP_MOUNTS)

    def _give_back(self, scratch: box.Scratch, size_mb: int, use_again: bool) -> None:
        with self._lock:
            wanted = use_again and not self._closed and len(self._ready.get(size_mb, ())) < self._target
        if wanted:
            self._renew(scratch, size_mb)
        else:
            self._remove(scratch)
        self._wake()

    def _renew(self, scratch: box.Scratch, size_mb: int, *tries: int) -> None:
        if scratch.renew():
            self._put(scratch, size_mb)
        elif not (scratch.held and self._resting.put(scratch, size_mb, *tries)):
            self._remove(scratch)
        if self._closed:  # it may have been put there after all others were taken away
            for late in self._resting.clear():
                self._remove(late)

    def _wake(self) -> None:
        """Make those ready that have rested."""
        while (rested := self._resting.due()) is not None:
            self._renew(*rested)
        with self._lock:
            if self._alarm is None and not self._closed and len(self._resting):
                self._alarm = threading.Timer(REST_S, self._awake)
                self._alarm.daemon = True
                self._alarm.start()

    def _awake(self) -> None:
        with self._lock:
            self._alarm = None
        self._wake()

    def _put(self, scratch: box.Scratch, size_mb: int) -> None:
        surplus = []
        with self._lock:
            waiting = self._ready.setdefault(size_mb, deque())
            if self._closed or len(waiting) >= self._target:
                surplus.append(scratch)
            else:
                waiting.append(scratch)
                while self._count() > _SIZES * self._target:
                    surplus.append(self._take_oldest())
        for one in surplus:
            self._remove(one)

    def _count(self) -> int:
        return sum(len(waiting) for waiting in self._ready.values())

    def _take_oldest(self) -> box.Scratch:
        """One of the size that was asked for the longest ago."""
        for size_mb, waiting in list(self._ready.items()):
            if waiting:
                return waiting.popleft()
            del self._ready[size_mb]
        raise AssertionError("unreachable: there are too many")
