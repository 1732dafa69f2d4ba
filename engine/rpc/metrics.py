"""MetricsService: the engine's counters, once or again and again.

Leaves counting and putting together to engine.observe.metrics. Guarantees that one who watches costs nothing between
two responses, and that a drain of the engine ends the watching.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from engine.errors import InvalidArgument
from engine.model.events import AsyncEventCounts
from engine.model.metrics import OTHERS, FunctionMetrics, InvocationCount, Metrics, Usage
from engine.observe.metrics import AT_A_TIME
from engine.rpc.calls import Calls, Method, Write
from engine.rpc.convert import (
    OUTCOME,
    START_KIND,
    distribution_to_proto,
    events_to_proto,
    resources_to_proto,
    starts_to_proto,
    zygotes_to_proto,
)
from engine.v1 import metrics_pb2 as pb
from engine.v1 import reports_pb2

SERVICE = pb.DESCRIPTOR.services_by_name["MetricsService"]

INTERVAL_MS = 1_000
INTERVALS_MS = (100, 3_600_000)

Observe = Callable[[], Awaitable[Metrics]]


class MetricsService:
    """Reads the counters."""

    def __init__(self, observe: Observe, calls: Calls) -> None:
        self._observe = observe
        self._calls = calls

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {"GetMetrics": self.get, "WatchMetrics": self.watch}

    async def get(self, request: pb.GetMetricsRequest) -> pb.GetMetricsResponse:
        """All of them now."""
        return pb.GetMetricsResponse(metrics=await metrics_to_proto(await self._observe()))

    async def watch(self, request: pb.WatchMetricsRequest, write: Write) -> None:
        """All of them now, and after each interval."""
        interval_ms = request.interval_ms or INTERVAL_MS
        least, most = INTERVALS_MS
        if not least <= interval_ms <= most:
            raise InvalidArgument(
                f"the counters are not sent every {interval_ms} ms",
                fix=f"use {least} to {most:,} ms",
                fields={"interval_ms": f"must be {least} to {most:,}, or 0 for {INTERVAL_MS:,}"},
            )
        loop = asyncio.get_running_loop()
        async with self._calls.until_drain():
            due = loop.time()
            while True:
                await write(pb.WatchMetricsResponse(metrics=await metrics_to_proto(await self._observe())))
                # From when it was due, lest the responses drift; what a slow reader missed is not made up for.
                due = max(due + interval_ms / 1_000, loop.time())
                await asyncio.sleep(due - loop.time())


async def metrics_to_proto(metrics: Metrics) -> pb.Metrics:
    """All of them; holds the event loop up for some functions at a time."""
    sandboxes, logs = metrics.sandboxes, metrics.logs
    seconds, nanos = divmod(metrics.time_ns, 1_000_000_000)
    message = pb.Metrics(
        time=Timestamp(seconds=seconds, nanos=nanos),
        uptime_ms=metrics.uptime_ms,
        engine_version=metrics.engine_version,
        starts=starts_to_proto(metrics.starts),
        throttles=_throttles(metrics.throttles),
        errors=[
            pb.ErrorCount(outcome=OUTCOME[one.outcome], reason=one.reason, count=one.count) for one in metrics.errors
        ],
        sandboxes=pb.SandboxCounts(
            busy=sandboxes.busy,
            idle=sandboxes.idle,
            starting=sandboxes.starting,
            parked=sandboxes.parked,
            closing=sandboxes.closing,
        ),
        concurrency=metrics.concurrency,
        waiting=metrics.waiting,
        max_concurrency=metrics.max_concurrency,
        all_sandboxes=_usage(metrics.all_sandboxes),
        engine=_usage(metrics.engine),
        logs=pb.LogCounts(
            lines=logs.lines,
            dropped_busy=logs.dropped_busy,
            dropped_rate=logs.dropped_rate,
            dropped_disk=logs.dropped_disk,
        ),
        resources=resources_to_proto(metrics.resources),
        events=events_to_proto(metrics.events),
        zygotes=zygotes_to_proto(metrics.zygotes),
        async_events=map(_async_events, metrics.async_events),
    )
    for number, one in enumerate(metrics.functions, 1):
        _add_function(message, one)
        if number % AT_A_TIME == 0:
            await asyncio.sleep(0)
    return message


def _add_function(message: pb.Metrics, one: FunctionMetrics) -> None:
    message.functions.add(
        name=OTHERS if one.name == OTHERS else f"functions/{one.name}",
        invocations=map(_invocations, one.invocations),
        throttles=_throttles(one.throttles),
        handler=distribution_to_proto(one.handler),
        total=distribution_to_proto(one.total),
        cpu_us=one.cpu_us,
        billed_ms=one.billed_ms,
        event_bytes=one.event_bytes,
        result_bytes=one.result_bytes,
        network_in_bytes=one.network_in_bytes,
        network_out_bytes=one.network_out_bytes,
        busy=one.busy,
        idle=one.idle,
        starting=one.starting,
        waiting=one.waiting,
        memory_bytes=one.memory_bytes,
    )


def _invocations(one: InvocationCount) -> pb.InvocationCount:
    return pb.InvocationCount(
        version=one.version,
        outcome=OUTCOME[one.outcome],
        start_kind=reports_pb2.START_KIND_UNSPECIFIED if one.kind is None else START_KIND[one.kind],
        count=one.count,
    )


def _throttles(found: Iterable[tuple[str, int]]) -> list[pb.ThrottleCount]:
    return [pb.ThrottleCount(reason=reason, count=count) for reason, count in found]


def _async_events(one: AsyncEventCounts) -> pb.AsyncEventCounts:
    name = one.function_name
    return pb.AsyncEventCounts(
        name=OTHERS if name == OTHERS else f"functions/{name}",
        received=one.received,
        succeeded=one.succeeded,
        retried=one.retried,
        dropped=[pb.AsyncEventDrops(reason=reason, count=count) for reason, count in one.dropped],
        age=distribution_to_proto(one.age),
        waiting=one.waiting,
        waiting_bytes=one.waiting_bytes,
    )


def _usage(usage: Usage) -> pb.Usage:
    return pb.Usage(memory_bytes=usage.memory_bytes, cpu_us=usage.cpu_us)
