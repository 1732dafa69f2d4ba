"""The settings of asynchronous invocation: retries, the age of an event, destinations. Stored and returned.

What delivers events is engine.invoke's. Each of a function's $LATEST, versions and aliases has settings of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import InvalidArgument, NotFound
from engine.model.function import LATEST
from engine.model.names import FunctionRef
from engine.registry.attached import Document
from engine.rest.messages import Request
from engine.rest.paging import page
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

KIND = "event-invoke"
PAGE_MAX = 50
_MEMBERS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
_DESTINATION = re.compile(r"arn:aws[a-zA-Z-]*:(lambda|sqs|sns|events|s3):.+")


class EventInvokeConfigs:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
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
        settings = self._settings(params, ref)
        await self._attached.put(KIND, ref.name, ref.qualifier, settings)
        return self._written(ref.name, ref.qualifier, settings)

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateFunctionEventInvokeConfig: only what is given changes."""
        ref = self._target(params)
        settings = self._settings(params, ref)

        def change(before: Document | None) -> Document:
            if before is None:
                raise self._none(ref)
            return {**before, **settings}

        after = await self._attached.change(KIND, ref.name, ref.qualifier, change)
        return self._written(ref.name, ref.qualifier, after or {})

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionEventInvokeConfig."""
        ref = self._named.ref(params)
        found = self._attached.get(KIND, ref.name, ref.qualifier)
        if found is None:
            raise self._none(ref)
        return self._written(ref.name, ref.qualifier, found)

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListFunctionEventInvokeConfigs."""
        name = self._named.ref(params).name
        if self._named.find(name) is None:
            raise NotFound("The function doesn't exist.")
        keys, marker = page(sorted(self._attached.of(KIND, name)), params, most=PAGE_MAX)
        found = self._attached.of(KIND, name)
        listed = {"FunctionEventInvokeConfigs": [self._written(name, key, found[key]) for key in keys]}
        return {**listed, **marker}

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunctionEventInvokeConfig."""
        ref = self._named.ref(params)
        if not await self._attached.delete(KIND, ref.name, ref.qualifier):
            raise self._none(ref)
        return {}

    def _target(self, params: Params) -> FunctionRef:
        ref = self._named.ref(params)
        try:
            self._named.function(ref)
        except NotFound:
            raise NotFound("The function doesn't exist.") from None
        return ref

    def _settings(self, params: Params, ref: FunctionRef) -> dict[str, Any]:
        settings = {name: params[name] for name in _MEMBERS if params.get(name) is not None}
        if not settings:
            raise InvalidArgument("You must specify at least one of error handling or destination setting.")
        for side in ("OnSuccess", "OnFailure"):
            destination = params.get("DestinationConfig", {}).get(side, {}).get("Destination", "")
            if destination:
                self._check_destination(destination, side, ref)
        return {**settings, "LastModified": datetime.now(UTC).timestamp()}

    def _check_destination(self, arn: str, side: str, ref: FunctionRef) -> None:
        found = _DESTINATION.fullmatch(arn)
        if found is None or (found[1] == "s3" and side == "OnSuccess"):
            given = {"OnSuccess": "null", "OnFailure": "null", side: f"{side}(destination={arn})"}
            raise InvalidArgument(
                f"The provided destination config DestinationConfig(onSuccess={given['OnSuccess']}, "
                f"onFailure={given['OnFailure']}) is invalid."
            )
        if found[1] != "lambda":
            return
        try:
            target = self._named.check({"FunctionName": arn})
        except (NotFound, InvalidArgument):
            raise InvalidArgument(f"The destination ARN {arn} is invalid.") from None
        if target.name == ref.name:
            raise InvalidArgument("You can't specify the function as a destination for itself.")

    def _written(self, name: str, qualifier: str, settings: Document) -> dict[str, Any]:
        destinations = settings.get("DestinationConfig", {})
        return {
            **settings,
            "LastModified": datetime.fromtimestamp(settings["LastModified"], UTC),
            "FunctionArn": self._documents.arn(name, qualifier or LATEST),
            "DestinationConfig": {side: destinations.get(side, {}) for side in ("OnSuccess", "OnFailure")},
        }

    def _none(self, ref: FunctionRef) -> NotFound:
        return NotFound(
            f"The function {self._documents.arn(ref.name, ref.qualifier)} doesn't have an EventInvokeConfig"
        )
