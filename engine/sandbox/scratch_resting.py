"""Where a /tmp rests that the kernel still holds something of.

It is empty already and its key is wiped. Landlock keeps the folder that it was told of until the kernel has freed the
last process that it restricted, in the background: some 30 ms after that process is reaped. Until then nothing proves
that nobody else has a file of it, so it is not handed out.

Guarantees: what is handed back by `due` or `clear` rests no more; at most `limit` rest.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from engine.sandbox import box

REST_S = 0.05
_TRIES = 4
"""Held for longer than the kernel takes to free things: by something that nobody knows."""


class Resting:
    """Thread-safe."""

    def __init__(self, limit: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: deque[tuple[float, int, box.Scratch, int]] = deque()  # due, size, what, tries left

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting)

    def put(self, scratch: box.Scratch, size_mb: int, tries: int = _TRIES) -> bool:
        """Let it rest; False if too many do, or it did so too often."""
        with self._lock:
            if not tries or len(self._waiting) >= self._limit:
                return False
            self._waiting.append((self._monotonic() + REST_S, size_mb, scratch, tries - 1))
            return True

    def due(self) -> tuple[box.Scratch, int, int] | None:
        """One that has rested, its size, and how often it may again; None if none has."""
        with self._lock:
            if not self._waiting or self._waiting[0][0] > self._monotonic():
                return None
            _, size_mb, scratch, tries = self._waiting.popleft()
            return scratch, size_mb, tries

    def clear(self) -> list[box.Scratch]:
        """All of them."""
        with self._lock:
            waiting = [scratch for _, _, scratch, _ in self._waiting]
            self._waiting.clear()
            return waiting
