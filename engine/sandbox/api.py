"""What a sandbox is to the scheduler, whatever it is made of.

Theory of operation: a Pool starts a Sandbox for a SandboxSpec; the sandbox runs one Event at a time, the first one
after the function's init phase; each run ends in an Ending. The guarantees that every implementation gives:

* `run` never overlaps with itself, and always ends: by its own clock if by nothing else.
* The first run, or `prepare` before it, tells its sink how the init phase ended, before the handler is called or that
  ends.
* Once an Ending has `reusable=False`, or `kill` was called, the sandbox runs nothing more.
* After `close` returns, nothing of the sandbox is left: processes, mounts, cgroups, files.
* What a sandbox sends is hostile: it decides its own Ending and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from engine.model.function import Egress
from engine.model.invocation import NO_COST, RESULT_LIMIT_BYTES, CognitoIdentity, Cost, FunctionError, Outlet
from engine.model.outcome import Outcome, StartKind

if TYPE_CHECKING:
    from engine.sandbox.box import Seat

UNREAD = "unread"
"""The stage of a SandboxFault: the sandbox ended before it had read any of the event. Another may have it."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """All that decides what a sandbox is. Sandboxes of one `key` are interchangeable; no other two are."""

    key: tuple[str, ...]  # function name, version, etag, and the tenant where it serves one
    runtime: str  # such as "python3.11"
    handler: str
    code_path: str  # the folder to mount at /var/task
    memory_mb: int
    tmp_mb: int
    environment: Mapping[str, str]  # complete: AWS's variables and the user's
    init_timeout_ms: int = 10_000
    ahead_timeout_ms: int = 130_000  # of an init phase ahead of any event
    layer_paths: tuple[str, ...] = ()  # folders to mount under /opt, lowest first
    egress: Egress = Egress.NONE
    forked: bool = False  # leave those that are parked to others, who wait for their start
    result_limit_bytes: int = RESULT_LIMIT_BYTES  # of an answer in one piece
    preload: tuple[str, ...] = ()  # modules of the interpreter to import ahead, sorted
    own_layout: bool = False  # an interpreter that was started for it alone


class Event(msgspec.Struct, frozen=True):
    """One event for a sandbox. Its timeout is counted from the moment the handler is called."""

    request_id: str
    payload: bytes  # JSON text, or anything if it is raw
    timeout_ms: int
    function_arn: str
    client_context: bytes = b""  # JSON
    trace_id: str = ""
    covers_init: bool = False  # the timeout covers the init phase as well, which has no clock of its own then
    stream_limit_bytes: int = 0  # what a streamed answer may have; 0: the answer is wanted in one piece
    timeline: bool = False  # say where the time and the memory went
    input: AsyncIterator[bytes] | None = None  # read as fast as the handler does; what it raises ends the run
    raw: bool = False  # the handler gets the payload as bytes
    tenant_id: str | None = None
    identity: CognitoIdentity | None = None
    ahead: bool = False  # no event: the init phase alone, by the clock that it has then
    outlet: Outlet | None = None  # where chunks of the answer may go past its sink


class Ending(msgspec.Struct, frozen=True):
    """How one run ended and what it took, measured outside the sandbox."""

    outcome: Outcome
    reusable: bool
    payload: bytes = b""
    error: FunctionError | None = None
    start_us: int = 0  # from the decision to start until the guest was there; 0 when warm
    init_us: int = 0  # 0 when warm, and where the event covers it
    handler_us: int = 0  # with the init phase where the event covers it
    peak_memory_bytes: int = 0
    cpu_us: int = 0
    tmp_written_bytes: int = 0
    network_in_bytes: int = 0  # over its link, so 0 without egress
    network_out_bytes: int = 0
    timeline: tuple[tuple[str, int], ...] = ()  # (phase, time.monotonic_ns() at that moment)
    cost: Cost = NO_COST  # if the event asked for it
    exit_status: str = ""  # of EXITED: "exit status 1", "signal: killed"; "" for exit 0
    init_failed: bool = False  # by the function's own doing, so that its handler was never called


class RunSink(Protocol):
    """Where a run sends what it makes before it ends. Called on the event loop; must not block."""

    def started(self, kind: StartKind) -> None:
        """A sandbox has the event."""

    def initialized(self, failure: Ending | None) -> None:
        """The init phase is over: the handler is called next, or the run ends in `failure`. Never of a warm one."""

    def output(self, data: bytes) -> None:
        """Raw bytes that the function wrote to its stdout or stderr, in order, in pieces of any size."""

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        """The next bytes of a streamed answer. A future holds the function up until it is done: the reader is slow."""


class ExpressSink(RunSink, Protocol):
    """The sink of a run that no task waits for."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """Done once nobody waits for the run any more."""

    def ended(self, ending: Ending | None, error: BaseException | None = None) -> None:
        """It is over: by an ending, or by the engine's own failure. Once, on the event loop."""


class Sandbox(Protocol):
    """One sandbox, of one function, for its whole life."""

    on_end: Callable[[], None]
    """Called once, on the event loop, when it ends while it idles, but for `close`. Its owner sets it."""

    @property
    def id(self) -> str:
        """Unique in this engine's life."""

    @property
    def spec(self) -> SandboxSpec:
        """What it was started for."""

    @property
    def kind(self) -> StartKind:
        """How it came to be; what a run reports is WARM from the second on."""

    @property
    def dead(self) -> bool:
        """It ended, or is ending: never run it again. An idle sandbox may die by itself."""

    async def run(self, event: Event, sink: RunSink) -> Ending:
        """Run one event. Cancelling the task kills the sandbox. Raises SandboxFault for the engine's own failures."""

    async def prepare(self, sink: RunSink) -> Ending:
        """Run the init phase ahead of any event, by its own clock, as provisioned concurrency asks for: once, before
        anything else. An ending that is `reusable` leaves a warm sandbox; any other says how the init phase failed.
        Otherwise as `run`."""

    def express(self, head: bytes, payload: bytes, event: Event, sink: ExpressSink) -> bool:
        """Run one that wants its answer in one piece and is framed already: `head` and `payload` are its EVENT frame,
        `event` says its timeout. False, and `sink` hears nothing, where it did not begin: it is dead, or as before.
        Nothing says that it has started; `kill` ends it."""

    def kill(self) -> None:
        """End it at once, whatever it does; `close` still has to be called."""

    async def close(self, grace_ms: int = 0) -> None:
        """End it: SIGTERM and up to `grace_ms` if there is grace, then kill; return when nothing of it is left."""


@runtime_checkable
class Seated(Protocol):
    """A sandbox that the lane of its pool can call by itself, between the runs that are made here."""

    @property
    def seat(self) -> Seat:
        """Its place in that lane."""

    def adopt(self, head: bytes, payload: bytes, sent: int, began_ns: int, event: Event, sink: ExpressSink) -> None:
        """Go on, as if by `express`, with a call that the lane began at `began_ns` (time.monotonic_ns()). `sent`: so
        many bytes of its frame were."""


class Pool(Protocol):
    """Makes sandboxes."""

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Start one. Raises SandboxFault with the step that failed, HostUnfit for a limit that cannot be enforced.
        Whatever it raises, also when its task is cancelled, it leaves nothing behind."""

    async def close(self) -> None:
        """Give back what is kept ahead of need. Sandboxes are closed by whoever started them, before."""
