"""EventSourceService: event source mappings over engine.registry.mappings.

A settings message is AWS's document by the JSON names of its fields, so that none is named here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from engine.errors import InvalidArgument
from engine.model.names import function_arn, parse_aws_name, parse_resource_name
from engine.registry.api import Registry
from engine.registry.mappings import RESOURCE_NAME, EventSourceMapping, EventSourceMappings
from engine.rpc import pages
from engine.rpc.calls import Method
from engine.rpc.convert import timestamp
from engine.rpc.names import unowned
from engine.v1 import event_sources_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["EventSourceService"]

_MOMENT = "StartingPositionTimestamp"
_SETTINGS = pb.EventSourceSettings.DESCRIPTOR.fields_by_name
_PATHS = ("function", "enabled", *(f"settings.{name}" for name in _SETTINGS))
_OTHER = frozenset(pb.EventSourceMapping.DESCRIPTOR.fields_by_name) - {"function", "enabled", "settings"}


class EventSourceService:
    """Makes, reads and changes mappings."""

    def __init__(self, registry: Registry, mappings: EventSourceMappings, *, region: str, account: str) -> None:
        self._registry = registry
        self._mappings = mappings
        self._region = region
        self._account = account

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "CreateEventSourceMapping": self.create,
            "GetEventSourceMapping": self.get,
            "ListEventSourceMappings": self.list,
            "UpdateEventSourceMapping": self.update,
            "DeleteEventSourceMapping": self.delete,
        }

    async def create(self, request: pb.CreateEventSourceMappingRequest) -> pb.CreateEventSourceMappingResponse:
        """Make a mapping."""
        wanted = request.event_source_mapping
        settings = _settings(wanted.settings, [field.name for field, _ in wanted.settings.ListFields()])
        if wanted.event_source_arn:
            settings["EventSourceArn"] = wanted.event_source_arn
        enabled = wanted.enabled if wanted.HasField("enabled") else True
        made = await self._mappings.create(
            self._function(wanted.function), settings, enabled=enabled, tags=dict(request.tags)
        )
        return pb.CreateEventSourceMappingResponse(event_source_mapping=_proto(made))

    async def get(self, request: pb.GetEventSourceMappingRequest) -> pb.GetEventSourceMappingResponse:
        """Read one."""
        return pb.GetEventSourceMappingResponse(event_source_mapping=_proto(self._mappings.get(_id(request.name))))

    async def list(self, request: pb.ListEventSourceMappingsRequest) -> pb.ListEventSourceMappingsResponse:
        """List a page of them."""
        whose = ""
        if request.function:
            whose = function_arn(self._region, self._account, parse_resource_name(request.function))
        ids = self._mappings.ids(source_arn=request.event_source_arn, function_arn=whose)
        here, token = pages.page_of(ids, request.page_size, request.page_token)
        found = [_proto(self._mappings.get(one)) for one in here]
        return pb.ListEventSourceMappingsResponse(event_source_mappings=found, next_page_token=token)

    async def update(self, request: pb.UpdateEventSourceMappingRequest) -> pb.UpdateEventSourceMappingResponse:
        """Change what the mask selects."""
        wanted = request.event_source_mapping
        mapping_id = _id(wanted.name)
        self._mappings.get(mapping_id)
        chosen = _selected(request.update_mask.paths, wanted)
        names = [path.removeprefix("settings.") for path in chosen if path.startswith("settings.")]
        after = await self._mappings.update(
            mapping_id,
            _settings(wanted.settings, names),
            enabled=wanted.enabled if "enabled" in chosen else None,
            function_arn=self._function(wanted.function) if "function" in chosen else "",
        )
        return pb.UpdateEventSourceMappingResponse(event_source_mapping=_proto(after))

    async def delete(self, request: pb.DeleteEventSourceMappingRequest) -> pb.DeleteEventSourceMappingResponse:
        """Remove one."""
        was = await self._mappings.delete(_id(request.name))
        return pb.DeleteEventSourceMappingResponse(event_source_mapping=_proto(was))

    def _function(self, resource_name: str) -> str:
        """The ARN of what is there. Raises NotFound, InvalidArgument."""
        ref = parse_resource_name(resource_name)
        self._registry.get(ref)
        return function_arn(self._region, self._account, ref)


def _id(resource_name: str) -> str:
    return unowned(resource_name, RESOURCE_NAME, "eventSourceMappings/{uuid}")


def _proto(mapping: EventSourceMapping) -> pb.EventSourceMapping:
    settings = dict(mapping.settings)
    moment = settings.pop(_MOMENT, None)
    message = ParseDict(settings, pb.EventSourceSettings(), ignore_unknown_fields=True)
    if moment is not None:
        message.starting_position_timestamp.CopyFrom(timestamp(datetime.fromtimestamp(moment, UTC)))
    return pb.EventSourceMapping(
        name=f"eventSourceMappings/{mapping.mapping_id}",
        function=parse_aws_name(mapping.function_arn).resource_name(),
        event_source_arn=settings.get("EventSourceArn", ""),
        state=pb.EventSourceMappingState.Value(f"EVENT_SOURCE_MAPPING_STATE_{mapping.state.name}"),
        state_reason=mapping.state_reason,
        last_processing_result=mapping.last_result,
        update_time=timestamp(mapping.update_time),
        arn=mapping.arn,
        settings=message,
    )


def _settings(message: pb.EventSourceSettings, names: Iterable[str]) -> dict[str, Any]:
    """The chosen settings by AWS's names; those that are not set are empty, which takes them away. Raises
    InvalidArgument for one that cannot be empty."""
    document = MessageToDict(message)
    found: dict[str, Any] = {}
    for name in names:
        field = _SETTINGS[name]
        if field.json_name == _MOMENT:
            found[_MOMENT] = message.starting_position_timestamp.ToDatetime(UTC)
        elif field.json_name in document:
            found[field.json_name] = document[field.json_name]
        elif field.is_repeated:
            found[field.json_name] = []
        elif field.message_type is not None:
            found[field.json_name] = {}
        elif field.type == field.TYPE_STRING:
            found[field.json_name] = ""
        else:
            raise InvalidArgument(
                f"settings.{name} is in the update_mask and has no value",
                fix="give it one, or leave it out of the mask",
                fields={f"settings.{name}": "has no value"},
            )
    return found


def _selected(paths: Iterable[str], wanted: pb.EventSourceMapping) -> Iterable[str]:
    """What the paths of a mask choose. Raises InvalidArgument that names each path that is none."""
    paths = list(paths)
    if not paths:
        given = [f"settings.{field.name}" for field, _ in wanted.settings.ListFields()]
        given += ["function"] if wanted.function else []
        return given + (["enabled"] if wanted.HasField("enabled") else [])
    unknown = ", ".join(repr(path) for path in paths if path not in _PATHS and path not in _OTHER)
    if unknown:
        raise InvalidArgument(
            f"update_mask names what a mapping does not have: {unknown}",
            fix="use function, enabled and settings.{field}",
            fields={"update_mask": f"unknown: {unknown}"},
        )
    return paths
