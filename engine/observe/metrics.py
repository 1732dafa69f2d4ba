"""All that an engine can say of itself in numbers, put together when somebody asks: `cleave top`, MetricsService,
/metrics.

Leaves counting to those who count (engine.observe.invocations, engine.observe.starts, engine.sandbox.counts) and
showing to the fronts. Guarantees: asking holds the event loop up for about a millisecond at a stretch, however many
functions there are; files are read in a thread; who asks while another is answered gets an answer of its own.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from engine import __version__
from engine.model.events import AsyncEventCounts
from engine.model.host import Distribution, ZygoteFound
from engine.model.metrics import OTHERS, FunctionMetrics, LogCounts, Metrics, SandboxCounts, Usage
from engine.observe.invocations import Invocations
from engine.observe.starts import Starts
from engine.sandbox.cgroup_usage import memory_of_each, usage_of_all
from engine.sandbox.counts import Counts, Resource
from engine.scheduler.api import Place, Placed, Scheduler

AT_A_TIME = 10
"""Functions after which others get their turn on the event loop."""
_PAGE_BYTES = resource.getpagesize()
_NONE = Distribution(0, 0, 0, 0, 0, ())


class Pool(Protocol):
    """What is asked of engine.sandbox.pool.LinuxPool."""

    @property
    def counts(self) -> Counts:
        """What was made and removed, and what befell the sandboxes."""

    @property
    def cgroup_directories(self) -> Mapping[str, str]:
        """The engine's directory in each cgroup hierarchy."""

    def zygote_reports(self) -> tuple[ZygoteFound, ...]:
        """All zygotes, and all that cannot be had."""


@dataclass(slots=True)
class _Now:
    """One function, as it is now."""

    busy: int = 0
    idle: int = 0
    starting: int = 0
    waiting: int = 0
    memory_bytes: int = 0


class Observer:
    """Of one engine."""

    def __init__(
        self,
        starts: Starts,
        invocations: Invocations,
        scheduler: Scheduler,
        pool: Pool,
        logs: Callable[[], LogCounts],
        async_events: Callable[[], tuple[AsyncEventCounts, ...]] = tuple,
        *,
        settle: Callable[[], object] = int,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`settle` is called ahead of each look: it counts what has ended and is not counted yet."""
        self._settle = settle
        self._starts = starts
        self._invocations = invocations
        self._scheduler = scheduler
        self._pool = pool
        self._logs = logs
        self._async_events = async_events
        self._clock = clock
        self._wall_ns = wall_ns
        self._since_s = clock()

    async def __call__(self) -> Metrics:
        """As things are now."""
        self._settle()
        placed, counts = list(self._scheduler.placed()), self._scheduler.counts()
        directories = self._pool.cgroup_directories
        ids = [one.sandbox_id for one in placed if one.sandbox_id]
        memory, everything, engine = await asyncio.get_running_loop().run_in_executor(
            None, lambda: (memory_of_each(directories, ids), usage_of_all(directories), _engine_usage())
        )
        now = _by_function(placed, memory)
        pool = self._pool.counts
        return Metrics(
            time_ns=self._wall_ns(),
            uptime_ms=round((self._clock() - self._since_s) * 1_000),
            engine_version=__version__,
            functions=await self._functions(now),
            starts=self._starts.stats(),
            throttles=self._invocations.throttles(),
            errors=self._invocations.errors(),
            sandboxes=_sandboxes(now, counts.sandboxes, pool.alive(Resource.PARKED)),
            concurrency=counts.concurrency,
            waiting=sum(one.waiting for one in now.values()),
            max_concurrency=self._scheduler.max_concurrency,
            all_sandboxes=everything,
            engine=engine,
            logs=self._logs(),
            resources=pool.resources(),
            events=pool.events(),
            zygotes=self._pool.zygote_reports(),
            async_events=self._async_events(),
        )

    async def _functions(self, now: dict[str, _Now]) -> tuple[FunctionMetrics, ...]:
        found: dict[str, FunctionMetrics] = {}
        for one_more in self._invocations.functions():
            found[one_more.name] = one_more
            if len(found) % AT_A_TIME == 0:
                await asyncio.sleep(0)
        for name, one in now.items():
            # A function whose first invocation is under way has nothing counted yet.
            if name not in found and len(found) >= self._invocations.limit:
                name = OTHERS
            of = found.get(name) or FunctionMetrics(name, (), (), _NONE, _NONE, 0, 0, 0, 0, 0, 0)
            found[name] = replace(
                of,
                busy=of.busy + one.busy,
                idle=of.idle + one.idle,
                starting=of.starting + one.starting,
                waiting=of.waiting + one.waiting,
                memory_bytes=of.memory_bytes + one.memory_bytes,
            )
        return tuple(found.values())


def _by_function(placed: list[Placed], memory: Mapping[str, int]) -> dict[str, _Now]:
    found: dict[str, _Now] = {}
    for one in placed:
        of = found.setdefault(one.function, _Now())
        match one.place:
            case Place.BUSY:
                of.busy += 1
            case Place.IDLE:
                of.idle += 1
            case Place.STARTING:
                of.starting += 1
            case Place.WAITING:
                of.waiting += 1
        of.memory_bytes += memory.get(one.sandbox_id, 0)
    return found


def _sandboxes(now: dict[str, _Now], all_of_them: int, parked: int) -> SandboxCounts:
    busy, idle, starting = (sum(getattr(one, name) for one in now.values()) for name in ("busy", "idle", "starting"))
    return SandboxCounts(busy, idle, starting, parked, max(0, all_of_them - busy - idle - starting))


def _engine_usage() -> Usage:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:  # no descriptor is free
        resident = spent.ru_maxrss << 10
    return Usage(resident, round((spent.ru_utime + spent.ru_stime) * 1e6))
