"""What an engine has counted since it started, and what is under way in it now."""

from __future__ import annotations

from dataclasses import dataclass

from engine.model.events import AsyncEventCounts
from engine.model.host import Distribution, EventCount, ResourceCount, StartStats, ZygoteFound
from engine.model.outcome import Outcome, StartKind

OTHERS = "(others)"
"""Stands for the functions, and for the versions of one, that are not told apart: no function can be called so."""


@dataclass(frozen=True, slots=True)
class InvocationCount:
    """Invocations of one function that are alike."""

    version: str  # that ran; "" where none did
    outcome: Outcome
    kind: StartKind | None  # None: no sandbox had it, or it did not end
    count: int


@dataclass(frozen=True, slots=True)
class FunctionMetrics:
    """One function. What is counted is counted since the engine started or the function was created."""

    name: str
    invocations: tuple[InvocationCount, ...]
    throttles: tuple[tuple[str, int], ...]  # (reason, how many)
    handler: Distribution
    total: Distribution
    cpu_us: int  # of what has ended
    billed_ms: int
    event_bytes: int  # sent to it: events, and input that it reads
    result_bytes: int
    network_in_bytes: int
    network_out_bytes: int
    busy: int = 0  # sandboxes with an event
    idle: int = 0
    starting: int = 0
    waiting: int = 0  # events that wait for room
    memory_bytes: int = 0  # that its sandboxes have now


@dataclass(frozen=True, slots=True)
class SandboxCounts:
    """Sandboxes there are now, by what they do."""

    busy: int = 0
    idle: int = 0
    starting: int = 0
    parked: int = 0
    closing: int = 0


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """What ended in no answer, for a reason of engine.errors."""

    outcome: Outcome  # REFUSED, CANCELLED or ENGINE_FAULT
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class LogCounts:
    """Lines of functions' logs."""

    lines: int = 0  # taken, the engine's own among them
    dropped_busy: int = 0  # their function wrote faster than the event loop takes them
    dropped_rate: int = 0  # their function wrote more than its share of the disk
    dropped_disk: int = 0  # the disk did not take them


@dataclass(frozen=True, slots=True)
class Usage:
    """What processes use: memory now, CPU time since the engine started."""

    memory_bytes: int = 0
    cpu_us: int = 0


@dataclass(frozen=True, slots=True)
class Metrics:
    """One engine at one moment."""

    time_ns: int  # since the epoch
    uptime_ms: int
    engine_version: str
    functions: tuple[FunctionMetrics, ...]
    starts: tuple[StartStats, ...]
    throttles: tuple[tuple[str, int], ...]  # of all functions, those included that are deleted
    errors: tuple[ErrorCount, ...]
    sandboxes: SandboxCounts
    concurrency: int  # invocations under way
    waiting: int  # of those, how many wait for room
    max_concurrency: int
    all_sandboxes: Usage  # 0 where the host's cgroups do not tell
    engine: Usage  # the engine's own process
    logs: LogCounts
    resources: tuple[ResourceCount, ...]
    events: tuple[EventCount, ...]
    zygotes: tuple[ZygoteFound, ...]
    async_events: tuple[AsyncEventCounts, ...] = ()  # by function
