"""TimelineService: the last invocations, and where their time went."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import replace

from engine.errors import InvalidArgument, NotFound
from engine.model.invocation import Report
from engine.model.names import parse_resource_name
from engine.observe.recent import Recent
from engine.rpc.calls import Method
from engine.rpc.convert import report_to_proto
from engine.v1 import reports_pb2
from engine.v1 import timelines_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["TimelineService"]

LIMIT = 50
LIMIT_MAX = 1_000


class Kept(Protocol):
    """What this front asks of engine.observe.recent.RecentInvocations."""

    def get(self, request_id: str) -> Recent | None:
        """The last with this id, None where it is not kept."""

    def newest_first(self, function: str = "") -> Iterator[Recent]:
        """Those of a function, or all."""


class TimelineService:
    """Reads what is kept."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {"GetTimeline": self.get, "ListTimelines": self.list}

    async def get(self, request: pb.GetTimelineRequest) -> pb.GetTimelineResponse:
        """One, with its timeline."""
        found = self._kept.get(request.request_id)
        if found is None:
            raise NotFound(
                f"no invocation {request.request_id[:64]!r} is known: it has not ended, is too long ago, or was none",
                fix="list those that are known: `cleave timeline`",
            )
        return pb.GetTimelineResponse(invocation=_past(found, found.detailed()))

    async def list(self, request: pb.ListTimelinesRequest) -> pb.ListTimelinesResponse:
        """Those that are known."""
        if not 0 <= request.limit <= LIMIT_MAX:
            raise InvalidArgument(
                f"{request.limit} invocations cannot be listed",
                fix=f"use up to {LIMIT_MAX:,}, or 0 for {LIMIT}",
                fields={"limit": f"must be 0 to {LIMIT_MAX:,}"},
            )
        kept = self._kept.newest_first(parse_resource_name(request.name).name if request.name else "")
        limit = request.limit or LIMIT
        if request.slowest:
            found = heapq.nlargest(limit, kept, key=lambda one: one.report.total_us)
        else:
            found = list(islice(kept, limit))
        return pb.ListTimelinesResponse(invocations=[_past(one, replace(one.report, timeline=())) for one in found])


def _past(one: Recent, report: Report) -> pb.PastInvocation:
    seconds, nanos = divmod(one.ended_ns, 1_000_000_000)
    message = report_to_proto(report)
    if not one.moments.started_ns:
        message.start_kind = reports_pb2.START_KIND_UNSPECIFIED
    return pb.PastInvocation(
        name=f"functions/{one.function}",
        end_time=Timestamp(seconds=seconds, nanos=nanos),
        report=message,
        notable=one.notable,
    )
