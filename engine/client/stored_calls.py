"""The calls about event source mappings, code signing and small settings, each as one value: what it asks for, over
gRPC or of the rooms in this process. As engine.client.resource_calls has those about versions, aliases and concurrency.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from engine.client.results import ref_of
from engine.model.function import LATEST
from engine.model.names import FunctionRef, function_arn
from engine.registry.function_settings import runtime_version_arn
from engine.registry.mappings import EventSourceMapping
from engine.registry.stored import Stored

T = TypeVar("T")
Document = Mapping[str, Any]
"""By AWS's names and with AWS's values."""


@dataclass(frozen=True, slots=True)
class StoredCall(Generic[T]):
    """One call. A list is asked for as a whole."""

    method: str  # the RPC
    fields: Mapping[str, Any]  # of its request, or what engine.client.stored_wire makes one of
    local: Callable[[Stored], Awaitable[T]]


def create_mapping(
    function: str, source_arn: str, settings: Document, enabled: bool, tags: Mapping[str, str]
) -> StoredCall[EventSourceMapping]:
    """See AsyncStoredCalls."""
    ref = ref_of(function)

    async def local(stored: Stored) -> EventSourceMapping:
        source = {"EventSourceArn": source_arn} if source_arn else {}
        arn = _arn(stored, ref)
        return _shown(await stored.mappings.create(arn, {**settings, **source}, enabled=enabled, tags=tags))

    mapping = {"function": _resource(ref), "event_source_arn": source_arn, "enabled": enabled}
    return StoredCall("CreateEventSourceMapping", {"mapping": mapping, "settings": settings, "tags": tags}, local)


def get_mapping(mapping_id: str) -> StoredCall[EventSourceMapping]:
    """See AsyncStoredCalls."""

    async def local(stored: Stored) -> EventSourceMapping:
        return _shown(stored.mappings.get(mapping_id))

    return StoredCall("GetEventSourceMapping", {"name": f"eventSourceMappings/{mapping_id}"}, local)


def list_mappings(function: str, source_arn: str) -> StoredCall[list[EventSourceMapping]]:
    """See AsyncStoredCalls."""
    ref = ref_of(function) if function else None

    async def local(stored: Stored) -> list[EventSourceMapping]:
        whose = "" if ref is None else function_arn(stored.region, stored.account, ref)
        ids = stored.mappings.ids(source_arn=source_arn, function_arn=whose)
        return [_shown(stored.mappings.get(one)) for one in ids]

    fields = {"function": "" if ref is None else _resource(ref), "event_source_arn": source_arn}
    return StoredCall("ListEventSourceMappings", fields, local)


def update_mapping(
    mapping_id: str, settings: Document, enabled: bool | None, function: str
) -> StoredCall[EventSourceMapping]:
    """See AsyncStoredCalls."""
    ref = ref_of(function) if function else None

    async def local(stored: Stored) -> EventSourceMapping:
        stored.mappings.get(mapping_id)
        arn = "" if ref is None else _arn(stored, ref)
        return _shown(await stored.mappings.update(mapping_id, settings, enabled=enabled, function_arn=arn))

    mapping: dict[str, Any] = {"name": f"eventSourceMappings/{mapping_id}"}
    if ref is not None:
        mapping["function"] = _resource(ref)
    if enabled is not None:
        mapping["enabled"] = enabled
    return StoredCall("UpdateEventSourceMapping", {"mapping": mapping, "settings": settings}, local)


def delete_mapping(mapping_id: str) -> StoredCall[EventSourceMapping]:
    """See AsyncStoredCalls."""

    async def local(stored: Stored) -> EventSourceMapping:
        return _shown(await stored.mappings.delete(mapping_id))

    return StoredCall("DeleteEventSourceMapping", {"name": f"eventSourceMappings/{mapping_id}"}, local)


def create_signing(
    profiles: Sequence[str], enforce: bool, description: str, tags: Mapping[str, str]
) -> StoredCall[Document]:
    """See AsyncStoredCalls."""
    settings = _signing_settings(profiles, enforce, description or None)

    async def local(stored: Stored) -> Document:
        return await stored.signing.create(settings, tags=tags)

    return StoredCall("CreateCodeSigningConfig", {"settings": settings, "tags": tags}, local)


def get_signing(config: str) -> StoredCall[Document]:
    """See AsyncStoredCalls."""

    async def local(stored: Stored) -> Document:
        return stored.signing.get(stored.signing.arn(_id(config)))

    return StoredCall("GetCodeSigningConfig", {"name": _config(config)}, local)


def list_signing() -> StoredCall[list[Document]]:
    """See AsyncStoredCalls."""

    async def local(stored: Stored) -> list[Document]:
        return [stored.signing.get(arn) for arn in stored.signing.arns()]

    return StoredCall("ListCodeSigningConfigs", {}, local)


def update_signing(
    config: str, profiles: Sequence[str] | None, enforce: bool | None, description: str | None
) -> StoredCall[Document]:
    """See AsyncStoredCalls."""
    settings = _signing_settings(profiles, enforce, description)

    async def local(stored: Stored) -> Document:
        return await stored.signing.update(stored.signing.arn(_id(config)), settings)

    return StoredCall("UpdateCodeSigningConfig", {"name": _config(config), "settings": settings}, local)


def delete_signing(config: str) -> StoredCall[None]:
    """See AsyncStoredCalls."""

    async def local(stored: Stored) -> None:
        await stored.signing.delete(stored.signing.arn(_id(config)))

    return StoredCall("DeleteCodeSigningConfig", {"name": _config(config)}, local)


def list_signed_functions(config: str) -> StoredCall[list[str]]:
    """See AsyncStoredCalls."""

    async def local(stored: Stored) -> list[str]:
        return stored.signing.functions(stored.signing.arn(_id(config)))

    return StoredCall("ListFunctionsByCodeSigningConfig", {"name": _config(config)}, local)


def put_function_signing(name: str, config: str) -> StoredCall[None]:
    """See AsyncStoredCalls."""
    function = ref_of(name).name

    async def local(stored: Stored) -> None:
        _check(stored, FunctionRef(function))
        await stored.signing.set(function, stored.signing.arn(_id(config)))

    fields = {"name": f"functions/{function}", "code_signing_config": _config(config)}
    return StoredCall("PutFunctionCodeSigningConfig", fields, local)


def get_function_signing(name: str) -> StoredCall[str]:
    """See AsyncStoredCalls."""
    function = ref_of(name).name

    async def local(stored: Stored) -> str:
        _check(stored, FunctionRef(function))
        return _id(stored.signing.of_function(function))

    return StoredCall("GetFunctionCodeSigningConfig", {"name": f"functions/{function}"}, local)


def delete_function_signing(name: str) -> StoredCall[None]:
    """See AsyncStoredCalls."""
    function = ref_of(name).name

    async def local(stored: Stored) -> None:
        _check(stored, FunctionRef(function))
        await stored.signing.unset(function)

    return StoredCall("DeleteFunctionCodeSigningConfig", {"name": f"functions/{function}"}, local)


def put_recursion(name: str, loop: str) -> StoredCall[str]:
    """See AsyncStoredCalls."""
    function = ref_of(name).name

    async def local(stored: Stored) -> str:
        _check(stored, FunctionRef(function))
        return await stored.settings.set_recursion(function, loop)

    return StoredCall("PutFunctionRecursionConfig", {"name": f"functions/{function}", "recursive_loop": loop}, local)


def get_recursion(name: str) -> StoredCall[str]:
    """See AsyncStoredCalls."""
    function = ref_of(name).name

    async def local(stored: Stored) -> str:
        _check(stored, FunctionRef(function))
        return stored.settings.recursion(function)

    return StoredCall("GetFunctionRecursionConfig", {"name": f"functions/{function}"}, local)


def put_runtime_management(name: str, qualifier: str | None, mode: str, arn: str) -> StoredCall[Document]:
    """See AsyncStoredCalls."""
    ref = ref_of(name, qualifier)

    async def local(stored: Stored) -> Document:
        own = runtime_version_arn(stored.region, stored.registry.get(ref).config.runtime)
        return await stored.settings.set_runtime(ref.name, ref.qualifier, mode, arn, own=own)

    fields = {"name": _resource(ref), "config": {"update_runtime_on": mode, "runtime_version_arn": arn}}
    return StoredCall("PutRuntimeManagementConfig", fields, local)


def get_runtime_management(name: str, qualifier: str | None) -> StoredCall[Document]:
    """See AsyncStoredCalls."""
    ref = ref_of(name, qualifier)

    async def local(stored: Stored) -> Document:
        _check(stored, ref)
        return stored.settings.runtime(ref.name, ref.qualifier)

    return StoredCall("GetRuntimeManagementConfig", {"name": _resource(ref)}, local)


def put_scaling(name: str, version: str | int, least: int | None, most: int | None) -> StoredCall[None]:
    """See AsyncStoredCalls."""
    ref = FunctionRef(ref_of(name).name, str(version))
    given = {"MinExecutionEnvironments": least, "MaxExecutionEnvironments": most}
    wanted = {member: value for member, value in given.items() if value is not None}

    async def local(stored: Stored) -> None:
        _check(stored, ref)
        await stored.settings.set_scaling(ref.name, ref.qualifier, wanted or None)

    return StoredCall("PutFunctionScalingConfig", {"name": _version(ref), "wanted": wanted}, local)


def get_scaling(name: str, version: str | int) -> StoredCall[Document | None]:
    """See AsyncStoredCalls."""
    ref = FunctionRef(ref_of(name).name, str(version))

    async def local(stored: Stored) -> Document | None:
        _check(stored, ref)
        return stored.settings.scaling(ref.name, ref.qualifier)

    return StoredCall("GetFunctionScalingConfig", {"name": _version(ref)}, local)


def _signing_settings(profiles: Sequence[str] | None, enforce: bool | None, description: str | None) -> Document:
    settings: dict[str, Any] = {}
    if profiles is not None:
        settings["AllowedPublishers"] = {"SigningProfileVersionArns": list(profiles)}
    if enforce is not None:
        settings["CodeSigningPolicies"] = {"UntrustedArtifactOnDeployment": "Enforce" if enforce else "Warn"}
    if description is not None:
        settings["Description"] = description
    return settings


def _check(stored: Stored, ref: FunctionRef) -> None:
    """Raise NotFound unless it is there."""
    stored.registry.get(ref)


def _arn(stored: Stored, ref: FunctionRef) -> str:
    _check(stored, ref)
    return function_arn(stored.region, stored.account, ref)


def _resource(ref: FunctionRef) -> str:
    return f"functions/{ref.name}" if ref.qualifier == LATEST else ref.resource_name()


def _version(ref: FunctionRef) -> str:
    return f"functions/{ref.name}/versions/{ref.qualifier}"


def _id(config: str) -> str:
    return config.rpartition("/")[2].rpartition(":")[2]


def _config(config: str) -> str:
    return f"codeSigningConfigs/{_id(config)}"


def _shown(mapping: EventSourceMapping) -> EventSourceMapping:
    """Without lists that are empty, which a message does not tell from none."""
    return replace(mapping, settings={name: value for name, value in mapping.settings.items() if value != []})
