"""Where the time of an invocation went can be asked afterwards, though nobody asked when it was invoked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from botocore.exceptions import ClientError

from engine.v1 import reports_pb2
from engine.v1 import timelines_pb2 as pb
from tests.doors import zip_of
from tests.engines import engine
from tests.remains import HOLD, held

pytestmark = pytest.mark.privileged

SOME = """
    def handler(event, context):
        if event.get("fail"):
            raise ValueError("no")
        return 1
"""


async def test_cold_warm_and_failed_ones_are_known_afterwards_with_their_moments(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as running:
        timelines = running.grpc.timelines
        for name in ("some", "other"):
            await running.grpc.create(name, zip_of(SOME), memory_mb=1_769)
        answers = [await running.grpc.invoke("some", event) for event in (b"{}", b"{}", b'{"fail": 1}')]
        await running.http.invoke("other", b"{}")
        cold, warm, failed = (answer.report for answer in answers if answer.report is not None)
        assert not cold.timeline
        slowest = max((cold, warm, failed), key=lambda report: report.total_us)

        async def phases(report: reports_pb2.Report) -> list[str]:
            answer = await timelines.GetTimeline(pb.GetTimelineRequest(request_id=report.request_id))
            past = answer.invocation
            assert (past.name, past.notable) == ("functions/some", report is not warm)
            marks = list(past.report.timeline)
            past.report.ClearField("timeline")
            assert past.report == report
            assert (marks[0].phase, marks[-1].phase, marks[-1].offset_us) == ("checked", "recorded", report.total_us)
            assert [mark.offset_us for mark in marks] == sorted(mark.offset_us for mark in marks)
            return [mark.phase for mark in marks]

        for phase in ("leased", "zygote", "leaf", "forked", "booted", "started", "initialized", "answered"):
            assert phase in await phases(cold)
        assert (
            sorted(await phases(warm)) == sorted(await phases(failed)) == ["answered", "checked", "recorded", "started"]
        )

        async def listed(**asked: Any) -> list[str]:
            answer = await timelines.ListTimelines(pb.ListTimelinesRequest(**asked))
            assert not any(one.report.timeline for one in answer.invocations)
            return [one.report.request_id for one in answer.invocations]

        newest = [failed.request_id, warm.request_id, cold.request_id]
        assert await listed(name="functions/some") == newest
        assert (await listed())[1:] == newest
        assert await listed(name="functions/some", limit=1) == newest[:1]
        assert await listed(name="functions/some", slowest=True, limit=1) == [slowest.request_id]

        for call, code in (
            (timelines.GetTimeline(pb.GetTimelineRequest(request_id="none")), grpc.StatusCode.NOT_FOUND),
            (timelines.ListTimelines(pb.ListTimelinesRequest(limit=-1)), grpc.StatusCode.INVALID_ARGUMENT),
            (timelines.ListTimelines(pb.ListTimelinesRequest(limit=1_001)), grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is code


async def test_what_ended_in_no_answer_is_known_too(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", max_concurrency=1) as running:
        await running.grpc.create("some", zip_of(HOLD), memory_mb=1_769, timeout_ms=60_000)
        call = running.grpc.call("some", b'{"hold": true}')
        await held(running.instance, 1)
        with pytest.raises(ClientError) as throttled:
            await asyncio.to_thread(running.http.client.invoke, FunctionName="some")
        call.cancel()

        async def known() -> list[pb.PastInvocation]:
            return list((await running.grpc.timelines.ListTimelines(pb.ListTimelinesRequest())).invocations)

        while len(await known()) < 2:
            await asyncio.sleep(0.005)
        left, refused = await known()
        assert (left.report.outcome, left.report.start_kind, left.notable) == (
            reports_pb2.OUTCOME_CANCELLED,
            reports_pb2.START_KIND_FORK,
            True,
        )
        assert (refused.report.outcome, refused.report.start_kind, refused.notable) == (
            reports_pb2.OUTCOME_THROTTLED,
            reports_pb2.START_KIND_UNSPECIFIED,
            False,
        )
        assert refused.report.request_id == throttled.value.response["ResponseMetadata"]["RequestId"]
        request = pb.GetTimelineRequest(request_id=refused.report.request_id)
        answer = await running.grpc.timelines.GetTimeline(request)
        assert [mark.phase for mark in answer.invocation.report.timeline] == ["checked", "recorded"]
