"""Which sandbox gets an event: warm ones first, one event at a time, no more than the limit, none of a former state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError
from google.rpc import error_details_pb2

from engine.v1 import reports_pb2 as pb
from tests.doors import Refused, detail, http_refusal, refusal, zip_of
from tests.engines import Engine, engine
from tests.remains import HOLD, cgroups_of, held, leaves_of, let_go, loops_of, until

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

HELD = b'{"hold": true}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("sched") / "data", max_concurrency=50) as running:
        yield running


def sandboxes(running: Engine) -> set[str]:
    """The ids of those there are."""
    return {Path(leaf).name for leaf in leaves_of(running.instance)}


async def gone(running: Engine) -> None:
    """Wait until there are none: the tests of this module share an engine."""
    await until(lambda: not sandboxes(running), what="no sandbox is left")


async def hold(running: Engine, name: str, count: int) -> list[str]:
    """So many calls, none of which ends before the last has begun; the sandboxes that had them."""
    calls = [asyncio.ensure_future(running.grpc.invoke(name, HELD)) for _ in range(count)]
    await let_go(running.instance, count)
    return [(await call).json()["me"] for call in calls]


async def test_the_sandbox_that_served_last_serves_next(running: Engine) -> None:
    await running.grpc.create("lifo", zip_of(HOLD), memory_mb=1_769, timeout_ms=60_000)
    calls = [asyncio.ensure_future(running.grpc.invoke("lifo", HELD)) for _ in range(3)]
    came_back = []
    for file in (await held(running.instance, 3)).values():
        file.unlink()
        done, rest = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        came_back += [call.result().json()["me"] for call in done]
        calls = list(rest)
    assert len(set(came_back)) == 3

    for _ in range(5):
        answer = await running.grpc.invoke("lifo")
        assert answer.json()["me"] == came_back[-1]
        assert answer.report is not None
        assert answer.report.start_kind == pb.START_KIND_WARM
        assert (answer.report.start_us, answer.report.init_us) == (0, 0)

    calls, taken = [], []
    for count in (1, 2, 3):
        calls.append(asyncio.ensure_future(running.grpc.invoke("lifo", HELD)))
        await held(running.instance, count)
    await let_go(running.instance, 3)
    taken = [(await call).json()["me"] for call in calls]
    assert taken == came_back[::-1]
    await running.grpc.delete("lifo")
    await gone(running)


async def test_fifty_calls_at_once_have_fifty_sandboxes_and_none_of_them_two_events(running: Engine) -> None:
    await running.grpc.create("many", zip_of(HOLD), memory_mb=1_769, timeout_ms=60_000)
    first = await hold(running, "many", 50)
    assert len(set(first)) == 50
    second = await hold(running, "many", 50)
    assert set(second) == set(first), "a sandbox was not reused"
    await running.grpc.delete("many")
    await gone(running)


async def test_one_call_too_many_is_throttled_with_when_to_come_back_by_both_doors(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", max_concurrency=2) as small:
        await small.grpc.create("busy", zip_of(HOLD), memory_mb=1_769, timeout_ms=60_000)
        under_way = [asyncio.ensure_future(small.grpc.invoke("busy", HELD)) for _ in range(2)]
        await held(small.instance, 2)

        with pytest.raises(Refused) as by_grpc:
            await small.grpc.invoke("busy")
        assert (by_grpc.value.code, by_grpc.value.kind) == ("RESOURCE_EXHAUSTED", "THROTTLED")
        quota = detail(by_grpc.value.details, error_details_pb2.QuotaFailure)
        assert quota is not None
        assert [violation.subject for violation in quota.violations] == ["ConcurrentInvocationLimitExceeded"]
        retry = detail(by_grpc.value.details, error_details_pb2.RetryInfo)
        assert retry is not None
        assert retry.retry_delay.ToMilliseconds() == 1_000

        with pytest.raises(Refused) as by_stream:
            await _ended(small.grpc.stream("busy"))
        assert (by_stream.value.code, by_stream.value.kind) == ("RESOURCE_EXHAUSTED", "THROTTLED")

        with pytest.raises(small.http.client.exceptions.TooManyRequestsException) as by_http:
            await asyncio.to_thread(small.http.client.invoke, FunctionName="busy")
        told = http_refusal(by_http.value)
        headers = told.details.pop("headers")
        assert (told.code, told.kind, told.message) == (429, "TooManyRequestsException", "Rate Exceeded.")
        assert headers["retry-after"] == "1"
        assert told.details == {
            "Type": "User",
            "Reason": "ConcurrentInvocationLimitExceeded",
            "message": "Rate Exceeded.",
            "retryAfterSeconds": "1",
        }

        await let_go(small.instance, 2)
        assert [(await call).failed for call in under_way] == [False, False]
        assert (await small.grpc.invoke("busy")).failed is False


async def _ended(stream: object) -> None:
    try:
        while await stream.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass
    except grpc.aio.AioRpcError:
        raise await refusal(stream) from None


async def test_a_sandbox_goes_when_it_has_idled_for_its_keep_alive(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, keep_alive_s=0.3, tmp_pool_size=0) as brief:
        await brief.grpc.create("brief", zip_of(HOLD))
        first = (await brief.grpc.invoke("brief")).json()["me"]
        assert (await brief.grpc.invoke("brief")).json()["me"] == first
        assert len(sandboxes(brief)) == 1
        await until(lambda: not leaves_of(brief.instance), what="the idle sandbox is gone")
        await until(lambda: not loops_of(data), what="its /tmp is gone")
        again = await brief.grpc.invoke("brief")
        assert again.json()["me"] != first
        assert again.json()["calls"] == 1
        host = await brief.grpc.counts()
        assert (host.sandboxes, host.idle_sandboxes, host.concurrency) == (1, 1, 0)


async def test_a_sandbox_of_a_full_engine_makes_room_for_another_function(tmp_path: Path) -> None:
    async with engine(tmp_path / "data", max_concurrency=2, max_sandboxes=2) as small:
        for name in ("a", "b", "c"):
            await small.grpc.create(name, zip_of(HOLD))
        for name in ("a", "b", "c", "a", "b", "c"):
            answer = await small.grpc.invoke(name)
            assert answer.report is not None
            assert answer.report.start_kind == pb.START_KIND_FORK
            assert len(sandboxes(small)) <= 2


async def test_the_next_call_after_an_update_runs_the_new_code_and_the_old_sandboxes_go(running: Engine) -> None:
    await running.grpc.create("changing", zip_of("def handler(event, context):\n    return 1\n"))
    assert (await running.grpc.invoke("changing")).json() == 1
    old = sandboxes(running)
    await running.grpc.update("changing", code=zip_of("def handler(event, context):\n    return 2\n"))
    for door in (running.grpc, running.http):
        assert (await door.invoke("changing")).json() == 2
    await until(lambda: not old & sandboxes(running), what="the old sandbox is gone")

    environment = zip_of("import os\ndef handler(event, context):\n    return os.environ.get('COLOUR')\n")
    client = running.http.client
    await asyncio.to_thread(client.update_function_code, FunctionName="changing", ZipFile=environment)
    assert (await running.grpc.invoke("changing")).json() is None
    await asyncio.to_thread(
        client.update_function_configuration,
        FunctionName="changing",
        Environment={"Variables": {"COLOUR": "blue"}},
        MemorySize=256,
    )
    answer = await running.grpc.invoke("changing")
    assert answer.json() == "blue"
    assert answer.report is not None
    assert answer.report.memory_mb == 256
    await running.grpc.delete("changing")
    await gone(running)


async def test_what_runs_while_its_function_is_updated_ends_as_it_began(running: Engine) -> None:
    await running.grpc.create("during", zip_of(HOLD), timeout_ms=60_000)
    under_way = asyncio.ensure_future(running.grpc.invoke("during", HELD))
    await held(running.instance, 1)
    await running.grpc.update("during", code=zip_of("def handler(event, context):\n    return 'new'\n"))
    assert (await running.grpc.invoke("during")).json() == "new"
    await let_go(running.instance)
    assert (await under_way).json()["calls"] == 1
    # Its sandbox, of the former state, is not kept.
    await until(lambda: len(sandboxes(running)) == 1, what="the old sandbox is gone")
    assert (await running.grpc.invoke("during")).json() == "new"
    await running.grpc.delete("during")
    await gone(running)


async def test_a_deleted_function_is_gone_at_once_with_its_sandboxes_and_its_log(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as running:
        await running.grpc.create("gone", zip_of(HOLD))
        await running.grpc.invoke("gone")
        assert leaves_of(running.instance)
        await asyncio.to_thread(running.http.client.delete_function, FunctionName="gone")
        for door in (running.grpc, running.http):
            with pytest.raises(Refused) as caught:
                await door.invoke("gone")
            assert caught.value.code in ("NOT_FOUND", 404)
        await until(lambda: not leaves_of(running.instance), what="its sandbox is gone")
        await running.grpc.create("gone", zip_of("def handler(event, context):\n    return 'another'\n"))
        answer = await running.grpc.invoke("gone")
        assert answer.json() == "another"
        assert answer.log.count(b"START") == 1


async def test_two_engines_on_one_host_do_not_see_each_other(tmp_path: Path) -> None:
    async with engine(tmp_path / "one") as one, engine(tmp_path / "two") as two:
        assert one.instance != two.instance
        for running, says in ((one, "one"), (two, "two")):
            await running.grpc.create("same", zip_of(f"def handler(event, context):\n    return {says!r}\n"))
        assert [(await running.grpc.invoke("same")).json() for running in (one, two)] == ["one", "two"]
        assert (await one.grpc.counts()).sandboxes == 1
        await one.grpc.delete("same")
        assert await two.grpc.names() == ["same"]
        assert (await two.http.invoke("same")).json() == "two"
        await one.service.stop()
        assert cgroups_of(one.instance) == []
        again = await two.grpc.invoke("same")
        assert again.report is not None
        assert (again.json(), again.report.start_kind) == ("two", pb.START_KIND_WARM)


async def test_a_client_error_of_boto3_is_one_that_it_models(running: Engine) -> None:
    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(running.http.client.invoke, FunctionName="nosuch")
    assert isinstance(caught.value, running.http.client.exceptions.ResourceNotFoundException)
