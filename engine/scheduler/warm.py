"""Sandboxes that have served and wait for the next event: a stack for each key, last in, first out.

The hottest sandbox serves first, so that those a function no longer needs reach their keep-alive and go. One timer on
the event loop serves all stacks: it fires when the one that has idled longest is due, or, while anything idles, every
SWEEP_S to notice those that died by themselves.

Leaves to others: closing what it lets go of, through the `let_go` callback. Guarantees: a sandbox is in one stack at
most, and is either taken or let go of, once; one that is dead is never taken.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from engine.sandbox.api import Sandbox

SWEEP_S = 15.0

Key = tuple[str, str, str]


class Held:
    """What the scheduler holds for one sandbox, from the decision to start it until it is closed."""

    __slots__ = ("idle_since", "key", "killed", "retired", "sandbox", "waits")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.sandbox: Sandbox | None = None  # None: waits for room, or is being started
        self.waits = False  # for room
        self.idle_since = 0.0  # on the loop's clock, seconds
        self.retired = False  # its function is another by now: it ends with what it runs
        self.killed = False  # by a drain that ran out of patience


class WarmStacks:
    """All that idles."""

    def __init__(
        self, keep_alive_s: float, let_go: Callable[[Held], None], *, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._keep_alive_s = keep_alive_s
        self._let_go = let_go
        self._loop = loop
        self._stacks: dict[Key, deque[Held]] = {}
        self._oldest_first: OrderedDict[Held, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._oldest_first)

    def __iter__(self) -> Iterator[Held]:
        """All, the one that has idled longest first."""
        return iter(self._oldest_first)

    def put(self, held: Held) -> None:
        """Let it idle."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        held.idle_since = loop.time()
        stack = self._stacks.get(held.key)
        if stack is None:
            stack = self._stacks[held.key] = deque()
        stack.append(held)
        self._oldest_first[held] = None
        if self._timer is None:
            self._arm(held.idle_since)

    def take(self, key: Key) -> Held | None:
        """The one of this key that has idled for the shortest time, if one is alive."""
        stack = self._stacks.get(key)
        if stack is None:
            return None
        while stack:
            held = stack.pop()
            del self._oldest_first[held]
            if held.sandbox is not None and not held.sandbox.dead:
                if not stack:
                    del self._stacks[key]
                return held
            self._let_go(held)
        del self._stacks[key]
        return None

    def evict(self) -> bool:
        """Let go of the one of any key that has idled longest; False if nothing idles."""
        if not self._oldest_first:
            return False
        self._drop(next(iter(self._oldest_first)))
        return True

    def retire(self, function_name: str, keep_etag: str | None) -> None:
        """Let go of what belongs to other states of the function than `keep_etag` (None: all)."""
        stale = [key for key in self._stacks if key[0] == function_name and key[2] != keep_etag]
        for key in stale:
            for held in list(self._stacks[key]):
                self._drop(held)

    def clear(self) -> None:
        """Let go of everything."""
        while self.evict():
            pass
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def set_keep_alive(self, keep_alive_s: float) -> None:
        """Another keep-alive, from here on also for what idles already."""
        self._keep_alive_s = keep_alive_s
        if self._timer is not None:
            self._timer.cancel()
            self._due()

    def _drop(self, held: Held) -> None:
        del self._oldest_first[held]
        stack = self._stacks[held.key]
        stack.remove(held)  # the oldest of its key: found at the first look
        if not stack:
            del self._stacks[held.key]
        self._let_go(held)

    def _arm(self, now: float) -> None:
        assert self._loop is not None
        oldest = next(iter(self._oldest_first))
        due = min(oldest.idle_since + self._keep_alive_s, now + SWEEP_S)
        self._timer = self._loop.call_at(due, self._due)

    def _due(self) -> None:
        self._timer = None
        assert self._loop is not None
        now = self._loop.time()
        # The loop's clock may be read a little before the moment that it was told to wake up at.
        border = now - self._keep_alive_s + 0.001
        for held in list(self._oldest_first):
            if held.idle_since <= border or held.sandbox is None or held.sandbox.dead:
                self._drop(held)
        if self._oldest_first:
            self._arm(now)
