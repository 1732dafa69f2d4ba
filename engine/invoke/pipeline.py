"""The pipeline of an invocation: authorize → check → admit and run → record.

Leaves to others: the wire (fronts), sandboxes and concurrency (scheduler), what is kept of logs (observe). Guarantees:
whatever is refused never ran; a function's failure is a Completion with AWS's document, the engine's is an EngineError;
each event that a sandbox had has START and END in the log, and REPORT unless the caller left or the engine failed; an
init phase has INIT_START before and, for each time that it failed, INIT_REPORT, all before START.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from engine.errors import NotFound, SandboxFault
from engine.invoke.checks import check_client_context, check_invocable, check_payload, check_request_id
from engine.invoke.documents import Facts, function_error
from engine.invoke.ids import RequestIds
from engine.invoke.logtail import LogTail
from engine.invoke.pace import NO_PACE, Pace, PaceLimits
from engine.invoke.reportline import billed_ms
from engine.invoke.retire import Logs, Retirer
from engine.invoke.specs import NO_VERSIONS, Prepared, Specs
from engine.model.function import LATEST, Function, LogFormat
from engine.model.invocation import (
    EVENT_LIMIT_BYTES,
    RESULT_LIMIT_BYTES,
    STREAM_LIMIT_BYTES,
    Completion,
    FunctionError,
    InvokeRequest,
    LogBatch,
    Report,
    Sink,
)
from engine.model.names import FunctionRef, function_arn
from engine.model.outcome import FUNCTION_FAILED, Outcome, StartKind
from engine.registry.api import CodeStore, Registry
from engine.sandbox.api import Ending, Event, SandboxSpec
from engine.scheduler.api import Done, Scheduler, Work

Authorize = Callable[[InvokeRequest], None]
"""Raises PermissionDenied if the request may not be made. Comes first, so that a refusal tells nothing."""

Record = Callable[[Function, Report], None]
"""Told of every invocation that ran to its end."""


def allow_all(request: InvokeRequest) -> None:
    """The policy of an engine without identities: whoever reaches it may invoke."""


def record_nothing(function: Function, report: Report) -> None:
    """The default where nobody listens."""


CONVERSATION_LIMIT_BYTES = 1 << 62
"""What is said may be without an end; AWS has no such call, and no limit for it."""


def _discard(data: bytes) -> None:
    """Where chunks go when the caller asked for no stream."""


class _Run:
    """The sink of one run: says where its init phase and its handler begin, passes output to the log, chunks to the
    front."""

    __slots__ = (
        "_begun",
        "_init_failed",
        "_log",
        "_monotonic_ns",
        "_platform",
        "_request_id",
        "_sink",
        "_version",
        "_wall_ns",
        "chunk",
        "output",
        "started_ns",
    )

    def __init__(
        self,
        request_id: str,
        prepared: Prepared,
        log: LogTail,
        sink: Sink | None,
        monotonic_ns: Callable[[], int],
        wall_ns: Callable[[], int],
        pace: PaceLimits,
    ) -> None:
        self._request_id = request_id
        self._version = prepared.function.version
        self._platform = prepared.platform
        self._init_failed = False
        self._begun = False
        self._log = log
        self._sink = sink
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self.started_ns = 0  # 0: no sandbox has had the event
        self.output: Callable[[bytes], None] = log.output
        self.chunk: Callable[[bytes], asyncio.Future[None] | None] = _discard if sink is None else sink.chunk
        if sink is not None and pace.bytes_per_s:
            self.chunk = Pace(pace, sink.chunk, asyncio.get_running_loop()).chunk

    def started(self, kind: StartKind) -> None:
        if not self.started_ns:
            self.started_ns = self._monotonic_ns()
            if self._sink is not None:
                self._sink.started(self._request_id, self._version, kind)
            if kind is not StartKind.WARM:
                self._log.announce(self._platform.init_start(self._wall_ns()))
        if kind is StartKind.WARM:
            self.begin()

    def initialized(self, failure: Ending | None) -> None:
        if failure is None:
            self._log.say(self._platform.init_done(self._wall_ns()))
            self.begin()
        else:
            phase = "invoke" if self._init_failed else "init"
            self._log.say(self._platform.init_failed(failure, phase, self._wall_ns()))
            self._init_failed = True

    def begin(self) -> None:
        """Write START, once: the handler is called next, or never."""
        if not self._begun:
            self._begun = True
            self._log.say(self._platform.start(self._request_id, self._version, self._wall_ns()))


class Pipeline:
    """Implements engine.model.invocation.Invoker."""

    def __init__(
        self,
        registry: Registry,
        code: CodeStore,
        scheduler: Scheduler,
        logs: Logs,
        *,
        region: str,
        account: str,
        init_timeout_ms: int = 10_000,
        python_versions: Mapping[str, str] = NO_VERSIONS,
        event_limit_bytes: int = EVENT_LIMIT_BYTES,
        result_limit_bytes: int = RESULT_LIMIT_BYTES,
        stream_limit_bytes: int = STREAM_LIMIT_BYTES,
        stream_pace: PaceLimits = NO_PACE,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        new_uuid: Callable[[], str] | None = None,
        authorize: Authorize = allow_all,
        record: Record = record_nothing,
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._logs = logs
        self._region = region
        self._account = account
        self._event_limit_bytes = event_limit_bytes
        self._stream_limit_bytes = stream_limit_bytes
        self._stream_pace = stream_pace
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._new_uuid = new_uuid = new_uuid or RequestIds()
        self._authorize = authorize
        self._record = record
        self._specs = Specs(
            code,
            region=region,
            account=account,
            init_timeout_ms=init_timeout_ms,
            result_limit_bytes=result_limit_bytes,
            python_versions=python_versions,
            wall_ns=wall_ns,
            new_uuid=new_uuid,
        )
        retirer = Retirer(scheduler, self._specs, logs)
        registry.subscribe(retirer)
        registry.observe(retirer.changed)

    def spec_of(self, function: Function) -> SandboxSpec:
        """What a sandbox of a function is. Raises NotFound if its code is gone."""
        return self._specs.get(function).spec

    async def invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        """See Invoker.invoke. Raises PermissionDenied, NotFound, NotInvocable, PayloadTooLarge, InvalidPayload,
        InvalidArgument before anything ran; what Scheduler.run raises; SandboxFault."""
        accepted_ns = self._monotonic_ns()
        self._authorize(request)
        function = self._registry.resolve(request.ref)
        check_invocable(function)
        payload = check_payload(request.payload, raw=request.raw, limit_bytes=self._event_limit_bytes)
        if request.client_context:
            check_client_context(request.client_context)
        request_id = request.request_id
        if request_id:
            check_request_id(request_id)
        else:
            request_id = self._new_uuid()
        prepared = self._specs.get(function)
        stream_limit_bytes = 0 if sink is None else self._stream_limit_bytes
        if request.input is not None:
            stream_limit_bytes = CONVERSATION_LIMIT_BYTES
        event = self._event(request, request_id, payload, prepared, stream_limit_bytes)

        forward = None if sink is None else sink.log
        loop = asyncio.get_running_loop()
        log = LogTail(
            function.name,
            request_id,
            prepared.log_stream,
            self._logs.append,
            forward,
            self._wall_ns,
            loop,
            dropped=prepared.platform.dropped,
            takes=prepared.platform.takes,
            json=function.config.log_format is LogFormat.JSON,
        )
        run = _Run(request_id, prepared, log, sink, self._monotonic_ns, self._wall_ns, self._stream_pace)
        checked_ns = self._monotonic_ns()
        try:
            done = await self._scheduler.run(Work(prepared.spec, event), run)
            ending = done.ending
            if ending.outcome is not Outcome.OK and ending.outcome not in FUNCTION_FAILED:
                raise SandboxFault("run", 0, f"a sandbox ended in {ending.outcome.value}")
            if log.behind:
                await log.finish()
        except BaseException:
            log.finish_now()
            if run.started_ns:
                run.begin()
                log.say(prepared.platform.left(request_id, self._wall_ns()))
            log.end(self._keep_late)
            self._forget_if_gone(prepared)
            raise
        run.started(done.start_kind)  # for a sandbox that ended before it could say so
        run.begin()
        facts = Facts(request_id, function.config.timeout_ms, ending.exit_status)
        error = None if ending.outcome is Outcome.OK else function_error(ending, facts)
        marks = (("checked", checked_ns), ("started", run.started_ns)) if request.timeline else None
        report = self._report(request_id, prepared, done, accepted_ns, marks)
        payload = ending.payload if error is None else b""
        if sink is None and not request.log_tail:
            # Nobody waits for the last lines: the answer goes out first, it and the record follow in the next turn.
            loop.call_soon(self._write_end, log, report, facts, error, prepared)
            return Completion(report, payload, error)
        self._write_end(log, report, facts, error, prepared)
        return Completion(report, payload, error, log.tail())

    def _event(
        self, request: InvokeRequest, request_id: str, payload: bytes, prepared: Prepared, stream_limit_bytes: int
    ) -> Event:
        arn = prepared.arn
        if request.ref.qualifier != LATEST:
            arn = function_arn(self._region, self._account, request.ref)
        digits = request_id.replace("-", "").lower()
        trace_id = f"Root=1-{self._wall_ns() // 1_000_000_000:08x}-{digits[:24]};Parent={digits[16:]};Sampled=0"
        timeout_ms = prepared.function.config.timeout_ms
        return Event(
            request_id,
            payload,
            timeout_ms,
            arn,
            request.client_context,
            trace_id,
            stream_limit_bytes=stream_limit_bytes,
            timeline=request.timeline,
            input=request.input,
            raw=request.raw,
        )

    def _report(
        self,
        request_id: str,
        prepared: Prepared,
        done: Done,
        accepted_ns: int,
        marks: tuple[tuple[str, int], ...] | None,
    ) -> Report:
        ending = done.ending
        now_ns = self._monotonic_ns()
        timeline: tuple[tuple[str, int], ...] = ()
        if marks is not None:
            moments = sorted((*marks, *ending.timeline, ("recorded", now_ns)), key=lambda mark: mark[1])
            timeline = tuple((phase, (ns - accepted_ns) // 1000) for phase, ns in moments)
        return Report(
            request_id=request_id,
            outcome=ending.outcome,
            start_kind=done.start_kind,
            memory_mb=prepared.spec.memory_mb,
            executed_version=prepared.function.version,
            queue_us=done.queue_us,
            start_us=ending.start_us,
            init_us=ending.init_us,
            handler_us=ending.handler_us,
            total_us=(now_ns - accepted_ns) // 1000,
            billed_ms=billed_ms(ending.init_us, ending.handler_us),
            peak_memory_bytes=ending.peak_memory_bytes,
            cpu_us=ending.cpu_us,
            tmp_written_bytes=ending.tmp_written_bytes,
            network_in_bytes=ending.network_in_bytes,
            network_out_bytes=ending.network_out_bytes,
            timeline=timeline,
            cost=None if marks is None else ending.cost,
        )

    def _write_end(
        self, log: LogTail, report: Report, facts: Facts, error: FunctionError | None, prepared: Prepared
    ) -> None:
        self._record(prepared.function, report)
        log.finish_now()
        error_type = "" if error is None else error.type
        log.say(prepared.platform.report(report, facts, error_type, self._wall_ns()))
        log.end(self._keep_late)
        self._forget_if_gone(prepared)

    def _keep_late(self, function_name: str, batch: LogBatch) -> None:
        """What a function writes between two invocations, or while it ends: nothing of one that is deleted is kept."""
        try:
            self._registry.get(FunctionRef(function_name))
        except NotFound:
            return
        self._logs.append(function_name, batch)

    def _forget_if_gone(self, prepared: Prepared) -> None:
        """Drop the log of a function that was deleted while this invocation wrote to it."""
        if self._specs.holds(prepared):
            return
        try:
            self._registry.get(FunctionRef(prepared.function.name))
        except NotFound:
            self._logs.forget(prepared.function.name)
