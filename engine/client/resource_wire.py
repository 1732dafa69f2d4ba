"""The calls of engine.client.resource_calls as RPCs of engine.v1: which service, which messages, what comes back."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from engine.client.attached_wire import ATTACHED
from engine.client.rpcs import Rpc
from engine.client.stored_wire import STORED
from engine.client.wire import function_from_proto
from engine.errors import InvalidArgument
from engine.model.alias import Alias
from engine.model.concurrency import AccountSettings, Allocation, Provisioned, ProvisionedConfig, ProvisionedStatus
from engine.model.events import EventInvokeConfig, QueuedEvent
from engine.model.layer import LayerVersion, parse_layer
from engine.model.names import parse_resource_name
from engine.v1 import (
    aliases_pb2,
    aliases_pb2_grpc,
    code_pb2,
    code_pb2_grpc,
    concurrency_pb2,
    concurrency_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    layers_pb2,
    layers_pb2_grpc,
    versions_pb2,
    versions_pb2_grpc,
)


def request_of(method: str, fields: Any) -> Any:
    """The request. Raises InvalidArgument for a value that does not fit its field."""
    rpc = RPCS[method]
    try:
        request = rpc.make(fields) if rpc.make else getattr(rpc.messages, f"{method}Request")(**fields)
    except ValueError as error:
        raise InvalidArgument(f"the call cannot be made: {error}", fix="see its documentation") from None
    if rpc.paged:
        request.page_size = 1_000
    return request


def alias_from_proto(message: aliases_pb2.Alias) -> Alias:
    """The whole resource."""
    ref = parse_resource_name(message.name)
    return Alias(
        function_name=ref.name,
        name=ref.qualifier,
        version=message.version,
        etag=message.etag,
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
        description=message.description,
        weights=tuple(sorted(message.weights.items())),
    )


def layer_from_proto(message: layers_pb2.LayerVersion) -> LayerVersion:
    """The whole resource; how large it is unpacked is not told."""
    return LayerVersion(
        ref=parse_layer(message.name),
        code_sha256=message.code_blob.removeprefix("blobs/"),
        code_size_bytes=message.code_size_bytes,
        unpacked_bytes=0,
        create_time=message.create_time.ToDatetime(UTC),
        description=message.description,
        license_info=message.license_info,
        runtimes=tuple(message.compatible_runtimes),
        architectures=tuple(message.compatible_architectures),
    )


def provisioned_from_proto(message: concurrency_pb2.ProvisionedConcurrencyConfig) -> Provisioned:
    """What was asked for and what there is."""
    ref = parse_resource_name(message.name)
    status = concurrency_pb2.ProvisionedStatus.Name(message.status).removeprefix("PROVISIONED_STATUS_")
    return Provisioned(
        ProvisionedConfig(ref.name, ref.qualifier, message.requested, message.update_time.ToDatetime(UTC)),
        Allocation(ProvisionedStatus[status], message.allocated, message.available, message.status_reason),
    )


def account_from_proto(message: concurrency_pb2.GetAccountSettingsResponse) -> AccountSettings:
    """Limits and use."""
    return AccountSettings(
        concurrency=message.concurrent_executions,
        unreserved=message.unreserved_concurrent_executions,
        functions=message.functions,
        code_bytes=message.code_bytes,
        code_limit_bytes=message.code_limit_bytes,
        unpacked_limit_bytes=message.unpacked_limit_bytes,
        zip_limit_bytes=message.zip_limit_bytes,
    )


def event_config_from_proto(message: events_pb2.EventInvokeConfig) -> EventInvokeConfig:
    """What is set, and what is not."""
    ref = parse_resource_name(message.name)
    return EventInvokeConfig(
        ref.name,
        ref.qualifier,
        message.update_time.ToMicroseconds() / 1e6,
        message.maximum_retry_attempts if message.HasField("maximum_retry_attempts") else None,
        message.maximum_event_age_s if message.HasField("maximum_event_age_s") else None,
        message.on_success,
        message.on_failure,
    )


def queued_from_proto(message: events_pb2.QueuedEvent) -> QueuedEvent:
    """An event that waits."""
    ref = parse_resource_name(message.name)
    return QueuedEvent(
        message.request_id,
        ref.name,
        ref.qualifier,
        message.accept_time.ToMicroseconds(),
        message.due_time.ToMicroseconds(),
        message.failed_attempts,
        message.size_bytes,
        message.running,
        message.last_error,
    )


def _reserved(message: concurrency_pb2.GetFunctionConcurrencyResponse) -> int | None:
    has = message.HasField("reserved_concurrent_executions")
    return message.reserved_concurrent_executions if has else None


def _nothing(message: Any) -> None:
    return None


_VERSIONS = (versions_pb2_grpc.VersionServiceStub, versions_pb2)
_ALIASES = (aliases_pb2_grpc.AliasServiceStub, aliases_pb2)
_LAYERS = (layers_pb2_grpc.LayerServiceStub, layers_pb2)
_CONCURRENCY = (concurrency_pb2_grpc.ConcurrencyServiceStub, concurrency_pb2)
_EVENTS = (events_pb2_grpc.EventServiceStub, events_pb2)

RPCS: dict[str, Rpc] = {
    "PublishVersion": Rpc(*_VERSIONS, lambda answer: function_from_proto(answer.version)),
    "ListVersions": Rpc(*_VERSIONS, lambda answer: [function_from_proto(one) for one in answer.versions], True),
    "DeleteVersion": Rpc(*_VERSIONS, _nothing),
    "CreateAlias": Rpc(*_ALIASES, lambda answer: alias_from_proto(answer.alias)),
    "GetAlias": Rpc(*_ALIASES, lambda answer: alias_from_proto(answer.alias)),
    "ListAliases": Rpc(*_ALIASES, lambda answer: [alias_from_proto(one) for one in answer.aliases], True),
    "UpdateAlias": Rpc(*_ALIASES, lambda answer: alias_from_proto(answer.alias)),
    "DeleteAlias": Rpc(*_ALIASES, _nothing),
    "PublishLayerVersion": Rpc(*_LAYERS, lambda answer: layer_from_proto(answer.layer_version)),
    "GetLayerVersion": Rpc(*_LAYERS, lambda answer: layer_from_proto(answer.layer_version)),
    "ListLayers": Rpc(*_LAYERS, lambda answer: [layer_from_proto(one) for one in answer.latest_versions], True),
    "ListLayerVersions": Rpc(*_LAYERS, lambda answer: [layer_from_proto(one) for one in answer.layer_versions], True),
    "DeleteLayerVersion": Rpc(*_LAYERS, _nothing),
    "PutFunctionConcurrency": Rpc(*_CONCURRENCY, lambda answer: answer.reserved_concurrent_executions),
    "GetFunctionConcurrency": Rpc(*_CONCURRENCY, _reserved),
    "DeleteFunctionConcurrency": Rpc(*_CONCURRENCY, _nothing),
    "PutProvisionedConcurrencyConfig": Rpc(*_CONCURRENCY, lambda answer: provisioned_from_proto(answer.config)),
    "GetProvisionedConcurrencyConfig": Rpc(*_CONCURRENCY, lambda answer: provisioned_from_proto(answer.config)),
    "ListProvisionedConcurrencyConfigs": Rpc(
        *_CONCURRENCY, lambda answer: [provisioned_from_proto(one) for one in answer.configs], True
    ),
    "DeleteProvisionedConcurrencyConfig": Rpc(*_CONCURRENCY, _nothing),
    "InvokeAsync": Rpc(invocations_pb2_grpc.InvocationServiceStub, invocations_pb2, lambda answer: answer.request_id),
    "PutEventInvokeConfig": Rpc(*_EVENTS, lambda answer: event_config_from_proto(answer.config)),
    "UpdateEventInvokeConfig": Rpc(*_EVENTS, lambda answer: event_config_from_proto(answer.config)),
    "GetEventInvokeConfig": Rpc(*_EVENTS, lambda answer: event_config_from_proto(answer.config)),
    "ListEventInvokeConfigs": Rpc(
        *_EVENTS, lambda answer: [event_config_from_proto(one) for one in answer.configs], True
    ),
    "DeleteEventInvokeConfig": Rpc(*_EVENTS, _nothing),
    "ListQueuedEvents": Rpc(*_EVENTS, lambda answer: [queued_from_proto(one) for one in answer.events], True),
    "GetAccountSettings": Rpc(*_CONCURRENCY, account_from_proto),
    "ImportCode": Rpc(
        code_pb2_grpc.CodeServiceStub, code_pb2, lambda answer: answer.code_blob.removeprefix("blobs/"), slow=True
    ),
    **STORED,
    **ATTACHED,
}
