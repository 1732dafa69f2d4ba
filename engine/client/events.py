"""Asynchronous events: the parts of AsyncCalls and Client about them."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from typing import TypeVar, Unpack

from engine.client import event_calls as calls
from engine.client.event_calls import EventInvokeOptions
from engine.client.resource_calls import Call
from engine.client.results import InvokeOptions
from engine.model.events import EventInvokeConfig, QueuedEvent

T = TypeVar("T")


class AsyncEventCalls(abc.ABC):
    """Every call raises EngineError for what the engine refuses; `name` may be a name or an ARN."""

    @abc.abstractmethod
    async def _make(self, call: Call[T]) -> T: ...

    @abc.abstractmethod
    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call again where it is throttled."""

    async def invoke_async(self, name: str, event: object = None, **options: Unpack[InvokeOptions]) -> str:
        """Have a function run later, at least once; returns the request id once the event is safe. Raises NotFound,
        NotInvocable, PayloadTooLarge, InvalidPayload, QueueFull."""
        call = calls.invoke_async(name, event, options)
        return await self._retrying(lambda: self._make(call))

    async def put_event_invoke_config(
        self, name: str, *, qualifier: str | None = None, **options: Unpack[EventInvokeOptions]
    ) -> EventInvokeConfig:
        """Set how the events of a function, a version or an alias are delivered. Raises NotFound, InvalidArgument."""
        return await self._make(calls.put_config(name, qualifier, options))

    async def update_event_invoke_config(
        self, name: str, *, qualifier: str | None = None, **options: Unpack[EventInvokeOptions]
    ) -> EventInvokeConfig:
        """Change what is given. Raises NotFound, InvalidArgument."""
        return await self._make(calls.update_config(name, qualifier, options))

    async def get_event_invoke_config(self, name: str, *, qualifier: str | None = None) -> EventInvokeConfig:
        """Raises NotFound."""
        return await self._make(calls.get_config(name, qualifier))

    async def list_event_invoke_configs(self, name: str) -> list[EventInvokeConfig]:
        """Those of a function, its versions and its aliases. Raises NotFound."""
        return await self._make(calls.list_configs(name))

    async def delete_event_invoke_config(self, name: str, *, qualifier: str | None = None) -> None:
        """Raises NotFound."""
        await self._make(calls.delete_config(name, qualifier))

    async def list_queued_events(self, name: str = "") -> list[QueuedEvent]:
        """What was accepted and is not done with, of a function or of all, in the order of acceptance."""
        return await self._make(calls.list_queued(name))


class EventCalls(abc.ABC):
    """The same for callers without an event loop."""

    @abc.abstractmethod
    def _make(self, call: Call[T]) -> T: ...

    def invoke_async(self, name: str, event: object = None, **options: Unpack[InvokeOptions]) -> str:
        """See AsyncEventCalls.invoke_async."""
        return self._make(calls.invoke_async(name, event, options))

    def put_event_invoke_config(
        self, name: str, *, qualifier: str | None = None, **options: Unpack[EventInvokeOptions]
    ) -> EventInvokeConfig:
        """See AsyncEventCalls.put_event_invoke_config."""
        return self._make(calls.put_config(name, qualifier, options))

    def update_event_invoke_config(
        self, name: str, *, qualifier: str | None = None, **options: Unpack[EventInvokeOptions]
    ) -> EventInvokeConfig:
        """See AsyncEventCalls.update_event_invoke_config."""
        return self._make(calls.update_config(name, qualifier, options))

    def get_event_invoke_config(self, name: str, *, qualifier: str | None = None) -> EventInvokeConfig:
        """See AsyncEventCalls.get_event_invoke_config."""
        return self._make(calls.get_config(name, qualifier))

    def list_event_invoke_configs(self, name: str) -> list[EventInvokeConfig]:
        """See AsyncEventCalls.list_event_invoke_configs."""
        return self._make(calls.list_configs(name))

    def delete_event_invoke_config(self, name: str, *, qualifier: str | None = None) -> None:
        """See AsyncEventCalls.delete_event_invoke_config."""
        self._make(calls.delete_config(name, qualifier))

    def list_queued_events(self, name: str = "") -> list[QueuedEvent]:
        """See AsyncEventCalls.list_queued_events."""
        return self._make(calls.list_queued(name))
