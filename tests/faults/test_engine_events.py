"""Asynchronous events of a whole engine that is killed while they wait and while they run."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from engine import AsyncClient
from tests.doors import RUNTIME, zip_of
from tests.engines import Served, clear, served

pytestmark = pytest.mark.privileged

CODE = """
    import time

    def handler(event, context):
        print("began", event["n"], flush=True)
        time.sleep(event["s"])
        print("ended", event["n"], flush=True)
"""


def client(it: Served) -> AsyncClient:
    return AsyncClient(f"127.0.0.1:{it.grpc_port}")


async def lines(calls: AsyncClient, text: str, many: int) -> list[str]:
    """The request ids of so many lines of the log, once they are there."""
    async with asyncio.timeout(60):
        while True:
            found = [line.request_id async for line in calls.logs("f", contains=text)]
            if len(found) >= many:
                return found
            await asyncio.sleep(0.05)


@pytest.mark.time_limit(120)
async def test_acknowledged_events_outlive_engines_that_are_killed_before_and_while_they_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    try:
        async with served(data, flags={"async_concurrency": 0}) as first, client(first) as calls:
            await calls.create_function("f", zip_of(CODE), runtime=RUNTIME, timeout_ms=60_000)
            waits = await calls.invoke_async("f", {"n": 1, "s": 0})
            over_http = await asyncio.to_thread(
                first.http.client.invoke, FunctionName="f", InvocationType="Event", Payload=b'{"n": 2, "s": 50}'
            )
            assert over_http["StatusCode"] == 202
            runs = over_http["ResponseMetadata"]["RequestId"]
            assert [event.request_id for event in await calls.list_queued_events()] == [waits, runs]
            first.signal(signal.SIGKILL)
            await first.ended()

        async with served(data) as second, client(second) as calls:
            assert await lines(calls, "ended 1", 1) == [waits]
            assert await lines(calls, "began 2", 1) == [runs]
            async with asyncio.timeout(60):
                while len(events := await calls.list_queued_events("f")) > 1:
                    await asyncio.sleep(0.05)
            (event,) = events
            assert (event.request_id, event.running, event.failed_attempts) == (runs, True, 0)
            (counted,) = (await second.grpc.metrics()).async_events
            assert (counted.name, counted.received, counted.succeeded, counted.waiting) == ("functions/f", 0, 1, 1)
            assert counted.age.count == 2
            second.signal(signal.SIGKILL)
            await second.ended()

        async with served(data, flags={"drain_s": 0}) as third, client(third) as calls:
            assert await lines(calls, "began 2", 2) == [runs, runs]
            assert [event.request_id for event in await calls.list_queued_events("f")] == [runs]
            assert await lines(calls, "began 1", 1) == [waits], "what was done is not run again"
            await calls.delete_function("f")
            assert await calls.list_queued_events() == []
            await third.stopped()
    finally:
        clear(data)
