"""The calls about tags, function URLs and policies of functions and layers, each as one value: what it asks for, over
gRPC or of the rooms in this process. As engine.client.stored_calls has those about what else is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from engine.client.results import layer_of, ref_of
from engine.client.stored_calls import Document, StoredCall
from engine.errors import InvalidArgument
from engine.model.function import LATEST
from engine.model.layer import LayerRef, layer_arn
from engine.model.names import FunctionRef, function_arn
from engine.registry.policies import document, function_statement, layer_statement
from engine.registry.stored import Stored
from engine.registry.urls import FunctionUrl, checked, host_of, path_of

Tags = Mapping[str, str]
_UNOWNED = (("event-source-mapping", "eventSourceMappings"), ("code-signing-config", "codeSigningConfigs"))


@dataclass(frozen=True, slots=True)
class Url:
    """The URL of a function, or of an alias of it (`qualifier`; else ""). It is called as `host`, or by `path` at the
    engine's own address, on the port of the AWS Lambda API."""

    function_name: str
    qualifier: str
    url_id: str
    auth_type: str  # NONE or AWS_IAM
    invoke_mode: str  # BUFFERED or RESPONSE_STREAM
    cors: Document | None
    host: str
    path: str
    create_time: datetime
    update_time: datetime


class Policy(NamedTuple):
    """One as AWS writes it. The etag changes with every write."""

    document: Document
    etag: str


def add_tags(resource: str, tags: Tags) -> StoredCall[Tags]:
    """See AsyncAttachedCalls."""
    name = _tagged(resource)

    async def local(stored: Stored) -> Tags:
        return await stored.tags.add(dict(tags), *_owner(stored, name))

    return StoredCall("AddTags", {"name": name, "tags": tags}, local)


def remove_tags(resource: str, names: Collection[str]) -> StoredCall[Tags]:
    """See AsyncAttachedCalls."""
    name = _tagged(resource)

    async def local(stored: Stored) -> Tags:
        return await stored.tags.remove(set(names), *_owner(stored, name))

    return StoredCall("RemoveTags", {"name": name, "tag_names": list(names)}, local)


def list_tags(resource: str) -> StoredCall[Tags]:
    """See AsyncAttachedCalls."""
    name = _tagged(resource)

    async def local(stored: Stored) -> Tags:
        return stored.tags.of(*_owner(stored, name))

    return StoredCall("ListTags", {"name": name}, local)


def create_url(name: str, auth_type: str, invoke_mode: str, cors: Document | None) -> StoredCall[Url]:
    """See AsyncAttachedCalls."""
    ref, settings = ref_of(name), _url_settings(auth_type, invoke_mode, cors)

    async def local(stored: Stored) -> Url:
        return _url(stored, await stored.urls.create(*_url_target(stored, ref), settings))

    return StoredCall("CreateUrl", {"name": _resource(ref), "settings": settings}, local)


def get_url(name: str) -> StoredCall[Url]:
    """See AsyncAttachedCalls."""
    ref = ref_of(name)

    async def local(stored: Stored) -> Url:
        return _url(stored, stored.urls.get(*_url_target(stored, ref)))

    return StoredCall("GetUrl", {"name": _resource(ref)}, local)


def list_urls(name: str) -> StoredCall[list[Url]]:
    """See AsyncAttachedCalls."""
    function = ref_of(name).name

    async def local(stored: Stored) -> list[Url]:
        stored.registry.get(FunctionRef(function))
        return [_url(stored, one) for one in stored.urls.of(function).values()]

    return StoredCall("ListUrls", {"parent": f"functions/{function}"}, local)


def update_url(name: str, auth_type: str | None, invoke_mode: str | None, cors: Document | None) -> StoredCall[Url]:
    """See AsyncAttachedCalls."""
    ref, settings = ref_of(name), _url_settings(auth_type, invoke_mode, cors)

    async def local(stored: Stored) -> Url:
        return _url(stored, await stored.urls.update(*_url_target(stored, ref), settings))

    return StoredCall("UpdateUrl", {"name": _resource(ref), "settings": settings}, local)


def delete_url(name: str) -> StoredCall[None]:
    """See AsyncAttachedCalls."""
    ref = ref_of(name)

    async def local(stored: Stored) -> None:
        await stored.urls.delete(*_url_target(stored, ref))

    return StoredCall("DeleteUrl", {"name": _resource(ref)}, local)


def add_permission(
    name: str, statement_id: str, principal: str, action: str, only: Mapping[str, str], etag: str
) -> StoredCall[Document]:
    """See AsyncAttachedCalls. `only` has the conditions, by the fields of the RPC."""
    ref = ref_of(name)
    given = {_CONDITIONS[field]: value or None for field, value in only.items()}

    async def local(stored: Stored) -> Document:
        whose = _policy_of(stored, ref)
        arn = function_arn(stored.region, stored.account, ref)
        statement = function_statement(statement_id, action, principal, arn, given)
        await stored.policies.add(*whose, statement, revision=etag)
        return statement

    fields = {"statement_id": statement_id, "action": action, "principal": principal, "etag": etag}
    return StoredCall("AddPermission", {"name": _resource(ref), **fields, **only}, local)


def remove_permission(name: str, statement_id: str, etag: str) -> StoredCall[None]:
    """See AsyncAttachedCalls."""
    ref = ref_of(name)

    async def local(stored: Stored) -> None:
        await stored.policies.remove(*_policy_of(stored, ref), statement_id, revision=etag)

    return StoredCall("RemovePermission", {"name": _resource(ref), "statement_id": statement_id, "etag": etag}, local)


