"""The thread that makes ahead of need what starts take from their pools, and puts it off until a start is over.

Begun in the middle of a start, it would take the interpreter and the kernel's locks from it, and cost more on its path
than it spares the next. `put_off` and `later` may be called on any thread, the rest on the event loop's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

AFTER_S = 0.005
"""How long after a start has its process."""
_A_BURST = 3
"""What as many starts leave to be made is not put off: the next ones would make it for themselves."""


class Refills:
    """One thread, and what waits for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cleave-refill")
        self._put_off: deque[Callable[[], object]] = deque()
        self._due = False

    def submit(self, work: Callable[..., object], *arguments: object) -> None:
        """Have the thread do it, when it has done what came before."""
        self._thread.submit(work, *arguments)

    def later(self, work: Callable[[], object]) -> None:
        """The same, after the start that asks."""
        self.put_off(partial(self._thread.submit, work))

    def put_off(self, work: Callable[[], object]) -> None:
        """Call it after the start that asks, or now where starts come faster than that: something short."""
        self._put_off.append(work)
        if len(self._put_off) > _A_BURST:
            self._do_all()

    def started(self) -> None:
        """A start has its process, or failed."""
        if self._put_off and not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(AFTER_S, self._begin)

    def _begin(self) -> None:
        self._due = False
        self._do_all()

    def _do_all(self) -> None:
        while self._put_off:
            try:
                self._put_off.popleft()()
            except (IndexError, RuntimeError):  # another thread has taken it; the thread has ended with the engine
                pass

    def close(self) -> None:
        """End the thread, with what it is at; blocks."""
        self._thread.shutdown(wait=True, cancel_futures=True)
