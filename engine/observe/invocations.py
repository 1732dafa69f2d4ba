"""How many invocations each function had, how they ended, what they took and moved.

Two tell: the pipeline what ran to its end (engine.invoke.pipeline.Record, after the answer has gone), and Counted,
which stands before the pipeline, what did not, and how many bytes went in and out. Leaves to others who shows it, and
what is under way now. Guarantees: about two microseconds for an invocation; memory is bounded, since at most `limit`
functions are told apart, and SERIES of each; what a deleted function had is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from operator import itemgetter

from msgspec.structs import replace

from engine.errors import EngineError, NotFound, NotServed, Throttled
from engine.model.function import Function
from engine.model.invocation import Completion, Invoker, InvokeRequest, LogLine, Moments, Pending, Report, Sink
from engine.model.metrics import OTHERS, ErrorCount, FunctionMetrics, InvocationCount
from engine.model.names import FunctionRef
from engine.model.outcome import Outcome, StartKind
from engine.observe.recent import RecentInvocations
from engine.observe.times import Times
from engine.registry.api import Registry

Listener = Callable[[Function, Report, Moments], None]
"""Told of every invocation that ran to its end."""

SERIES = 100
"""Versions of one function, times the ways in which they start and end."""


SLOW_EVERY = 200
"""After so many invocations of a function it is looked again what is slow for it: some 20 µs."""


class _Of:
    """One function."""

    __slots__ = (
        "billed_ms",
        "cpu_us",
        "event_bytes",
        "handler",
        "invocations",
        "network_in_bytes",
        "network_out_bytes",
        "result_bytes",
        "slow_us",
        "throttles",
        "total",
        "until_slow",
    )

    def __init__(self) -> None:
        self.invocations: dict[tuple[str, Outcome, StartKind | None], int] = {}
        self.throttles: dict[str, int] = {}
        self.handler, self.total = Times(), Times()
        self.cpu_us = self.billed_ms = self.event_bytes = self.result_bytes = 0
        self.network_in_bytes = self.network_out_bytes = 0
        self.slow_us = 1 << 62  # until enough is known of it
        self.until_slow = SLOW_EVERY

    def look_what_is_slow(self) -> None:
        """Beyond the 99th percentile of all so far."""
        self.slow_us = self.total.distribution().p99_us
        self.until_slow = SLOW_EVERY

    def count(self, version: str, outcome: Outcome, kind: StartKind | None) -> None:
        """One more of these."""
        key = (version, outcome, kind)
        found = self.invocations.get(key)
        if found is None and len(self.invocations) >= SERIES:
            key = (OTHERS, outcome, kind)
            found = self.invocations.get(key)
        self.invocations[key] = 1 if found is None else found + 1

    def metrics(self, name: str) -> FunctionMetrics:
        """As it is now."""
        return FunctionMetrics(
            name=name,
            invocations=tuple(InvocationCount(*key, count) for key, count in self.invocations.items()),
            throttles=tuple(self.throttles.items()),
            handler=self.handler.distribution(),
            total=self.total.distribution(),
            cpu_us=self.cpu_us,
            billed_ms=self.billed_ms,
            event_bytes=self.event_bytes,
            result_bytes=self.result_bytes,
            network_in_bytes=self.network_in_bytes,
            network_out_bytes=self.network_out_bytes,
        )


class Invocations:
    """Of one engine, from its start on."""

    def __init__(self, registry: Registry, also: Listener, recent: RecentInvocations, *, limit: int) -> None:
        """`also` is told what this is told; `recent` keeps each, and is told which are slow."""
        self._registry = registry
        self._also = also
        self._recent = recent
        self.limit = limit
        self._functions: dict[str, _Of] = {}
        self._others = _Of()
        self._throttles: dict[str, int] = {}
        self._errors: dict[tuple[Outcome, str], int] = {}
        registry.subscribe(self._changed)

    def __call__(self, function: Function, report: Report, moments: Moments) -> None:
        """An invocation ran to its end."""
        self._also(function, report, moments)
        of = self._functions.get(function.name) or self._of(function.name)
        of.count(report.executed_version, report.outcome, report.start_kind)
        of.handler.add(report.handler_us)
        of.total.add(report.total_us)
        of.cpu_us += report.cpu_us
        of.billed_ms += report.billed_ms
        if report.network_in_bytes or report.network_out_bytes:
            of.network_in_bytes += report.network_in_bytes
            of.network_out_bytes += report.network_out_bytes
        self._recent.add(function.name, report, moments, report.total_us > of.slow_us)
        of.until_slow -= 1
        if not of.until_slow:
            of.look_what_is_slow()

    def lost(
        self, function: Function, request_id: str, kind: StartKind | None, moments: Moments, error: BaseException
    ) -> None:
        """An invocation ended in no answer; `failed` counts it, this keeps it."""
        outcome = Outcome.THROTTLED if isinstance(error, Throttled) else _why(error)[0]
        report = Report(
            request_id,
            outcome,
            kind or StartKind.WARM,
            function.config.memory_mb,
            executed_version=function.version,
            total_us=(moments.recorded_ns - moments.accepted_ns) // 1000,
        )
        self._recent.add(function.name, report, moments)

    def moved(self, name: str, event_bytes: int, result_bytes: int) -> None:
        """So much went to a function, and came back."""
        of = self._functions.get(name) or self._of(name)
        of.event_bytes += event_bytes
        of.result_bytes += result_bytes

    def failed(self, name: str, error: BaseException) -> None:
        """An invocation ended in no answer."""
        of = self._of(name)
        if isinstance(error, Throttled):
            of.count("", Outcome.THROTTLED, None)
            for throttles in (of.throttles, self._throttles):
                throttles[error.throttle_reason] = throttles.get(error.throttle_reason, 0) + 1
            return
        outcome, reason = _why(error)
        of.count("", outcome, None)
        self._errors[outcome, reason] = self._errors.get((outcome, reason), 0) + 1

    def functions(self) -> Iterator[FunctionMetrics]:
        """All that had an invocation, by name; those that are not told apart come last, if there are any. Each is as it
        is when it is asked for, so that there may be pauses between."""
        for name, of in sorted(self._functions.items(), key=itemgetter(0)):
            yield of.metrics(name)
        if self._others.invocations:
            yield self._others.metrics(OTHERS)

    def throttles(self) -> tuple[tuple[str, int], ...]:
        """By reason, of all functions."""
        return tuple(self._throttles.items())

    def errors(self) -> tuple[ErrorCount, ...]:
        """By outcome and reason, of all functions, and of what named none."""
        return tuple(ErrorCount(outcome, reason, count) for (outcome, reason), count in self._errors.items())

    def _of(self, name: str) -> _Of:
        of = self._functions.get(name)
        if of is None:
            if len(self._functions) >= self.limit or not self._exists(name):
                return self._others
            of = self._functions[name] = _Of()
        return of

    def _exists(self, name: str) -> bool:
        try:
            self._registry.get(FunctionRef(name))
        except NotFound:
            return False
        return True

    def _changed(self, name: str, function: Function | None) -> None:
        if function is None:
            self._functions.pop(name, None)


def _why(error: BaseException) -> tuple[Outcome, str]:
    if isinstance(error, asyncio.CancelledError):
        return Outcome.CANCELLED, "CANCELLED"
    if not isinstance(error, EngineError):
        return Outcome.ENGINE_FAULT, EngineError.reason
    ours = error.http_status >= 500 and not isinstance(error, NotServed)
    return (Outcome.ENGINE_FAULT if ours else Outcome.REFUSED), error.reason


class Counted:
    """An engine.model.invocation.Invoker that tells Invocations of what another one does."""

    def __init__(self, invoker: Invoker, invocations: Invocations) -> None:
        self._invoke = invoker.invoke
        self._express = invoker.express
        self._invocations = invocations

    def express(self, function_name: str, payload: bytes, request_id: str = "") -> Pending | None:
        """See Invoker.express."""
        pending = self._express(function_name, payload, request_id)
        return None if pending is None else _Pending(pending, self._invocations, function_name, len(payload))

    async def invoke(self, request: InvokeRequest, sink: Sink | None = None) -> Completion:
        """See Invoker.invoke."""
        if sink is not None or request.input is not None:
            return await self._stream(request, sink)
        try:
            completion = await self._invoke(request)
        except BaseException as error:
            self._invocations.failed(request.ref.name, error)
            raise
        self._invocations.moved(request.ref.name, len(request.payload), len(completion.payload))
        return completion

    async def _stream(self, request: InvokeRequest, sink: Sink | None) -> Completion:
        name, sent = request.ref.name, len(request.payload)
        counting = None if sink is None else _Sink(sink)
        source = None if request.input is None else _Input(request.input)
        if source is not None:
            request = replace(request, input=source)
        received = 0
        try:
            completion = await self._invoke(request, counting)
            received = len(completion.payload)
            return completion
        except BaseException as error:
            self._invocations.failed(name, error)
            raise
        finally:
            # Also of a stream that broke off: so much went through.
            sent += 0 if source is None else source.bytes
            received += 0 if counting is None else counting.bytes
            self._invocations.moved(name, sent, received)


class _Pending:
    """Counts the bytes of a call that has begun, and how it fails."""

    __slots__ = ("_invocations", "_name", "_pending", "_sent")

    def __init__(self, pending: Pending, invocations: Invocations, name: str, sent: int) -> None:
        self._pending = pending
        self._invocations = invocations
        self._name = name
        self._sent = sent

    async def result(self) -> Completion:
        """See Pending.result."""
        try:
            completion = await self._pending.result()
        except BaseException as error:
            self._invocations.failed(self._name, error)
            raise
        self._invocations.moved(self._name, self._sent, len(completion.payload))
        return completion


class _Sink:
    """Counts the bytes that go through a sink."""

    __slots__ = ("_chunk", "bytes", "log", "started")

    def __init__(self, sink: Sink) -> None:
        self.bytes = 0
        self.started: Callable[[str, str, StartKind], None] = sink.started
        self.log: Callable[[LogLine], None] = sink.log
        self._chunk = sink.chunk

    def chunk(self, data: bytes) -> asyncio.Future[None] | None:
        self.bytes += len(data)
        return self._chunk(data)


class _Input:
    """Counts the bytes of an input."""

    __slots__ = ("_source", "bytes")

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self.bytes = 0
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await anext(self._source)
        self.bytes += len(data)
        return data
