"""The pipeline of an invocation: authorize → check → admit and run → record.

Leaves to others: the wire (fronts), sandboxes and concurrency (scheduler), what is kept of logs (observe). Guarantees:
whatever is refused never ran; a function's failure is a Completion with AWS's document, the engine's is an EngineError;
each event that a sandbox had has START and END in the log, and REPORT unless the caller left or the engine failed; an
init phase has INIT_START before and, for each time that it failed, INIT_REPORT, all before START.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from engine.invoke.ahead import InitRun
from engine.invoke.callers import check_caller, of_tenant
from engine.invoke.checks import check_client_context, check_invocable, check_payload, check_request_id
from engine.invoke.endings import (
    Endings,
    Lost,
    NoTally,
    Record,
    Tally,
    check_answered,
    lose_nothing,
    record_nothing,
)
from engine.invoke.express import Express, ExpressCall
from engine.invoke.ids import RequestIds
from engine.invoke.pace import NO_PACE, PaceLimits
from engine.invoke.retire import Logs, Retirer
from engine.invoke.run import Run, RunMeans
from engine.invoke.specs import NO_VERSIONS, Prepared, Specs, key_of
from engine.model.alias import Alias
from engine.model.function import LATEST, Function
from engine.model.invocation import (
    EVENT_LIMIT_BYTES,
    RESULT_LIMIT_BYTES,
    STREAM_LIMIT_BYTES,
    Completion,
    InvokeRequest,
    Sink,
)
from engine.model.names import FunctionRef, function_arn
from engine.registry.api import CodeStore, Registry
from engine.sandbox.api import Event, SandboxSpec
from engine.sandbox.box import Door
from engine.sandbox.ready import provisioned
from engine.scheduler.api import Done, Granted, Scheduler, Work

Authorize = Callable[[InvokeRequest], None]
"""Raises PermissionDenied if the request may not be made. Comes first, so that a refusal tells nothing."""


def allow_all(request: InvokeRequest) -> None:
    """The policy of an engine without identities: whoever reaches it may invoke."""


CONVERSATION_LIMIT_BYTES = 1 << 62
"""What is said may be without an end; AWS has no such call, and no limit for it."""


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
        provisioned_init_timeout_ms: int = 130_000,
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
        lost: Lost = lose_nothing,
        tally: Tally | None = None,
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._logs = logs
        self._region = region
        self._account = account
        self._event_limit_bytes = event_limit_bytes
        self._stream_limit_bytes = stream_limit_bytes
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
        clocks = {"monotonic_ns": monotonic_ns, "wall_ns": wall_ns}
        endings = Endings(registry, self._specs, logs, record, lost, tally=tally or NoTally(), **clocks)
        self._endings = endings
        self._ahead_timeout_ms = provisioned_init_timeout_ms
        self._means = RunMeans(endings.keep, endings.keep_late, monotonic_ns, wall_ns, stream_pace)
        self._express = Express(
            scheduler,
            endings,
            self._means,
            event_limit_bytes=event_limit_bytes,
            new_uuid=new_uuid,
            long_way=self._invoke,
            go_on=self._go_on,
        )
        retirer = Retirer(scheduler, self._specs, logs)
        registry.subscribe(retirer)
        registry.observe(retirer.changed)
        registry.subscribe(self._express.drop)

    def settle(self) -> None:
        """Write what is still to be written of runs that have ended: for whoever reads logs or counts next."""
        self._endings.settle()

    def express(self, function_name: str, payload: bytes, request_id: str = "") -> ExpressCall | None:
        """See Invoker.express."""
        return self._express.submit(function_name, payload, request_id) if self._authorize is allow_all else None

    @property
    def door(self) -> Door | None:
        """Where fronts in native code submit plain calls; None where it is not for all to call."""
        return self._express.door if self._authorize is allow_all else None

    def spec_ahead(self, function: Function) -> SandboxSpec:
        """What a provisioned sandbox of a function is. Raises NotFound if its code is gone."""
        timeout_ms = max(self._ahead_timeout_ms, function.config.timeout_ms)
        return provisioned(self._specs.get(function).spec, timeout_ms)

    def follow_init(self, function: Function) -> InitRun:
        """What an init phase of one says. Raises as above."""
        return InitRun(self._specs.get(function), self._means)

    async def invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        """See Invoker.invoke. Raises PermissionDenied, NotFound, NotInvocable, PayloadTooLarge, InvalidPayload,
        InvalidArgument before anything ran; what Scheduler.run raises; SandboxFault."""
        if sink is None and is_plain(request):
            call = self.express(request.ref.name, request.payload, request.request_id)
            if call is not None:
                return await call.result()
        return await self._invoke(request, sink)

    async def _invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        """The long way."""
        accepted_ns = self._monotonic_ns()
        self._authorize(request)
        function = self._registry.resolve(request.ref, self._route)
        check_invocable(function)
        payload = check_payload(request.payload, raw=request.raw, limit_bytes=self._event_limit_bytes)
        if request.client_context:
            check_client_context(request.client_context)
        if request.tenant_id is not None or request.identity is not None:
            check_caller(request)
        request_id = request.request_id
        if request_id:
            check_request_id(request_id)
        else:
            request_id = self._new_uuid()
        prepared = self._specs.get(function)
        if request.tenant_id is not None:
            prepared = of_tenant(prepared, request.tenant_id)
        stream_limit_bytes = 0 if sink is None else self._stream_limit_bytes
        if request.input is not None:
            stream_limit_bytes = CONVERSATION_LIMIT_BYTES
        event = self._event(request, request_id, payload, prepared, stream_limit_bytes)

        run = Run(request_id, prepared, sink, self._means)
        if sink is not None or request.log_tail:
            _ = run.log
        checked_ns = self._monotonic_ns()
        begun = self._scheduler.run(Work(prepared.spec, event), run)
        return await self._run(begun, run, prepared, request, (accepted_ns, checked_ns), sink)

    async def _go_on(self, call: ExpressCall, granted: Granted) -> Completion:
        """With one that waited on the short way, and is the scheduler's."""
        prepared, request_id, payload = call.prepared, call.request_id, call.payload or b""
        request = InvokeRequest(FunctionRef(prepared.function.name), payload, request_id)
        run = Run(request_id, prepared, None, self._means)
        event = self._event(request, request_id, payload, prepared, 0)
        begun = self._scheduler.go_on(granted, Work(prepared.spec, event), run)
        return await self._run(begun, run, prepared, request, (call.accepted_ns, call.waits_ns), None)

    async def _run(
        self,
        begun: Awaitable[Done],
        run: Run,
        prepared: Prepared,
        request: InvokeRequest,
        reached: tuple[int, int],
        sink: Sink | None,
    ) -> Completion:
        """From the scheduler to its ending. `reached`: when it was accepted, and checked."""
        request_id = run.request_id
        try:
            done = await begun
            check_answered(done.ending)
            if not run.quiet and run.log.behind:
                await run.log.finish()
        except BaseException as error:
            self._endings.left(run, request_id, prepared, *reached, error)
            raise
        run.started(done.start_kind)  # for a sandbox that ended before it could say so
        run.begin()
        if done.ending.reusable and self._specs.holds(prepared) and prepared.function.version == LATEST:
            self._express.open(prepared)
        moments, timeline = (*reached, run.started_ns), request.timeline
        if run.quiet:
            run.end()
            return self._endings.quiet(request_id, prepared, done, run.begun_ns, moments, timeline=timeline)
        at_once = sink is not None or request.log_tail
        return self._endings.loud(run, request_id, prepared, done, moments, timeline=timeline, at_once=at_once)

    def _route(self, alias: Alias, functions: Sequence[Function]) -> int:
        return self._scheduler.route(alias, [key_of(function) for function in functions])

    def _event(
        self, request: InvokeRequest, request_id: str, payload: bytes, prepared: Prepared, stream_limit_bytes: int
    ) -> Event:
        arn = prepared.arn
        if request.ref.qualifier != LATEST:
            arn = function_arn(self._region, self._account, request.ref)
        digits = request_id.replace("-", "").lower()
        made = f"Root=1-{self._wall_ns() // 1_000_000_000:08x}-{digits[:24]};Parent={digits[16:]};Sampled=0"
        timeout_ms = prepared.function.config.timeout_ms
        return Event(
            request_id,
            payload,
            timeout_ms,
            arn,
            request.client_context,
            request.trace_id or made,
            stream_limit_bytes=stream_limit_bytes,
            timeline=request.timeline,
            input=request.input,
            raw=request.raw,
            tenant_id=request.tenant_id,
            identity=request.identity,
            outlet=None if self._means.pace.bytes_per_s else request.outlet,  # a pace is kept chunk by chunk
        )


def is_plain(request: InvokeRequest) -> bool:
    """Whether it asks for nothing but an answer in one piece."""
    return request.ref.qualifier == LATEST and not (
        request.client_context
        or request.trace_id
        or request.timeline
        or request.log_tail
        or request.raw
        or request.input is not None
        or request.tenant_id is not None
        or request.identity is not None
    )
