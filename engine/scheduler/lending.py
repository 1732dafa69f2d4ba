"""Warm sandboxes of plain calls (engine.invoke.express): given out by the lane, which decides by the same native
scheduler, and lent by it to who runs one event himself.

Leaves to others: everything but a warm start (engine.scheduler.dispatch). Guarantees: what is lent is a call of the
native scheduler like any other, with its lease, and ends when it is given back, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.model.outcome import Outcome
from engine.sandbox.api import Ending, Sandbox, Seated
from engine.sandbox.box import Lane
from engine.scheduler import core as native
from engine.scheduler.limits import killed
from engine.scheduler.targets import Key
from engine.scheduler.timer import Timer

BY_KILL = frozenset({Outcome.EXITED, Outcome.CANCELLED, Outcome.ENGINE_FAULT})
"""How a run ends that a drain killed; any other outcome was decided before."""


class Held:
    """A sandbox that is there, until it is closed."""

    __slots__ = ("id", "killed", "sandbox")

    def __init__(self, sandbox_id: int, sandbox: Sandbox) -> None:
        self.id = sandbox_id  # the native scheduler's
        self.sandbox = sandbox
        self.killed = False  # by a drain that ran out of patience


class Lent:
    """A sandbox that one event has borrowed."""

    __slots__ = ("call", "held", "sandbox")

    def __init__(self, call: int, held: Held) -> None:
        self.call = call  # the native scheduler's
        self.held = held
        self.sandbox = held.sandbox


class Lending:
    """The part of LocalScheduler that lends."""

    _core: native.Core
    _held: dict[int, Held]
    _target_ids: dict[Key, int]
    _timer: Timer
    _now: Callable[[], int]
    _ended: asyncio.Event | None
    lane: Lane | None = None  # see Scheduler.lane

    def _obey(self) -> None:
        raise NotImplementedError

    def _abandon(self, call: int) -> None:
        raise NotImplementedError

    def target_of(self, key: Key) -> int | None:
        """See Scheduler.target_of."""
        return self._target_ids.get(key)

    def lend(self, call: int, sandbox_id: int) -> Lent | None:
        """See Scheduler.lend."""
        held = self._held[sandbox_id]
        if held.sandbox.dead:
            self._end_lent(call)
            return None
        return Lent(call, held)

    def chosen(self, call: int, sandbox_id: int) -> Lent:
        """See Scheduler.chosen."""
        return Lent(call, self._held[sandbox_id])

    def give_back(self, lent: Lent, ending: Ending | None) -> None:
        """See Scheduler.give_back."""
        held = lent.held
        if ending is None:
            self._end_lent(lent.call)
        else:
            self._finished(lent.call, ending.reusable and not held.sandbox.dead)
        if held.killed and (ending is None or ending.outcome in BY_KILL):
            raise killed()

    def give_back_unused(self, lent: Lent) -> None:
        """See Scheduler.give_back_unused."""
        self._finished(lent.call, not lent.held.sandbox.dead)

    def _seat_of(self, sandbox: Sandbox) -> int:
        """What the native scheduler knows it by. The first one of a lane has that decide by it."""
        if not isinstance(sandbox, Seated):
            return 0
        seat = sandbox.seat
        if self.lane is not seat.lane:
            self.lane = seat.lane
            self.lane.join(self._core, self._given_back)
            self.lane.ending = self._ended is not None
            self._timer.tell(self.lane)
        return seat.id

    def _given_back(self) -> None:
        """The lane has ended calls, or has some that wait."""
        core = self._core
        if core.pending:
            self._obey()
        elif self._timer.off:
            self._timer.arm()
        self._tell_of_the_last()

    def _tell_of_the_last(self) -> None:
        """A drain waits for the end of all calls."""
        if self._ended is not None and self._core.concurrency == 0:
            self._ended.set()

    def _end_lent(self, call: int) -> None:
        self._abandon(call)
        self._tell_of_the_last()

    def _finished(self, call: int, keep: bool) -> None:
        self._core.finished(call, keep, self._now())
        self._given_back()
