"""EventService: how asynchronous events are delivered, and those that wait."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from engine.errors import InvalidArgument
from engine.events.room import Events
from engine.model.events import EventInvokeChange, EventInvokeConfig, QueuedEvent
from engine.model.names import FunctionRef, function_arn, parse_resource_name
from engine.registry.api import Registry
from engine.rpc import pages
from engine.rpc.calls import Method
from engine.rpc.convert import timestamp
from engine.rpc.names import whole_function
from engine.v1 import events_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["EventService"]

CHANGEABLE = ("maximum_retry_attempts", "maximum_event_age_s", "on_success", "on_failure")
ALL_FUNCTIONS = "functions/-"


class EventService:
    """Sets and reads configurations; lists what waits."""

    def __init__(self, registry: Registry, events: Events, *, region: str, account: str) -> None:
        self._registry = registry
        self._events = events
        self._configs = events.configs
        self._region = region
        self._account = account

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {
            "PutEventInvokeConfig": self.put,
            "UpdateEventInvokeConfig": self.update,
            "GetEventInvokeConfig": self.get,
            "ListEventInvokeConfigs": self.list,
            "DeleteEventInvokeConfig": self.delete,
            "ListQueuedEvents": self.queued,
        }

    async def put(self, request: pb.PutEventInvokeConfigRequest) -> pb.PutEventInvokeConfigResponse:
        """Set one."""
        config = request.config
        found = await self._configs.put(parse_resource_name(config.name), _change(config, _given(config)))
        return pb.PutEventInvokeConfigResponse(config=self._proto(found))

    async def update(self, request: pb.UpdateEventInvokeConfigRequest) -> pb.UpdateEventInvokeConfigResponse:
        """Change what the mask selects."""
        config = request.config
        chosen = _selected(request.update_mask.paths, config)
        found = await self._configs.update(parse_resource_name(config.name), _change(config, chosen))
        return pb.UpdateEventInvokeConfigResponse(config=self._proto(found))

    async def get(self, request: pb.GetEventInvokeConfigRequest) -> pb.GetEventInvokeConfigResponse:
        """Read one."""
        return pb.GetEventInvokeConfigResponse(config=self._proto(self._configs.get(self._there(request.name))))

    async def list(self, request: pb.ListEventInvokeConfigsRequest) -> pb.ListEventInvokeConfigsResponse:
        """List a page of them."""
        found = list(self._configs.of(whole_function(request.parent, "parent")).items())
        limit = pages.page_limit(request.page_size)
        start = bisect_right([key for key, _ in found], pages.page_start(request.page_token))
        here = found[start : start + limit]
        after = here[-1][0] if start + limit < len(found) else ""
        return pb.ListEventInvokeConfigsResponse(
            configs=[self._proto(config) for _, config in here], next_page_token=pages.page_token(after)
        )

    async def delete(self, request: pb.DeleteEventInvokeConfigRequest) -> pb.DeleteEventInvokeConfigResponse:
        """Remove one."""
        await self._configs.delete(self._there(request.name))
        return pb.DeleteEventInvokeConfigResponse()

    async def queued(self, request: pb.ListQueuedEventsRequest) -> pb.ListQueuedEventsResponse:
        """List a page of the queue."""
        name = "" if request.parent == ALL_FUNCTIONS else whole_function(request.parent, "parent")
        if name:
            self._registry.get(FunctionRef(name))
        after = pages.page_start(request.page_token)
        events, more = self._events.queued(
            name, limit=pages.page_limit(request.page_size), after=int(after) if after.isdecimal() else 0
        )
        return pb.ListQueuedEventsResponse(
            events=map(queued_to_proto, events), next_page_token=pages.page_token(str(more) if more else "")
        )

    def _there(self, resource_name: str) -> FunctionRef:
        ref = parse_resource_name(resource_name)
        self._registry.get(ref)
        return ref

    def _proto(self, config: EventInvokeConfig) -> pb.EventInvokeConfig:
        ref = FunctionRef(config.function_name, config.qualifier)
        return pb.EventInvokeConfig(
            name=ref.resource_name(),
            maximum_retry_attempts=config.maximum_retry_attempts,
            maximum_event_age_s=config.maximum_event_age_s,
            on_success=config.on_success,
            on_failure=config.on_failure,
            update_time=timestamp(datetime.fromtimestamp(config.update_time, UTC)),
            arn=function_arn(self._region, self._account, ref),
        )


def queued_to_proto(event: QueuedEvent) -> pb.QueuedEvent:
    """One event of the queue."""
    message = pb.QueuedEvent(
        request_id=event.request_id,
        name=FunctionRef(event.function_name, event.qualifier).resource_name(),
        failed_attempts=event.failed_attempts,
        size_bytes=event.size_bytes,
        running=event.running,
        last_error=event.last_error,
    )
    message.accept_time.FromMicroseconds(event.accepted_us)
    if event.due_us:
        message.due_time.FromMicroseconds(event.due_us)
    return message


def _given(config: pb.EventInvokeConfig) -> list[str]:
    return [field.name for field, _ in config.ListFields() if field.name in CHANGEABLE]


def _selected(paths: Iterable[str], config: pb.EventInvokeConfig) -> list[str]:
    """What the paths of a mask choose. Raises InvalidArgument that names each path that is none."""
    paths = list(paths)
    if not paths:
        return _given(config)
    unknown = ", ".join(repr(path) for path in paths if path not in CHANGEABLE)
    if unknown:
        raise InvalidArgument(
            f"update_mask names what cannot be changed: {unknown}",
            fix=f"use {', '.join(CHANGEABLE)}",
            fields={"update_mask": f"not one of them: {unknown}"},
        )
    cleared = [path for path in CHANGEABLE[:2] if path in paths and not config.HasField(path)]  # type: ignore[arg-type]
    if cleared:
        raise InvalidArgument(
            f"{', '.join(cleared)} is selected and has no value",
            fix="give a value, or put the whole configuration again without it",
            fields={f"config.{path}": "must be set" for path in cleared},
        )
    return paths


def _change(config: pb.EventInvokeConfig, chosen: list[str]) -> EventInvokeChange:
    return EventInvokeChange(**{name: getattr(config, name) for name in chosen})
