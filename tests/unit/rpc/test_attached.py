"""Tags, function URLs and policies over gRPC: a real client, a real server, a real registry."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from engine.model.names import FunctionRef
from engine.v1 import (
    aliases_pb2,
    aliases_pb2_grpc,
    policies_pb2_grpc,
    tags_pb2,
    tags_pb2_grpc,
    urls_pb2,
    urls_pb2_grpc,
    versions_pb2_grpc,
)
from engine.v1 import policies_pb2 as policies
from engine.v1 import versions_pb2 as versions
from tests.registries import served
from tests.unit.rpc.things import ACCOUNT, REGION, code, fields, refusal

F = "functions/f"
LIVE = f"{F}/aliases/live"


@dataclass
class Doors:
    """The stubs. Untyped: the published types are the blocking channel's."""

    registry: Any
    tags: Any
    urls: Any
    policies: Any


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    """With the function f, and the alias live to its version 1."""
    async with served(tmp_path) as it:
        channel: Any = grpc.aio.insecure_channel(it.address)
        publish: Any = versions_pb2_grpc.VersionServiceStub(channel)
        await publish.PublishVersion(versions.PublishVersionRequest(parent=F))
        aliases: Any = aliases_pb2_grpc.AliasServiceStub(channel)
        alias = aliases_pb2.Alias(version="1")
        await aliases.CreateAlias(aliases_pb2.CreateAliasRequest(parent=F, alias_id="live", alias=alias))
        stubs = (tags_pb2_grpc.TagServiceStub, urls_pb2_grpc.UrlServiceStub, policies_pb2_grpc.PolicyServiceStub)
        yield Doors(it.registry, *(stub(channel) for stub in stubs))
        await channel.close()


async def test_tags_are_added_replaced_and_removed(doors: Doors) -> None:
    async def listed() -> dict[str, str]:
        return dict((await doors.tags.ListTags(tags_pb2.ListTagsRequest(name=F))).tags)

    assert await listed() == {}
    added = await doors.tags.AddTags(tags_pb2.AddTagsRequest(name=F, tags={"team": "a", "é": "1"}))
    assert dict(added.tags) == {"team": "a", "é": "1"}
    await doors.tags.AddTags(tags_pb2.AddTagsRequest(name=F, tags={"team": "b"}))
    assert await listed() == {"team": "b", "é": "1"}
    left = await doors.tags.RemoveTags(tags_pb2.RemoveTagsRequest(name=F, tag_names=["team", "other"]))
    assert dict(left.tags) == await listed() == {"é": "1"}


@pytest.mark.parametrize(
    "tags",
    [{f"k{n}": "v" for n in range(51)}, {"aws:x": "y"}, {"": "y"}, {"x" * 129: "y"}, {"x": "y" * 257}],
)
async def test_tags_that_cannot_be_are_refused(doors: Doors, tags: dict[str, str]) -> None:
    refused = await refusal(doors.tags.AddTags(tags_pb2.AddTagsRequest(name=F, tags=tags)))
    assert code(refused) == "INVALID_ARGUMENT"
    assert list(fields(refused)) == ["tags"]
    assert not (await doors.tags.ListTags(tags_pb2.ListTagsRequest(name=F))).tags


async def test_tags_are_of_functions_that_are_there(doors: Doors) -> None:
    gone = await refusal(doors.tags.ListTags(tags_pb2.ListTagsRequest(name="functions/g")))
    assert code(gone) == "NOT_FOUND"
    part = await refusal(doors.tags.AddTags(tags_pb2.AddTagsRequest(name=LIVE, tags={"a": "b"})))
    assert code(part) == "INVALID_ARGUMENT"


async def test_a_url_is_made_read_changed_and_removed(doors: Doors) -> None:
    cors = urls_pb2.Cors(allow_origins=["https://a.example"], allow_methods=["GET"], max_age_s=60)
    made = (await doors.urls.CreateUrl(urls_pb2.CreateUrlRequest(url=urls_pb2.Url(name=LIVE, cors=cors)))).url
    assert (made.name, made.auth_type, made.invoke_mode) == (
        LIVE,
        urls_pb2.URL_AUTH_TYPE_NONE,
        urls_pb2.URL_INVOKE_MODE_BUFFERED,
    )
    assert made.cors == cors
    assert made.host == f"{made.url_id}.lambda-url.{REGION}.localhost"
    assert made.path == f"/lambda-url/{made.url_id}/"
    assert made.arn == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f:live"
    assert (await doors.urls.GetUrl(urls_pb2.GetUrlRequest(name=LIVE))).url == made
    change = urls_pb2.Url(name=LIVE, invoke_mode=urls_pb2.URL_INVOKE_MODE_RESPONSE_STREAM)
    changed = (await doors.urls.UpdateUrl(urls_pb2.UpdateUrlRequest(url=change))).url
    assert (changed.invoke_mode, changed.cors, changed.url_id) == (change.invoke_mode, cors, made.url_id)
    reset = urls_pb2.UpdateUrlRequest(url=urls_pb2.Url(name=LIVE), update_mask=FieldMask(paths=["*"]))
    emptied = (await doors.urls.UpdateUrl(reset)).url
    assert (emptied.invoke_mode, emptied.cors) == (urls_pb2.URL_INVOKE_MODE_BUFFERED, urls_pb2.Cors())
    own = (await doors.urls.CreateUrl(urls_pb2.CreateUrlRequest(url=urls_pb2.Url(name=F)))).url
    first = await doors.urls.ListUrls(urls_pb2.ListUrlsRequest(parent=F, page_size=1))
    rest = await doors.urls.ListUrls(urls_pb2.ListUrlsRequest(parent=F, page_token=first.next_page_token))
    assert [url.url_id for url in (*first.urls, *rest.urls)] == [own.url_id, made.url_id]
    assert not rest.next_page_token
    await doors.urls.DeleteUrl(urls_pb2.DeleteUrlRequest(name=LIVE))
    gone = await refusal(doors.urls.GetUrl(urls_pb2.GetUrlRequest(name=LIVE)))
    assert code(gone) == "NOT_FOUND"
    await doors.registry.delete("f")
    assert doors.registry.list(limit=9) == ([], "")


