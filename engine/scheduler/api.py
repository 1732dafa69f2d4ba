"""The one narrow interface between the pipeline and whatever schedules; the native scheduler fills it later."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from engine.model.outcome import StartKind
from engine.sandbox.api import Ending, Event, RunSink, SandboxSpec


class Work(msgspec.Struct, frozen=True):
    """One event and the sandbox it needs."""

    spec: SandboxSpec
    event: Event


class Done(msgspec.Struct, frozen=True):
    """How the work ended: in which kind of sandbox, after how long a wait."""

    ending: Ending
    start_kind: StartKind
    queue_us: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are now."""

    sandboxes: int
    idle: int
    concurrency: int  # events under way


class Place(enum.Enum):
    """What a sandbox does, or who waits for one."""

    WAITING = "waiting"  # an event, for room; there is no sandbox yet
    STARTING = "starting"
    BUSY = "busy"  # with an event
    IDLE = "idle"


class Placed(msgspec.Struct, frozen=True):
    """One sandbox, or who waits for one."""

    function: str  # its name
    place: Place
    sandbox_id: str = ""  # "" where there is none yet


class Scheduler(Protocol):
    """Gives each event a sandbox of its own for as long as it runs."""

    async def run(self, work: Work, sink: RunSink) -> Done:
        """Run it; where its init phase fails, once more, with `event.covers_init`. Raises Throttled when no concurrency
        is free, Unavailable while draining, SandboxFault or HostUnfit when no sandbox could be started. Cancelling the
        task kills the sandbox."""

    def retire(self, function_name: str, keep_etag: str | None) -> None:
        """Stop what idles for other states of the function than `keep_etag` (None: all); what runs ends first."""

    async def drain(self, grace_s: float) -> None:
        """Refuse new work, wait up to `grace_s` for what runs, then kill it; return when no sandbox is left."""

    def counts(self) -> Counts:
        """How many there are now."""

    def placed(self) -> Iterable[Placed]:
        """Each of them but those that are being closed, as it is now."""

    @property
    def max_concurrency(self) -> int:
        """Events that may be under way at once."""
