"""Code from a store that speaks S3, by each door of an engine, and in AWS's words where it cannot be had."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from engine import AsyncClient, Client, embedded
from engine.cli.main import main
from engine.errors import InvalidArgument, NotFound
from engine.v1 import code_pb2, code_pb2_grpc
from tests.doors import ROLE, RUNTIME, refusal, zip_of
from tests.engines import Engine
from tests.engines import engine as an_engine
from tests.s3_server import CREDENTIALS, S3Server, s3_server

pytestmark = pytest.mark.privileged

FIRST, SECOND = zip_of("def handler(event, context): return 1"), zip_of("def handler(event, context): return 2")
NO_ZIP = (
    "Could not unzip uploaded file. Please check your file, then try to upload again. It is not a zip, or its end is "
    "missing"
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Engine, S3Server]]:
    with s3_server() as s3, pytest.MonkeyPatch.context() as patch:
        for name, text in CREDENTIALS.items():
            patch.setenv(name, text)
        s3.client.create_bucket(Bucket="code")
        s3.client.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
        async with an_engine(tmp_path_factory.mktemp("s3") / "data", s3_endpoint=s3.url) as running:
            yield running, s3


async def error_of(call: Any, **parameters: Any) -> tuple[int, str, str]:
    """Status, type and message of a call that boto3 makes."""
    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(call, **parameters)
    response = caught.value.response
    return (
        response["ResponseMetadata"]["HTTPStatusCode"],
        str(response["Error"]["Code"]),
        str(response["Error"]["Message"]),
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_code_comes_from_a_bucket_by_every_door(
    running: tuple[Engine, S3Server], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine, s3 = running
    first = s3.client.put_object(Bucket="code", Key="apps/one.zip", Body=FIRST)["VersionId"]
    s3.client.put_object(Bucket="code", Key="apps/one.zip", Body=SECOND)

    # The AWS API: the latest, then the first.
    of_s3: Any = {"S3Bucket": "code", "S3Key": "apps/one.zip"}
    client: Any = engine.http.client
    settings = {"Runtime": RUNTIME, "Role": ROLE, "Handler": "app.handler"}
    created = await asyncio.to_thread(client.create_function, FunctionName="by-http", Code=of_s3, **settings)
    assert created["CodeSize"] == len(SECOND)
    assert created["CodeSha256"] == base64.b64encode(hashlib.sha256(SECOND).digest()).decode()
    assert (await engine.http.invoke("by-http")).json() == 2
    updated = await asyncio.to_thread(
        client.update_function_code, FunctionName="by-http", S3ObjectVersion=first, Publish=True, **of_s3
    )
    assert updated["CodeSha256"] == base64.b64encode(hashlib.sha256(FIRST).digest()).decode()
    assert (await engine.http.invoke("by-http")).json() == 1

    # The command, which fetches nothing itself, and reads the code back.
    address = f"127.0.0.1:{engine.service.grpc_port}"
    assert await asyncio.to_thread(main, ["--address", address, "deploy", "s3://code/apps/one.zip"]) == 0
    assert capfd.readouterr().out.startswith("Created functions/one: ")
    assert (await engine.grpc.invoke("one")).json() == 2
    file = tmp_path / "back.zip"
    for name, zipped in (("one", SECOND), ("by-http:1", FIRST)):
        assert await asyncio.to_thread(main, ["--address", address, "get", name, "--code", str(file)]) == 0
        assert file.read_bytes() == zipped
    assert await asyncio.to_thread(main, ["--address", address, "deploy", "s3://code/apps/none.zip"]) != 0
    assert "S3 Error Code: NoSuchKey" in capfd.readouterr().err

    # gRPC.
    calls: Any = code_pb2_grpc.CodeServiceStub(engine.grpc.channel)
    wanted = code_pb2.S3Object(bucket="code", key="apps/one.zip", version=first)
    stored = await calls.ImportCode(code_pb2.ImportCodeRequest(s3_object=wanted))
    assert stored.code_blob == f"blobs/{hashlib.sha256(FIRST).hexdigest()}"
    assert stored.size_bytes == len(FIRST)


@pytest.mark.asyncio(loop_scope="module")
async def test_code_comes_from_a_bucket_and_goes_back_by_every_client(running: tuple[Engine, S3Server]) -> None:
    one, s3 = running
    first = s3.client.put_object(Bucket="code", Key="apps/two.zip", Body=FIRST)["VersionId"]
    s3.client.put_object(Bucket="code", Key="apps/two.zip", Body=SECOND)
    latest, oldest = "s3://code/apps/two.zip", f"s3://code/apps/two.zip?versionId={first}"

    async def walk(function: str, call: Callable[..., Awaitable[Any]]) -> None:
        await call("create_function", function, latest)
        assert (await call("invoke", function)).value == 2
        await call("publish_version", function)
        await call("deploy", oldest, function)
        assert (await call("invoke", function)).value == 1
        assert await call("download_code", function) == FIRST
        assert await call("download_code", f"{function}:1") == SECOND
        assert await call("download_code", function, qualifier="1") == SECOND
        layer = await call("publish_layer", latest, "from-s3")
        assert layer.code_sha256 == hashlib.sha256(SECOND).hexdigest()
        for wrong in ("s3://code", "s3://code/", "s3:///key", f"{latest}?versionId=", f"s3://{'b' * 64}/key"):
            with pytest.raises(InvalidArgument):
                await call("update_function", function, code=wrong)
        with pytest.raises(NotFound):
            await call("download_code", "none")

    address = f"127.0.0.1:{one.service.grpc_port}"
    with Client(address) as client:
        await walk("sync", lambda name, *args, **kwargs: asyncio.to_thread(getattr(client, name), *args, **kwargs))
    async with AsyncClient(address) as calls:
        await walk("async", lambda name, *args, **kwargs: getattr(calls, name)(*args, **kwargs))
    async with embedded.Engine(s3_endpoint=s3.url) as here:
        await walk("here", lambda name, *args, **kwargs: getattr(here, name)(*args, **kwargs))


@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_had_is_refused_as_aws_does(running: tuple[Engine, S3Server]) -> None:
    engine, s3 = running
    s3.client.put_object(Bucket="code", Key="text", Body=b"no zip")
    client: Any = engine.http.client
    create = {"FunctionName": "never", "Runtime": RUNTIME, "Role": ROLE, "Handler": "app.handler"}
    invalid = "InvalidParameterValueException"
    at = "Error occurred while GetObject. S3 Error Code: "
    for code, message in (
        ({"S3Key": "no"}, f"{at}NoSuchKey. S3 Error Message: The specified key does not exist."),
        (
            {"S3Key": "no", "S3Bucket": "nowhere"},
            f"{at}NoSuchBucket. S3 Error Message: The specified bucket does not exist",
        ),
        (
            {"S3Key": "text", "S3ObjectVersion": "none"},
            f"{at}NoSuchVersion. S3 Error Message: The specified version does not exist.",
        ),
        ({"S3Key": "text"}, NO_ZIP),
    ):
        found = await error_of(client.create_function, **create, Code={"S3Bucket": "code", **code})
        assert found == (400, invalid, message)
    calls: Any = code_pb2_grpc.CodeServiceStub(engine.grpc.channel)
    wanted = code_pb2.S3Object(bucket="code", key="no")
    refused = await refusal_of(calls.ImportCode(code_pb2.ImportCodeRequest(s3_object=wanted)))
    assert refused == ("INVALID_ARGUMENT", "INVALID_CODE")
    refused = await refusal_of(calls.ImportCode(code_pb2.ImportCodeRequest()))
    assert refused == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert "never" not in await engine.grpc.names()


async def refusal_of(call: Any) -> tuple[Any, str]:
    """Code and reason."""
    with pytest.raises(Exception, match=r"s3|S3"):
        await call
    refused = await refusal(call)
    return refused.code, refused.kind
