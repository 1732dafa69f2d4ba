"""TagResource, UntagResource, ListTags.

Tags belong to functions, code signing configurations and event source mappings; each is there or a ResourceNotFound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidArgument, NotFound
from engine.registry.tags import Tags
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

UNOWNED = {"code-signing-config": "Code signing configuration", "event-source-mapping": "Event source mapping"}
"""The kinds of tagged resources that are no functions, and what AWS calls them."""


class TagOperations:
    """The operations on tags."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
        self._tags = Tags(rooms.attached)
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {"ListTags": self.list, "TagResource": self.tag, "UntagResource": self.untag}

    async def tag(self, params: Params, request: Request) -> dict[str, Any]:
        """TagResource."""
        resource = self._resource(params["Resource"])
        if not params["Tags"]:
            raise InvalidArgument("An error occurred and the request cannot be processed.")
        await self._tags.add(params["Tags"], *resource)
        return {}

    async def untag(self, params: Params, request: Request) -> dict[str, Any]:
        """UntagResource."""
        await self._tags.remove(set(params["TagKeys"]), *self._resource(params["Resource"]))
        return {}

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListTags."""
        return {"Tags": self._tags.of(*self._resource(params["Resource"]))}

    def _resource(self, arn: str) -> tuple[str, str]:
        """Whose tags they are, as owner and key. Raises NotFound, InvalidArgument for a version or an alias."""
        kind, _, name = arn.split(":", 5)[5].partition(":")
        if kind == "function":
            if ":" in name:
                raise InvalidArgument(
                    "Tags on function aliases and versions are not supported. Please specify a function ARN."
                )
            return self._named.check({"FunctionName": arn}).name, ""
        key = arn if kind == "code-signing-config" else name
        if self._attached.get(kind, "", key) is None:
            raise NotFound(f"{UNOWNED.get(kind, kind.replace('-', ' ').capitalize())} not found: {arn}")
        return "", f"{kind}:{name}"
