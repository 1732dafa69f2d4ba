"""The calls about asynchronous events, each as one value: see engine.client.resource_calls."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypedDict

from engine.client.resource_calls import Call
from engine.client.results import InvokeOptions, ref_of, request_of
from engine.model.events import EventInvokeChange, EventInvokeConfig, QueuedEvent

if TYPE_CHECKING:
    from engine.events.room import Events  # only an engine in this process has one

_ALL = sys.maxsize - 1
_ROOM = "events"


class EventInvokeOptions(TypedDict, total=False):
    """How events are delivered; what is not given is as it is, or on a put the default."""

    maximum_retry_attempts: int  # 0 to 2
    maximum_event_age_s: int  # 60 to 21,600
    on_success: str  # ARNs; "": none
    on_failure: str


def invoke_async(name: str, event: object, options: InvokeOptions) -> Call[str]:
    """See AsyncEventCalls."""
    request = request_of(name, event, options, log=False)
    if request.timeline or request.identity is not None:
        raise TypeError("an asynchronous invocation has no timeline and no identity")
    fields = {
        "name": request.ref.resource_name(),
        "payload": request.payload,
        "request_id": request.request_id,
        "client_context": request.client_context,
        "tenant_id": request.tenant_id,
        "payload_encoding": "PAYLOAD_ENCODING_RAW" if request.raw else "PAYLOAD_ENCODING_JSON",
    }

    async def local(events: Events) -> str:
        return await events.enqueue(request)

    return Call("InvokeAsync", fields, local, _ROOM)


def put_config(name: str, qualifier: str | None, options: EventInvokeOptions) -> Call[EventInvokeConfig]:
    """See AsyncEventCalls."""
    ref = ref_of(name, qualifier)
    change = _change(options)

    async def local(events: Events) -> EventInvokeConfig:
        return await events.configs.put(ref, change)

    return Call("PutEventInvokeConfig", {"config": {"name": ref.resource_name(), **options}}, local, _ROOM)


def update_config(name: str, qualifier: str | None, options: EventInvokeOptions) -> Call[EventInvokeConfig]:
    """See AsyncEventCalls."""
    ref = ref_of(name, qualifier)
    change = _change(options)

    async def local(events: Events) -> EventInvokeConfig:
        return await events.configs.update(ref, change)

    config = {"name": ref.resource_name(), **options}
    return Call("UpdateEventInvokeConfig", {"config": config, "update_mask": {"paths": list(options)}}, local, _ROOM)


def get_config(name: str, qualifier: str | None) -> Call[EventInvokeConfig]:
    """See AsyncEventCalls."""
    ref = ref_of(name, qualifier)

    async def local(events: Events) -> EventInvokeConfig:
        return events.configs.get(ref)

    return Call("GetEventInvokeConfig", {"name": ref.resource_name()}, local, _ROOM)


def list_configs(name: str) -> Call[list[EventInvokeConfig]]:
    """See AsyncEventCalls."""
    function = ref_of(name).name

    async def local(events: Events) -> list[EventInvokeConfig]:
        return list(events.configs.of(function).values())

    return Call("ListEventInvokeConfigs", {"parent": f"functions/{function}"}, local, _ROOM)


def delete_config(name: str, qualifier: str | None) -> Call[None]:
    """See AsyncEventCalls."""
    ref = ref_of(name, qualifier)

    async def local(events: Events) -> None:
        await events.configs.delete(ref)

    return Call("DeleteEventInvokeConfig", {"name": ref.resource_name()}, local, _ROOM)


def list_queued(name: str) -> Call[list[QueuedEvent]]:
    """See AsyncEventCalls."""
    function = ref_of(name).name if name else ""

    async def local(events: Events) -> list[QueuedEvent]:
        return events.queued(function, limit=_ALL)[0]

    return Call("ListQueuedEvents", {"parent": f"functions/{function or '-'}"}, local, _ROOM)


def _change(options: EventInvokeOptions) -> EventInvokeChange:
    given: dict[str, Any] = dict(options)
    if unknown := given.keys() - EventInvokeOptions.__annotations__.keys():
        raise TypeError(f"there is no {', '.join(sorted(unknown))}; see EventInvokeOptions")
    return EventInvokeChange(**given)
