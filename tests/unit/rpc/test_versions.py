"""Versions, aliases and concurrency over gRPC: a real client, a real server, a real registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from engine.registry.api import ConfigChange
from engine.registry.functions import FunctionRegistry
from engine.v1 import aliases_pb2 as aliases
from engine.v1 import (
    aliases_pb2_grpc,
    concurrency_pb2_grpc,
    functions_pb2,
    functions_pb2_grpc,
    versions_pb2_grpc,
)
from engine.v1 import concurrency_pb2 as concurrency
from engine.v1 import versions_pb2 as versions
from tests.registries import served
from tests.unit.rpc.things import ACCOUNT, REGION, code, fields, info, refusal

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"


@dataclass
class Doors:
    """The stubs, and what is behind them. Untyped: the published types are the blocking channel's."""

    registry: FunctionRegistry
    functions: Any
    versions: Any
    aliases: Any
    concurrency: Any


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    """With the function f."""
    async with served(tmp_path) as it:
        channel: Any = grpc.aio.insecure_channel(it.address)
        yield Doors(
            it.registry,
            functions_pb2_grpc.FunctionServiceStub(channel),
            versions_pb2_grpc.VersionServiceStub(channel),
            aliases_pb2_grpc.AliasServiceStub(channel),
            concurrency_pb2_grpc.ConcurrencyServiceStub(channel),
        )
        await channel.close()


async def publish(doors: Doors, memory_mb: int) -> str:
    await doors.registry.update("f", ConfigChange(memory_mb=memory_mb))
    request = versions.PublishVersionRequest(parent="functions/f")
    return str((await doors.versions.PublishVersion(request)).version.version)


async def test_a_version_is_published_read_listed_and_deleted(doors: Doors) -> None:
    request = versions.PublishVersionRequest(parent="functions/f", description="first")
    made = (await doors.versions.PublishVersion(request)).version
    assert (made.name, made.version, made.arn) == ("functions/f/versions/1", "1", f"{ARN}:1")
    assert made.config.description == "first"
    read = await doors.functions.GetFunction(functions_pb2.GetFunctionRequest(name=made.name))
    assert read.function == made
    again = (await doors.versions.PublishVersion(versions.PublishVersionRequest(parent="functions/f"))).version
    assert again == made, "nothing has changed"
    assert await publish(doors, 256) == "2"
    assert await publish(doors, 512) == "3"
    found, token = [], ""
    while True:
        page = await doors.versions.ListVersions(
            versions.ListVersionsRequest(parent="functions/f", page_size=2, page_token=token)
        )
        found.append([version.name for version in page.versions])
        token = page.next_page_token
        if not token:
            break
    assert found == [["functions/f/versions/1", "functions/f/versions/2"], ["functions/f/versions/3"]]
    await doors.versions.DeleteVersion(versions.DeleteVersionRequest(name=made.name))
    status = await refusal(doors.functions.GetFunction(functions_pb2.GetFunctionRequest(name=made.name)))
    assert code(status) == "NOT_FOUND"


async def test_what_is_published_is_what_the_caller_saw(doors: Doors) -> None:
    request = versions.PublishVersionRequest(parent="functions/f", etag="another")
    status = await refusal(doors.versions.PublishVersion(request))
    assert (code(status), info(status).reason) == ("ABORTED", "STALE_ETAG")
    request = versions.PublishVersionRequest(parent="functions/f", code_blob=f"blobs/{'0' * 64}")
    status = await refusal(doors.versions.PublishVersion(request))
    assert (code(status), list(fields(status))) == ("INVALID_ARGUMENT", ["code_sha256"])


