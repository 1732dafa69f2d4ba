"""Tags, function URLs and policies by each client: over gRPC, and in the process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine import AsyncClient, Client
from engine.client.async_attached import AsyncAttachedCalls
from engine.client.attached_wire import ATTACHED
from engine.client.stored_calls import StoredCall
from engine.client.sync_attached import AttachedCalls
from engine.embedded import Engine
from engine.errors import AlreadyExists, InvalidArgument, NotFound, StaleEtag
from engine.registry.api import AliasChange, LayerContent
from engine.registry.stored import Stored
from engine.registry.urls import host_of, path_of
from engine.rpc import layers, policies, tags, urls
from tests.registries import Served, served
from tests.unit.rpc.things import ACCOUNT, REGION

T = TypeVar("T")
Ask = Callable[..., Awaitable[Any]]
"""Make a call by its name."""
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/a"


class Local(AsyncAttachedCalls):
    """What engine.embedded.Engine does, without an engine."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    async def _ask(self, call: StoredCall[T]) -> T:
        return await call.local(self._stored)


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as it:
        await it.registry.versions.publish("f")
        await it.registry.aliases.create("f", "live", AliasChange("1", {}, ""))
        yield it


@pytest.fixture
def stored(it: Served) -> Stored:
    return Stored(it.registry, it.attached, region=REGION, account=ACCOUNT)


@pytest.fixture(params=["sync", "async", "local"])
async def ask(request: pytest.FixtureRequest, it: Served, stored: Stored) -> AsyncIterator[Ask]:
    if request.param == "sync":
        with Client(it.address) as client:
            yield lambda method, *args, **kwargs: asyncio.to_thread(getattr(client, method), *args, **kwargs)
    elif request.param == "async":
        async with AsyncClient(it.address) as calls:
            yield lambda method, *args, **kwargs: getattr(calls, method)(*args, **kwargs)
    else:
        local = Local(stored)

        async def call(method: str, *args: Any, **kwargs: Any) -> Any:
            return await getattr(local, method)(*args, **kwargs)

        yield call


async def test_tags_of_all_that_has_them(ask: Ask, stored: Stored) -> None:
    mapping = (await stored.mappings.create(f"{ARN}:function:f", {"EventSourceArn": QUEUE}, enabled=True, tags={})).arn
    publishers = {"AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]}}
    config = (await stored.signing.create(publishers, tags={}))["CodeSigningConfigArn"]
    for resource in ("f", f"{ARN}:function:f", mapping, config):
        assert await ask("add_tags", resource, {"a": "1", "b": "2"}) == {"a": "1", "b": "2"}
        assert await ask("remove_tags", resource, ["a", "none"]) == {"b": "2"}
        assert await ask("list_tags", resource) == {"b": "2"}
        await ask("remove_tags", resource, ["b"])
    for resource in ("g", mapping[:-1], config[:-1]):
        with pytest.raises(NotFound):
            await ask("list_tags", resource)
    for wrong, given in (("f:1", {"a": "1"}), ("f", {"aws:a": "1"})):
        with pytest.raises(InvalidArgument):
            await ask("add_tags", wrong, given)


async def test_function_urls(ask: Ask) -> None:
    made = await ask("create_url", "f")
    assert (made.function_name, made.qualifier, made.auth_type, made.invoke_mode) == ("f", "", "NONE", "BUFFERED")
    assert (made.host, made.path, made.cors) == (host_of(made.url_id, REGION), path_of(made.url_id), None)
    assert await ask("get_url", "f") == made
    with pytest.raises(AlreadyExists):
        await ask("create_url", "f")
    cors = {"AllowCredentials": True, "AllowOrigins": ["https://example.com"], "MaxAge": 60}
    live = await ask("create_url", "f:live", auth_type="AWS_IAM", invoke_mode="RESPONSE_STREAM", cors=cors)
    assert (live.qualifier, live.auth_type, live.invoke_mode, live.cors) == ("live", "AWS_IAM", "RESPONSE_STREAM", cors)
    assert await ask("list_urls", "f") == [made, live]
    after = await ask("update_url", "f:live", auth_type="NONE")
    assert (after.auth_type, after.invoke_mode, after.cors) == ("NONE", "RESPONSE_STREAM", cors)
    assert (after.url_id, after.create_time) == (live.url_id, live.create_time)
    assert (await ask("update_url", "f:live")).auth_type == "NONE"
    await ask("delete_url", "f:live")
    for call in ("get_url", "update_url", "delete_url"):
        with pytest.raises(NotFound):
            await ask(call, "f:live")
    for wrong in (
        {"auth_type": "SECRET"},
        {"invoke_mode": "LATER"},
        {"cors": {"Colour": 1}},
        {"cors": {"AllowMethods": ["GET"] * 7}},
        {"cors": {"MaxAge": 86_401}},
    ):
        with pytest.raises(InvalidArgument):
            await ask("update_url", "f", **wrong)
    with pytest.raises(InvalidArgument, match="version"):
        await ask("create_url", "f:1")
    with pytest.raises(NotFound):
        await ask("list_urls", "g")


async def test_policies_of_functions(ask: Ask) -> None:
    bucket = "arn:aws:s3:::photos"
    statement = await ask("add_permission", "f", "s3", "s3.amazonaws.com", source_arn=bucket, source_account=ACCOUNT)
    assert statement == {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": f"{ARN}:function:f",
        "Condition": {"StringEquals": {"AWS:SourceAccount": ACCOUNT}, "ArnLike": {"AWS:SourceArn": bucket}},
    }
    with pytest.raises(AlreadyExists):
        await ask("add_permission", "f", "s3", "*")
    first = await ask("get_policy", "f")
    assert first.document == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    other = await ask("add_permission", "f", "all", "*", action="lambda:GetFunction", etag=first.etag)
    with pytest.raises(StaleEtag):
        await ask("remove_permission", "f", "s3", etag=first.etag)
    await ask("remove_permission", "f", "s3")
    policy = await ask("get_policy", "f")
    assert policy.document["Statement"] == [other]
    put = await ask("put_policy", "f:live", {"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*"}})
    assert put == await ask("get_policy", "f:live")
    assert put.document["Statement"][0]["Effect"] == "Deny"
    for name in ("f", "f:live"):
        await ask("delete_policy", name)
        with pytest.raises(NotFound):
            await ask("get_policy", name)
    for wrong in (("a b", "*"), ("a", "nobody")):
        with pytest.raises(InvalidArgument):
            await ask("add_permission", "f", *wrong)
    with pytest.raises(InvalidArgument):
        await ask("add_permission", "f", "a", "*", action="s3:GetObject")
    with pytest.raises(InvalidArgument):
        await ask("put_policy", "f", {})
    with pytest.raises(NotFound):
        await ask("add_permission", "g", "a", "*")


