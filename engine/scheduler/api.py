"""The one narrow interface between the pipeline and whatever schedules."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from engine.model.alias import Alias
from engine.model.outcome import StartKind
from engine.sandbox.api import Ending, Event, RunSink, Sandbox, SandboxSpec
from engine.scheduler.kept import Follow

if TYPE_CHECKING:
    from engine.sandbox.box import Lane


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


@dataclass(frozen=True, slots=True)
class Allocated:
    """Provisioned concurrency: what was asked for, and what of it there is."""

    requested: int = 0
    allocated: int = 0  # their init phase is over; with an event or without
    available: int = 0  # of them without one
    starting: int = 0
    failures: int = 0  # starts that failed, one after another, since the last that did not
    trouble: str = ""  # why the last one failed, where there are any


class Borrowed(Protocol):
    """A warm sandbox with the right to run one event in it; goes back to the scheduler that lent it."""

    @property
    def sandbox(self) -> Sandbox:
        """It runs one event, by `express`."""


@dataclass(slots=True)
class Granted:
    """How a plain call that waited in the lane goes on where the lane does not: it is the native scheduler's still,
    unless it was refused, and nothing of it was sent."""

    call: int
    sandbox_id: int
    stands: int  # box.CHOSEN, box.STARTS or box.REFUSED
    waited_us: int
    taken: bool = False  # somebody goes on with it


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

    @property
    def lane(self) -> Lane | None:
        """Where plain calls are submitted, for the target of their key, without any further word to the scheduler; None
        while no sandbox has come that can have them."""

    def target_of(self, key: tuple[str, ...]) -> int | None:
        """What a Line of that lane calls this key, for as long as it is the answer; None where there was no event."""

    def lend(self, call: int, sandbox_id: int) -> Borrowed | None:
        """The sandbox of a call that the lane does not run to its end; None where it is dead, and the call's place is
        free again."""

    def chosen(self, call: int, sandbox_id: int) -> Borrowed:
        """The same for one that waited and has been given this sandbox, which may be dead."""

    async def go_on(self, granted: Granted, work: Work, sink: RunSink) -> Done:
        """Run it, as `run` does what waited."""

    def give_up(self, granted: Granted) -> None:
        """Nobody wants it any longer. Without effect where somebody has gone on with it."""

    def give_back(self, borrowed: Any, ending: Ending | None) -> None:
        """Its event ended like that; None: it did not, and the sandbox is to be closed. Raises Unavailable where a
        drain killed it. Each that was borrowed is given back once, in one of the two ways."""

    def give_back_unused(self, borrowed: Any) -> None:
        """It was not run."""

    def retire(self, function_name: str, keep_etag: str | None, version: str | None = None) -> None:
        """Stop what idles for other states of the function than `keep_etag` (None: all), of one version or of all
        (None); what runs ends first."""

    def route(self, alias: Alias, keys: Sequence[tuple[str, ...]]) -> int:
        """Which of an alias' versions the next call goes to, by their shares. `keys` are those of their sandboxes, in
        the order of `alias.shares`. Raises Unavailable where the scheduler is full."""

    def set_reserved(self, function_name: str, concurrency: int | None) -> None:
        """What a function has for itself, which is also its limit; 0 stops it, None gives it back its share of what is
        unreserved. Raises InvalidArgument where that leaves too little to others."""

    def set_provisioned(self, spec: SandboxSpec, sandboxes: int, follow: Follow = ...) -> None:
        """Keep so many sandboxes of `spec` ready for its key, their init phase over; 0 ends it. `follow` is called for
        each init phase. Raises InvalidArgument where there is not enough."""

    def allocation(self, key: tuple[str, ...]) -> Allocated:
        """What there is of a key's provisioned concurrency now."""

    async def drain(self, grace_s: float) -> None:
        """Refuse new work, wait up to `grace_s` for what runs, then kill it; return when no sandbox is left."""

    def counts(self) -> Counts:
        """How many there are now."""

    def placed(self) -> Iterable[Placed]:
        """Each of them but those that are being closed, as it is now."""

    @property
    def max_concurrency(self) -> int:
        """Events that may be under way at once."""
