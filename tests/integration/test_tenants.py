"""A tenant's sandboxes serve this tenant and nobody else, and a function is told for whom it runs."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from engine.v1 import invocations_pb2 as pb
from engine.v1 import logs_pb2, resources_pb2
from engine.v1.reports_pb2 import START_KIND_WARM
from tests.doors import Refused, refusal, zip_of
from tests.engines import Engine, engine
from tests.remains import leaves_of, until

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = """
    import logging, os, time

    served = []

    def handler(event, context):
        found = os.listdir("/tmp")
        open(f"/tmp/{len(served)}", "w").close()
        served.append(context.tenant_id)
        logging.getLogger().warning("served")
        time.sleep(event.get("takes_s", 0))
        identity = context.identity
        return {
            "tenant": context.tenant_id,
            "served": served,
            "tmp": len(found),
            "identity": [identity.cognito_identity_id, identity.cognito_identity_pool_id],
        }
"""
IDENTITY = ("us-east-1:0f3c1f6e-2c67-4d52-8f43-5f4f7a6a9e10", "us-east-1:7a6a9e10-0000-4000-8000-000000000001")
WELL_FORMED = ["Z", "A-b_c.d:e/f=g+h@i j", "0" * 256]
MALFORMED = ["", "0" * 257, "a;b", "a\n", "a\tb", "ü", "a,b", "*"]
ROOM = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = tmp_path_factory.mktemp("tenants") / "data"
    async with engine(folder, max_sandboxes=ROOM) as running:
        for name, log_format in (("shared", resources_pb2.LOG_FORMAT_TEXT), ("told", resources_pb2.LOG_FORMAT_JSON)):
            await running.grpc.create(name, zip_of(CODE), timeout_ms=30_000, log_format=log_format)
        yield running


# The five ways that an event can take.


async def by_invoke(running: Engine, tenant: str | None, event: dict[str, Any], **more: Any) -> Any:
    request = pb.InvokeRequest(name="functions/shared", payload=json.dumps(event).encode(), tenant_id=tenant, **more)
    call = running.grpc.invocations.Invoke(request)
    try:
        return json.loads((await call).payload)
    except grpc.aio.AioRpcError:
        raise await refusal(call) from None


async def by_stream(running: Engine, tenant: str | None, event: dict[str, Any], **more: Any) -> Any:
    payload = json.dumps(event).encode()
    request = pb.InvokeStreamRequest(name="functions/shared", payload=payload, tenant_id=tenant, **more)
    return await streamed(running.grpc.invocations.InvokeStream(request))


async def by_converse(running: Engine, tenant: str | None, event: dict[str, Any], **more: Any) -> Any:
    start = pb.ConverseStart(name="functions/shared", payload=json.dumps(event).encode(), tenant_id=tenant, **more)
    return await streamed(running.grpc.invocations.Converse(iter([pb.ConverseRequest(start=start)])))


async def by_http(running: Engine, tenant: str | None, event: dict[str, Any]) -> Any:
    given: Any = {"FunctionName": "shared", "Payload": json.dumps(event)} | ({"TenantId": tenant} if tenant else {})
    answer = await asyncio.to_thread(running.http.client.invoke, **given)
    return json.loads(answer["Payload"].read())


async def by_http_stream(running: Engine, tenant: str | None, event: dict[str, Any]) -> Any:
    given: Any = {"FunctionName": "shared", "Payload": json.dumps(event)} | ({"TenantId": tenant} if tenant else {})

    def read() -> bytes:
        answer = running.http.client.invoke_with_response_stream(**given)
        return b"".join(part["PayloadChunk"]["Payload"] for part in answer["EventStream"] if "PayloadChunk" in part)

    return json.loads(await asyncio.to_thread(read))


async def streamed(call: Any) -> Any:
    """The value of a stream. Raises Refused."""
    try:
        return json.loads(b"".join([frame.chunk async for frame in call if frame.WhichOneof("frame") == "chunk"]))
    except grpc.aio.AioRpcError:
        raise await refusal(call) from None


WAYS = [by_invoke, by_stream, by_converse, by_http, by_http_stream]


async def test_a_sandbox_serves_one_tenant_or_nobody_by_whichever_way_its_events_come(running: Engine) -> None:
    tenants = ["blue", "green", None]
    for round_, way in enumerate(WAYS):
        for tenant in tenants:
            found = await way(running, tenant, {})
            assert found["tenant"] == tenant
            assert found["served"] == [tenant] * (round_ + 1), "reused for its own, with its own state"
            assert found["tmp"] == round_


async def test_more_tenants_than_there_is_room_for_share_the_room_and_no_sandbox(running: Engine) -> None:
    tenants = ["a", "b", "c", "d", "e", None]

    async def one(tenant: str | None) -> Any:
        while True:
            try:
                return await by_invoke(running, tenant, {"takes_s": 0.01})
            except Refused as refused:
                if refused.code != "RESOURCE_EXHAUSTED":
                    raise

    found = await asyncio.gather(*(one(tenants[n % len(tenants)]) for n in range(30)))
    assert sorted(str(each["tenant"]) for each in found) == sorted(str(tenant) for tenant in tenants * 5)
    assert all(set(each["served"]) == {each["tenant"]} for each in found)


async def test_an_id_may_have_whatever_aws_allows_and_nothing_else(running: Engine) -> None:
    for tenant in WELL_FORMED:
        assert (await by_invoke(running, tenant, {}))["tenant"] == tenant
        assert (await by_http(running, tenant, {}))["served"] == [tenant] * 2
    before = await begun(running)
    assert before >= 2 * len(WELL_FORMED)
    for tenant in MALFORMED:
        for way in (by_invoke, by_stream, by_converse):
            with pytest.raises(Refused) as refused:
                await way(running, tenant, {})
            assert (refused.value.code, refused.value.kind) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
            assert "tenant" in refused.value.message
    for tenant in MALFORMED:
        if "\n" not in tenant:  # no header can have it
            status, document = await asyncio.to_thread(raw_invoke, running.service.http_port, tenant)
            assert status == 400, tenant
            assert "tenantId" in document["message"]
    assert await begun(running) == before, "nothing of them ran"


async def begun(running: Engine) -> int:
    """How many invocations have begun."""
    request = logs_pb2.TailLogsRequest(name="functions/shared", contains=b"START RequestId")
    return len([answer async for answer in running.grpc.logs.TailLogs(request)])


def raw_invoke(port: int, tenant: str) -> tuple[int, Any]:
    """As no client would send it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"X-Amz-Tenant-Id": tenant.encode()}
        connection.request("POST", "/2015-03-31/functions/shared/invocations", b"{}", headers)
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in json.loads(answer.read()).items()}
    finally:
        connection.close()