async def test_policies_of_layers(ask: Ask, it: Served) -> None:
    await it.registry.layers.publish("deps", LayerContent(it.registry.list(limit=1)[0][0].code_sha256, "", "", (), ()))
    statement = await ask("add_layer_permission", "deps:1", "all", "*", organization_id="o-1")
    assert (statement["Action"], statement["Resource"]) == ("lambda:GetLayerVersion", f"{ARN}:layer:deps:1")
    policy = await ask("get_layer_policy", f"{ARN}:layer:deps:1")
    assert policy.document["Statement"] == [statement]
    await ask("add_layer_permission", "deps:1", "one", ACCOUNT, etag=policy.etag)
    with pytest.raises(StaleEtag):
        await ask("remove_layer_permission", "deps:1", "all", etag=policy.etag)
    for sid in ("all", "one"):
        await ask("remove_layer_permission", "deps:1", sid)
    with pytest.raises(NotFound):
        await ask("get_layer_policy", "deps:1")
    for wrong in (("a b", "*"), ("a", "s3.amazonaws.com")):
        with pytest.raises(InvalidArgument):
            await ask("add_layer_permission", "deps:1", *wrong)


def test_every_client_has_the_same_calls_for_each_rpc_that_there_is() -> None:
    def calls(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert calls(AttachedCalls) == calls(AsyncAttachedCalls)
    for name in calls(AttachedCalls):
        here, there = (inspect.signature(getattr(kind, name)) for kind in (AttachedCalls, AsyncAttachedCalls))
        assert here.parameters == there.parameters
    assert issubclass(Client, AttachedCalls)
    assert issubclass(AsyncClient, AsyncAttachedCalls)
    assert issubclass(Engine, AsyncAttachedCalls)
    rpcs = {method for room in (tags, urls, policies) for method in room.SERVICE.methods_by_name}
    rpcs |= {name for name in layers.SERVICE.methods_by_name if "Polic" in name or "Permission" in name}
    assert set(ATTACHED) == rpcs
    assert len(calls(AttachedCalls)) == len(ATTACHED)