def get_policy(name: str) -> StoredCall[Policy]:
    """See AsyncAttachedCalls."""
    ref = ref_of(name)

    async def local(stored: Stored) -> Policy:
        return _policy(stored.policies.get(*_policy_of(stored, ref)))

    return StoredCall("GetPolicy", {"name": _resource(ref)}, local)


def put_policy(name: str, policy: Document, etag: str) -> StoredCall[Policy]:
    """See AsyncAttachedCalls."""
    ref, text = ref_of(name), orjson.dumps(policy).decode()

    async def local(stored: Stored) -> Policy:
        return _policy(await stored.policies.replace(*_policy_of(stored, ref), text, revision=etag))

    return StoredCall("PutPolicy", {"name": _resource(ref), "policy": text, "etag": etag}, local)


def delete_policy(name: str, etag: str) -> StoredCall[None]:
    """See AsyncAttachedCalls."""
    ref = ref_of(name)

    async def local(stored: Stored) -> None:
        await stored.policies.delete(*_policy_of(stored, ref), revision=etag)

    return StoredCall("DeletePolicy", {"name": _resource(ref), "etag": etag}, local)


def add_layer_permission(
    layer: str | LayerRef, statement_id: str, principal: str, organization: str, etag: str
) -> StoredCall[Document]:
    """See AsyncAttachedCalls."""
    ref = layer_of(layer)

    async def local(stored: Stored) -> Document:
        arn = layer_arn(stored.region, stored.account, *ref)
        statement = layer_statement(statement_id, "", principal, arn, organization)
        await stored.registry.layers.permit(ref, statement, revision=etag)
        return statement

    fields = {"statement_id": statement_id, "principal": principal, "organization_id": organization, "etag": etag}
    return StoredCall("AddLayerVersionPermission", {"name": ref.resource_name(), **fields}, local)


def get_layer_policy(layer: str | LayerRef) -> StoredCall[Policy]:
    """See AsyncAttachedCalls."""
    ref = layer_of(layer)

    async def local(stored: Stored) -> Policy:
        return _policy(stored.registry.layers.policy(ref))

    return StoredCall("GetLayerVersionPolicy", {"name": ref.resource_name()}, local)


def remove_layer_permission(layer: str | LayerRef, statement_id: str, etag: str) -> StoredCall[None]:
    """See AsyncAttachedCalls."""
    ref = layer_of(layer)

    async def local(stored: Stored) -> None:
        await stored.registry.layers.forbid(ref, statement_id, revision=etag)

    fields = {"name": ref.resource_name(), "statement_id": statement_id, "etag": etag}
    return StoredCall("RemoveLayerVersionPermission", fields, local)


_CONDITIONS = {
    "source_arn": "SourceArn",
    "source_account": "SourceAccount",
    "principal_org_id": "PrincipalOrgID",
    "event_source_token": "EventSourceToken",
}


def _tagged(resource: str) -> str:
    """The resource name of what may have tags, from that, a function's name, or an ARN. Raises InvalidArgument."""
    for kind, collection in _UNOWNED:
        if resource.startswith(f"{collection}/"):
            return resource
        if resource.startswith("arn:") and f":{kind}:" in resource:
            return f"{collection}/{resource.rpartition(':')[2]}"
    return _resource(ref_of(resource))


def _owner(stored: Stored, name: str) -> tuple[str, str]:
    function = name.removeprefix("functions/")
    if function != name and "/" in function:
        raise InvalidArgument(
            f"{name} is a part of a function",
            fix="name the function as a whole",
            fields={"name": "must be functions/{function}"},
        )
    return stored.tagged(function)


def _url_settings(auth_type: str | None, invoke_mode: str | None, cors: Document | None) -> Document:
    """By AWS's names, without what is not given. Raises InvalidArgument."""
    given = {"AuthType": auth_type, "InvokeMode": invoke_mode, "Cors": cors}
    return checked({name: value for name, value in given.items() if value is not None})


def _url_target(stored: Stored, ref: FunctionRef) -> tuple[str, str]:
    if ref.qualifier.isdigit():
        raise InvalidArgument(
            f"{ref.resource_name()} cannot have a URL: a version is reached by an alias",
            fix="name a function or an alias",
            fields={"name": "must be of a function or an alias"},
        )
    stored.registry.get(ref)
    return ref.name, _qualifier(ref)


def _url(stored: Stored, url: FunctionUrl) -> Url:
    return Url(
        url.function_name,
        url.qualifier,
        url.url_id,
        url.settings["AuthType"],
        url.settings["InvokeMode"],
        url.settings.get("Cors"),
        host_of(url.url_id, stored.region),
        path_of(url.url_id),
        datetime.fromisoformat(url.create_time),
        datetime.fromisoformat(url.update_time),
    )


def _policy_of(stored: Stored, ref: FunctionRef) -> tuple[str, str]:
    stored.registry.get(ref)
    return ref.name, _qualifier(ref)


def _policy(stored: Mapping[str, Any]) -> Policy:
    return Policy(orjson.loads(document(stored)), stored["RevisionId"])


def _qualifier(ref: FunctionRef) -> str:
    return "" if ref.qualifier == LATEST else ref.qualifier


def _resource(ref: FunctionRef) -> str:
    return ref.resource_name() if _qualifier(ref) else f"functions/{ref.name}"