async def test_urls_that_cannot_be_are_refused(doors: Doors) -> None:
    async def refused(**settings: Any) -> str:
        url = urls_pb2.Url(**{"name": F, **settings})
        return code(await refusal(doors.urls.CreateUrl(urls_pb2.CreateUrlRequest(url=url))))

    invalid, missing = "INVALID_ARGUMENT", "NOT_FOUND"
    assert await refused(name="functions/g") == missing
    assert await refused(name=f"{F}/aliases/no") == missing
    assert await refused(name=f"{F}/versions/1") == invalid
    assert await refused(auth_type=9) == invalid
    assert await refused(invoke_mode=9) == invalid
    assert await refused(cors=urls_pb2.Cors(max_age_s=86_401)) == invalid
    assert await refused(cors=urls_pb2.Cors(allow_methods=["GET"] * 7)) == invalid
    await doors.urls.CreateUrl(urls_pb2.CreateUrlRequest(url=urls_pb2.Url(name=F)))
    assert await refused() == "ALREADY_EXISTS"
    unknown = urls_pb2.UpdateUrlRequest(url=urls_pb2.Url(name=F), update_mask=FieldMask(paths=["colour"]))
    assert code(await refusal(doors.urls.UpdateUrl(unknown))) == invalid
    assert doors.registry.get(FunctionRef("f")).name == "f"


def permission(**given: Any) -> policies.AddPermissionRequest:
    parts = {"name": F, "statement_id": "s3", "action": "lambda:InvokeFunction", "principal": "s3.amazonaws.com"}
    return policies.AddPermissionRequest(**{**parts, **given})


async def test_statements_are_added_to_a_policy_and_removed(doors: Doors) -> None:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    added = await doors.policies.AddPermission(permission(source_arn="arn:aws:s3:::b", source_account=ACCOUNT))
    statement = {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": arn,
        "Condition": {
            "StringEquals": {"AWS:SourceAccount": ACCOUNT},
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
        },
    }
    assert json.loads(added.statement) == statement
    await doors.policies.AddPermission(permission(statement_id="all", principal="*", etag=added.etag))
    own = await doors.policies.AddPermission(permission(name=LIVE))
    assert json.loads(own.statement)["Resource"] == f"{arn}:live"
    got = await doors.policies.GetPolicy(policies.GetPolicyRequest(name=F))
    assert [one["Sid"] for one in json.loads(got.policy)["Statement"]] == ["s3", "all"]
    for sid, etag in (("s3", got.etag), ("all", "")):
        await doors.policies.RemovePermission(policies.RemovePermissionRequest(name=F, statement_id=sid, etag=etag))
    assert code(await refusal(doors.policies.GetPolicy(policies.GetPolicyRequest(name=F)))) == "NOT_FOUND"
    assert (await doors.policies.GetPolicy(policies.GetPolicyRequest(name=LIVE))).etag == own.etag


async def test_statements_that_cannot_be_are_refused(doors: Doors) -> None:
    await doors.policies.AddPermission(permission())
    for given, refused in (
        ({}, "ALREADY_EXISTS"),
        ({"statement_id": "a.b"}, "INVALID_ARGUMENT"),
        ({"statement_id": "n", "action": "s3:Get"}, "INVALID_ARGUMENT"),
        ({"statement_id": "n", "principal": "nobody"}, "INVALID_ARGUMENT"),
        ({"statement_id": "n", "name": f"{F}/versions/$LATEST"}, "INVALID_ARGUMENT"),
        ({"statement_id": "n", "source_arn": "x" * 20_480}, "INVALID_ARGUMENT"),
        ({"statement_id": "n", "etag": "x"}, "ABORTED"),
        ({"statement_id": "n", "name": "functions/g"}, "NOT_FOUND"),
    ):
        assert code(await refusal(doors.policies.AddPermission(permission(**given)))) == refused, given
    removal = policies.RemovePermissionRequest(name=F, statement_id="other")
    assert code(await refusal(doors.policies.RemovePermission(removal))) == "NOT_FOUND"
