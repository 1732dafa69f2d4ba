"""The settings of asynchronous invocation, in AWS's words: retries, the age of an event, destinations.

What they may be is engine.events.configs', and what they do engine.events.delivery's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import InvalidArgument, NotFound
from engine.model.events import EventInvokeChange, EventInvokeConfig
from engine.model.names import FunctionRef
from engine.rest.messages import Request
from engine.rest.paging import page
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

PAGE_MAX = 50


class EventInvokeConfigs:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._events = rooms.events
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "DeleteFunctionEventInvokeConfig": self.delete,
            "GetFunctionEventInvokeConfig": self.get,
            "ListFunctionEventInvokeConfigs": self.list,
            "PutFunctionEventInvokeConfig": self.put,
            "UpdateFunctionEventInvokeConfig": self.update,
        }

    async def put(self, params: Params, request: Request) -> dict[str, Any]:
        """PutFunctionEventInvokeConfig: nothing of what was there is kept."""
        ref = self._target(params)
        return self._written(await _in_aws_words(self._events.configs.put(ref, _change(params))))

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateFunctionEventInvokeConfig: only what is given changes."""
        ref = self._target(params)
        try:
            return self._written(await _in_aws_words(self._events.configs.update(ref, _change(params))))
        except NotFound:
            raise self._none(ref) from None

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionEventInvokeConfig."""
        ref = self._named.ref(params)
        try:
            return self._written(self._events.configs.get(ref))
        except NotFound:
            raise self._none(ref) from None

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListFunctionEventInvokeConfigs."""
        try:
            found = self._events.configs.of(self._named.ref(params).name)
        except NotFound:
            raise _no_function() from None
        keys, marker = page(sorted(found), params, most=PAGE_MAX)
        return {"FunctionEventInvokeConfigs": [self._written(found[key]) for key in keys], **marker}

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunctionEventInvokeConfig."""
        ref = self._named.ref(params)
        try:
            await self._events.configs.delete(ref)
        except NotFound:
            raise self._none(ref) from None
        return {}

    def _target(self, params: Params) -> FunctionRef:
        ref = self._named.ref(params)
        try:
            self._named.function(ref)
        except NotFound:
            raise _no_function() from None
        return ref

    def _written(self, config: EventInvokeConfig) -> dict[str, Any]:
        numbers = {
            "MaximumRetryAttempts": config.maximum_retry_attempts,
            "MaximumEventAgeInSeconds": config.maximum_event_age_s,
        }
        sides = {"OnSuccess": config.on_success, "OnFailure": config.on_failure}
        return {
            **{name: value for name, value in numbers.items() if value is not None},
            "LastModified": datetime.fromtimestamp(config.update_time, UTC),
            "FunctionArn": self._documents.arn(config.function_name, config.qualifier),
            "DestinationConfig": {side: {"Destination": arn} if arn else {} for side, arn in sides.items()},
        }

    def _none(self, ref: FunctionRef) -> NotFound:
        return NotFound(
            f"The function {self._documents.arn(ref.name, ref.qualifier)} doesn't have an EventInvokeConfig"
        )


def _change(params: Params) -> EventInvokeChange:
    """A DestinationConfig that is given is given as a whole."""
    destinations = params.get("DestinationConfig")
    on_success, on_failure = (
        None if destinations is None else destinations.get(side, {}).get("Destination", "")
        for side in ("OnSuccess", "OnFailure")
    )
    return EventInvokeChange(
        params.get("MaximumRetryAttempts"), params.get("MaximumEventAgeInSeconds"), on_success, on_failure
    )


async def _in_aws_words(write: Awaitable[EventInvokeConfig]) -> EventInvokeConfig:
    """Without what to do about it, which AWS does not say."""
    try:
        return await write
    except InvalidArgument as error:
        raise InvalidArgument(error.message, fields=error.fields) from None


def _no_function() -> NotFound:
    return NotFound("The function doesn't exist.")