@pytest.mark.parametrize(
    ("service", "method", "request_"),
    [
        ("versions", "PublishVersion", versions.PublishVersionRequest(parent="functions/f/versions/1")),
        ("versions", "ListVersions", versions.ListVersionsRequest(parent="f")),
        ("versions", "DeleteVersion", versions.DeleteVersionRequest(name="functions/f")),
        ("versions", "DeleteVersion", versions.DeleteVersionRequest(name="functions/f/versions/$LATEST")),
        ("versions", "DeleteVersion", versions.DeleteVersionRequest(name="functions/f/aliases/live")),
        ("aliases", "GetAlias", aliases.GetAliasRequest(name="functions/f/versions/1")),
        ("aliases", "DeleteAlias", aliases.DeleteAliasRequest(name="functions/f")),
        ("concurrency", "GetFunctionConcurrency", concurrency.GetFunctionConcurrencyRequest(name="functions/f/a")),
        (
            "concurrency",
            "PutProvisionedConcurrencyConfig",
            concurrency.PutProvisionedConcurrencyConfigRequest(name="functions/f", requested=1),
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
async def test_a_name_of_something_else_is_refused(doors: Doors, service: str, method: str, request_: Any) -> None:
    status = await refusal(getattr(getattr(doors, service), method)(request_))
    assert code(status) == "INVALID_ARGUMENT"
    assert info(status).reason == "INVALID_ARGUMENT"


async def test_an_alias_is_created_changed_by_mask_listed_and_deleted(doors: Doors) -> None:
    for memory_mb in (128, 256):
        await publish(doors, memory_mb)
    alias = aliases.Alias(version="1", weights={"2": 0.25}, description="used")
    request = aliases.CreateAliasRequest(parent="functions/f", alias_id="live", alias=alias)
    made = (await doors.aliases.CreateAlias(request)).alias
    assert (made.name, made.version, dict(made.weights)) == ("functions/f/aliases/live", "1", {"2": 0.25})
    assert (made.description, made.arn) == ("used", f"{ARN}:live")
    status = await refusal(doors.aliases.CreateAlias(request))
    assert code(status) == "ALREADY_EXISTS"
    read = await doors.functions.GetFunction(functions_pb2.GetFunctionRequest(name=made.name))
    assert read.function.name == "functions/f/versions/1"

    new = aliases.Alias(name=made.name, etag=made.etag, version="2")
    mask = FieldMask(paths=["version", "weights", "etag"])
    changed = (await doors.aliases.UpdateAlias(aliases.UpdateAliasRequest(alias=new, update_mask=mask))).alias
    assert (changed.version, dict(changed.weights), changed.description) == ("2", {}, "used")
    status = await refusal(doors.aliases.UpdateAlias(aliases.UpdateAliasRequest(alias=new)))
    assert code(status) == "ABORTED"
    without_mask = aliases.UpdateAliasRequest(alias=aliases.Alias(name=made.name, description="no more"))
    changed = (await doors.aliases.UpdateAlias(without_mask)).alias
    assert (changed.version, changed.description) == ("2", "no more")
    mask = FieldMask(paths=["memory"])
    status = await refusal(doors.aliases.UpdateAlias(aliases.UpdateAliasRequest(alias=new, update_mask=mask)))
    assert fields(status) == {"update_mask": "unknown: 'memory'"}

    await doors.aliases.CreateAlias(
        aliases.CreateAliasRequest(parent="functions/f", alias_id="old", alias=aliases.Alias(version="1"))
    )
    for request_, names in (
        (aliases.ListAliasesRequest(parent="functions/f"), ["live", "old"]),
        (aliases.ListAliasesRequest(parent="functions/f", version="1"), ["old"]),
    ):
        page = await doors.aliases.ListAliases(request_)
        assert [alias.name.rpartition("/")[2] for alias in page.aliases] == names
    status = await refusal(doors.versions.DeleteVersion(versions.DeleteVersionRequest(name="functions/f/versions/2")))
    assert (code(status), info(status).reason) == ("FAILED_PRECONDITION", "IN_USE")
    await doors.aliases.DeleteAlias(aliases.DeleteAliasRequest(name=made.name, etag=changed.etag))
    status = await refusal(doors.aliases.GetAlias(aliases.GetAliasRequest(name=made.name)))
    assert code(status) == "NOT_FOUND"


async def test_what_an_alias_cannot_be_and_what_cannot_be_provisioned_is_refused(doors: Doors) -> None:
    assert await publish(doors, 256) == "1"
    for alias, refused_as in (
        (aliases.Alias(version="9"), "NOT_FOUND"),
        (aliases.Alias(version="1", weights={"9": 0.5}), "NOT_FOUND"),
        (aliases.Alias(version="1", weights={"$LATEST": 0.5}), "INVALID_ARGUMENT"),
        (aliases.Alias(version="1", weights={"1": 0.5}), "INVALID_ARGUMENT"),
    ):
        request = aliases.CreateAliasRequest(parent="functions/f", alias_id="live", alias=alias)
        assert code(await refusal(doors.aliases.CreateAlias(request))) == refused_as, alias
    assert await publish(doors, 512) == "2"
    for weight in (-0.1, 1.5, float("nan")):
        alias = aliases.Alias(version="1", weights={"2": weight})
        request = aliases.CreateAliasRequest(parent="functions/f", alias_id="live", alias=alias)
        assert code(await refusal(doors.aliases.CreateAlias(request))) == "INVALID_ARGUMENT", weight
    assert not (await doors.aliases.ListAliases(aliases.ListAliasesRequest(parent="functions/f"))).aliases
    for name in ("functions/f/versions/$LATEST", "functions/f/versions/9", "functions/f/aliases/no"):
        put = concurrency.PutProvisionedConcurrencyConfigRequest(name=name, requested=1)
        status = await refusal(doors.concurrency.PutProvisionedConcurrencyConfig(put))
        assert code(status) == ("INVALID_ARGUMENT" if "$" in name else "NOT_FOUND"), name


async def test_concurrency_is_reserved_and_taken_back(doors: Doors) -> None:
    get = concurrency.GetFunctionConcurrencyRequest(name="functions/f")
    assert not (await doors.concurrency.GetFunctionConcurrency(get)).HasField("reserved_concurrent_executions")
    for reserved in (0, 900):
        put = concurrency.PutFunctionConcurrencyRequest(name="functions/f", reserved_concurrent_executions=reserved)
        assert (await doors.concurrency.PutFunctionConcurrency(put)).reserved_concurrent_executions == reserved
        found = await doors.concurrency.GetFunctionConcurrency(get)
        assert found.HasField("reserved_concurrent_executions")
        assert found.reserved_concurrent_executions == reserved
    put = concurrency.PutFunctionConcurrencyRequest(name="functions/f", reserved_concurrent_executions=901)
    status = await refusal(doors.concurrency.PutFunctionConcurrency(put))
    assert code(status) == "INVALID_ARGUMENT"
    account = await doors.concurrency.GetAccountSettings(concurrency.GetAccountSettingsRequest())
    assert (account.concurrent_executions, account.unreserved_concurrent_executions) == (1_000, 100)
    assert (account.functions, account.zip_limit_bytes) == (1, 52_428_800)
    await doors.concurrency.DeleteFunctionConcurrency(concurrency.DeleteFunctionConcurrencyRequest(name="functions/f"))
    assert not (await doors.concurrency.GetFunctionConcurrency(get)).HasField("reserved_concurrent_executions")


async def test_provisioned_concurrency_is_asked_for_read_listed_and_given_up(doors: Doors) -> None:
    name = f"functions/f/versions/{await publish(doors, 256)}"
    put = concurrency.PutProvisionedConcurrencyConfigRequest(name=name, requested=3)
    made = (await doors.concurrency.PutProvisionedConcurrencyConfig(put)).config
    assert (made.name, made.requested, made.allocated, made.arn) == (name, 3, 0, f"{ARN}:1")
    assert made.status == concurrency.PROVISIONED_STATUS_FAILED  # nothing keeps environments ready here
    assert made.status_reason
    get = concurrency.GetProvisionedConcurrencyConfigRequest(name=name)
    assert (await doors.concurrency.GetProvisionedConcurrencyConfig(get)).config == made
    every = concurrency.ListProvisionedConcurrencyConfigsRequest(parent="functions/f")
    assert list((await doors.concurrency.ListProvisionedConcurrencyConfigs(every)).configs) == [made]
    await doors.concurrency.DeleteProvisionedConcurrencyConfig(
        concurrency.DeleteProvisionedConcurrencyConfigRequest(name=name)
    )
    status = await refusal(doors.concurrency.GetProvisionedConcurrencyConfig(get))
    assert (code(status), info(status).reason) == ("NOT_FOUND", "NOT_PROVISIONED")
