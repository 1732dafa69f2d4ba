"""The calls of engine.client.stored_calls as RPCs of engine.v1: how a request is made, what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from engine.client.rpcs import Rpc
from engine.errors import InvalidArgument
from engine.model.names import function_arn, parse_resource_name
from engine.registry.mappings import EventSourceMapping, MappingState
from engine.registry.sources import source_of
from engine.v1 import (
    code_signing_pb2,
    code_signing_pb2_grpc,
    event_sources_pb2,
    event_sources_pb2_grpc,
    function_settings_pb2,
    function_settings_pb2_grpc,
)

_MOMENT = "StartingPositionTimestamp"
_FIELDS = event_sources_pb2.EventSourceSettings.DESCRIPTOR.fields
_SCALING = {
    "MinExecutionEnvironments": "min_execution_environments",
    "MaxExecutionEnvironments": "max_execution_environments",
}


def mapping_from_proto(message: event_sources_pb2.EventSourceMapping) -> EventSourceMapping:
    """The whole resource."""
    settings = MessageToDict(message.settings)
    if message.event_source_arn:
        settings["EventSourceArn"] = message.event_source_arn
    if message.settings.HasField("starting_position_timestamp"):
        settings[_MOMENT] = message.settings.starting_position_timestamp.ToDatetime(UTC).timestamp()
    region, account = message.arn.split(":")[3:5]
    state = event_sources_pb2.EventSourceMappingState.Name(message.state)
    return EventSourceMapping(
        mapping_id=message.name.removeprefix("eventSourceMappings/"),
        arn=message.arn,
        function_arn=function_arn(region, account, parse_resource_name(message.function)),
        source=source_of(settings).name,
        state=MappingState[state.removeprefix("EVENT_SOURCE_MAPPING_STATE_")],
        state_reason=message.state_reason,
        update_time=message.update_time.ToDatetime(UTC),
        last_result=message.last_processing_result,
        settings=settings,
    )


def signing_from_proto(message: code_signing_pb2.CodeSigningConfig) -> Mapping[str, Any]:
    """AWS's document."""
    enforces = message.untrusted_artifact == code_signing_pb2.UNTRUSTED_ARTIFACT_ENFORCE
    return {
        "CodeSigningConfigId": message.name.removeprefix("codeSigningConfigs/"),
        "CodeSigningConfigArn": message.arn,
        **({"Description": message.description} if message.description else {}),
        "AllowedPublishers": {"SigningProfileVersionArns": list(message.signing_profile_version_arns)},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce" if enforces else "Warn"},
        "LastModified": message.last_modified,
    }


def _create_mapping(fields: Mapping[str, Any]) -> event_sources_pb2.CreateEventSourceMappingRequest:
    return event_sources_pb2.CreateEventSourceMappingRequest(
        event_source_mapping=_mapping(fields["mapping"], fields["settings"]), tags=fields["tags"]
    )


def _update_mapping(fields: Mapping[str, Any]) -> event_sources_pb2.UpdateEventSourceMappingRequest:
    settings = fields["settings"]
    paths = [f"settings.{field.name}" for field in _FIELDS if field.json_name in settings]
    paths += [name for name in ("function", "enabled") if name in fields["mapping"]]
    return event_sources_pb2.UpdateEventSourceMappingRequest(
        event_source_mapping=_mapping(fields["mapping"], settings),
        update_mask=FieldMask(paths=paths or ["name"]),  # an empty mask would mean whatever is set
    )


def _mapping(given: Mapping[str, Any], settings: Mapping[str, Any]) -> event_sources_pb2.EventSourceMapping:
    document = {name: value for name, value in settings.items() if name != _MOMENT}
    try:
        message = ParseDict(document, event_sources_pb2.EventSourceSettings())
    except ParseError as error:
        raise InvalidArgument(
            f"the settings of an event source cannot be used: {error}", fix="use AWS's names and values"
        ) from None
    if isinstance(moment := settings.get(_MOMENT), datetime):
        message.starting_position_timestamp.FromDatetime(moment)
    return event_sources_pb2.EventSourceMapping(**given, settings=message)


def _create_signing(fields: Mapping[str, Any]) -> code_signing_pb2.CreateCodeSigningConfigRequest:
    config, _ = _signing("", fields["settings"])
    return code_signing_pb2.CreateCodeSigningConfigRequest(code_signing_config=config, tags=fields["tags"])


def _update_signing(fields: Mapping[str, Any]) -> code_signing_pb2.UpdateCodeSigningConfigRequest:
    config, paths = _signing(fields["name"], fields["settings"])
    return code_signing_pb2.UpdateCodeSigningConfigRequest(
        code_signing_config=config, update_mask=FieldMask(paths=paths or ["name"])
    )


def _signing(name: str, settings: Mapping[str, Any]) -> tuple[code_signing_pb2.CodeSigningConfig, list[str]]:
    config, paths = code_signing_pb2.CodeSigningConfig(name=name), []
    if "AllowedPublishers" in settings:
        config.signing_profile_version_arns.extend(settings["AllowedPublishers"]["SigningProfileVersionArns"])
        paths.append("signing_profile_version_arns")
    if "CodeSigningPolicies" in settings:
        policy = settings["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"]
        config.untrusted_artifact = code_signing_pb2.UntrustedArtifact.Value(f"UNTRUSTED_ARTIFACT_{policy.upper()}")
        paths.append("untrusted_artifact")
    if "Description" in settings:
        config.description = settings["Description"]
        paths.append("description")
    return config, paths


