"""The sandboxes that are parked: taken by starts, refilled off their path at a bounded rate, given up when too many.

Lives on the event loop's thread. How many of what: engine/sandbox/demand.py. What one is: engine/sandbox/parking.py.
Guarantees: each is handed out once or buried; one that dies unused is noticed, counted and replaced; what cannot be
made is tried again more and more rarely; while many starts fork, or the host is short of memory, none is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from engine.errors import EngineError
from engine.sandbox.api import SandboxSpec
from engine.sandbox.counts import Counts, Happening, Resource
from engine.sandbox.demand import Demand, ParkSettings
from engine.sandbox.host_memory import HostMemory
from engine.sandbox.parking import Parked, Shape, shape_of

_log = structlog.get_logger(__name__)

_TRIM_EVERY_S = 10.0
_LONGEST_PAUSE_S = 30.0
_A_BURST = 4
"""Starts that wait for a fork at a time, from which on none is parked."""
_AFTER_A_START_S = 0.02
"""A start that takes one is left alone first: what makes the next would compete with it."""


class ParkedPool:
    """Keeps some parked. Make it on the event loop's thread."""

    def __init__(
        self,
        settings: ParkSettings,
        default: Shape,
        *,
        make: Callable[[Shape, int], Awaitable[Parked]],
        bury: Callable[[Parked], None],
        counts: Counts,
        forking: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make` makes one of a shape with so much memory; `bury` takes one away, in its own time; `forking` tells
        how many starts are under way that found none."""
        self._settings = settings
        self._make = make
        self._bury = bury
        self._counts = counts
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._forking = forking
        self._memory = HostMemory(settings.free_mb, settings.memory_mb, counts, clock)
        self._demand = Demand(settings, default)
        self._waiting: dict[Shape, deque[Parked]] = {}
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trim: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to fill, if anything is to be parked at all."""
        if self._settings.ceiling > 0:
            self._wake.set()
            self._task = self._loop.create_task(self._refill())

    def waiting(self, shape: Shape) -> int:
        """How many of a shape are there."""
        return len(self._waiting.get(shape, ()))

    def take(self, spec: SandboxSpec) -> Parked | None:
        """One that can become this function's, the youngest, or None. It is the caller's then."""
        if self._task is None:
            return None
        shape = shape_of(spec)
        self._demand.started(shape, spec.memory_mb, self._clock())
        self._wake.set()
        waiting = self._waiting.get(shape)
        if not waiting:
            self._counts.happened(Happening.PARKED_MISSED)
            return None
        # The limits of one with the same memory stand already.
        same = next((one for one in reversed(waiting) if one.memory_mb == spec.memory_mb), None)
        parked = same or waiting[-1]
        self._leaves(parked)
        return parked

    async def close(self) -> None:
        """Make no more, and bury those that wait."""
        if self._task is None:
            return
        self._stop.set()
        self._wake.set()
        await self._task  # what it is making is there, and is buried, too
        self._task = None
        if self._trim is not None:
            self._trim.cancel()
        for waiting in list(self._waiting.values()):
            for parked in list(waiting):
                self._give_up(parked)

    def forget(self, runtimes: Collection[str]) -> None:
        """Give up those of these runtimes, and make no more before one is asked for."""
        self._demand.forget(runtimes)
        for shape, waiting in self._waiting.items():
            if shape.runtime in runtimes:
                for parked in list(waiting):
                    self._give_up(parked)
        self._wake.set()

    def _leaves(self, parked: Parked) -> None:
        self._loop.remove_reader(parked.parts.pidfd)
        self._waiting[parked.shape].remove(parked)
        self._counts.removed(Resource.PARKED)

    def _give_up(self, parked: Parked) -> None:
        self._leaves(parked)
        self._bury(parked)

    def _died(self, parked: Parked) -> None:
        self._counts.happened(Happening.PARKED_LOST)
        self._give_up(parked)
        self._wake.set()

    async def _refill(self) -> None:
        failures = 0
        while not self._stop.is_set():
            await self._wake.wait()
            self._wake.clear()
            await self._pause(_AFTER_A_START_S)
            self._surplus()
            while not self._stop.is_set() and (shape := self._short()) is not None:
                if self._forking() > _A_BURST:  # what somebody waits for comes first
                    await self._pause(_AFTER_A_START_S)
                    continue
                try:
                    self.add(await self._make(shape, self._demand.memory_mb(shape)))
                except Exception as error:
                    # Whatever it is, starts can fork; and an end of this task would be one of the engine's, by `close`.
                    if not isinstance(error, EngineError):
                        _log.error("parking_failed", runtime=shape.runtime, exc_info=error)
                    failures += 1
                    self._counts.happened(Happening.PARKED_LOST)
                    await self._pause(min(_LONGEST_PAUSE_S, 0.1 * 2 ** min(failures, 10)))
                    continue
                failures = 0
                await self._pause(1 / self._settings.rate_per_s)
            if self._memory.short:
                self._surplus()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def add(self, parked: Parked) -> None:
        """One more waits. It is buried where that cannot be."""
        try:
            self._demand.measured(parked.parts.leaf.usage()[0])
            self._loop.add_reader(parked.parts.pidfd, self._died, parked)
        except BaseException:
            self._bury(parked)
            raise
        self._counts.made(Resource.PARKED)
        self._waiting.setdefault(parked.shape, deque()).append(parked)

    def _targets(self) -> Mapping[Shape, int]:
        targets = self._demand.targets(self._clock())
        return {} if self._memory.short else targets

    def _short(self) -> Shape | None:
        """The shape of which the most are missing."""
        targets = self._targets()
        missing = {shape: target - self.waiting(shape) for shape, target in targets.items()}
        shape = max(missing, key=lambda one: missing[one], default=None)
        return shape if shape is not None and missing[shape] > 0 else None

    def _surplus(self) -> None:
        """Give up the oldest of those that nobody is expected to ask for, and look again later."""
        targets = self._targets()
        for shape, waiting in self._waiting.items():
            while len(waiting) > targets.get(shape, 0):
                self._give_up(waiting[0])
        if self._trim is not None:
            self._trim.cancel()
        self._trim = self._loop.call_later(_TRIM_EVERY_S, self._wake.set)
