"""Event source mappings, stored: created, read, changed, listed, deleted, with their states.

Which settings a kind of source takes is engine.rest.sources'; nothing polls a source here. A mapping outlives its
function, as on AWS. States are those that clients wait for: Creating or Updating or Deleting in the answer to the
change, and what it leads to (Enabled, Disabled, gone) from the next read on.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import AlreadyExists, InvalidArgument, NotFound
from engine.registry.attached import Document
from engine.rest import sources, tags
from engine.rest.messages import Request
from engine.rest.paging import page
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

KIND = "event-source-mapping"
PAGE_MAX = 100
_NOT_KEPT = ("FunctionName", "Enabled", "Tags", "UUID")


class Mappings:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
        self._documents = rooms.documents
        self._named = rooms.named

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
        source = sources.source_of(params)
        function_arn = self._function_arn(params)
        mapping_id = str(uuid.uuid4())
        settings = sources.completed(
            source, {name: params[name] for name in params if name not in _NOT_KEPT}, mapping_id
        )
        found_tags = tags.checked(params.get("Tags") or {})
        mapping = {
            **_plain(settings),
            "FunctionArn": function_arn,
            "State": "Enabled" if params.get("Enabled", True) else "Disabled",
            "Source": source.name,
            "LastModified": datetime.now(UTC).timestamp(),
        }

        def change(before: Document | None) -> Document:
            # Inside of the write, so that of two at once one is the duplicate.
            for _, key, other in self._attached.all(KIND):
                if sources.is_same(mapping, other):
                    raise AlreadyExists(sources.duplicate_text(source, mapping, key))
            return mapping

        await self._attached.change(KIND, "", mapping_id, change)
        await tags.set_tags(self._attached, found_tags, "", f"{KIND}:{mapping_id}")
        return self._written(mapping_id, mapping, "Creating")

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetEventSourceMapping."""
        return self._written(params["UUID"], self._mapping(params["UUID"]))

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateEventSourceMapping: only what is given changes."""
        mapping_id = params["UUID"]
        self._mapping(mapping_id)
        function_arn = self._function_arn(params) if params.get("FunctionName") else ""

        def change(before: Document | None) -> Document:
            if before is None:
                raise _none()
            given = _plain({name: value for name, value in params.items() if name not in _NOT_KEPT})
            source = sources.BY_NAME[before["Source"]]
            sources.check(source, {**before, **given}, given)
            after = {**before, **given, "LastModified": datetime.now(UTC).timestamp()}
            if function_arn:
                after["FunctionArn"] = function_arn
            if params.get("Enabled") is not None:
                after["State"] = "Enabled" if params["Enabled"] else "Disabled"
            return after

        after = await self._attached.change(KIND, "", mapping_id, change) or {}
        state = {True: "Enabling", False: "Disabling", None: "Updating"}[params.get("Enabled")]
        return self._written(mapping_id, after, state)

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteEventSourceMapping."""
        mapping_id = params["UUID"]
        mapping = self._mapping(mapping_id)
        if not await self._attached.delete(KIND, "", mapping_id):
            raise _none()
        await self._attached.delete(tags.KIND, "", f"{KIND}:{mapping_id}")
        return self._written(mapping_id, mapping, "Deleting")

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListEventSourceMappings, of one source or one function where named."""
        found = self._attached.of(KIND, "")
        keys = sorted(found)
        if arn := params.get("EventSourceArn"):
            keys = [key for key in keys if found[key].get("EventSourceArn") == arn]
        if params.get("FunctionName"):
            ref = self._named.ref(params)
            whose = self._documents.arn(ref.name, self._named.qualifier(params))
            keys = [key for key in keys if found[key]["FunctionArn"] == whose]
        keys_here, marker = page(keys, params, most=PAGE_MAX)
        return {"EventSourceMappings": [self._written(key, found[key]) for key in keys_here], **marker}

    def _function_arn(self, params: Params) -> str:
        """The ARN as the client qualified it. Raises InvalidArgument."""
        try:
            ref = self._named.check(params)
        except NotFound:
            raise InvalidArgument("Function does not exist") from None
        return self._documents.arn(ref.name, self._named.qualifier(params))

    def _mapping(self, mapping_id: str) -> Document:
        found = self._attached.get(KIND, "", mapping_id)
        if found is None:
            raise _none()
        return found

    def _written(self, mapping_id: str, mapping: Document, state: str = "") -> dict[str, Any]:
        written = {name: value for name, value in mapping.items() if name != "Source"}
        for name in ("LastModified", "StartingPositionTimestamp"):
            if name in written:
                written[name] = datetime.fromtimestamp(written[name], UTC)
        arn = f"arn:aws:lambda:{self._documents.region}:{self._documents.account}:{KIND}:{mapping_id}"
        reason = sources.BY_NAME[mapping["Source"]].reason
        return {
            **written,
            "UUID": mapping_id,
            "EventSourceMappingArn": arn,
            "State": state or mapping["State"],
            "StateTransitionReason": reason,
        }


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON can hold them."""
    return {name: value.timestamp() if isinstance(value, datetime) else value for name, value in settings.items()}


def _none() -> NotFound:
    return NotFound("The resource you requested does not exist.")
