"""TagService: the tags of functions, event source mappings and code signing configurations."""

from __future__ import annotations

from collections.abc import Mapping

from engine.registry import mappings, signing
from engine.registry.stored import Stored
from engine.rpc.calls import Method
from engine.rpc.names import whole_function
from engine.v1 import tags_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["TagService"]


class TagService:
    """Sets and reads tags."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._tags = stored.tags

    def methods(self) -> Mapping[str, Method]:
        """RPC name → method."""
        return {"AddTags": self.add, "RemoveTags": self.remove, "ListTags": self.list}

    async def add(self, request: pb.AddTagsRequest) -> pb.AddTagsResponse:
        """Give a resource tags."""
        return pb.AddTagsResponse(tags=await self._tags.add(dict(request.tags), *self._resource(request.name)))

    async def remove(self, request: pb.RemoveTagsRequest) -> pb.RemoveTagsResponse:
        """Take tags away."""
        left = await self._tags.remove(set(request.tag_names), *self._resource(request.name))
        return pb.RemoveTagsResponse(tags=left)

    async def list(self, request: pb.ListTagsRequest) -> pb.ListTagsResponse:
        """Read them."""
        return pb.ListTagsResponse(tags=self._tags.of(*self._resource(request.name)))

    def _resource(self, resource_name: str) -> tuple[str, str]:
        """The owner and the key of a resource that is there. Raises NotFound, InvalidArgument."""
        has_no_owner = any(kind.RESOURCE_NAME.fullmatch(resource_name) for kind in (mappings, signing))
        return self._stored.tagged(resource_name if has_no_owner else whole_function(resource_name))
