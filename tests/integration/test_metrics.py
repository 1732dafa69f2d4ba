"""What an engine counts is what was done to it: by function, outcome, kind of start and reason, over both doors."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from engine.v1 import metrics_pb2 as pb
from engine.v1 import reports_pb2
from tests.doors import Refused, zip_of
from tests.engines import Engine, engine
from tests.remains import HOLD, held, let_go

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

HELD = b'{"hold": true}'
FAILING = """
    def handler(event, context):
        if event.get("fail"):
            raise ValueError("no")
        return "x" * 100
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("metrics") / "data") as running:
        yield running


def by_end(function: pb.FunctionMetrics) -> dict[tuple[str, str], int]:
    """(outcome, kind of start) → how many."""
    found: Counter[tuple[str, str]] = Counter()
    for one in function.invocations:
        outcome = reports_pb2.Outcome.Name(one.outcome).removeprefix("OUTCOME_").lower()
        kind = reports_pb2.StartKind.Name(one.start_kind).removeprefix("START_KIND_").lower()
        found[outcome, kind] += one.count
    return dict(found)


async def functions(running: Engine) -> dict[str, pb.FunctionMetrics]:
    return {one.name: one for one in (await running.grpc.metrics()).functions}


async def test_counters_agree_with_what_was_invoked_and_what_is_under_way(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", max_concurrency=2) as running:
        await running.grpc.create("some", zip_of(FAILING), memory_mb=1_769)
        await running.grpc.create("busy", zip_of(HOLD), memory_mb=1_769, timeout_ms=60_000)
        for _ in range(3):
            await running.grpc.invoke("some", b'{"a": 1}')
        await running.grpc.invoke("some", b'{"fail": 1}')
        await running.http.invoke("some", b"{}")
        with pytest.raises(Refused):
            await running.grpc.invoke("nothing")
        with pytest.raises(Refused):
            await running.grpc.invoke("some", b"{")

        under_way = [asyncio.ensure_future(running.grpc.invoke("busy", HELD)) for _ in range(2)]
        await held(running.instance, 2)
        for door in (running.grpc, running.http):
            with pytest.raises(Refused):
                await door.invoke("busy")
        found = await running.grpc.metrics()
        assert (found.concurrency, found.max_concurrency, found.waiting) == (2, 2, 0)
        assert (found.sandboxes.busy, found.sandboxes.idle, found.sandboxes.starting) == (2, 1, 0)
        some, busy = (await functions(running))["functions/some"], (await functions(running))["functions/busy"]
        assert by_end(some) == {
            ("ok", "fork"): 1,
            ("ok", "warm"): 3,
            ("handler_error", "warm"): 1,
            ("refused", "unspecified"): 1,
        }
        assert (some.busy, some.idle, some.handler.count, some.total.count) == (0, 1, 5, 5)
        assert (some.event_bytes, some.result_bytes) == (3 * 8 + 11 + 2, 4 * 102)
        assert 0 < some.handler.p50_us <= some.total.max_us
        assert min(some.cpu_us, some.billed_ms, some.memory_bytes, busy.memory_bytes) > 0
        assert by_end(busy) == {("throttled", "unspecified"): 2}
        assert (busy.busy, busy.idle) == (2, 0)
        throttles = [("ConcurrentInvocationLimitExceeded", 2)]
        assert [(one.reason, one.count) for one in busy.throttles] == throttles
        assert [(one.reason, one.count) for one in found.throttles] == throttles
        assert [(one.outcome, one.reason, one.count) for one in found.errors] == [
            (reports_pb2.OUTCOME_REFUSED, "NOT_FOUND", 1),
            (reports_pb2.OUTCOME_REFUSED, "INVALID_PAYLOAD", 1),
        ]
        assert min(found.all_sandboxes.cpu_us, found.all_sandboxes.memory_bytes) > 0
        assert min(found.engine.cpu_us, found.engine.memory_bytes, found.uptime_ms) > 0
        assert found.logs.lines >= 3 * 6
        assert [(one.runtime, one.forks > 0) for one in found.zygotes] == [(found.zygotes[0].runtime, True)]

        await let_go(running.instance, 2)
        await asyncio.gather(*under_way)
        after = await running.grpc.metrics()
        assert after.concurrency == 0
        steps = {step.step: step.count for kind in after.starts for step in kind.steps}
        assert (steps["forked"], steps["initialized"]) == (3, 3)
        total = sum(outcome.count for kind in after.starts for outcome in kind.outcomes)
        assert total == 7
        await running.grpc.delete("some")
        assert set(await functions(running)) == {"functions/busy", "(others)"}


async def test_one_who_leaves_is_counted_as_cancelled(running: Engine) -> None:
    await running.grpc.create("busy", zip_of(HOLD), memory_mb=1_769, timeout_ms=60_000)
    call = running.grpc.call("busy", HELD)
    await held(running.instance, 1)
    call.cancel()
    while ("cancelled", "unspecified") not in by_end((await functions(running))["functions/busy"]):
        await asyncio.sleep(0.005)
    (error,) = (await running.grpc.metrics()).errors
    assert (error.outcome, error.reason, error.count) == (reports_pb2.OUTCOME_CANCELLED, "CANCELLED", 1)


async def test_one_who_watches_gets_the_counters_again_and_again_until_the_engine_stops(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as running:
        await running.grpc.create("some", zip_of(FAILING), memory_mb=1_769)
        watching = running.grpc.watching.WatchMetrics(pb.WatchMetricsRequest(interval_ms=100))
        answers = aiter(watching)
        first = (await anext(answers)).metrics
        assert [one.name for one in first.functions] == []
        await running.grpc.invoke("some")
        while not (await anext(answers)).metrics.functions:
            pass
        second, third = (await anext(answers)).metrics, (await anext(answers)).metrics
        assert first.time.ToNanoseconds() < second.time.ToNanoseconds() < third.time.ToNanoseconds()
        stopping = asyncio.ensure_future(running.service.stop())
        assert await _end_of(watching) is grpc.StatusCode.UNAVAILABLE
        assert "the engine is shutting down" in await watching.details()  # told so, and not just cut off
        await stopping


async def test_an_interval_out_of_range_is_refused(running: Engine) -> None:
    for interval_ms in (-1, 99, 3_600_001):
        watching = running.grpc.watching.WatchMetrics(pb.WatchMetricsRequest(interval_ms=interval_ms))
        assert await _end_of(watching) is grpc.StatusCode.INVALID_ARGUMENT


async def _end_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        [_ async for _ in call]
    return ended.value.code()


async def test_a_scrape_agrees_with_what_was_invoked(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", max_concurrency=1) as running:
        await running.grpc.create("some", zip_of(FAILING), memory_mb=1_769)
        await running.grpc.create("busy", zip_of(HOLD), memory_mb=1_769, timeout_ms=60_000)
        for event in (b"{}", b"{}", b'{"fail": 1}'):
            await running.http.invoke("some", event)
        with pytest.raises(Refused):
            await running.grpc.invoke("nothing")
        under_way = asyncio.ensure_future(running.grpc.invoke("busy", HELD))
        await held(running.instance, 1)
        for _ in range(2):
            with pytest.raises(Refused):
                await running.grpc.invoke("some")
        found = await scraped(running)
        assert found["cleave_invocations_total"] == {
            frozenset({"some", "$LATEST", "ok", "fork"}): 1,
            frozenset({"some", "$LATEST", "ok", "warm"}): 1,
            frozenset({"some", "$LATEST", "handler_error", "warm"}): 1,
            frozenset({"some", "", "throttled"}): 2,
            frozenset({"(others)", "", "refused"}): 1,
        }
        assert found["cleave_throttles_total"] == {frozenset({"some", "ConcurrentInvocationLimitExceeded"}): 2}
        assert found["cleave_errors_total"] == {frozenset({"refused", "NOT_FOUND"}): 1}
        assert found["cleave_handler_seconds_count"][frozenset({"some"})] == 3
        assert found["cleave_phase_seconds_count"][frozenset({"warm", "total"})] == 2
        assert (found["cleave_concurrency"], found["cleave_concurrency_limit"]) == ({frozenset(): 1}, {frozenset(): 1})
        assert found["cleave_function_sandboxes"][frozenset({"busy"})] == 1
        assert found["cleave_function_memory_bytes"][frozenset({"busy"})] > 0
        assert found["cleave_resources_made_total"][frozenset({"sandboxes"})] == 2
        await let_go(running.instance, 1)
        await under_way


async def test_top_shows_what_was_invoked_to_scripts_and_to_people(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as running:
        await running.grpc.create("some", zip_of(FAILING), memory_mb=1_769)
        for event in (b"{}", b"{}", b'{"fail": 1}'):
            await running.grpc.invoke("some", event)
        document = json.loads(await top(running, "--json"))
        (row,) = document["functions"]
        assert (row["function"], row["calls"], row["errors"], row["idle"]) == ("some", 3, 1, 1)
        assert (document["starts"], document["sandboxes"]["idle"]) == ({"fork": 1, "warm": 2}, 1)
        assert 0 < row["p50_us"] <= row["p99_us"]
        *_, head, shown = (await top(running)).splitlines()
        assert (head.split()[:2], shown.split()[:2]) == (["FUNCTION", "CALLS"], ["some", "3"])


async def top(running: Engine, *flags: str) -> str:
    """What `cleave top --once` writes."""
    command = ["-m", "engine.cli.main", "top", "--once", "--address", f"127.0.0.1:{running.service.grpc_port}", *flags]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=subprocess.PIPE)
    written, _ = await process.communicate()
    assert process.returncode == 0
    return written.decode()


async def scraped(running: Engine) -> dict[str, dict[frozenset[str], float]]:
    """Sample → the values of its labels → its value."""
    url = f"http://127.0.0.1:{running.service.http_port}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read().decode())
    found: dict[str, dict[frozenset[str], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.values())] = sample.value
    return found


async def test_who_may_scrape_is_who_may_call_and_nothing_but_reading_is_served(running: Engine) -> None:
    port = running.service.http_port

    def ask(method: str, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, "/metrics", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    asked = [
        await asyncio.to_thread(ask, "GET"),
        await asyncio.to_thread(ask, "HEAD"),
        await asyncio.to_thread(ask, "POST"),
        await asyncio.to_thread(ask, "GET", Host="rebound.example"),
        await asyncio.to_thread(ask, "GET", Origin="http://elsewhere.example"),
    ]
    assert asked == [200, 200, 405, 403, 403]