async def test_the_identity_is_what_the_caller_says_if_it_is_cognitos(running: Engine) -> None:
    given = pb.CognitoIdentity(cognito_identity_id=IDENTITY[0], cognito_identity_pool_id=IDENTITY[1])
    for way in (by_invoke, by_stream, by_converse):
        assert (await way(running, None, {}, identity=given))["identity"] == list(IDENTITY)
        assert (await way(running, None, {}))["identity"] == [None, None]
        for wrong in (
            pb.CognitoIdentity(),
            pb.CognitoIdentity(cognito_identity_id=IDENTITY[0]),
            pb.CognitoIdentity(cognito_identity_id=IDENTITY[0], cognito_identity_pool_id="a:" + "0" * 54),
            pb.CognitoIdentity(cognito_identity_id=f"{IDENTITY[0]}\n", cognito_identity_pool_id=IDENTITY[1]),
        ):
            with pytest.raises(Refused) as refused:
                await way(running, None, {}, identity=wrong)
            assert refused.value.code == "INVALID_ARGUMENT"


async def test_a_log_in_json_says_for_whom(running: Engine) -> None:
    async def invoked(tenant: str | None) -> dict[str, Any]:
        request = pb.InvokeRequest(name="functions/told", payload=b"{}", tenant_id=tenant, log_mode=pb.LOG_MODE_TAIL)
        answer = await running.grpc.invocations.Invoke(request)
        found: dict[str, Any] = {}
        for record in map(json.loads, answer.log_tail.splitlines()):
            if "record" in record:
                found[record["type"]] = record["record"].get("tenantId")
            else:
                found["line"] = record.get("tenantId")
        return found

    assert await invoked("blue") == {"platform.start": "blue", "line": "blue", "platform.report": "blue"}
    assert await invoked(None) == {"platform.start": None, "line": None, "platform.report": None}
    assert (await invoked("blue"))["line"] == "blue"
    tail = running.grpc.logs.TailLogs(logs_pb2.TailLogsRequest(name="functions/told", contains=b'"tenantId":"blue"'))
    assert len([answer async for answer in tail]) >= 4, "and is found by it"


async def test_a_function_that_changed_or_is_gone_leaves_no_tenant_a_sandbox(running: Engine) -> None:
    await running.grpc.create("changing", zip_of(CODE), timeout_ms=30_000)

    async def kind(tenant: str) -> int:
        request = pb.InvokeRequest(name="functions/changing", tenant_id=tenant)
        return (await running.grpc.invocations.Invoke(request)).report.start_kind

    await kind("blue")
    assert await kind("blue") == START_KIND_WARM
    await running.grpc.update("changing", environment={"A": "b"})
    assert await kind("blue") != START_KIND_WARM
    for name in ("changing", "shared", "told"):
        await running.grpc.delete(name)
    await until(lambda: not leaves_of(running.instance), what="their sandboxes are gone")
