"""An invocation from acceptance to report, as every front and the pipeline between them speak of it.

Structs rather than dataclasses: several are made for each call, and a frozen dataclass costs ten times as much to make.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.model.function import LATEST
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind

if TYPE_CHECKING:
    import asyncio  # the settings, and with them every command, read the limits here

EVENT_LIMIT_BYTES = 6_291_456
"""A synchronous event, 6 MB: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
RESULT_LIMIT_BYTES = 6_291_556
"""A buffered result, 6 MB and the envelope that AWS's own message names."""
STREAM_LIMIT_BYTES = 209_715_200
"""A streamed answer, 200 MB: docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html."""
LOG_TAIL_BYTES = 4096


class CognitoIdentity(msgspec.Struct, frozen=True):
    """Who called, where a mobile SDK did, as the caller says."""

    id: str
    pool_id: str


class Outlet(Protocol):
    """Where chunks of one answer may go past its sink, natively: engine.sandbox.outlet's, who makes them."""

    @property
    def offered(self) -> bool:
        """Whether there is something to be carried."""

    @property
    def whole(self) -> bool:
        """Whether what was written by now ended with a piece's end: nothing can follow where it did not."""

    async def carry(self, client_fd: int, first: bytes) -> None:
        """Write these bytes to a socket, and then chunks while nothing else comes, in HTTP's chunked coding."""


class InvokeRequest(msgspec.Struct, frozen=True):
    """What a front asks for. `payload` is JSON text, empty counts as {}; or anything, if it is `raw`."""

    ref: FunctionRef
    payload: bytes
    request_id: str = ""  # a UUID; made if empty
    client_context: bytes = b""  # JSON
    timeline: bool = False
    log_tail: bool = False  # return the end of the log in the completion
    input: AsyncIterator[bytes] | None = None  # what the handler reads while it runs; read as fast as it does
    raw: bool = False  # the handler gets the payload as bytes
    tenant_id: str | None = None  # for whom; its sandboxes serve nobody else
    identity: CognitoIdentity | None = None
    trace_id: str = ""  # X-Ray's header, of a caller who is traced; made if empty
    outlet: Outlet | None = None  # of a streamed answer, whose sink gets then what comes before and after


class FunctionError(msgspec.Struct, frozen=True):
    """A function's own failure: AWS's errorType, and AWS's document as JSON, verbatim."""

    type: str
    document: bytes


class LogLine(msgspec.Struct, frozen=True):
    """A line of a function's log, without its line end. `time_us` is microseconds since the epoch."""

    time_us: int
    text: bytes
    request_id: str


class LogBatch(msgspec.Struct, frozen=True, array_like=True):
    """Lines that came together, as they are kept. The order of its fields is that of the stored form: see
    engine.observe.log_blocks."""

    time_us: int  # since the epoch
    request_id: str
    stream: str  # the log stream's name
    texts: Sequence[bytes]
    json: bool = False  # the function's log is in JSON


class Cost(msgspec.Struct, frozen=True):
    """What a run cost beside time; see proto/engine/v1/reports.proto for each field."""

    boot_minor_faults: int = 0
    boot_major_faults: int = 0
    init_minor_faults: int = 0
    init_major_faults: int = 0
    handler_minor_faults: int = 0
    handler_major_faults: int = 0
    private_bytes: int = 0
    shared_bytes: int = 0
    kernel_bytes: int = 0


NO_COST = Cost()


class Report(msgspec.Struct, frozen=True, gc=False):
    """What an invocation did and cost; see proto/engine/v1/reports.proto for each field."""

    request_id: str
    outcome: Outcome
    start_kind: StartKind
    memory_mb: int
    executed_version: str = LATEST
    queue_us: int = 0
    start_us: int = 0
    init_us: int = 0
    handler_us: int = 0
    total_us: int = 0
    billed_ms: int = 0
    peak_memory_bytes: int = 0
    cpu_us: int = 0
    tmp_written_bytes: int = 0
    network_in_bytes: int = 0
    network_out_bytes: int = 0
    timeline: tuple[tuple[str, int], ...] = ()  # (phase, microseconds since acceptance)
    cost: Cost | None = None  # with the timeline


class Moments(msgspec.Struct, frozen=True, gc=False):
    """When an invocation came to what: readings of time.monotonic_ns(). Cheap to take; what they say is worked out for
    who asks."""

    accepted_ns: int
    checked_ns: int
    started_ns: int  # a sandbox had the event; 0: none had
    recorded_ns: int
    marks: tuple[tuple[str, int], ...] = ()  # (phase, when) of the sandbox, in any order

    def timeline(self) -> tuple[tuple[str, int], ...]:
        """(phase, microseconds since acceptance), in the order of time."""
        own = (("checked", self.checked_ns), ("started", self.started_ns), ("recorded", self.recorded_ns))
        in_order = sorted((*own, *self.marks), key=lambda mark: mark[1])
        return tuple((phase, (ns - self.accepted_ns) // 1000) for phase, ns in in_order if ns)


class Completion(msgspec.Struct, frozen=True):
    """How it ended: a payload, or the function's error, with the report."""

    report: Report
    payload: bytes = b""
    error: FunctionError | None = None
    log_tail: bytes = b""  # if asked for: at most LOG_TAIL_BYTES, whole lines where they fit


class Sink(Protocol):
    """Where an invocation sends what it makes before it ends. Called on the engine's event loop; must not block."""

    def started(self, request_id: str, executed_version: str, kind: StartKind) -> None:
        """A sandbox has the event. Called once, before anything else."""

    def log(self, line: LogLine) -> None:
        """The function, or the engine about it, wrote a line."""

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        """The next bytes of a streamed answer; Completion.payload has the rest. A future holds the function up until it
        is done: the reader is slow."""


class Pending(Protocol):
    """An invocation that has begun."""

    async def result(self) -> Completion:
        """Its end, as of Invoker.invoke. To be awaited at once; cancelled, it kills the sandbox."""


class Invoker(Protocol):
    """The one narrow call between a front and the rest of the engine."""

    def express(self, function_name: str, payload: bytes, request_id: str = "") -> Pending | None:
        """Run a function, for a caller who asks for nothing but an answer in one piece, where a warm sandbox is there
        for it; None: nothing was done, `invoke` is to be called."""

    async def invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        """Run a function once; with a sink its answer may come in chunks. Cancelling the call kills the sandbox. Raises
        EngineError for what is refused or is the engine's own fault; a function's failure is in the Completion."""
