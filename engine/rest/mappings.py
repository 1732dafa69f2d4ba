"""CreateEventSourceMapping and its siblings, as AWS's clients call them.

What a mapping is, is engine.registry.mappings'. Guarantees AWS's own words for what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import InvalidArgument, NotFound
from engine.registry.mappings import EventSourceMapping, EventSourceMappings
from engine.rest.messages import Request
from engine.rest.paging import page
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

PAGE_MAX = 100
_NOT_SETTINGS = ("FunctionName", "Enabled", "Tags", "UUID")


class Mappings:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._documents = rooms.documents
        self._named = rooms.named
        self._mappings = EventSourceMappings(
            rooms.attached, region=rooms.documents.region, account=rooms.documents.account
        )

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "CreateEventSourceMapping": self.create,
            "DeleteEventSourceMapping": self.delete,
            "GetEventSourceMapping": self.get,
            "ListEventSourceMappings": self.list,
            "UpdateEventSourceMapping": self.update,
        }

    async def create(self, params: Params, request: Request) -> dict[str, Any]:
        """CreateEventSourceMapping."""
        made = await self._mappings.create(
            self._function_arn(params),
            _settings(params),
            enabled=params.get("Enabled", True),
            tags=params.get("Tags") or {},
        )
        return _written(made)

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetEventSourceMapping."""
        return _written(self._mappings.get(params["UUID"]))

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateEventSourceMapping: only what is given changes."""
        self._mappings.get(params["UUID"])
        after = await self._mappings.update(
            params["UUID"],
            _settings(params),
            enabled=params.get("Enabled"),
            function_arn=self._function_arn(params) if params.get("FunctionName") else "",
        )
        return _written(after)

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteEventSourceMapping."""
        return _written(await self._mappings.delete(params["UUID"]))

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListEventSourceMappings, of one source or one function where named."""
        whose = ""
        if params.get("FunctionName"):
            whose = self._documents.arn(self._named.ref(params).name, self._named.qualifier(params))
        ids = self._mappings.ids(source_arn=params.get("EventSourceArn") or "", function_arn=whose)
        here, marker = page(ids, params, most=PAGE_MAX)
        return {"EventSourceMappings": [_written(self._mappings.get(one)) for one in here], **marker}

    def _function_arn(self, params: Params) -> str:
        """The ARN as the client qualified it. Raises InvalidArgument."""
        try:
            ref = self._named.check(params)
        except NotFound:
            raise InvalidArgument("Function does not exist", fields={"FunctionName": "is not there"}) from None
        return self._documents.arn(ref.name, self._named.qualifier(params))


def _settings(params: Params) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in _NOT_SETTINGS}


def _written(mapping: EventSourceMapping) -> dict[str, Any]:
    written = {
        **mapping.settings,
        "UUID": mapping.mapping_id,
        "EventSourceMappingArn": mapping.arn,
        "FunctionArn": mapping.function_arn,
        "LastModified": mapping.update_time,
        "State": mapping.state.value,
        "StateTransitionReason": mapping.state_reason,
    }
    if mapping.last_result:
        written["LastProcessingResult"] = mapping.last_result
    if "StartingPositionTimestamp" in written:
        written["StartingPositionTimestamp"] = datetime.fromtimestamp(written["StartingPositionTimestamp"], UTC)
    return written
