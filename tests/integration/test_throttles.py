"""A throttled call is told so at every door in the door's own way: why, by AWS's name, and when to come back."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import grpc
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError
from google.rpc import error_details_pb2

import engine
from engine.errors import Throttled
from engine.v1 import invocations_pb2 as pb
from tests.doors import Refused, detail, http_refusal, refusal, zip_of
from tests.engines import Engine
from tests.engines import engine as started

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

REASON = "ReservedFunctionConcurrentInvocationLimitExceeded"
NAME = "stopped"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """With a function that is reserved nothing, and has a URL."""
    async with started(tmp_path_factory.mktemp("throttles") / "data") as running:
        await running.grpc.create(NAME, zip_of("def handler(event, context):\n    return 1\n"))
        client = running.http.client
        await asyncio.to_thread(client.put_function_concurrency, FunctionName=NAME, ReservedConcurrentExecutions=0)
        yield running


def assert_told(refused: Refused) -> None:
    """By gRPC's own words."""
    assert (refused.code, refused.kind) == ("RESOURCE_EXHAUSTED", "THROTTLED")
    quota = detail(refused.details, error_details_pb2.QuotaFailure)
    assert quota is not None
    assert [violation.subject for violation in quota.violations] == [REASON]
    retry = detail(refused.details, error_details_pb2.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() > 0


def assert_documented(status: int, headers: Any, document: Any) -> None:
    """By AWS's."""
    assert (status, document["Reason"]) == (429, REASON)
    assert int(headers["retry-after"]) >= 1


async def test_over_grpc_in_one_piece_as_a_stream_and_as_a_conversation(running: Engine) -> None:
    with pytest.raises(Refused) as whole:
        await running.grpc.invoke(NAME)
    assert_told(whole.value)
    stream = running.grpc.stream(NAME)
    with pytest.raises(grpc.aio.AioRpcError):
        await stream.read()
    assert_told(await refusal(stream))
    talk = running.grpc.invocations.Converse()
    await talk.write(pb.ConverseRequest(start=pb.ConverseStart(name=f"functions/{NAME}")))
    with pytest.raises(grpc.aio.AioRpcError):
        await talk.read()
    assert_told(await refusal(talk))


async def test_over_http_in_one_piece_and_as_a_stream(running: Engine) -> None:
    client = running.http.client
    for call in (client.invoke, client.invoke_with_response_stream):
        with pytest.raises(ClientError) as caught:
            await asyncio.to_thread(call, FunctionName=NAME)
        told = http_refusal(caught.value)
        assert told.kind == "TooManyRequestsException"
        assert_documented(int(told.code), told.details["headers"], told.details)


@pytest.mark.parametrize("mode", ["BUFFERED", "RESPONSE_STREAM"])
async def test_at_a_functions_url(running: Engine, mode: Literal["BUFFERED", "RESPONSE_STREAM"]) -> None:
    client = running.http.client
    made = await asyncio.to_thread(
        client.create_function_url_config, FunctionName=NAME, AuthType="NONE", InvokeMode=mode
    )

    def ask() -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", running.service.http_port or 0, timeout=50)
        try:
            connection.request("GET", "/", headers={"Host": urlsplit(made["FunctionUrl"]).netloc})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    try:
        status, headers, body = await asyncio.to_thread(ask)
        assert_documented(status, headers, json.loads(body))
    finally:
        await asyncio.to_thread(client.delete_function_url_config, FunctionName=NAME)


async def test_by_the_command(running: Engine) -> None:
    words = ["-m", "engine.cli.main", "invoke", NAME, "-o", "json"]
    address = ["--address", f"127.0.0.1:{running.service.grpc_port}"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *words, *address, stdout=pipe, stderr=pipe)
    written, said = await process.communicate()
    assert process.returncode == 1, said
    problem = json.loads(written or said)["error"]
    assert (problem["reason"], problem["throttle_reason"]) == ("THROTTLED", REASON)
    assert problem["retry_after_ms"] > 0
    assert problem["message"] == f"Rate Exceeded ({REASON})"


async def test_by_the_client_and_in_process(running: Engine, tmp_path: Path) -> None:
    async with engine.AsyncClient(f"127.0.0.1:{running.service.grpc_port}", retries=0) as client:
        with pytest.raises(Throttled) as far:
            await client.invoke(NAME)
    async with engine.Engine(str(tmp_path / "data"), parked_ceiling=0, retries=0) as embedded:
        await embedded.deploy(zip_of("def handler(event, context):\n    return 1\n"), NAME, handler="app.handler")
        await embedded.put_concurrency(NAME, 0)
        with pytest.raises(Throttled) as near:
            await embedded.invoke(NAME)
    for refused in (far.value, near.value):
        assert (refused.throttle_reason, refused.retry_after_ms > 0) == (REASON, True)
