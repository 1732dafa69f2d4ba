"""The calls about versions, aliases and concurrency, each as one value: what it asks for, over gRPC or of a registry in
this process. Who makes it, and how its failures look, is left to engine.client.sync, .aio and engine.embedded.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from engine.client.results import ref_of
from engine.model.alias import Alias
from engine.model.concurrency import AccountSettings, Provisioned
from engine.model.function import Function
from engine.registry.api import AliasChange, Registry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call. A list is asked for as a whole."""

    method: str  # the RPC
    fields: Mapping[str, Any]  # of its request
    local: Callable[[Any], Awaitable[T]]
    room: str = "registry"
    """The part of an engine in this process that `local` asks."""


def publish_version(name: str, description: str, code_sha256: str, etag: str) -> Call[Function]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> Function:
        return await registry.versions.publish(
            function, description=description or None, code_sha256=code_sha256 or None, etag=etag or None
        )

    blob = f"blobs/{code_sha256}" if code_sha256 else ""
    fields = {"parent": f"functions/{function}", "description": description, "code_blob": blob, "etag": etag}
    return Call("PublishVersion", fields, local)


def list_versions(name: str) -> Call[list[Function]]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> list[Function]:
        return registry.versions.list(function, limit=sys.maxsize)[0]

    return Call("ListVersions", {"parent": f"functions/{function}"}, local)


def delete_version(name: str, version: str | int) -> Call[None]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> None:
        await registry.versions.delete(function, str(version))

    return Call("DeleteVersion", {"name": f"functions/{function}/versions/{version}"}, local)


def create_alias(
    name: str, alias: str, version: str | int, weights: Mapping[str, float] | None, description: str
) -> Call[Alias]:
    """See AsyncResourceCalls."""
    function, shares = ref_of(name).name, dict(weights or {})

    async def local(registry: Registry) -> Alias:
        return await registry.aliases.create(function, alias, AliasChange(str(version), shares, description))

    resource = {"version": str(version), "weights": shares, "description": description}
    return Call("CreateAlias", {"parent": f"functions/{function}", "alias_id": alias, "alias": resource}, local)


def get_alias(name: str, alias: str) -> Call[Alias]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> Alias:
        return registry.aliases.get(function, alias)

    return Call("GetAlias", {"name": f"functions/{function}/aliases/{alias}"}, local)


def list_aliases(name: str, version: str | int) -> Call[list[Alias]]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> list[Alias]:
        return list(registry.aliases.list(function, limit=sys.maxsize, version=str(version))[0])

    return Call("ListAliases", {"parent": f"functions/{function}", "version": str(version)}, local)


def update_alias(
    name: str,
    alias: str,
    version: str | int | None,
    weights: Mapping[str, float] | None,
    description: str | None,
    etag: str,
) -> Call[Alias]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name
    change = AliasChange(None if version is None else str(version), weights, description)

    async def local(registry: Registry) -> Alias:
        return await registry.aliases.update(function, alias, change, etag=etag or None)

    given = {"version": change.version, "weights": weights, "description": description}
    given = {field: value for field, value in given.items() if value is not None}
    resource = {"name": f"functions/{function}/aliases/{alias}", "etag": etag, **given}
    paths = list(given) or ["etag"]  # an empty mask would mean whatever is set
    return Call("UpdateAlias", {"alias": resource, "update_mask": {"paths": paths}}, local)


def delete_alias(name: str, alias: str, etag: str) -> Call[None]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> None:
        await registry.aliases.delete(function, alias, etag=etag or None)

    return Call("DeleteAlias", {"name": f"functions/{function}/aliases/{alias}", "etag": etag}, local)


def put_concurrency(name: str, executions: int) -> Call[int]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> int:
        return await registry.concurrency.reserve(function, executions)

    fields = {"name": f"functions/{function}", "reserved_concurrent_executions": executions}
    return Call("PutFunctionConcurrency", fields, local)


def get_concurrency(name: str) -> Call[int | None]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> int | None:
        return registry.concurrency.reserved(function)

    return Call("GetFunctionConcurrency", {"name": f"functions/{function}"}, local)


def delete_concurrency(name: str) -> Call[None]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> None:
        await registry.concurrency.unreserve(function)

    return Call("DeleteFunctionConcurrency", {"name": f"functions/{function}"}, local)


def put_provisioned(name: str, qualifier: str | None, environments: int) -> Call[Provisioned]:
    """See AsyncResourceCalls."""
    ref = ref_of(name, qualifier)

    async def local(registry: Registry) -> Provisioned:
        return await registry.concurrency.provision(ref, environments)

    fields = {"name": ref.resource_name(), "requested": environments}
    return Call("PutProvisionedConcurrencyConfig", fields, local)


def get_provisioned(name: str, qualifier: str | None) -> Call[Provisioned]:
    """See AsyncResourceCalls."""
    ref = ref_of(name, qualifier)

    async def local(registry: Registry) -> Provisioned:
        return registry.concurrency.provisioned(ref)

    return Call("GetProvisionedConcurrencyConfig", {"name": ref.resource_name()}, local)


def list_provisioned(name: str) -> Call[list[Provisioned]]:
    """See AsyncResourceCalls."""
    function = ref_of(name).name

    async def local(registry: Registry) -> list[Provisioned]:
        return list(registry.concurrency.list_provisioned(function, limit=sys.maxsize)[0])

    return Call("ListProvisionedConcurrencyConfigs", {"parent": f"functions/{function}"}, local)


def delete_provisioned(name: str, qualifier: str | None) -> Call[None]:
    """See AsyncResourceCalls."""
    ref = ref_of(name, qualifier)

    async def local(registry: Registry) -> None:
        await registry.concurrency.unprovision(ref)

    return Call("DeleteProvisionedConcurrencyConfig", {"name": ref.resource_name()}, local)


def get_account_settings() -> Call[AccountSettings]:
    """See AsyncResourceCalls."""

    async def local(registry: Registry) -> AccountSettings:
        return registry.concurrency.account()

    return Call("GetAccountSettings", {}, local)
