"""LayerService over gRPC, with a real registry behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.v1 import layers_pb2 as pb
from engine.v1 import layers_pb2_grpc
from tests.registries import Served, served
from tests.unit.registry.zips import ordinary, pieces
from tests.unit.rpc.things import code, fields, refusal

NAME = "layers/deps/versions/1"


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as it:
        yield it


@pytest.fixture
async def stub(it: Served) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(it.address) as channel:
        yield layers_pb2_grpc.LayerServiceStub(channel)


async def publish(it: Served, stub: Any, parent: str = "layers/deps", **about: Any) -> pb.LayerVersion:
    blob = await it.code.add(pieces(ordinary({"python/dep.py": "x = 1"})))
    layer = pb.LayerVersion(code_blob=f"blobs/{blob.sha256}", **about)
    answer = await stub.PublishLayerVersion(pb.PublishLayerVersionRequest(parent=parent, layer_version=layer))
    made: pb.LayerVersion = answer.layer_version
    return made


async def test_a_version_is_published_read_and_removed(it: Served, stub: Any) -> None:
    made = await publish(
        it, stub, description="d", license_info="MIT", compatible_runtimes=["python3.11"],
        compatible_architectures=["arm64"],
    )  # fmt: skip
    assert (made.name, made.version, made.description, made.license_info) == (NAME, 1, "d", "MIT")
    assert (list(made.compatible_runtimes), list(made.compatible_architectures)) == (["python3.11"], ["arm64"])
    assert made.arn == "arn:aws:lambda:us-east-1:000000000000:layer:deps:1"
    assert made.code_size_bytes > 0
    assert made.create_time.seconds > 0
    assert (await stub.GetLayerVersion(pb.GetLayerVersionRequest(name=NAME))).layer_version == made
    for _ in range(2):
        await stub.DeleteLayerVersion(pb.DeleteLayerVersionRequest(name=NAME))
    status = await refusal(stub.GetLayerVersion(pb.GetLayerVersionRequest(name=NAME)))
    assert code(status) == "NOT_FOUND"


async def test_lists_have_pages_and_filters(it: Served, stub: Any) -> None:
    for parent, runtime in (("layers/a", "python3.11"), ("layers/a", "python3.12"), ("layers/b", "python3.11")):
        await publish(it, stub, parent, compatible_runtimes=[runtime])
    page = await stub.ListLayers(pb.ListLayersRequest(page_size=1))
    assert [one.name for one in page.latest_versions] == ["layers/a/versions/2"]
    page = await stub.ListLayers(pb.ListLayersRequest(page_size=1, page_token=page.next_page_token))
    assert [one.name for one in page.latest_versions] == ["layers/b/versions/1"]
    assert not page.next_page_token
    page = await stub.ListLayers(pb.ListLayersRequest(compatible_runtime="python3.11"))
    assert [one.version for one in page.latest_versions] == [1, 1]
    versions = pb.ListLayerVersionsRequest(parent="layers/a", page_size=1)
    page = await stub.ListLayerVersions(versions)
    assert [one.version for one in page.layer_versions] == [2]
    versions.page_token = page.next_page_token
    page = await stub.ListLayerVersions(versions)
    assert ([one.version for one in page.layer_versions], page.next_page_token) == ([1], "")


async def test_permissions_are_stored_and_given_back(it: Served, stub: Any) -> None:
    await publish(it, stub)
    add = pb.AddLayerVersionPermissionRequest(name=NAME, statement_id="all", principal="*", organization_id="o-1")
    added = await stub.AddLayerVersionPermission(add)
    statement = json.loads(added.statement)
    assert (statement["Action"], statement["Principal"]) == ("lambda:GetLayerVersion", "*")
    assert statement["Resource"] == "arn:aws:lambda:us-east-1:000000000000:layer:deps:1"
    found = await stub.GetLayerVersionPolicy(pb.GetLayerVersionPolicyRequest(name=NAME))
    assert (json.loads(found.policy)["Statement"], found.etag) == ([statement], added.etag)
    assert code(await refusal(stub.AddLayerVersionPermission(add))) == "ALREADY_EXISTS"
    remove = pb.RemoveLayerVersionPermissionRequest(name=NAME, statement_id="all", etag="old")
    assert code(await refusal(stub.RemoveLayerVersionPermission(remove))) == "ABORTED"
    remove.etag = found.etag
    await stub.RemoveLayerVersionPermission(remove)
    gone = await refusal(stub.GetLayerVersionPolicy(pb.GetLayerVersionPolicyRequest(name=NAME)))
    assert code(gone) == "NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("PublishLayerVersion", pb.PublishLayerVersionRequest(parent="deps"), "parent"),
        ("PublishLayerVersion", pb.PublishLayerVersionRequest(parent="layers/a b"), "name"),
        ("GetLayerVersion", pb.GetLayerVersionRequest(name="deps:1"), "name"),
        ("DeleteLayerVersion", pb.DeleteLayerVersionRequest(name="layers/deps"), "name"),
        ("ListLayerVersions", pb.ListLayerVersionsRequest(parent="layers/a", page_token="?"), "page_token"),
        ("ListLayers", pb.ListLayersRequest(page_size=-1), "page_size"),
        ("AddLayerVersionPermission", pb.AddLayerVersionPermissionRequest(name=NAME, statement_id="?"), "statement_id"),
        (
            "AddLayerVersionPermission",
            pb.AddLayerVersionPermissionRequest(name=NAME, statement_id="a", action="lambda:*"),
            "action",
        ),
        (
            "AddLayerVersionPermission",
            pb.AddLayerVersionPermissionRequest(name=NAME, statement_id="a", principal="s3.amazonaws.com"),
            "principal",
        ),
    ],
)
async def test_what_a_request_says_wrongly_is_named(stub: Any, method: str, request_: Any, field: str) -> None:
    status = await refusal(getattr(stub, method)(request_))
    assert code(status) == "INVALID_ARGUMENT"
    assert field in fields(status)