def _put_recursion(fields: Mapping[str, Any]) -> function_settings_pb2.PutFunctionRecursionConfigRequest:
    loops = {"Terminate": "RECURSIVE_LOOP_TERMINATE", "Allow": "RECURSIVE_LOOP_ALLOW"}
    return function_settings_pb2.PutFunctionRecursionConfigRequest(
        name=fields["name"],
        recursive_loop=function_settings_pb2.RecursiveLoop.Value(_one_of(loops, fields["recursive_loop"])),
    )


_MODES = {
    "Auto": "UPDATE_RUNTIME_ON_AUTO",
    "FunctionUpdate": "UPDATE_RUNTIME_ON_FUNCTION_UPDATE",
    "Manual": "UPDATE_RUNTIME_ON_MANUAL",
}


def _put_runtime(fields: Mapping[str, Any]) -> function_settings_pb2.PutRuntimeManagementConfigRequest:
    mode = _one_of(_MODES, fields["config"]["update_runtime_on"])
    return function_settings_pb2.PutRuntimeManagementConfigRequest(
        name=fields["name"],
        config=function_settings_pb2.RuntimeManagementConfig(
            update_runtime_on=function_settings_pb2.UpdateRuntimeOn.Value(mode),
            runtime_version_arn=fields["config"]["runtime_version_arn"],
        ),
    )


def _put_scaling(fields: Mapping[str, Any]) -> function_settings_pb2.PutFunctionScalingConfigRequest:
    given = {_SCALING[name]: value for name, value in fields["wanted"].items()}
    wanted = function_settings_pb2.FunctionScalingConfig(**given) if given else None
    return function_settings_pb2.PutFunctionScalingConfigRequest(name=fields["name"], requested=wanted)


def _one_of(values: Mapping[str, str], value: str) -> str:
    if value not in values:
        raise InvalidArgument(f"{value!a} is none of {', '.join(values)}", fix="use one of them")
    return values[value]


def _loop(message: Any) -> str:
    name = function_settings_pb2.RecursiveLoop.Name(message.recursive_loop)
    return name.removeprefix("RECURSIVE_LOOP_").capitalize()


def _runtime(message: Any) -> Mapping[str, Any]:
    name = function_settings_pb2.UpdateRuntimeOn.Name(message.config.update_runtime_on)
    mode = next(mode for mode, value in _MODES.items() if value == name)
    arn = message.config.runtime_version_arn
    return {"UpdateRuntimeOn": mode, **({"RuntimeVersionArn": arn} if arn else {})}


def _scaling(message: Any) -> Mapping[str, Any] | None:
    if not message.HasField("requested"):
        return None
    wanted = message.requested
    return {name: getattr(wanted, field) for name, field in _SCALING.items() if wanted.HasField(field)}


def _nothing(message: Any) -> None:
    return None


def _one_mapping(message: Any) -> EventSourceMapping:
    return mapping_from_proto(message.event_source_mapping)


def _one_config(message: Any) -> Mapping[str, Any]:
    return signing_from_proto(message.code_signing_config)


_SOURCES = (event_sources_pb2_grpc.EventSourceServiceStub, event_sources_pb2)
_SIGNING = (code_signing_pb2_grpc.CodeSigningServiceStub, code_signing_pb2)
_SETTINGS = (function_settings_pb2_grpc.FunctionSettingsServiceStub, function_settings_pb2)

STORED: dict[str, Rpc] = {
    "CreateEventSourceMapping": Rpc(*_SOURCES, _one_mapping, make=_create_mapping),
    "GetEventSourceMapping": Rpc(*_SOURCES, _one_mapping),
    "ListEventSourceMappings": Rpc(
        *_SOURCES, lambda answer: [mapping_from_proto(one) for one in answer.event_source_mappings], True
    ),
    "UpdateEventSourceMapping": Rpc(*_SOURCES, _one_mapping, make=_update_mapping),
    "DeleteEventSourceMapping": Rpc(*_SOURCES, _one_mapping),
    "CreateCodeSigningConfig": Rpc(*_SIGNING, _one_config, make=_create_signing),
    "GetCodeSigningConfig": Rpc(*_SIGNING, _one_config),
    "ListCodeSigningConfigs": Rpc(
        *_SIGNING, lambda answer: [signing_from_proto(one) for one in answer.code_signing_configs], True
    ),
    "UpdateCodeSigningConfig": Rpc(*_SIGNING, _one_config, make=_update_signing),
    "DeleteCodeSigningConfig": Rpc(*_SIGNING, _nothing),
    "ListFunctionsByCodeSigningConfig": Rpc(
        *_SIGNING, lambda answer: [name.removeprefix("functions/") for name in answer.functions], True
    ),
    "PutFunctionCodeSigningConfig": Rpc(*_SIGNING, _nothing),
    "GetFunctionCodeSigningConfig": Rpc(
        *_SIGNING, lambda answer: answer.code_signing_config.removeprefix("codeSigningConfigs/")
    ),
    "DeleteFunctionCodeSigningConfig": Rpc(*_SIGNING, _nothing),
    "PutFunctionRecursionConfig": Rpc(*_SETTINGS, _loop, make=_put_recursion),
    "GetFunctionRecursionConfig": Rpc(*_SETTINGS, _loop),
    "PutRuntimeManagementConfig": Rpc(*_SETTINGS, _runtime, make=_put_runtime),
    "GetRuntimeManagementConfig": Rpc(*_SETTINGS, _runtime),
    "PutFunctionScalingConfig": Rpc(*_SETTINGS, _nothing, make=_put_scaling),
    "GetFunctionScalingConfig": Rpc(*_SETTINGS, _scaling),
}
